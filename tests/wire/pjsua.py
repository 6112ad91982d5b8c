"""A pjsua2 caller, run as a program by the Python of a virtual environment that has `pjsua2-python` (see Makefile).

    python pjsua.py '{"target": "sip:...", "wav": "...", ...}'

Plays a WAV file into the call and does what `script` says, each at its second of the file. Prints one JSON object per
line: what it did and when (monotonic). The file goes on while the call is muted or on hold, as a person would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

try:
    import pjsua2 as pj
except ImportError:  # imported by the tests for PYTHON alone
    pj = None

PYTHON = os.path.join(os.environ["PJSUA"], "bin", "python") if os.environ.get("PJSUA") else ""
"Of the environment that has it; empty: there is none."
STEP_MS = 5
PATIENCE = 20.0  # s for the answer, and for the end


def tell(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


def main(told: dict[str, Any]) -> None:
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.level = config.logConfig.consoleLevel = 0
    config.medConfig.noVad = not told["vad"]
    config.medConfig.clockRate = config.medConfig.sndClockRate = told["rate_hz"]
    endpoint.libInit(config)
    kinds = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
    transport = pj.TransportConfig()
    transport.boundAddress = "127.0.0.1"
    transport_id = endpoint.transportCreate(kinds[told["transport"]], transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(told["codec"]) else 0)
    account = pj.Account()
    settings = pj.AccountConfig()
    settings.idUri = told["caller"]
    settings.sipConfig.transportId = transport_id
    settings.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    if told["srtp"]:
        settings.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
        settings.mediaConfig.srtpSecureSignaling = 0
    account.create(settings)
    speak(endpoint, make_call(account, endpoint, told), told)


def make_call(account: Any, endpoint: Any, told: dict[str, Any]) -> Any:
    class Call(pj.Call):
        def __init__(self, account: Any) -> None:
            super().__init__(account)
            self.player: Any = None
            self.began = 0.0
            self.is_muted = self.is_over = False

        def onCallMediaState(self, _: Any) -> None:  # noqa: N802 - pjsua2's name
            info = self.getInfo()
            if not any(m.type == pj.PJMEDIA_TYPE_AUDIO and self.is_active(m) for m in info.media):
                return
            if self.player is None:
                self.player = pj.AudioMediaPlayer()
                self.player.createPlayer(told["wav"], pj.PJMEDIA_FILE_NO_LOOP)
                self.player.startTransmit(endpoint.audDevManager().getPlaybackDevMedia())  # keeps it running
                self.began = time.monotonic()
                tell("began")
            if not self.is_muted:
                self.player.startTransmit(self.getAudioMedia(-1))

        def onCallSdpCreated(self, created: Any) -> None:  # noqa: N802 - pjsua2's name
            lines = created.sdp.wholeSdp.splitlines()
            tell("offers", crypto=[line.split()[1] for line in lines if line.startswith("a=crypto:")])

        @staticmethod
        def is_active(media: Any) -> bool:
            return bool(media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD))

        def onCallState(self, _: Any) -> None:  # noqa: N802 - pjsua2's name
            info = self.getInfo()
            tell("state", state=info.stateText, status=info.lastStatusCode)
            self.is_over = info.state == pj.PJSIP_INV_STATE_DISCONNECTED

        def tell_crypto(self) -> None:
            lines = [line for line in self.dump(True, "").splitlines() if "SRTP" in line]
            tell("media", srtp=" ".join(" ".join(line.split()) for line in lines))

        def do(self, action: str) -> None:
            parameters = pj.CallOpParam(True)
            if action == "hold":
                self.tell_crypto()
                self.setHold(parameters)
            elif action == "resume":
                parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
                self.reinvite(parameters)
            elif action == "mute":
                self.is_muted = True
                self.player.stopTransmit(self.getAudioMedia(-1))
            elif action == "unmute":
                self.is_muted = False
                self.player.startTransmit(self.getAudioMedia(-1))
            elif action == "hangup":
                self.hangup(parameters)

    call = Call(account)
    call.makeCall(told["target"], pj.CallOpParam(True))
    return call


def speak(endpoint: Any, call: Any, told: dict[str, Any]) -> None:
    script = [tuple(step) for step in told["script"]]
    deadline = time.monotonic() + PATIENCE
    while not call.is_over and time.monotonic() < deadline:
        endpoint.libHandleEvents(STEP_MS)
        if call.began and script and time.monotonic() >= call.began + script[0][0]:
            action = script.pop(0)[1]
            tell(action)
            call.do(action)
            deadline = time.monotonic() + PATIENCE
    tell("over", ok=call.is_over and not script)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # pjsua2's destructors crash in what order they like
