"""RTP, RTCP and SRTP (RFC 3550, 3551, 3389, 3711, 4733), one leg's packets at a time. Sans-IO.

receiver   one leg's packets in, its audio in order out: sequence, holes, the sender's clock
lane       what is expected of a leg's next packet, in arrays: the batch path of `bridge.media` takes a packet itself
           only where it is exactly that, and leaves any other to the receiver
offset     arrival - duration - position / 8000 - shift: how late a packet is, plus a constant
origin     the least offset of the last seconds: of the packet that met the least delay
shift      seconds between position and the sender's clock: grows with every stretch that was not received
           a sample was captured at origin + position / 8000 + shift
doubt      a packet later than jitter explains: a burst after a stall, or a sender whose clock stood still?
rival      a stream that was left for a newer one on the same port, and comes back in between
latch      the address that a leg's RTP comes from; packets from any other are foreign
"""
