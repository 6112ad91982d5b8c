"""Speech to text: provider sessions, and everything between a leg's audio and its words in call time. Sans-IO.

tape       the leg's audio that was handed over and that no final result covers yet
session    one connection to a provider: what its protocol says and wants (`deepgram`, `soniox`, `vosk`, `local`)
run        one session at work on a stretch of the tape; `runs`: all of a leg, one after the other or drained aside
settled    up to there nothing is awaited from a run any more
position   here: of the tape, in samples; it stands still while the gate is closed (that of the plane does not)
mark       where the gate closed: the session is flushed there, and the call told once all words before it are in
piece      audio that is contiguous in the stream, on the tape and in the call; a `timeline` is made of them
utterance  one segment of the provider, with an id that lasts over its revisions and over a lost session
route      a provider with its settings; `breakers` keep failing ones from being tried at every call

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
