"""The command line: one clear sentence and the right exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_server import free_port


def callbridge(*arguments: str) -> subprocess.CompletedProcess[str]:
    ours = ("CALLBRIDGE_", "DEEPGRAM_", "SONIOX_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"REDIS_URL": "redis://127.0.0.1:1/0"}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_report_without_redis_fails_with_a_sentence() -> None:
    done = callbridge("report", "a-call")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "callbridge: redis.url: redis://127.0.0.1:1/0 not reachable: ConnectionError\n"


@pytest.mark.parametrize(
    ("command", "problems"),
    [
        (
            "emulate none --port 99999 --recogniser deaf --finalize rarely --fault flood --fault drop=x --library /no",
            (
                "no stand-in for none",
                "--port 99999",
                "--recogniser deaf",
                "--finalize rarely",
                "flood",
                "drop=x",
                "/no",
            ),
        ),
        ("replay /nowhere.wav pyproject.toml --labels /none.json", ("api_key", "/nowhere.wav", "pyproject", "/none")),
        (
            "call sip:a:b --leg caller=/no.wav --codec MP3 --hold 5-2 --mute b:1-2",
            ("sip:a:b", "/no.wav", "MP3", "5-2", "--mute b"),
        ),
    ],
)
def test_all_that_is_wrong_with_a_command_is_told_at_once(command: str, problems: tuple[str, ...]) -> None:
    done = callbridge(*command.split())
    assert done.returncode == 2
    for problem in problems:
        assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_tells_a_wrong_log_level_beside_all_else_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[log]\nlevel = "loud"\n[gate]\nmode = "loud"\n')
    done = callbridge("serve", "--config", str(file))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(f"{where}: must be one of" in done.stderr for where in ("log.level", "gate.mode")), done.stderr


def test_tail_says_which_redis_it_follows() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/3"
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "tail"],
        env=dict(os.environ) | {"REDIS_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        process.kill()
    assert line == f"callbridge: following redis://127.0.0.1:{url.rpartition(':')[2]}\n"
