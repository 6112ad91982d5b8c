"""Numbers that wrap: 16 bit sequence numbers and 32 bit timestamps (serial number arithmetic, RFC 1982).

Inside the floor everything counts on: a number from the wire is laid beside a 64 bit one that it must be close to.
Exactly half a turn away, which RFC 1982 leaves undefined, counts as the past.
"""

from __future__ import annotations


def signed16(difference: int) -> int:
    """A difference of two 16 bit numbers, as how far the first is ahead of the second: -32768 to 32767."""
    return ((difference + 0x8000) & 0xFFFF) - 0x8000


def signed32(difference: int) -> int:
    """The same for 32 bit numbers."""
    return ((difference + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def is_newer16(a: int, b: int) -> bool:
    """Whether the 16 bit number `a` comes after `b`."""
    return signed16(a - b) > 0


def is_newer32(a: int, b: int) -> bool:
    """Whether the 32 bit number `a` comes after `b`."""
    return signed32(a - b) > 0


def add16(a: int, n: int) -> int:
    """`a` + `n` on the 16 bit circle; `n` may be negative."""
    return (a + n) & 0xFFFF


def add32(a: int, n: int) -> int:
    """`a` + `n` on the 32 bit circle; `n` may be negative."""
    return (a + n) & 0xFFFF_FFFF


def extend16(value: int, near: int) -> int:
    """The number congruent to the 16 bit `value` that is nearest to `near`, an unwrapped number. May be negative, just
    after the start of a stream that began near 0."""
    return near + signed16(value - near)


def extend32(value: int, near: int) -> int:
    """The number congruent to the 32 bit `value` that is nearest to `near`, an unwrapped number."""
    return near + signed32(value - near)
