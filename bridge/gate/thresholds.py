"""Every number the ears and the gate decide by, with its unit and why it is what it is.

Frames are 256 samples at 8 kHz (32 ms). Levels are dBFS of the frame's RMS (a full-scale square wave is 0).
"""

from __future__ import annotations

# Digital silence
ZERO = 8  # |sample|; A-law's zero decodes to +8 or -8, mu-law's to 0
QUIET_DBFS = -60.0  # below this no speech is intelligible, and Silero says nothing: the model is not run
QUIET_FRAMES = 4  # 128 ms of quiet empty the recurrent state, which minutes of music saturate

# Speech
SPEECH_ON = 0.5  # Silero's own threshold
SPEECH_KEEP = 0.35  # and its negative one: between words the probability sags
ON_FRAMES = 2  # one frame alone is a click; two are 64 ms, shorter than any syllable
DOUBT_WINDOW = 30  # frames of music in which ...
DOUBT_FRAMES = 16  # ... so many must be speech before the gate believes it: singing comes and goes
DOUBT_LOOKBACK_MS = 1500  # what is sent then, so that the late belief cuts nothing
GAP_DBFS = -50.0  # a pause in the music this deep ...
GAP_WINDOW = 40  # ... within so many frames (1.3 s) means an announcement may follow: no doubt then

# Music
MUSIC_WINDOW = 62  # frames, 2 s
MUSIC_LOUD_DBFS = -45.0
MUSIC_LOUD_SHARE = 0.8  # of the window; speech pauses more
MUSIC_SPEECH_MEAN = 0.2  # mean probability of speech in the window
MUSIC_END_SHARE = 0.3  # music is over when less of the window than this is loud
