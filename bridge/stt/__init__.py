"""Speech to text: provider sessions, and everything between a leg's audio and its words in call time. Sans-IO.

A new provider is one file and one line in `PROVIDERS`.
"""

from __future__ import annotations

from bridge.stt.deepgram import DEEPGRAM
from bridge.stt.local import LOCAL
from bridge.stt.session import Provider
from bridge.stt.soniox import SONIOX
from bridge.stt.vosk import VOSK

PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in (DEEPGRAM, SONIOX, LOCAL, VOSK)}
"""By the name in `stt.provider`, `stt.fallback` and `[stt.<name>]`."""
