"""The upgrade request of Deepgram's /v1/listen: who asks, and for what. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from bridge.emulator.audio import WIDTHS
from bridge.emulator.segments import SegmentRules

ENCODINGS = ("linear16", "linear32", "flac", "alaw", "mulaw", "amr-nb", "amr-wb", "opus", "ogg-opus", "speex", "g729")
RAW = ("linear16", "linear32", "alaw", "mulaw")
BOOLEANS = ("multichannel", "interim_results", "vad_events", "smart_format", "punctuate", "numerals", "dictation",
            "profanity_filter", "detect_entities", "diarize", "mip_opt_out", "filler_words", "no_delay")  # fmt: skip
MAX_CHANNELS = 20
LANGUAGE = re.compile(r"multi|[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class Refusal(Exception):
    """An upgrade that is answered with an HTTP error; texts are the provider's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


REFUSALS = {
    400: ("Bad Request", "Bad Request: scripted"),
    401: ("INVALID_AUTH", "Invalid credentials."),
    402: (
        "ASR_PAYMENT_REQUIRED",
        "Project does not have enough credits for an ASR request and does not have an overage agreement.",
    ),
    403: ("INSUFFICIENT_PERMISSIONS", "Project does not have access to the requested model."),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later"),
    500: ("INTERNAL_SERVER_ERROR", "Internal server error."),
    503: ("SERVICE_UNAVAILABLE", "Service unavailable."),
}


def refusal(status: int) -> Refusal:
    code, message = REFUSALS.get(status, ("ERROR", f"Status {status}"))
    return Refusal(status, code, message)


def credentials(headers: Mapping[str, str], protocols: Iterable[str]) -> str:
    """The key or token of the request; raises Refusal 401 where there is none."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() in ("token", "bearer") and key.strip():
        return key.strip()
    offered = list(protocols)
    if len(offered) == 2 and offered[0].lower() in ("token", "bearer"):
        return offered[1]
    raise refusal(401)


@dataclass(frozen=True, slots=True)
class DeepgramQuery:
    """What of the query changes what this stand-in does; `raw` has all of it."""

    model: str = "nova-3"
    language: str = "en"
    encoding: str | None = None
    "None: containerised, to be read from the audio's own header."
    sample_rate: int = 0
    channels: int = 1
    is_multichannel: bool = False
    is_punctuated: bool = False
    is_diarized: bool = False
    rules: SegmentRules = field(default_factory=SegmentRules)
    extra: dict[str, str] = field(default_factory=dict)
    raw: tuple[tuple[str, str], ...] = ()

    @property
    def arch(self) -> str:
        return "nova-3" if self.model.startswith("nova-3") else "nova-2" if self.model.startswith("nova-2") else "base"

    @classmethod
    def parse(cls, query: str) -> DeepgramQuery:
        """Raises Refusal (400). Unknown parameters are accepted, as the service does."""
        pairs = parse_qsl(query, keep_blank_values=True)
        last = dict(pairs)
        _check_enums(pairs, last)
        model = last.get("model", "nova-3")
        encoding = last.get("encoding") or None
        interims = last.get("interim_results") == "true"
        gap_ms = _integer(last, "utterance_end_ms", 0)
        if gap_ms and not interims:
            raise _bad("utterance_end_ms requires interim_results=true.")
        if model.startswith("nova-3") and "keywords" in last:
            raise _bad("Keywords are not supported for Nova-3. Use keyterm instead.")
        sample_rate = _integer(last, "sample_rate", 0)
        if encoding in RAW and not sample_rate:
            raise _bad(f"sample_rate is required when encoding={encoding}.")
        channels = _integer(last, "channels", 1) if encoding else 1
        if not 1 <= channels <= MAX_CHANNELS:
            raise _bad(f"channels must be between 1 and {MAX_CHANNELS}.")
        return cls(
            model, last.get("language", "en"), encoding, sample_rate, channels, last.get("multichannel") == "true",
            "true" in (last.get("punctuate"), last.get("smart_format")),
            last.get("diarize") == "true" or "diarize_model" in last,
            SegmentRules(interims, _endpointing(last), gap_ms / 1000 or None, last.get("vad_events") == "true"),
            dict(value.split(":", 1) for key, value in pairs if key == "extra" and ":" in value), tuple(pairs),
        )  # fmt: skip


def _check_enums(pairs: list[tuple[str, str]], last: dict[str, str]) -> None:
    encoding = last.get("encoding")
    if encoding and encoding not in ENCODINGS:
        variants = ", ".join(f"`{name}`" for name in ENCODINGS)
        raise _undeserialisable(f"unknown variant `{encoding}`, expected one of {variants}")
    if encoding and encoding not in WIDTHS:
        raise _bad(f"this stand-in cannot decode {encoding}; use linear16, linear32, mulaw or alaw.")
    for key, value in pairs:
        if key in BOOLEANS and value not in ("true", "false"):
            raise _undeserialisable(f"provided string was not `true` or `false`: {key}")
    if last.get("diarize_model", "v1") not in ("latest", "v1"):
        raise _bad("diarize_model is not supported for streaming.")
    if not LANGUAGE.fullmatch(last.get("language", "en")):
        raise _bad("No such model/language/tier combination found.")


def _integer(last: dict[str, str], key: str, default: int) -> int:
    value = last.get(key, "")
    if not value:
        return default
    if not re.fullmatch(r"\d{1,9}", value):
        raise _undeserialisable(f"invalid digit found in string: {key}")
    return int(value)


def _endpointing(last: dict[str, str]) -> float | None:
    value = last.get("endpointing", "10")
    if value == "false":
        return None
    return 0.01 if value == "true" else _integer({"endpointing": value}, "endpointing", 10) / 1000


def _bad(message: str) -> Refusal:
    return Refusal(400, "Bad Request", f"Bad Request: {message}")


def _undeserialisable(message: str) -> Refusal:
    return Refusal(400, "INVALID_QUERY_PARAMETER", f"Failed to deserialize query parameters: {message}")


MODELS = {
    "nova-3": ("40bd3654-e622-47c4-a111-63a61b23bfe8", "general-nova-3", "2025-04-17.21547"),
    "nova-2-phonecall": ("7e3b5bdf-85ed-4fd2-9f7a-7721bbcad97b", "2-phonecall-nova", "2024-02-07.20824"),
}
"""Identity of captured models; others get a stable made-up one."""


def model_identity(query: DeepgramQuery) -> tuple[str, dict[str, Any]]:
    """(model_uuid, model_info)."""
    name = query.model.removesuffix("-general")
    made_up = (str(uuid.uuid5(uuid.NAMESPACE_DNS, query.model)), query.model, "2025-04-17.21547")
    model_uuid, name, version = MODELS.get(name, made_up)
    return model_uuid, {"name": name, "version": version, "arch": query.arch}
