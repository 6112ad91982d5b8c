"""A headless Chromium for tests: Debian's, or the one that PATH has. Its microphone plays a WAV file."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--mute-audio")  # fmt: skip


def find_chromium() -> str:
    """Its path; skips the test where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed: the browser tests drive Chromium with it")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return path


@asynccontextmanager
async def chromium(*, microphone: Path | None = None, **context: Any) -> AsyncIterator[BrowserContext]:
    """A fresh profile. `context` as Playwright's new_context: viewport, color_scheme ..."""
    path = find_chromium()
    from playwright.async_api import async_playwright

    arguments = [*QUIET, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=path, args=arguments)
        try:
            yield await browser.new_context(**context)
        finally:
            await browser.close()
