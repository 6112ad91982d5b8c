"""Makes bridge/emulator/recordings from Debian's packages asterisk-core-sounds-en-wav and asterisk-moh-opsound-wav.

`python tests/emulator/tools/make_recordings.py [SOUNDS_DIR [MOH_DIR]]`, then the folder is complete. Kept so that
anybody can see where each sample comes from; run again only when the cast changes.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np

from bridge.emulator.align import align, dumps, resampled

OUT = Path(__file__).parents[3] / "bridge" / "emulator" / "recordings"
SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
MOH = Path("/usr/share/asterisk/moh")
LICENCE = "CC-BY-SA-3.0"
CALLER_STRETCH = 1.19  # played 16 % slower, so three semitones lower: a second voice out of the same speaker

# (our name, prompt, text as it is spoken), in the order of the conversation
CAST = [
    ("agent-first-in-line", "queue-youarenext",
     "Your call is now first in line and will be answered by the next available representative."),
    ("caller-terribly-wrong", "tt-somethingwrong", "Something is terribly wrong."),
    ("agent-having-problems", "sorry-youre-having-problems", "Sorry you're having problems."),
    ("caller-weasels", "tt-weasels", "Weasels have eaten our phone system."),
    ("agent-not-understood", "vm-sorry", "I'm sorry, I did not understand your response."),
    ("caller-not-answering", "number-not-answering", "The number is not answering."),
    ("agent-phone-number", "privacy-prompt", "Please enter your phone number, starting with the area code."),
    ("caller-leader-left", "conf-leaderhasleft", "The leader has left the conference."),
    ("agent-please-hold", "priv-introsaved", "Thank you. Please hold while I attempt to connect you with your party."),
    ("agent-patience", "queue-thankyou", "Thank you for your patience."),
    ("caller-monkeys", "tt-monkeysintro", "They have been carried away by monkeys."),
    ("agent-forwarded", "vm-msgforwarded", "Your message has been successfully forwarded."),
    ("caller-thank-you", "auth-thankyou", "Thank you."),
    ("agent-goodbye", "demo-thanks", "Goodbye. Thank you for trying out the Asterisk open source PBX."),
]  # fmt: skip
MUSIC = ("macroform-cold_day", "Cold Day", "Paul Shuler (Macroform)", 135.0, 25.0)


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (8000, 1, 2), path
        return np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2")


def write(name: str, samples: np.ndarray) -> None:
    with wave.open(str(OUT / name), "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", ""))
        audio.writeframes(samples.astype("<i2").tobytes())


def recording(name: str, prompt: str, text: str, sounds: Path) -> dict[str, object]:
    original = read(sounds / f"{prompt}.wav")
    stretch = CALLER_STRETCH if name.startswith("caller-") else 1.0
    samples = resampled(original, stretch) if stretch != 1.0 else original
    write(f"{name}.wav", samples)
    # aligned at the speaker's own pace, which is what the acoustic model knows, then stretched like the audio
    words = [(w, round(s * stretch, 3), round(e * stretch, 3)) for w, s, e in align(original, text, rate_hz=8000)]
    return {
        "file": f"{name}.wav", "text": text, "seconds": round(len(samples) / 8000, 3),
        "speaker": "Allison Smith" + (", lowered by three semitones" if stretch != 1.0 else ""),
        "source": f"Debian asterisk-core-sounds-en-wav 1.6.1, {prompt}", "licence": LICENCE, "words": words,
    }  # fmt: skip


def main(sounds: Path, moh: Path) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    file, title, artist, start, seconds = MUSIC
    music = read(moh / f"{file}.wav")[int(start * 8000) : int((start + seconds) * 8000)]
    write("hold-music.wav", music)
    library = {
        "recordings": [recording(*line, sounds) for line in CAST],
        "music": [{"file": "hold-music.wav", "seconds": seconds, "title": title, "artist": artist, "licence": LICENCE,
                   "source": f"Debian asterisk-moh-opsound-wav 2.03, {file}, from {start:g} s"}],
    }  # fmt: skip
    (OUT / "recordings.json").write_text(dumps(library))


if __name__ == "__main__":
    args = [Path(arg) for arg in sys.argv[1:]]
    main(*(args + [SOUNDS, MOH][len(args) :]))
