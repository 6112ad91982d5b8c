"""The server itself: what it is bound to, and with which certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

from bridge.config import HttpSettings
from tests.net.test_sip_transports import make_certificate
from tests.web.conftest import Serve, Site


def shown(site: Site) -> str:
    return ssl.get_server_certificate(site.server.address, timeout=5)


async def test_a_renewed_certificate_is_shown_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    paths = [make_certificate(folder) for folder in (tmp_path / "old", tmp_path / "new") if folder.mkdir() is None]
    (old, old_key), (new, new_key) = paths
    async with serve(certificate=old, private_key=old_key) as site:
        before = await asyncio.to_thread(shown, site)
        shutil.copy(new, old)
        shutil.copy(new_key, old_key)
        site.server.renew_certificate(HttpSettings(certificate=old, private_key=old_key))
        assert await asyncio.to_thread(shown, site) != before
