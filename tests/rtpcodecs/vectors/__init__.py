"""Packets that other encoders made; see README.md beside this file."""

from __future__ import annotations

from pathlib import Path


def packets(name: str) -> list[bytes]:
    """The frames of one file; b"" for one that was not sent."""
    lines = (Path(__file__).parent / f"{name}.hex").read_text().split()
    return [b"" if line == "-" else bytes.fromhex(line) for line in lines]
