"""The RTP end of one leg: its pair of ports, and what offer and answer have agreed for them (an m-line of SDP)."""

from __future__ import annotations

from bridge.errors import InvalidState
from bridge.ingress.contract import MediaOffer
from bridge.model import AudioFormat
from bridge.net.datagrams import MediaPort
from bridge.net.rtp_silence import SentFormat
from bridge.rtp.frames import PayloadType
from bridge.rtp.srtp import SrtpKeys, SrtpReceiver
from bridge.wiring import Wiring


class MediaLine:
    """Reserves its ports when it is made, and raises CapacityError where there are none; `close` returns them. Between
    `open` and `close` it sits in a row of the plane, which is told of every change."""

    __slots__ = ("_media", "_port", "_row", "_sends", "_srtp", "_srtp_keys", "_wiring")

    def __init__(self, media: MediaOffer, wiring: Wiring) -> None:
        self._media = media
        self._wiring = wiring
        self._port: MediaPort | None = wiring.sockets.open_pair()
        self._row = -1
        self._srtp_keys: SrtpKeys | None = None
        self._srtp: SrtpReceiver | None = None
        self._sends = False

    @property
    def codec(self) -> str:
        """Name of the codec that is expected; others that were agreed may come at any packet."""
        return self._media.formats[0].codec.name

    @property
    def audio(self) -> AudioFormat:
        """What that codec's audio is kept as: G.711 as it comes, all else decoded."""
        codec = self._media.formats[0].codec
        if codec.wire_encoding == "mulaw":
            return AudioFormat("mulaw", 8000)
        if codec.wire_encoding == "alaw":
            return AudioFormat("alaw", 8000)
        return AudioFormat("linear16", codec.sample_rate_hz)

    def local(self, source: str) -> tuple[str, int]:
        """Address and port to advertise to the peer; `source` is the address that it called from, for a peer that has
        not said where its RTP comes from. Raises InvalidState after `close`."""
        if self._port is None:
            raise InvalidState("a leg without RTP has no port")
        peer = self._media.remote[0] if self._media.remote is not None else source
        return self._wiring.advertise(peer), self._port.port

    def open(self, row: int, now: float) -> None:
        """From now on what arrives is received under `row`; what came before is not."""
        assert self._port is not None
        self._row = row
        self._wiring.reports.open(row, self._port, now)
        self._tell_agreed()
        self._wiring.sockets.attach(self._port, row, now)

    def agree(self, media: MediaOffer) -> None:
        """After each further offer and answer."""
        self._media = media
        if self._row >= 0:
            self._tell_agreed()

    def sends(self, on: bool) -> None:
        """Whether the peer was told that we send: silence then leaves now and then."""
        self._sends = on
        if self._row >= 0:
            self._tell_what_we_send()

    def close(self, now: float) -> None:
        """A last RTCP report, and the ports are free for others. Idempotent."""
        if self._port is None:
            return
        if self._row >= 0:
            self._wiring.reports.close(self._row, now)
            stream = self._wiring.plane.incoming.stream(self._row)
            if stream is not None:
                self._port.left = (stream, *self._port.left)
        self._wiring.sockets.release(self._port)
        self._port, self._row = None, -1

    def _tell_agreed(self) -> None:
        media = self._media
        if media.srtp != self._srtp_keys:  # the same key goes on with its packet index, which only time has taught us
            self._srtp_keys = media.srtp
            self._srtp = SrtpReceiver(media.srtp, before=self._srtp) if media.srtp is not None else None
        self._wiring.plane.incoming.receive_rtp(
            self._row,
            {entry.payload_type: PayloadType(entry.codec, entry.fmtp) for entry in media.formats},
            events=media.telephone_events,
            comfort=media.comfort_noise,
            remote=media.remote,
            srtp=self._srtp,
            left=self._port.left if self._port is not None else (),
        )
        self._wiring.reports.media_changed(
            self._row,
            _rtcp_target(media),
            is_muxed=media.rtcp_mux,
            own_keys=media.srtp_own,
            clock_hz=media.formats[0].codec.clock_rate_hz,
        )
        self._tell_what_we_send()

    def _tell_what_we_send(self) -> None:
        formats = self._media.formats if self._sends else ()
        format_ = next((f for f in formats if f.codec.make_encoder is not None), None)
        self._wiring.reports.sends(self._row, SentFormat(format_.payload_type, format_.codec) if format_ else None)


def _rtcp_target(media: MediaOffer) -> tuple[str, int] | None:
    if media.rtcp is not None or media.remote is None:
        return media.rtcp
    return media.remote[0], media.remote[1] + (0 if media.rtcp_mux else 1)
