"""Soniox: who connects, what the start request asks for, and the errors by number. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bridge.emulator.audio import WIDTHS

MODELS = ("stt-rt-v5", "stt-rt-v4", "stt-rt-v3", "stt-rt-preview")
CONTAINERS = ("auto", "aac", "aiff", "amr", "asf", "flac", "mp3", "ogg", "wav", "webm")
SIGNED = [f"pcm_{sign}{bits}{end}" for sign in "su" for bits in (16, 24, 32) for end in ("le", "be")]
FLOATS = [f"pcm_f{bits}{end}" for bits in (32, 64) for end in ("le", "be")]
RAW = ("mulaw", "alaw", "pcm_s8", "pcm_u8", *SIGNED, *FLOATS, "s16le", "f32le")
DECODABLE = {"mulaw": "mulaw", "alaw": "alaw", "pcm_s16le": "linear16", "s16le": "linear16",
             "pcm_f32le": "linear32", "f32le": "linear32"}  # fmt: skip
SUBPROTOCOL = "soniox-api-key"

Offer = tuple[str | None, tuple[str, ...]]
"""Authorization header and offered sub-protocols of the upgrade."""

MISSING_KEY = (
    "Missing API key. Provide API key as a header (i.e. Authorization: Bearer <SONIOX_API_KEY>). "
    "You can get an API key at https://console.soniox.com"
)
WRONG_KEY = "Incorrect API key provided. You can get an API key at https://console.soniox.com"
NOT_BOTH = "Send the API key either in the Authorization header or in the WebSocket protocols list, not both."
ONE_OTHER = (
    "soniox-api-key must be sent in the WebSocket protocols list together with exactly one other entry, the API key."
)
KEYS_DIFFER = (
    "The api_key in the start request does not match the API key sent with the connection. "
    "Send the same key or omit it."
)
NO_FORMAT = (
    "Missing audio format. Specify a valid audio format (e.g. s16le, f32le, wav, ogg, flac...) "
    'or "auto" for auto format detection.'
)
NO_MODEL = (
    "The requested model is not available. See https://soniox.com/docs/stt/models for the list of supported models."
)

ERRORS = {
    400: ("invalid_request", "Start request is malformed."),
    401: ("unauthenticated", WRONG_KEY),
    402: (
        "organization_balance_exhausted",
        "Organization balance exhausted. Please either add funds manually or enable autopay.",
    ),
    403: (
        "permission_denied",
        "The API key does not have permission for this product. "
        "Edit the key's permissions at https://console.soniox.com",
    ),
    408: ("request_timeout", "Request timeout."),
    413: (
        "max_duration_reached",
        "This WebSocket connection has reached the maximum allowed duration and was closed. "
        "Please open a new WebSocket connection to continue transcribing.",
    ),
    429: (
        "limit_exceeded",
        "Concurrent requests limit for real-time transcription has been exceeded for your organization.",
    ),
    500: (
        "internal_error",
        "The server had an error processing your request. Sorry about that! You can retry your request, or contact "
        "us through our support email support@soniox.com if you keep seeing this error.",
    ),
    503: (
        "service_unavailable",
        "Cannot continue request (code 11). Please restart the request. "
        "Refer to: https://soniox.com/url/cannot-continue-request",
    ),
}


class SonioxError(Exception):
    """What the client is told before the close; never leaves the stream."""

    def __init__(self, code: int, message: str = "", *, kind: str = "") -> None:
        default_kind, default_message = ERRORS.get(code, ("internal_error", "Scripted error."))
        super().__init__(message or default_message)
        self.code, self.kind, self.message = code, kind or default_kind, message or default_message

    def frame(self, request_id: str, *, old_form: bool) -> dict[str, Any]:
        """`old_form`: without error_type, more_info and request_id."""
        out: dict[str, Any] = {"tokens": [], "error_code": self.code}
        if old_form:
            return {**out, "error_message": self.message}
        anchor = self.kind.replace("_", "-")
        return {
            **out,
            "error_type": self.kind,
            "error_message": self.message,
            "more_info": f"https://soniox.com/docs/api-reference/errors#{anchor}",
            "request_id": request_id,
        }


def connection_key(offer: Offer) -> str | None:
    """The key sent with the upgrade; None: legacy, it is to come in the start message. Raises SonioxError."""
    header, protocols = offer
    if header is not None and SUBPROTOCOL in protocols:
        raise SonioxError(400, NOT_BOTH)
    if header is not None:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise SonioxError(400, 'Authorization header must be "Bearer <api_key>".')
        return key.strip()
    if SUBPROTOCOL not in protocols:
        return None
    if len(protocols) != 2:
        raise SonioxError(400, ONE_OTHER)
    return next(name for name in protocols if name != SUBPROTOCOL)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """The first message, checked. Explicit nulls count as absent."""

    model: str
    audio_format: str
    sample_rate: int = 0
    num_channels: int = 1
    api_key: str | None = None
    detects_endpoints: bool = False
    max_endpoint_delay: float = 2.0
    "Seconds."
    identifies_language: bool = False
    is_diarized: bool = False
    is_translated: bool = False

    @property
    def encoding(self) -> str | None:
        """A key of audio.WIDTHS, None where the audio has a header of its own or cannot be decoded here."""
        encoding = DECODABLE.get(self.audio_format)
        return encoding if encoding in WIDTHS else None

    @classmethod
    def parse(cls, text: str) -> StartRequest:
        """Raises SonioxError (400) with the service's own text."""
        fields = _fields(text)
        if not isinstance(fields.get("model"), str):
            raise SonioxError(400)
        if fields["model"] not in MODELS:
            raise SonioxError(400, NO_MODEL, kind="model_not_available")
        _check_format(fields)
        _check_ranges(fields)
        _check_hints(fields)
        return cls(
            model=fields["model"],
            audio_format=fields["audio_format"],
            sample_rate=fields.get("sample_rate", 0),
            num_channels=fields.get("num_channels", 1),
            api_key=fields.get("api_key"),
            detects_endpoints=bool(fields.get("enable_endpoint_detection")),
            max_endpoint_delay=fields.get("max_endpoint_delay_ms", 2000) / 1000,
            identifies_language=bool(fields.get("enable_language_identification")),
            is_diarized=bool(fields.get("enable_speaker_diarization")),
            is_translated="translation" in fields,
        )


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise SonioxError(400) from None
    if not isinstance(fields, dict):
        raise SonioxError(400)
    return {name: value for name, value in fields.items() if value is not None}


