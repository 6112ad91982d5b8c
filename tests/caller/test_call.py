from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions, LegAudio
from bridge.caller.rtp_schedule import Faults, Mute
from bridge.clock import monotonic
from bridge.errors import ConfigError
from rtpcodecs.g711 import ULAW_TO_LINEAR

from .answering_phone import AnsweringPhone


def tone(seconds: float, hz: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 8000)) / 8000)).astype(np.int16)


CALLER = LegAudio("caller", tone(0.5, 400))
AGENT = LegAudio("agent", tone(0.5, 700))


def heard(packets: list[bytes]) -> np.ndarray:
    return np.concatenate([ULAW_TO_LINEAR[np.frombuffer(p[12:], np.uint8)] for p in packets])


async def test_a_plain_call_brings_its_audio_and_hangs_up() -> None:
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER,)))
        packets = phone.packets(0)
    assert (result.ok, result.reason, result.status) == (True, "done", 200)
    assert len(packets) == result.legs[0].packets == 25
    assert np.abs(heard(packets).astype(int) - CALLER.samples).max() < 300
    assert 0.5 <= result.ended_at - result.answered_at < 2
    assert [ended.reason for ended in phone.ended] == ["bye"]
    assert phone.requests[0].call_id == result.sip_call_id


async def test_a_siprec_call_has_a_labelled_stream_for_each_party_and_says_who_they_are() -> None:
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER, AGENT), siprec=True))
        legs = [heard(phone.packets(n)) for n in (0, 1)]
        request = phone.requests[0]
    assert result.ok, result.reason
    for samples, leg in zip(legs, (CALLER, AGENT), strict=True):
        assert np.abs(samples.astype(int) - leg.samples).max() < 300
    assert request.headers.get("Require") == "siprec"
    assert "+sip.src" in request.headers.get("Contact")
    assert request.headers.get("Content-Type").startswith("multipart/mixed")
    offer = phone.offers[0]
    assert offer.index("a=label:1") < offer.index("a=label:2")
    assert offer.count("a=sendonly") == 2
    assert 'aor="sip:caller@callbridge.invalid"' in offer
    assert "Content-Disposition: recording-session" in offer


async def test_it_speaks_tcp_too() -> None:
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.tcp_uri, (CALLER,)))
        assert len(phone.packets(0)) == 25
    assert result.ok, result.reason


async def test_a_hold_is_signalled_and_nothing_is_sent_while_it_lasts() -> None:
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER,), holds=((0.3, 0.7),)))
        packets = phone.packets(0)
    assert result.ok, result.reason
    assert ["a=inactive" in offer for offer in phone.offers] == [False, True, False]
    assert result.holds[0] == pytest.approx((0.3, 0.7), abs=0.2)
    assert 1.7 <= result.ended_at - result.answered_at < 3  # the hold is waited for, and a second more
    jumps = [int.from_bytes(b[4:8], "big") - int.from_bytes(a[4:8], "big") for a, b in itertools.pairwise(packets)]
    held = [(jump % 2**32) / 8000 for jump in jumps if jump != 160]
    assert held == [pytest.approx(result.holds[0][1] - result.holds[0][0], abs=0.1)]


async def test_hold_music_is_sent_while_the_stream_is_said_to_be_inactive() -> None:
    leg = LegAudio("caller", np.zeros(4000, np.int16), hold_music=tone(1.0, 1000))
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (leg,), holds=((0.1, 0.4),)))
        loud = [np.abs(heard([p]).astype(int)).mean() > 1000 for p in phone.packets(0)]
    assert result.ok, result.reason
    assert result.legs[0].kinds["music"] == sum(loud)
    assert 10 <= sum(loud) <= 20


async def test_a_muted_phone_sends_digital_silence() -> None:
    leg = LegAudio("caller", tone(0.5, 400), mutes=(Mute(0.1, 0.3),))
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (leg,)))
        silent = [set(p[12:]) == {0xFF} for p in phone.packets(0)]
    assert result.legs[0].kinds == {"audio": 15, "silence": 10}
    assert silent == [False] * 5 + [True] * 10 + [False] * 10


