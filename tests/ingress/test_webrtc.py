"""Real connections over loopback: aiortc as the browser, `WebRtc` with a fake host behind it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import aiortc
import av
import numpy as np
import pytest
import structlog.testing
from aioice import stun
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from bridge.config import RtpSettings
from bridge.errors import CapacityError, PeerError, SdpError
from bridge.ingress import webrtc, webrtc_connection, webrtc_ice, webrtc_sdp
from bridge.ingress.webrtc import Answer, WebRtc
from bridge.metrics import Metrics
from tests.ingress.fake_host import FakeHost


class ToneTrack(MediaStreamTrack):
    """440 Hz, stereo, 20 ms a frame, in real time; silent while `is_muted`."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._n = 0
        self._start = 0.0
        self.is_muted = False

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = asyncio.get_running_loop().time()
        self._start = self._start or now
        await asyncio.sleep(max(0.0, self._start + self._n * 0.02 - now))
        at = np.arange(960 * self._n, 960 * (self._n + 1)) / 48000
        wave = (9000 * np.sin(2 * np.pi * 440 * at) * (not self.is_muted)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None, :], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 960 * self._n, Fraction(1, 48000)
        self._n += 1
        return frame


class Browser:
    """The other end."""

    def __init__(self) -> None:
        self.peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.track = ToneTrack()
        self.peer.addTrack(self.track)

    async def offer(self) -> str:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return str(self.peer.localDescription.sdp)

    async def answered(self, answer: Answer) -> None:
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(answer.sdp, "answer"))

    async def call(self, way_in: WebRtc, *, call: str = "", role: str = "caller") -> Answer:
        answer = await way_in.offer(await self.offer(), call=call, role=role, source="127.0.0.1")
        await self.answered(answer)
        return answer


@asynccontextmanager
async def open_way_in(
    host: FakeHost, metrics: Metrics | None = None, *, rtp: RtpSettings | None = None, capacity: int = 10
) -> AsyncIterator[WebRtc]:
    way_in = WebRtc(host, rtp=rtp or RtpSettings(), metrics=metrics or Metrics(), capacity=capacity)
    await way_in.open()
    try:
        yield way_in
    finally:
        await way_in.close()


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    one = Browser()
    try:
        yield one
    finally:
        one.track.stop()
        await one.peer.close()


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - the other end does not tell us
            await asyncio.sleep(0.01)


async def test_audio_of_a_browser_reaches_its_leg_at_16_khz_without_gaps() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        leg = host.calls[0].seats[0]
        assert host.calls[0].answered_at is not None
        assert (answer.call, answer.leg, leg.role, host.calls[0].offer.ingress) == ("call1", "leg1", "caller", "webrtc")
        assert "a=recvonly" in answer.sdp
        assert "a=rtcp-mux-only" in answer.sdp
        await until(lambda: leg.seconds > 1.0)
        starts = [start for start, _ in leg.pieces]
        ends = [start + len(samples) / 16000 for start, samples in leg.pieces]
        assert max(abs(end - start) for end, start in zip(ends, starts[1:], strict=False)) < 0.03
        spectrum = np.abs(np.fft.rfft(leg.samples[4000:12000]))
        assert np.argmax(spectrum) == pytest.approx(440 * 8000 / 16000, abs=2)


async def test_delete_ends_the_call_with_its_last_leg_and_once() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        assert way_in.has(answer.session)
        assert await way_in.end(answer.session)
        assert host.calls[0].reason == "hangup"
        assert not way_in.has(answer.session)
        assert not await way_in.end(answer.session)


async def test_two_browsers_share_a_call_and_the_one_that_leaves_takes_only_its_leg() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as caller, browser() as agent:
        first = await caller.call(way_in, role="caller")
        second = await agent.call(way_in, call=first.call, role="agent")
        assert (second.call, second.leg) == (first.call, "leg2")
        legs = host.calls[0].seats
        await until(lambda: all(leg.seconds > 0.2 for leg in legs))
        assert await way_in.end(second.session)
        assert (legs[1].ended_at is not None, legs[0].ended_at, host.calls[0].reason) == (True, None, "")
        with pytest.raises(LookupError):
            await Browser().call(way_in, call="nowhere")


