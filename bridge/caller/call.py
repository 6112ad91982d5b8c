"""Places calls: INVITE, RTP of every leg, hold and resume by re-INVITE, BYE. Behind `callbridge call` and the demo."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum

from bridge.caller import offer
from bridge.caller.options import CallOptions, CallResult, LegAudio, LegResult, find_codec
from bridge.caller.rtp_schedule import RtpStream, StreamFormat
from bridge.caller.rtp_sender import RtpPort, RtpSender
from bridge.caller.sip_client import Events, SipClient, Target
from bridge.clock import monotonic, unix_ms
from bridge.errors import BridgeError, ConfigError, SdpError
from bridge.sip.events import Answered, Body, Ended, Event, Refused, Reoffer
from bridge.sip.uac import NOBODY

BYE_TIMEOUT = 35.0  # s; a BYE is given up after 64 * T1 = 32 s (RFC 3261 section 17.1.2.2)
GLARE_WAIT = 2.5  # s; the caller's wait after a 491 is 2.1 to 4 s (RFC 3261 section 14.1)
GLARE = 491
OFFER_TRIES = 3


async def place_calls(options: CallOptions, *, told: Callable[[CallResult], None] | None = None) -> list[CallResult]:
    """Places all calls and returns when the last has ended, in the order of placing. `told` hears of each as it ends.
    Raises ConfigError for options that cannot work; everything else is a result that is not `ok`."""
    find_codec(options.codec)
    if not options.legs or (len(options.legs) > 1 and not options.siprec):
        raise ConfigError(["a plain call has one leg; a SIPREC call at least one"])
    results: list[CallResult | None] = [None] * options.calls
    async with SipClient(Target.parse(options.target)) as sip:

        async def place(n: int) -> None:
            result = results[n] = await PlacedCall(sip, options, seed=n).run()
            if told is not None:
                told(result)

        async with asyncio.TaskGroup() as calls:
            start = monotonic()
            for n in range(options.calls):
                await asyncio.sleep(max(start + n / options.rate - monotonic(), 0.0))
                calls.create_task(place(n))
    return [result for result in results if result is not None]


class Change(Enum):
    """The call's own script, beside what the endpoint tells."""

    DUE = "the next hold or resume"