async def test_several_calls_run_side_by_side() -> None:
    async with AnsweringPhone() as phone:
        began = monotonic()
        results = await place_calls(CallOptions(phone.uri, (CALLER,), calls=5, rate=100))
        assert monotonic() - began < 2
        assert [len(phone.packets(n)) for n in range(5)] == [25] * 5
    assert all(result.ok for result in results)
    assert len({result.sip_call_id for result in results}) == 5
    assert len({result.legs[0].ssrc for result in results}) == 5


async def test_a_refused_call_is_told_and_sends_nothing() -> None:
    async with AnsweringPhone(refuse=503) as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER,)))
    assert (result.ok, result.status) == (False, 503)
    assert result.reason.startswith("refused: 503")
    assert result.legs[0].packets == 0


async def test_a_call_that_nobody_answers_is_given_up() -> None:
    async with AnsweringPhone() as phone:
        uri = phone.uri
    (result,) = await place_calls(CallOptions(uri, (CALLER,), answer_timeout=0.3))
    assert not result.ok
    assert result.reason == "no answer within 0.3 s"


async def test_when_the_other_side_hangs_up_the_sending_stops() -> None:
    async with AnsweringPhone() as phone, asyncio.TaskGroup() as group:
        call = group.create_task(place_calls(CallOptions(phone.uri, (LegAudio("caller", tone(30, 400)),))))
        await phone.called.wait()
        await asyncio.sleep(0.1)
        phone.hang_up()
        (result,) = await asyncio.wait_for(call, 5)
    assert not result.ok
    assert result.reason == "ended by the other side: bye"
    assert result.legs[0].packets < 100


async def test_a_leg_that_the_answer_refuses_is_told_and_the_other_is_sent() -> None:
    async with AnsweringPhone(refuse_media=(1,)) as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER, AGENT), siprec=True))
        assert len(phone.packets(0)) == 25
    assert not result.ok
    assert result.reason == "refused in the answer: agent"
    assert result.legs[1].packets == 0


async def test_a_refused_hold_is_told_and_the_call_goes_on() -> None:
    async with AnsweringPhone(reject_reoffers=488) as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER,), holds=((0.1, 0.2),)))
        assert [ended.reason for ended in phone.ended] == ["bye"]
    assert not result.ok
    assert result.reason == "hold refused: 488; resume refused: 488"


async def test_a_cancelled_caller_still_says_goodbye() -> None:
    async with AnsweringPhone() as phone:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(place_calls(CallOptions(phone.uri, (LegAudio("caller", tone(30, 400)),))))
            await phone.called.wait()
            await asyncio.sleep(0.1)
            call.cancel()
        await asyncio.wait_for(phone.hung_up.wait(), 5)
        assert [ended.reason for ended in phone.ended] == ["bye"]


async def test_loss_is_counted_as_not_sent() -> None:
    leg, faults = LegAudio("caller", tone(1, 400)), Faults(loss=0.3, seed=5)
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (leg,), faults=faults))
        packets = phone.packets(0)
    assert len(packets) == result.legs[0].packets
    assert result.legs[0].packets + result.legs[0].dropped == 50
    assert result.legs[0].dropped > 3


@pytest.mark.parametrize("codec", ["PCMA", "G722", "OPUS", "L16"])
async def test_it_sends_in_the_codec_that_was_asked_for(codec: str) -> None:
    async with AnsweringPhone() as phone:
        (result,) = await place_calls(CallOptions(phone.uri, (CALLER,), codec=codec))
        packets = phone.packets(0)
    assert result.ok, result.reason
    assert len(packets) == 25
    assert f" {codec}/" in phone.offers[0].upper()


async def test_two_legs_without_siprec_make_no_call() -> None:
    with pytest.raises(ConfigError):
        await place_calls(CallOptions("sip:127.0.0.1:5999", (CALLER, AGENT)))