async def test_a_browser_that_closes_its_connection_ends_the_call_after_the_grace_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webrtc, "RELOAD", 0.2)
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)
        await one.peer.close()
        await until(lambda: not way_in.has(answer.session))
        assert host.calls[0].reason == ""
        await until(lambda: host.calls[0].reason == "hangup")


async def test_a_browser_that_is_killed_ends_the_call_as_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "LOST_AFTER", 0.6)
    monkeypatch.setattr(webrtc, "REJOIN", 0.2)
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        await one.call(way_in)
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 0.1)
        ice = one.peer.getTransceivers()[0].sender.transport.transport._connection
        for pair in ice._nominated.values():  # its socket dies without a word
            pair.protocol.transport.abort()
        await until(lambda: host.calls[0].reason == "timeout")


def test_a_killed_tab_is_noticed_within_the_promised_15_s() -> None:
    assert webrtc.LOST_AFTER + webrtc.REJOIN <= 15.0
    assert webrtc.CONNECT_WITHIN + webrtc.REJOIN <= 15.0
    assert webrtc.RELOAD <= 15.0


async def test_a_browser_that_never_connects_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "CONNECT_WITHIN", 0.2)
    monkeypatch.setattr(webrtc, "REJOIN", 0.1)
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        await way_in.offer(await one.offer(), call="", role="", source="")
        await until(lambda: host.calls[0].reason == "timeout")


async def test_a_browser_that_was_reloaded_takes_the_place_of_its_lost_leg() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as before, browser() as after:
        answer = await before.call(way_in)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)
        await before.peer.close()
        await until(lambda: not way_in.has(answer.session))
        again = await after.call(way_in, call=answer.call)
        assert again.leg == "leg2"
        assert host.calls[0].seats[0].ended_at is not None
        assert host.calls[0].reason == ""


async def test_a_call_ended_by_the_service_closes_the_browsers_connection() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)
        host.calls[0].ended("api", 0.0)
        host.calls[0].control.hang_up()
        assert not way_in.has(answer.session)
        await until(lambda: one.peer.connectionState in ("closed", "failed"))


async def test_a_full_service_refuses_before_anything_is_opened() -> None:
    host = FakeHost(room=0)
    async with open_way_in(host) as way_in, browser() as one:
        with pytest.raises(CapacityError):
            await one.call(way_in)


async def test_a_muted_track_is_digital_silence() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        one.track.is_muted = True
        await one.call(way_in)
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 0.5)
        assert np.abs(leg.samples).max() <= 8


async def test_an_offer_with_video_gets_only_its_audio_answered() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        one.peer.addTransceiver("video", direction="sendonly")
        answer = await one.call(way_in)
        sections = answer.sdp.split("m=")[1:]
        assert ["a=recvonly" in section for section in sections] == [True, False]
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


def candidates_of(answer: Answer) -> set[tuple[str, int]]:
    lines = [line.split() for line in answer.sdp.splitlines() if line.startswith("a=candidate")]
    return {(parts[4], int(parts[5])) for parts in lines}


async def test_media_comes_in_at_the_bound_address_on_a_port_of_the_range() -> None:
    host, rtp = FakeHost(), RtpSettings(bind="127.0.0.1", ports=(27020, 27023), advertise="203.0.113.9")
    async with open_way_in(host, rtp=rtp) as way_in, browser() as one:
        answer = await one.call(way_in)
        assert candidates_of(answer) == {("127.0.0.1", 27023), ("203.0.113.9", 27023)}
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


async def test_a_used_up_range_of_ports_refuses_and_leaves_nothing_behind() -> None:
    host, rtp = FakeHost(), RtpSettings(bind="127.0.0.1", ports=(27025, 27025))
    async with open_way_in(host, rtp=rtp) as way_in, browser() as one, browser() as two, browser() as three:
        answer = await one.call(way_in)
        with pytest.raises(CapacityError):
            await two.call(way_in)
        await way_in.end(answer.session)
        await asyncio.sleep(0.2)
        await three.call(way_in)
    assert [call.reason for call in host.calls] == ["hangup", "hangup"]


