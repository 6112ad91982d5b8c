"""What a stand-in received, connection by connection: for tests that compare it with what was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.emulator.recogniser import HeardWord


@dataclass(slots=True)
class Connection:
    """One connection as the server saw it. Times `t` are seconds since the server started."""

    number: int
    "1, 2, 3 ... in order of arrival, refused ones included."
    path: str
    "With the query; keys are never in it."
    request_id: str
    opened_at: float
    frames: list[tuple[float, str, int]] = field(default_factory=list)
    "(t, kind, bytes) of what came in: kind `audio`, or the type of a text message, `empty` for an empty text."
    sent: list[tuple[float, str]] = field(default_factory=list)
    "(t, type) of the messages that went out; for Results `interim`, `final`, `final+finalize`."
    audio: bytearray = field(default_factory=bytearray, repr=False)
    "The very bytes received, as far as `keep_audio_bytes` goes."
    audio_bytes: int = 0
    seconds: float = 0.0
    "The audio clock: what a provider that charges for audio would charge."
    words: list[HeardWord] = field(default_factory=list)
    "Words of the final results that were really sent, in stream time."
    refused: int = 0
    "HTTP status of a refused upgrade."
    close_code: int = 0
    close_reason: str = ""
    closed_at: float | None = None
    frames_left_out: int = 0

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def connected_s(self) -> float:
        """From the upgrade to the end: what a provider that charges for connection time would charge."""
        return 0.0 if self.closed_at is None or self.refused else self.closed_at - self.opened_at

    def times_of(self, *kinds: str) -> list[float]:
        """When frames of these kinds came."""
        return [t for t, kind, _ in self.frames if kind in kinds]

    def summary(self, *, frames: bool = False) -> dict[str, Any]:
        """For JSON. Without transcript; `frames` adds what came and went."""
        kinds: dict[str, int] = {}
        for _, kind, _ in self.frames:
            kinds[kind] = kinds.get(kind, 0) + 1
        out: dict[str, Any] = {
            "number": self.number, "path": self.path, "request_id": self.request_id,
            "opened_at": round(self.opened_at, 3),
            "closed_at": None if self.closed_at is None else round(self.closed_at, 3), "refused": self.refused,
            "close_code": self.close_code, "close_reason": self.close_reason, "seconds": round(self.seconds, 6),
            "connected_s": round(self.connected_s, 3), "audio_bytes": self.audio_bytes, "words": len(self.words),
            "received": kinds,
        }  # fmt: skip
        if frames:
            out["frames"] = [[round(t, 4), kind, size] for t, kind, size in self.frames]
            out["sent"] = [[round(t, 4), kind] for t, kind in self.sent]
        return out

    def append_to(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(self.summary(frames=True), separators=(",", ":")) + "\n")


def kind_of_text(text: str) -> str:
    """The `type` of a client's text message, without keeping its content."""
    if not text:
        return "empty"
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return "unparseable"
    kind = message.get("type", "start" if "model" in message else "untyped") if isinstance(message, dict) else "untyped"
    return str(kind)[:40]


def kind_of_sent(message: dict[str, Any]) -> str:
    """`interim`, `final`, `final+finalize` for Results and tokens, else the message's type."""
    if message.get("type") == "Results":
        return ("final+finalize" if message["from_finalize"] else "final") if message["is_final"] else "interim"
    if "tokens" in message:
        if "error_code" in message:
            return f"error {message['error_code']}"
        if message.get("finished"):
            return "finished"
        return "final" if any(token["is_final"] for token in message["tokens"]) else "interim"
    return str(message.get("type"))
