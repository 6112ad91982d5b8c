"""callbridge: phone calls in, words out, and no bill for hold music.

The words used everywhere: a *call* has *legs* (one party's audio each); an *ingress* brings calls in; the *media plane*
moves audio once per tick for all legs; the *gate* decides what is sent; a *provider* turns it into words over a
*session* (one connection); *sinks* carry the events out. Start reading at `bridge.call`.
"""

__version__ = "0.1.0"