async def test_sessions_beyond_the_capacity_are_refused_until_one_has_closed() -> None:
    host = FakeHost()
    async with open_way_in(host, capacity=1) as way_in, browser() as one, browser() as two, browser() as three:
        answer = await one.call(way_in)
        with pytest.raises(CapacityError):
            await two.call(way_in)
        await way_in.end(answer.session)
        await asyncio.sleep(0.2)
        await three.call(way_in)


async def test_an_answer_that_takes_too_long_is_no_capacity_and_not_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc_connection, "NEGOTIATE_WITHIN", 0.0)
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        with pytest.raises(CapacityError):
            await one.call(way_in)
    assert host.calls == []


async def test_a_browser_that_hides_its_addresses_is_answered_at_once_and_connects() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        offer = re.sub(r"(a=candidate:\S+ 1 udp \d+) \S+", r"\1 00000000-aaaa.local", await one.offer())
        assert ".local" in offer
        start = asyncio.get_running_loop().time()
        answer = await way_in.offer(offer, call="", role="", source="127.0.0.1")
        assert asyncio.get_running_loop().time() - start < 0.9, "a name that nobody answers for costs a second"
        await one.answered(answer)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


async def test_candidates_beyond_a_sessions_share_are_passed_over() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        for n in range(4):
            lines = [f"a=candidate:1 1 udp 1 127.0.0.{n} {5000 + k} typ host" for k in range(60)]
            await way_in.trickle(answer.session, "\r\n".join(lines))
        (session,) = way_in._sessions.values()
        agent = session.connection._dtls.transport._connection
        assert len(agent.remote_candidates) <= 2 * webrtc_sdp.MAX_CANDIDATES
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


async def test_a_browser_is_told_how_its_audio_arrives() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        await one.call(way_in)
        sender = one.peer.getSenders()[0]

        async def reports() -> list[Any]:
            return [each for each in (await sender.getStats()).values() if each.type == "remote-inbound-rtp"]

        async with asyncio.timeout(10):
            while not await reports():  # noqa: ASYNC110 - statistics do not tell of themselves
                await asyncio.sleep(0.1)
        (report,) = await reports()
        assert report.packetsLost == 0
        assert report.jitter < 960, "in units of 1/48000 s: below one packet"


async def test_junk_on_a_sessions_port_neither_grows_memory_nor_ends_it() -> None:
    host, rtp = FakeHost(), RtpSettings(bind="127.0.0.1", ports=(27030, 27039))
    async with open_way_in(host, rtp=rtp) as way_in, browser() as one:
        answer = await way_in.offer(await one.offer(), call="", role="", source="127.0.0.1")
        ((_, port),) = candidates_of(answer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for n in range(1000):
                first = (0, 1, 22, 63, 90, 128, 144, 200)[n % 8]
                stranger.sendto(bytes([first, n % 256]) + os.urandom(n % 80), ("127.0.0.1", port))
                if n % 100 == 0:
                    await asyncio.sleep(0.03)
            stranger.sendto(b"", ("127.0.0.1", port))
        (session,) = way_in._sessions.values()
        agent = session.connection._dtls.transport._connection
        assert agent._queue.qsize() <= webrtc_ice.MOST_DTLS
        assert len(session.connection._early) <= webrtc_connection.MOST_EARLY
        await one.answered(answer)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


async def test_a_strangers_cut_off_stun_does_not_keep_the_tick_from_others() -> None:
    host, rtp = FakeHost(), RtpSettings(bind="127.0.0.1", ports=(27040, 27049))
    cut_off = bytes.fromhex("000100042112a442") + bytes(12) + bytes.fromhex("00240000")  # PRIORITY, empty
    async with open_way_in(host, rtp=rtp) as way_in, browser() as one:
        answer = await one.call(way_in)
        ((_, port),) = candidates_of(answer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, structlog.testing.capture_logs() as logs:
            for _ in range(10):
                stranger.sendto(cut_off, ("127.0.0.1", port))
                await asyncio.sleep(0.03)
        assert [line for line in logs if line["log_level"] == "error"] == []
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)


async def test_only_a_check_under_our_password_is_a_sign_of_life() -> None:
    host, rtp = FakeHost(), RtpSettings(bind="127.0.0.1", ports=(27050, 27059))
    async with open_way_in(host, rtp=rtp) as way_in, browser() as one:
        answer = await way_in.offer(await one.offer(), call="", role="", source="127.0.0.1")
        ((_, port),) = candidates_of(answer)
        (session,) = way_in._sessions.values()
        agent = session.connection._dtls.transport._connection
        await asyncio.sleep(0.1)
        was_alive_at = session.connection.alive_at  # when it began to connect
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for password, counts in (("guessed", False), (agent.local_password, True)):
                check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
                check.attributes["USERNAME"] = f"{agent.local_username}:x"
                check.add_message_integrity(password.encode())
                stranger.sendto(bytes(check), ("127.0.0.1", port))
                await asyncio.sleep(0.1)
                assert (session.connection.alive_at > was_alive_at) is counts


async def test_what_arrives_while_a_session_closes_is_nobodys() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)
        (session,) = way_in._sessions.values()
        await way_in.end(answer.session)
        await until(lambda: session.connection.state == "closed")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            session.connection._take(bytes((128, 111)) + bytes(30), webrtc_ice.Path(late, ("127.0.0.1", 9)), 0.0)
        assert session.connection.audio.packets()["malformed"] == 0


