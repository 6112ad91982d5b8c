"""Which recogniser a stand-in listens with: the one place that names them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.emulator.matching import MatchingRecogniser, index_of
from bridge.emulator.options import EmulatorOptions
from bridge.emulator.recogniser import DeafRecogniser, RecogniserFactory, ScriptedRecogniser
from bridge.emulator.recordings import load


@contextmanager
def recogniser_factory(options: EmulatorOptions) -> Iterator[RecogniserFactory]:
    """A maker of recognisers, one per channel; what they share ends with the block. Raises ConfigError."""
    if options.recogniser == "match":
        library = load()
        for folder in options.libraries:
            library = library + load(folder)
        index = index_of(library)
        yield lambda: MatchingRecogniser(index)
    elif options.recogniser == "scripted":
        yield lambda: ScriptedRecogniser(options.script)
    elif options.recogniser == "none":
        yield DeafRecogniser
    else:
        from bridge.emulator.sphinx import sphinx_factory  # an optional extra

        with sphinx_factory() as make:
            yield make
