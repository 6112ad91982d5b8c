"""Every number the ears and the gate decide by, with its unit and why it is what it is.

Frames are 256 samples at 8 kHz (32 ms). Levels are dBFS of the frame's RMS (a full-scale square wave is 0).
"""

from __future__ import annotations

# Digital silence
ZERO = 8  # |sample|; A-law's zero decodes to +8 or -8, mu-law's to 0
ZERO_DBFS = -71.0  # samples of 8 make -72.2: what is louder need not be looked at sample by sample
SKIP_DBFS = -60.0  # as it is heard, faint legs louder: below, Silero says nothing, and the model is not run
HISS_DBFS = -46.0  # nor where a line's noise below this ...
HISS_SWING_DB = 2.0  # ... stays so close (32 ms of white noise wander by 0.4 dB, a syllable by 10) to its mean of ...
HISS_RATE = 0.1  # ... 0.3 s (share of the newest frame in it) ...
HISS_FRAMES = 8  # ... for 0.25 s and the model has said ...
HISS_SPEECH = 0.1  # ... that it hears nothing in it
# Speech
SPEECH_ON = 0.5  # Silero's own threshold
SPEECH_KEEP = 0.35  # and its negative one: between words the probability sags
ON_FRAMES = 2  # one frame alone is a click; two are 64 ms, shorter than any syllable

# Faint legs: Silero hears ever less below -40 dBFS
LOUD_ENOUGH_DBFS = -22.0  # loudest frames; above, the leg is heard as it is
GAIN_MOST_DB = 20.0
LOUDEST_FALL_DB = 0.02  # per frame, 0.6 dB a second

# The recurrent state saturates in minutes of music or ringback: then the next short word is not heard
GAP_DBFS = -50.0  # a pause this deep ...
GAP_BELOW_BED_DB = 25.0  # ... or so far below what was sounding before ...
GAP_FRAMES = 4  # ... for 128 ms: the state is emptied
STALE_FRAMES = 60  # 2 s without that: what was heard last may have been misheard, and is heard again from empty
AGAIN_FRAMES = 48  # 1.5 s are heard again; a word said straight behind the music lies within
AGAIN_BEGINS = (0, 14, 24)  # frames of them at which the state is emptied
AGAIN_BLIND = 6  # of them, the first tell nothing: the state is still empty

# Opening
WEAK = 0.15  # a faint or odd voice the network half believes ...
WEAK_DBFS = -38.0  # ... fainter than this, where music and noises are no longer half believed ...
WEAK_WINDOW = 30
WEAK_FRAMES = 14  # ... is speech when it stays so
LOOKBACK_FRAMES = 60  # 1.9 s: a hint this long before the first sure frame belongs to the same words
DOUBT_LOOKBACK_FRAMES = 50  # within music less: its own hints are many
HINT = 0.25  # probability of speech that means nothing alone, and an onset when words follow
HINTS_APART_FRAMES = 22  # but within music not when so far (0.7 s) before the next one, ...
HINTS_SPOKEN_FRAMES = 2  # ... unless so many of them were speech by the network's own account: a first "hello"
RISE_DB = 12.0  # above the floor of the last two seconds: sound that leads into a word without a pause is part of it
QUIET_LEAD_MS = 200  # pre-roll where the line was quiet before the onset (the setting is the most that is sent)

# Buzzing: the same again and again, which a voice is not for long, and a note that is held is
REPEATS = 0.9  # share of a frame that was there before: of a radio's bursts 0.93 to 1.0, of a voice seldom more
REPEATS_PERHAPS = 0.55  # ... at the lag where it was loudest: below, it is no more than REPEATS at any other either
REPEAT_LEAST_MS = 20  # before: nearer, the periods of any vowel are alike
REPEAT_HOLD_FRAMES = 2  # frames that do not repeat, less one, are refused behind it: a burst begins anew
REPEAT_SPEECH = 0.9  # probability: a buzz is seldom more, a voice mostly; what is more is not asked about: that costs

# Closing
FLOOR_RISE_DB = 0.06  # per frame, 2 dB a second: the floor of a line that gets noisier
TAIL_ABOVE_FLOOR_DB = 6.0  # what is quieter than a pause otherwise is still a faint voice's tail
TAIL_DEPTH_DB = 30.0  # below the voice's loud frames a sound is no longer part of a word
LOUDNESS_FALL_DB = 0.3  # per frame of speech; 10 dB a second follow a speaker who gets quieter
TAIL_MS = 250  # silence behind the last word that is sent at once; the hangover's rest goes out only if speech goes on
FADE_MS = 500  # a word fades, or rings in its room, for as long before its silence counts for the turn
FADE_BELOW_DB = 6.0  # and is quieter than the voice meanwhile, ...
FADE_DEPTH_DB = 40.0  # ... but not by more than this
SYLLABLE_DEPTH_DB = 20.0  # what is nearer to it may follow a closure too: a syllable that the network does not hear
VOICE_TRAIL_MS = 60  # a frame's end is half a frame late on average, and the probability trails the voice a little