async def test_packets_of_a_call_that_the_service_ends_are_counted_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "COUNT_EVERY", 1e9)
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        await one.call(way_in)
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 0.4)
        host.calls[0].ended("api", 0.0)
        host.calls[0].control.hang_up()
        assert leg.packets["received"] >= 20


async def test_what_has_arrived_before_delete_is_heard() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in, browser() as one:
        answer = await one.call(way_in)
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 0.2)
        host.stands_still = True
        await asyncio.sleep(0.01)
        before = leg.seconds
        await asyncio.sleep(0.2)
        assert leg.seconds == before
        await way_in.end(answer.session)
        assert leg.seconds > before + 0.1


async def test_what_is_no_offer_opens_nothing() -> None:
    host = FakeHost()
    async with open_way_in(host) as way_in:
        with pytest.raises(PeerError):
            await way_in.offer("hello", call="", role="", source="")
        async with browser() as one:
            one.peer.getTransceivers()[0].direction = "recvonly"
            with pytest.raises(SdpError):
                await one.call(way_in)
    assert host.calls == []


async def test_packets_of_ended_sessions_are_counted() -> None:
    host, metrics = FakeHost(), Metrics()
    async with open_way_in(host, metrics) as way_in, browser() as one:
        answer = await one.call(way_in)
        await until(lambda: host.calls[0].seats[0].seconds > 0.1)
        await way_in.end(answer.session)
    assert metrics.packets.value("received") == 0, "the plane counts those"
    assert metrics.packets.value("lost") == 0
    assert metrics.whip_ended.value("hangup") == 1


@pytest.mark.parametrize("share", [0.02, 0.10])
async def test_lost_packets_cost_no_more_than_themselves_and_no_delay(share: float) -> None:
    host, metrics, chance = FakeHost(), Metrics(), random.Random(3)
    async with open_way_in(host, metrics) as way_in, browser() as one:
        answer = await one.call(way_in)
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 0.2)
        transport = one.peer.getTransceivers()[0].sender.transport
        send, sent, dropped = transport._send_rtp, 0, 0

        async def lossy(data: bytes) -> None:
            nonlocal sent, dropped
            is_media = not 192 <= data[1] <= 223
            sent += is_media
            if is_media and chance.random() < share:
                dropped += 1
            else:
                await send(data)

        transport._send_rtp = lossy
        await until(lambda: sent >= 200)
        transport._send_rtp = send
        heard = leg.seconds
        await until(lambda: leg.seconds > heard + 0.2)
        await way_in.end(answer.session)
        start = leg.pieces[0][0]
        late = [at + len(piece) / 16000 - start for at, piece in leg.pieces]
        assert dropped > 0
        assert leg.packets["lost"] == dropped
        assert leg.seconds == pytest.approx(late[-1], abs=0.08), "concealed, not cut, and nothing piled up"
