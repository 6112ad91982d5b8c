"""RFC 4475 and RFC 5118: what each of their messages gets from us. Statuses that the RFC leaves open ("acceptable to
reject or to be liberal") are what we chose; REGISTER is 405 because we are no registrar."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Flow, IncomingCall
from tests.sip.network import Tally, tokens

FOLDER = Path(__file__).parents[3] / "shared/assets/torture-rfc4475-rfc5118/test/message"
FLOW = Flow("udp", ("192.0.2.9", 5060), ("192.0.2.8", 5060))
CALL = "call"
DROPPED = "dropped"
STRAY = "stray response"

EXPECTED: dict[str, int | str] = {
    # 3.1.1 valid
    "wsinv": 481,  # a re-INVITE of a dialog that we do not have
    "intmeth": 501,
    "esc01": CALL,
    "escnull": 405,
    "esc02": 501,
    "lwsdisp": 200,
    "longreq": CALL,
    "dblreq": 405,
    "semiuri": 200,
    "transports": 200,
    "mpart01": 405,
    "unreason": STRAY,
    "noreason": STRAY,
    # 3.1.2 invalid
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": DROPPED,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,
    "trws": 400,
    "escruri": 400,
    "baddate": CALL,  # "shouldn't do that unless Date were important"
    "regbadct": 400,
    "badaspec": 200,
    "baddn": 400,
    "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 501,
    "bigcode": DROPPED,
    # 3.2 transaction layer
    "badbranch": 200,
    # 3.3 application layer
    "insuf": 400,
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": 405,
    "bext01": 420,
    "invut": 415,
    "regaut01": 405,
    "multi01": 400,
    "mcl01": 400,
    "bcast": STRAY,
    "zeromf": 200,
    "cparam01": 405,
    "cparam02": 405,
    "regescrt": 405,
    "sdp01": 406,
    # 3.4 backward compatibility
    "inv2543": CALL,
    # RFC 5118
    "ipv6-good": 405,
    "ipv6-bad": 400,
    "port-ambiguous": 405,
    "port-unambiguous": 405,
    "via-received-param-with-delim": 481,
    "via-received-param-no-delim": 200,
    "ipv6-in-sdp": CALL,
    "mult-ip-in-header": 481,
    "mult-ip-in-sdp": CALL,
    "ipv4-mapped-ipv6": CALL,
    "ipv6-bug-abnf-3-colons": 200,
    "ipv6-correct-abnf-2-colons": 200,
}


def outcome(data: bytes) -> int | str:
    tally = Tally()
    endpoint = Endpoint(Identity(), make_token=tokens("t"), observer=tally)
    endpoint.receive(data, FLOW, 0.0)
    if any(isinstance(event, IncomingCall) for event in endpoint.take_events()):
        return CALL
    sent = endpoint.take_outgoing()
    if sent:
        return int(sent[0].data.split(b" ")[1])
    return STRAY if tally.drops["unknown_response"] else DROPPED


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the torture messages of ersip are not at hand")
def test_every_torture_message_gets_what_the_rfc_asks() -> None:
    files = {path.name.removesuffix(".dat"): path for path in FOLDER.glob("*/*")}
    assert set(files) == set(EXPECTED)
    assert {name: outcome(path.read_bytes()) for name, path in files.items()} == EXPECTED