def _check_format(fields: dict[str, Any]) -> None:
    name = fields.get("audio_format")
    if not isinstance(name, str) or not name:
        raise SonioxError(400, NO_FORMAT)
    if name not in CONTAINERS and name not in RAW:
        raise SonioxError(400, f"Invalid audio data format: {name[:40]}")
    if name in RAW:
        for field, what in (("sample_rate", "sample rate"), ("num_channels", "channels")):
            value = fields.get(field)
            if value is None:
                raise SonioxError(400, f"Audio data {what} must be specified for PCM formats")
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 192_000:
                raise SonioxError(400)


def _check_ranges(fields: dict[str, Any]) -> None:
    ranges = (("endpoint_sensitivity", -1, 1), ("max_endpoint_delay_ms", 500, 3000),
              ("max_non_final_tokens_duration_ms", 700, 6000))  # fmt: skip
    for name, low, high in ranges:
        value = fields.get(name, low)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise SonioxError(400)
        if value < low:
            raise SonioxError(400, f"Field {name} cannot be less than {low}.")
        if value > high:
            raise SonioxError(400, f"Field {name} cannot be more than {high}.")
    level = fields.get("endpoint_latency_adjustment_level", 0)
    if level not in (0, 1, 2, 3):
        raise SonioxError(400, "Field endpoint_latency_adjustment_level must be between 0 and 3.")
    if fields["model"] != "stt-rt-v5":
        for name in ("endpoint_sensitivity", "endpoint_latency_adjustment_level"):
            if name in fields:
                raise SonioxError(400, f"Model does not support {name}.")


def _check_hints(fields: dict[str, Any]) -> None:
    hints = fields.get("language_hints", [])
    if not isinstance(hints, list) or not all(isinstance(hint, str) and 2 <= len(hint) <= 3 for hint in hints):
        raise SonioxError(400, "Invalid language hint.")
    if len(set(hints)) != len(hints):
        raise SonioxError(400, "Language hints must be unique.")
    reference = fields.get("client_reference_id", "")
    if not isinstance(reference, str):
        raise SonioxError(400)
    if len(reference) > 256:
        length = f"`client_reference_id` is {len(reference)} characters"
        raise SonioxError(400, f"{length}, which exceeds the maximum allowed length of 256.")
