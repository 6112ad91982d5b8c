"""Every number the ears and the gate decide by, with its unit and why it is what it is.

Frames are 256 samples at 8 kHz (32 ms). Levels are dBFS of the frame's RMS (a full-scale square wave is 0).
"""

from __future__ import annotations

# Digital silence
ZERO = 8  # |sample|; A-law's zero decodes to +8 or -8, mu-law's to 0
SKIP_DBFS = -60.0  # below this no speech is intelligible, and Silero says nothing: the model is not run

# Speech
SPEECH_ON = 0.5  # Silero's own threshold
SPEECH_KEEP = 0.35  # and its negative one: between words the probability sags
ON_FRAMES = 2  # one frame alone is a click; two are 64 ms, shorter than any syllable

# The recurrent state saturates in minutes of music or ringback: then the next short word is not heard
GAP_DBFS = -50.0  # a pause this deep ...
GAP_BELOW_BED_DB = 25.0  # ... or so far below what was sounding before ...
GAP_FRAMES = 4  # ... for 128 ms: the state is emptied
STALE_FRAMES = 250  # 8 s without that: what was heard last may have been misheard, and is heard again from empty
AGAIN_FRAMES = 48  # 1.5 s are heard again; a word said straight behind the music lies within
AGAIN_BLIND = 6  # of them, the first tell nothing: the state is still empty

# Opening
LOOKBACK_FRAMES = 50  # 1.6 s: a hint this long before the first sure frame belongs to the same words
HINT = 0.25  # probability of speech that means nothing alone, and an onset when words follow
RISE_DB = 12.0  # above the floor of the last two seconds: sound that leads into a word without a pause is part of it
QUIET_LEAD_MS = 200  # pre-roll where the line was quiet before the onset (the setting is the most that is sent)

# Doubt: within music only more evidence opens, and what was late is sent by look-back
DOUBT_WINDOW = 30  # frames of music in which ...
DOUBT_FRAMES = 16  # ... so many must be speech before the gate believes it: singing comes and goes
GAP_WINDOW = 40  # but when the music paused within so many frames (1.3 s) ...
AFTER_GAP_WINDOW = 12
AFTER_GAP_FRAMES = 5  # ... so many of the window are enough: somebody has picked up
LOUDER_DB = 10.0  # or when it is so much louder than the bed
LOUDER_WINDOW = 10
LOUDER_FRAMES = 4
DOUBT_LEAD_MS = 400  # more pre-roll there: over music the probability rises late
AGAIN_SPEECH_FRAMES = 5  # of those heard again

# Music
MUSIC_WINDOW = 62  # frames, 2 s
MUSIC_LOUD_DBFS = -45.0
MUSIC_LOUD_SHARE = 0.8  # of the window; speech pauses more
MUSIC_SPEECH_MEAN = 0.2  # mean probability of speech in the window
MUSIC_END_SHARE = 0.3  # music is over when less of the window than this is loud
BED_RATE = 0.03  # per frame; the bed is the slow level (about 1 s) of what is not speech