class CallFailed(Exception):
    """The call cannot go on."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class PlacedCall:
    """One call from INVITE to BYE."""

    def __init__(self, sip: SipClient, options: CallOptions, *, seed: int = 0) -> None:
        self._sip, self._options, self._seed = sip, options, seed
        self._codec = find_codec(options.codec)
        self._senders: list[RtpSender] = []
        self._events = Events()
        self._dialog = ""
        self._version = 0
        self._is_held = False
        self._is_offering = False
        self._script = deque(change for start, end in sorted(options.holds) for change in ((start, True), (end, False)))
        self._tries = 0
        self._status = 0
        self._sip_call_id = ""
        self._answered_at = self._ended_at = 0.0
        self._changes: list[float] = []
        self._problems: list[str] = []

    async def run(self) -> CallResult:
        """The whole call. What the other side does or does not is told in the result, never raised."""
        try:
            self._senders = [self._make_sender(leg, n) for n, leg in enumerate(self._options.legs)]
            await self._dial()
            await self._talk()
        except CallFailed as failure:
            self._status = failure.status or self._status
            self._problems.insert(0, str(failure))
        except BridgeError as error:
            self._problems.insert(0, str(error))
        finally:  # also when cancelled: the BYE leaves at once, nobody waits for its answer then
            if self._dialog:
                self._sip.hang_up(self._dialog)
                self._sip.forget(self._dialog)
            for sender in self._senders:
                sender.port.close()
        return self._result()

    def _make_sender(self, leg: LegAudio, n: int) -> RtpSender:
        codec, options = self._codec, self._options
        encoder = codec.make_encoder() if codec.make_encoder else None
        if encoder is None:
            raise ConfigError([f"{codec.name} cannot be encoded"])
        samples, music = leg.at_rate(codec.sample_rate_hz, seconds=options.seconds)
        format_ = StreamFormat(offer.payload_type(codec), codec.clock_rate_hz, codec.sample_rate_hz, options.ptime_ms)
        stream = RtpStream(
            samples, encoder.encode, format_,
            mutes=leg.mutes, faults=options.faults, hold_music=music, seed=self._seed * 100 + n,
        )  # fmt: skip
        return RtpSender(stream, RtpPort(self._sip.address))

    # -- the answer ----------------------------------------------------------------------------------------------

    def _sdp(self) -> bytes:
        self._version += 1
        siprec, options = self._options.siprec, self._options
        media = [
            offer.Media(s.port.port, str(n) if siprec else "", "sendonly" if siprec else "sendrecv")
            for n, s in enumerate(self._senders, 1)
        ]
        hold = options.hold_form if self._is_held else None
        return offer.sdp(
            self._sip.address, media, self._codec, ptime_ms=options.ptime_ms, version=self._version, hold=hold
        )  # fmt: skip

    async def _dial(self) -> None:
        options = self._options
        body, headers, contact = Body(self._sdp()), list(options.headers), ""
        if options.siprec:
            parties = [offer.Participant(leg.role, leg.address) for leg in options.legs]
            started = datetime.fromtimestamp(unix_ms() / 1000, UTC).isoformat(timespec="milliseconds")
            snapshot = offer.metadata(f"session-{self._senders[0].stream.ssrc:08x}", parties, started=started)
            body = offer.siprec_body(body.content, snapshot)
            headers, contact = [("Require", "siprec"), *headers], ";+sip.src"  # RFC 7866 sections 6.1.1 and 6.2
        self._dialog, self._events = self._sip.invite(
            body, from_=options.from_, headers=headers, contact_params=contact
        )  # fmt: skip
        try:
            async with asyncio.timeout(options.answer_timeout):
                await self._wait_for_answer()
        except TimeoutError:
            raise CallFailed(f"no answer within {options.answer_timeout:g} s") from None

    async def _wait_for_answer(self) -> None:
        while True:
            match await self._events.get():
                case Answered(response=response):
                    self._answered_at = monotonic()
                    self._status, self._sip_call_id = response.status, response.headers.get("Call-ID")
                    self._take_answer(response.body)
                    return
                case Refused(status=status, reason=reason):
                    self._over()
                    if reason == NOBODY:
                        raise CallFailed(
                            f"nobody answers at {self._options.target}: is anything listening there?", status
                        )
                    raise CallFailed(f"refused: {status} {reason}".rstrip(), status)
                case Ended(reason=why):
                    self._over()
                    raise CallFailed(f"ended before the answer: {why}")

    def _take_answer(self, body: bytes) -> None:
        answer = offer.read_answer(body, len(self._senders))
        for sender, media in zip(self._senders, answer, strict=True):
            sender.remote = (media.address, media.port) if media.port else None
        refused = [leg.role for leg, media in zip(self._options.legs, answer, strict=True) if not media.port]
        if len(refused) == len(answer):
            raise SdpError("every m-line was refused")
        if refused:
            self._problems.append(f"refused in the answer: {', '.join(refused)}")

    # -- the call ------------------------------------------------------------------------------------------------

    async def _talk(self) -> None:
        """Until everything was sent or the peer ends it. Stream time 0 of every leg is the answer."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send_all())
            try:
                await self._converse()
            finally:
                sending.cancel()
        if self._dialog:
            await self._hang_up()

    async def _hang_up(self) -> None:
        self._ended_at = monotonic()
        self._sip.hang_up(self._dialog)
        try:
            async with asyncio.timeout(BYE_TIMEOUT):
                while not isinstance(await self._events.get(), Ended):
                    pass
        except TimeoutError:
            self._problems.append("the BYE was not answered")
        self._over()

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as legs:
            for sender in self._senders:
                legs.create_task(sender.run(self._answered_at))
        self._events.put_nowait(None)

    async def _converse(self) -> None:
        """Returns when the audio was sent, the peer has hung up, or something went wrong."""
        while True:
            due = self._answered_at + self._script[0][0] if self._script and not self._is_offering else None
            event: Event | Change | None = Change.DUE
            try:
                async with asyncio.timeout_at(due):
                    event = await self._events.get()
            except TimeoutError:
                pass  # nothing came: the script is due
            try:
                if not self._goes_on(event):
                    return
            except BridgeError as error:
                self._problems.append(str(error))
                return

    def _goes_on(self, event: Event | Change | None) -> bool:
        match event:
            case None:
                return False
            case Change.DUE:
                self._change_hold()
            case Ended(reason=why):
                self._problems.append(f"ended by the other side: {why}")
                self._over()
                return False
            case Reoffer():
                self._sip.accept(self._dialog, Body(self._sdp()))
            case Answered(response=response, is_initial=False):
                self._is_offering, self._tries = False, 0
                if response.body:
                    self._take_answer(response.body)
            case Refused(status=status, is_initial=False):
                self._hold_refused(status)
        return True

    def _change_hold(self) -> None:
        _, on = self._script.popleft()
        self._is_held, self._is_offering = on, True
        for sender in self._senders:
            sender.stream.hold(on)
        if not self._tries:
            self._changes.append(monotonic() - self._answered_at)
        self._sip.reinvite(self._dialog, Body(self._sdp()))

    def _hold_refused(self, status: int) -> None:
        self._is_offering = False
        self._tries += 1
        if status == GLARE and self._tries < OFFER_TRIES:
            self._script.appendleft((monotonic() - self._answered_at + GLARE_WAIT, self._is_held))
            return
        self._tries = 0
        self._problems.append(f"{'hold' if self._is_held else 'resume'} refused: {status}")

    def _over(self) -> None:
        self._ended_at = self._ended_at or monotonic()
        self._sip.forget(self._dialog)
        self._dialog = ""

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _result(self) -> CallResult:
        legs = tuple(_leg_result(leg, s) for leg, s in zip(self._options.legs, self._senders, strict=False))
        silent = [leg.role for leg in legs if self._answered_at and not leg.packets]
        problems = self._problems or ([f"nothing was sent: {', '.join(silent)}"] if silent else [])
        return CallResult(
            ok=not problems,
            reason="; ".join(problems) or "done",
            sip_call_id=self._sip_call_id,
            status=self._status,
            answered_at=self._answered_at,
            ended_at=self._ended_at,
            holds=tuple(zip(self._changes[::2], self._changes[1::2], strict=False)),
            legs=legs,
        )


def _leg_result(leg: LegAudio, sender: RtpSender) -> LegResult:
    host, port = sender.remote or ("", 0)
    log = sender.log
    return LegResult(
        leg.role, f"{host}:{port}", len(log), dict(log.kinds), sender.stream.lost, log.late * 1000, sender.stream.ssrc
    )  # fmt: skip
