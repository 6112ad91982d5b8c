"""The media plane: the audio of all legs, moved by one synchronous tick. Sans-IO.

row        a leg's place in every array of the plane, from `open_leg` to `free_leg`
track      what a row has of its own and is no array: codecs, clock marks, books
position   1/8000 s of the leg's received audio, whatever its rate; it stands still while nothing comes
history    the last three seconds of every row's audio, a ring indexed by position
heard_to   position up to which the ears have heard a row; `sent_to`: up to which its audio has left, or never will
ears       the detectors of all legs (`bridge.gate`); they hear a frame of 256 positions, 32 ms
settled    it is known when the audio of a row was captured; before that nothing of it is heard or sent
output     what a tick answers for one row: audio, a gate that moved, a voice, a telephone event

incoming   datagrams and decoded audio -> histories         plane     the tick
outgoing   histories -> audio for the provider              hearing   histories -> frames for the ears
"""
