"""A second WebRTC stack as the client: werift on Node.js. Its folder (where `npm install werift` was run) is in the
environment variable WERIFT; without it the test is skipped and says so."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bridge.config import HttpSettings, RtpSettings
from bridge.ingress.webrtc import WebRtc
from bridge.metrics import Metrics
from tests.ingress.fake_host import FakeHost
from tests.ingress.test_webrtc_audio import tone
from tests.web.conftest import Site

SECONDS = 3
CLIENT = Path(__file__).with_name("peers") / "werift_whip.mjs"


@pytest.mark.parametrize("loss", [0.0, 0.1])
async def test_werift_is_heard_whole_whatever_is_lost_and_its_delete_ends_the_call(tmp_path: Path, loss: float) -> None:
    node, folder = shutil.which("node"), os.environ.get("WERIFT", "")
    if node is None or not (Path(folder) / "node_modules" / "werift").is_dir():
        pytest.skip("no Node.js with werift: npm install werift somewhere, and set WERIFT to that folder")
    packets = tmp_path / "packets.json"
    packets.write_text(json.dumps([base64.b64encode(payload).decode() for payload in tone(50)]))
    host, metrics = FakeHost(), Metrics()
    way_in = WebRtc(host, rtp=RtpSettings(), metrics=metrics)
    site = Site(HttpSettings(listen="127.0.0.1:0"), whip=way_in)
    await way_in.open()
    await site.server.open()
    try:
        arguments = (str(CLIENT), f"{site.url}/whip?role=caller", str(packets), str(SECONDS), str(loss))
        client = await asyncio.create_subprocess_exec(node, *arguments, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(30):
            told, _ = await client.communicate()
    finally:
        await site.server.close()
        await way_in.close()
    assert json.loads(told) == {"deleted": 200}
    (call,) = host.calls
    assert call.reason == "hangup"
    leg = call.seats[0]
    assert leg.seconds == pytest.approx(SECONDS, abs=0.25)
    assert np.abs(leg.samples).max() > 3000
    lost = leg.packets["lost"]
    assert lost == 0 if loss == 0.0 else 3 < lost < 35
