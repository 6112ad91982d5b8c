"""What is heard on each leg, whether it is sent, and when somebody has finished speaking. Sans-IO.

ears       the detectors of all legs: a neural one for speech (`silero`), music, tones, digital silence
evidence   what the last two seconds say: does somebody speak, and where did it begin
voice      somebody speaks on a leg, from a position to another (`voices`)
gate       open, or closed for a cause; signalling outranks sound
hangover   silence after which a gate closes; `pre-roll`: audio before the speech that opens it, sent first
turn       a stretch of one leg's speech that ends in silence, a hold, an interruption or the hang-up
"""
