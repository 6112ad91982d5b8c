"""Numbers that wrap: 16 bit sequence numbers and 32 bit timestamps (serial number arithmetic, RFC 1982).

Inside the floor everything counts on: a number from the wire is laid beside a 64 bit one that it must be close to.
Exactly half a turn away, which RFC 1982 leaves undefined, counts as the past.
"""

from __future__ import annotations

UINT16 = 1 << 16
UINT32 = 1 << 32


def difference16(a: int, b: int) -> int:
    """How far the 16 bit number `a` is ahead of `b`: -32768 to 32767."""
    return ((a - b + 0x8000) & 0xFFFF) - 0x8000


def difference32(a: int, b: int) -> int:
    """How far the 32 bit number `a` is ahead of `b`: -2**31 to 2**31 - 1."""
    return ((a - b + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def is_newer16(a: int, b: int) -> bool:
    """Whether the 16 bit number `a` comes after `b`."""
    return difference16(a, b) > 0


def is_newer32(a: int, b: int) -> bool:
    """Whether the 32 bit number `a` comes after `b`."""
    return difference32(a, b) > 0


def add16(a: int, n: int) -> int:
    """`a` + `n` on the 16 bit circle; `n` may be negative."""
    return (a + n) & 0xFFFF


def add32(a: int, n: int) -> int:
    """`a` + `n` on the 32 bit circle; `n` may be negative."""
    return (a + n) & 0xFFFF_FFFF


def extend16(value: int, near: int) -> int:
    """The number congruent to the 16 bit `value` that is nearest to `near`, an unwrapped number. May be negative, just
    after the start of a stream that began near 0."""
    return near + difference16(value, near & 0xFFFF)


def extend32(value: int, near: int) -> int:
    """The number congruent to the 32 bit `value` that is nearest to `near`, an unwrapped number."""
    return near + difference32(value, near & 0xFFFF_FFFF)
