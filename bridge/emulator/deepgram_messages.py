"""The JSON messages of Deepgram's live v1, keys in the order of captured frames. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from bridge.emulator.deepgram_query import DeepgramQuery, model_identity
from bridge.emulator.recogniser import HeardWord
from bridge.emulator.segments import Segment, SegmentEvent, SpeechStarted

DIARIZER = {"model_uuid": "6ff6f59c-c349-443b-aba1-352de7d75943", "arch": "v1"}


def float32(value: float) -> float:
    """The shortest decimal of the value as float32, as the service prints it: 0.39999998, 2.0000002."""
    return float(str(np.float32(value)))


class DeepgramMessages:
    """Everything a stream says, under one request id."""

    def __init__(self, query: DeepgramQuery, request_id: str, created: str) -> None:
        self._query, self.request_id, self._created = query, request_id, created
        self._model_uuid, self._model_info = model_identity(query)

    def event(self, event: SegmentEvent, index: tuple[int, int]) -> dict[str, Any]:
        if isinstance(event, Segment):
            return self.results(event, index)
        if isinstance(event, SpeechStarted):
            return {"type": "SpeechStarted", "channel": list(index), "timestamp": float32(event.timestamp)}
        last = event.last_word_end
        return {"type": "UtteranceEnd", "channel": list(index), "last_word_end": last if last < 0 else float32(last)}

    def results(self, segment: Segment, index: tuple[int, int]) -> dict[str, Any]:
        return {
            "type": "Results",
            "channel_index": list(index),
            "duration": float32(segment.duration),
            "start": float32(segment.start),
            "is_final": segment.is_final,
            "speech_final": segment.speech_final,
            "channel": {"alternatives": [self._alternative(segment.words)]},
            "metadata": self._result_metadata(),
            "from_finalize": segment.from_finalize,
        }

    def _alternative(self, words: tuple[HeardWord, ...]) -> dict[str, Any]:
        printed = [word.printed if self._query.is_punctuated else word.text for word in words]
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        alternative: dict[str, Any] = {
            "transcript": " ".join(printed),
            "confidence": float32(confidence),
            "words": [self._word(word) for word in words],
        }
        if self._query.language == "multi":
            alternative["languages"] = ["en"] if words else []
            if self._query.arch == "nova-3":
                hints = [value for key, value in self._query.raw if key == "language_hint"]
                alternative["languages_hinted"] = hints
        return alternative

    def _word(self, word: HeardWord) -> dict[str, Any]:
        out: dict[str, Any] = {
            "word": word.text,
            "start": float32(word.start),
            "end": float32(word.end),
            "confidence": float32(word.confidence),
        }
        if self._query.is_diarized:
            out["speaker"] = 0
        if self._query.language == "multi":
            out["language"] = "en"
        if self._query.is_punctuated:
            out["punctuated_word"] = word.printed
        return out

    def _result_metadata(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "request_id": self.request_id,
            "model_info": self._model_info,
            "model_uuid": self._model_uuid,
        }
        if self._query.is_diarized:
            out["diarize_info"] = DIARIZER
        if self._query.extra:
            out["extra"] = self._query.extra
        return out

    def metadata(self, duration: float, channels: int, sha256: str) -> dict[str, Any]:
        out: dict[str, Any] = {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self.request_id,
            "sha256": sha256,
            "created": self._created,
            "duration": float32(duration),
            "channels": channels,
        }
        if duration > 0:
            out["models"] = [self._model_uuid]
            out["model_info"] = {self._model_uuid: self._model_info}
        return out

    def schema_error(self, problem: str, text: str) -> dict[str, Any]:
        description = f"Could not deserialize last text message: {problem}"
        return {"type": "Error", "variant": "SchemaError", "description": description, "message": text}

    def configure_success(self, keyterms: list[str] | None) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "ConfigureSuccess", "request_id": self.request_id}
        return out if keyterms is None else {**out, "keyterms": keyterms}

    def configure_failure(self, code: str, description: str, *, new_form: bool) -> dict[str, Any]:
        """`new_form`: as from 2026-10-19; before, an Error."""
        if new_form:
            return {
                "type": "ConfigureFailure",
                "request_id": self.request_id,
                "code": code,
                "description": description,
            }
        name = "".join(part.capitalize() for part in code.removeprefix("CONFIGURE_").split("_"))
        return {"type": "Error", "variant": "InvalidConfigureMessage", "description": description, "code": name}
