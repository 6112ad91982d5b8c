"""The OpenAPI document against the running server: whatever schemathesis makes of it, the server keeps its promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SERVER = """
import asyncio
from bridge.config import HttpSettings
from tests.web.conftest import Site
async def main():
    site = Site(HttpSettings(listen="127.0.0.1:0", tokens=("t",)))
    await site.server.open()
    print(site.url, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def schemathesis() -> str:
    beside = Path(sys.executable).with_name("schemathesis")
    path = str(beside) if beside.exists() else shutil.which("schemathesis")
    if path is None:
        pytest.skip("schemathesis is not installed")
    return path


def test_the_server_answers_as_its_openapi_document_says(tmp_path: Path) -> None:
    tool = schemathesis()
    root = Path(__file__).parents[2]
    server = subprocess.Popen([sys.executable, "-c", SERVER], cwd=root, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = next(line for line in server.stdout if line.startswith("http")).strip()
        left_out = ["--exclude-path-regex", "events$|^/whip"]  # streams do not end; it cannot make up SDP
        found = subprocess.run(
            [tool, "run", f"{url}/openapi.json", "--header", "Authorization: Bearer t", "--checks", CHECKS, *left_out,
             "--max-examples", "25", "--phases", "examples,fuzzing", "--seed", "7", "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-1000:]
