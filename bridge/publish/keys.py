"""Names of keys in Redis, and which partition a call lives in."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """With one partition the prefix stands bare; with more, or on Redis Cluster, it becomes the hash tag
    `{<prefix>:<n>}`, so that all keys of a partition share a slot and one script may touch them."""

    prefix: str = "callbridge"
    partitions: int = 1
    tagged: bool = False
    "Redis Cluster: tagged even with one partition."

    def partition(self, call: str) -> int:
        """Where a call lives, for ever: CRC-32 of its id, the same in every process."""
        return zlib.crc32(call.encode("utf-8", "replace")) % self.partitions

    def base(self, partition: int) -> str:
        """What the keys of a partition start with."""
        if self.partitions == 1 and not self.tagged:
            return self.prefix
        return f"{{{self.prefix}:{partition}}}"

    def events(self, partition: int) -> str:
        """The shared stream."""
        return f"{self.base(partition)}:events"

    def calls(self, partition: int) -> str:
        """The sorted set of call ids by start (Unix milliseconds)."""
        return f"{self.base(partition)}:calls"

    def call(self, call: str) -> str:
        """One call's stream."""
        return f"{self.base(self.partition(call))}:call:{call}"
