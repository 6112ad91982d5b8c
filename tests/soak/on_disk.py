"""What a spool holds, read by its description alone (`bridge.publish.spool`'s first lines), as an auditor would."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

HEADER = b"callbridge spool 1\n"
EVENT = 1
FRAME = struct.Struct(">2sBII")


def events_on_disk(root: Path) -> dict[tuple[str, int], dict[str, str]]:
    """The entry's fields, by call and number, of every whole event in every segment below `root`."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for path in sorted(root.glob("*/*.spool")):
        data = path.read_bytes()
        at = len(HEADER)
        assert data.startswith(HEADER) or not data, path
        while at + FRAME.size <= len(data):
            sync, kind, length, checksum = FRAME.unpack_from(data, at)
            payload = data[at + FRAME.size : at + FRAME.size + length]
            if sync != b"\xcb\x1e" or len(payload) < length or zlib.crc32(payload, kind) != checksum:
                break  # the torn end of a write that was under way
            at += FRAME.size + length
            if kind == EVENT:
                flat = json.loads(payload)
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                found[fields["call"], int(fields["seq"])] = fields
    return found