# Stirring: a word is sure one or two tenths of a second after it has begun, and its turn must not be told meanwhile
STIR = 0.05  # probability of speech: silence and line noise stay below, breath and the first sound of a word do not
STIR_DEPTH_DB = 20.0  # below the voice, and RISE_DB above the floor: a shout, no speech to the network
STIR_BEFORE_MS = 300  # before the silence is gate.turn_end_ms long: earlier ones would be over by then (STIRS_FOR)
STIR_BEHIND_MS = 1000  # behind it: a voice that fades (FADE_MS), and what a turn is held up (STIRS_MOST)

# Doubt: within music only more evidence opens, and what was late is sent by look-back
DOUBT_WINDOW = 30  # frames of music in which ...
DOUBT_FRAMES = 16  # ... so many must be speech before the gate believes it: singing comes and goes
SURE = 0.85  # singing and brass seldom get there; a voice does within a syllable or two
SURE_FRAMES = 2  # of AFTER_GAP_WINDOW, before less than DOUBT_FRAMES are believed
EVIDENT_FRAMES = 7  # so many of AFTER_GAP_WINDOW are enough without any gap, and however loud the bed
DOUBT_SURE_FRAMES = 8  # and of DOUBT_WINDOW, among those
GAP_WINDOW = 40  # but when the music paused within so many frames (1.3 s) ...
AFTER_GAP_WINDOW = 12
AFTER_GAP_FRAMES = 4  # ... so many of the window are enough: somebody has picked up
LOUDER_DB = 10.0  # or when it is so much louder than the bed
LOUDER_WINDOW = 10
LOUDER_FRAMES = 4
DOUBT_LEAD_MS = 400  # more pre-roll there: over music the probability rises late
AGAIN_SPEECH_FRAMES = 5  # of those heard again
BRIEF_FRAMES = 20  # what opened for less speech than this ...
BRIEF_HANGOVER_MS = 300  # ... and sounds on without any is closed sooner; should it be speech, look-back loses nothing
BRIEF_SPEECH = 0.1
BRIEF_DEPTH_DB = 20.0  # about as loud as what was taken for speech, that is

# Music: a score that sounding without speech raises, speech lowers fast and pauses slowly
MUSIC_ON = 38.0  # 1.2 s of it
MUSIC_OFF = 10.0
MUSIC_TOP = 60.0
MUSIC_QUIET_STEP = -0.5  # 1.6 s of pause end the state; a song's own pauses do not
MUSIC_SPEECH_STEP = -2.0  # so do 0.8 s of speech
STEADY_DB = 0.5  # what swings less about its slow level is a line's noise or a fan, not music
SWING_RATE = 0.3  # of the level that swings: frames of coloured noise wander by 1 dB each, six together by 0.4
BED_RATE = 0.03  # per frame; the bed is the slow level (about 1 s) of what is not speech
FAINT_DB = 15.0  # a voice that answers is not so far below the music that it follows; its fade-out is

# Tones
TONE_PURITY = 0.97  # share of the band's energy in one or two lines
TONE_PEAKED = 0.15  # sum of squares of the bins' shares; two equal lines halfway between bins still make 0.23
TONE_SECOND_SHARE = 0.03  # below that there is one line
TONE_FRAMES = 8  # 256 ms in one place, pauses left out: vowels and notes move on
TONE_DRIFT_HZ = 10.0  # two lines 40 Hz apart (US ringback) look like one that wobbles so much
TONE_DRIFT_DB = 1.5  # they beat by as much; a plucked or struck note fades
TONE_MISS = 4  # frames of credit lost where a burst begins or ends
TONE_IN_MUSIC_FRAMES = 40  # 1.3 s: tunes have long notes
DTMF_FRAMES = 2  # a digit lasts 40 ms or more (ITU-T Q.24), here mostly 80 to 100
DTMF_REACH_HZ = 22.0  # 1.5 % of the highest, plus the resolution of a 32 ms window
TONE_HOLD_FRAMES = 140  # 4.5 s: ringback's pause is 4 s
TONE_OTHER_FRAMES = 12  # 0.4 s of any other sound end it
