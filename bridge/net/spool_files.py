"""The spool on disk: one directory per instance, locked, holding numbered segments.

`append` only buffers (it is called from the loop and never waits); `take_unsaved` hands the buffer to `save`, which
runs in a thread: it writes at explicit offsets, so that a write that failed half way is simply done again, and syncs.
While that takes long, `write` already hands what came since to the kernel: there it outlives us, if not the machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import ConfigError
from bridge.publish import spool
from bridge.publish.spool import Kind, Recovery, Where

SEGMENT_BYTES = 8 << 20  # small enough that confirmed words soon leave the disk, large enough for few files
SEGMENT_AGE_MIN_S = 10.0  # a segment with events is closed at `keep_s`, but not faster than this


def default_root() -> Path:
    """`callbridge` under the platform's state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/callbridge")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "callbridge"


@dataclass(slots=True, eq=False)
class Segment:
    """One file. `size` is what was appended, `saved` what is surely on disk."""

    number: int
    path: Path
    size_bytes: int = 0
    saved_bytes: int = 0
    live: int = 0
    "Events in it that are still needed."
    had_events: bool = False
    opened: float = 0.0
    fd: int = -1
    is_gone: bool = False
    "Somebody has deleted its file."


Chunk = tuple[Segment, int, bytes]
"""A segment, an offset in it, and what belongs there."""


@dataclass(slots=True, eq=False)
class Folder:
    """A locked directory and its segments, oldest first."""

    path: Path
    lock_fd: int
    segments: list[Segment] = field(default_factory=list)


class SpoolFiles:
    """The spool of this process, with what dead processes left beside it. Not thread-safe but for `save` and `read`."""

    def __init__(self, root: Path, instance: str, *, keep_s: float, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._instance = instance
        self._segment_bytes = min(SEGMENT_BYTES, max(64 << 10, max_bytes // 8))
        self._age_s = max(keep_s, SEGMENT_AGE_MIN_S)
        self._folders: list[Folder] = []
        self._own: Folder | None = None
        self.skipped: list[str] = []
        "Directories of others that could not be looked into."
        self._by_number: dict[int, Segment] = {}
        self._last_number = 0
        self._buffer = bytearray()
        self._unsaved: list[Chunk] = []
        self._opening = threading.Lock()
        self.size_bytes = 0

    # --- open, recover ---

    def open(self, now: float) -> Recovery:
        """Locks this instance's directory and every one whose process is gone; reads what they left. Raises ConfigError
        when the directory cannot be used or a living process has this instance's name. Blocks: call in a thread."""
        recovery = Recovery()
        name = re.sub(r"[^A-Za-z0-9._-]", "_", self._instance).lstrip(".") or "_"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            own = _lock(self.root / name, create=True)
            if own is None:
                raise ConfigError([f"spool.path: {self.root / name} is in use by another process"])
            others = [self._adopt(path) for path in sorted(self.root.iterdir()) if path != own.path]
            self._own = own
            self._folders = [*(folder for folder in others if folder is not None), own]
            for folder in self._folders:
                self._read_folder(folder, recovery)
        except OSError as error:
            raise ConfigError([f"spool.path: {self.root}: {error.strerror or error}"]) from error
        self._start_segment(now)
        return recovery

    def _adopt(self, path: Path) -> Folder | None:
        try:
            return _lock(path, create=False)
        except OSError:
            self.skipped.append(path.name)
            return None

    def _read_folder(self, folder: Folder, recovery: Recovery) -> None:
        for path in sorted(folder.path.glob("*.spool")):
            self._last_number += 1
            data = path.read_bytes()
            segment = Segment(self._last_number, path, len(data), len(data))
            segment.live = recovery.read_segment(segment.number, data)
            folder.segments.append(segment)
            self._by_number[segment.number] = segment
            self.size_bytes += len(data)

    def _start_segment(self, now: float) -> None:
        assert self._own is not None
        self._last_number += 1
        newest = max((int(s.path.stem) for s in self._own.segments if s.path.stem.isdigit()), default=0)
        segment = Segment(self._last_number, self._own.path / f"{newest + 1:012d}.spool", opened=now)
        self._own.segments.append(segment)
        self._by_number[segment.number] = segment
        self._put(segment, spool.HEADER)

    @property
    def _current(self) -> Segment:
        assert self._own is not None
        return self._own.segments[-1]

    # --- write ---

    def append(self, kind: Kind, payload: bytes) -> Where:
        """Buffers one record; where its payload will stand."""
        segment = self._current
        where = Where(segment.number, segment.size_bytes + spool.FRAME.size, len(payload))
        self._put(segment, spool.frame(kind, payload))
        if kind is Kind.EVENT:
            segment.live += 1
            segment.had_events = True
        return where

    def _put(self, segment: Segment, data: bytes) -> None:
        self._buffer += data
        segment.size_bytes += len(data)
        self.size_bytes += len(data)

    def wants_rotation(self, now: float) -> bool:
        """The current segment is full, or old enough that its events should not linger in it."""
        segment = self._current
        return segment.had_events and (segment.size_bytes >= self._segment_bytes or now - segment.opened >= self._age_s)

    def rotate(self, snapshot: bytes, now: float) -> None:
        """Closes the current segment and begins a new one with `snapshot`."""
        self._seal_buffer()
        self._start_segment(now)
        self.append(Kind.SNAPSHOT, snapshot)

    def _seal_buffer(self) -> None:
        if self._buffer:
            segment = self._current
            self._unsaved.append((segment, segment.size_bytes - len(self._buffer), bytes(self._buffer)))
            self._buffer.clear()

    @property
    def is_dirty(self) -> bool:
        """There is something to save."""
        return bool(self._buffer or self._unsaved)

    @property
    def unsaved_bytes(self) -> int:
        """Waiting in memory for the disk."""
        return len(self._buffer) + sum(len(data) for _, _, data in self._unsaved)

    def discard_unsaved(self) -> None:
        """Forgets what the disk would not take; whoever still needs it appends it again, after a `rotate`."""
        self._seal_buffer()
        for segment, _, data in self._unsaved:
            self.size_bytes -= len(data)
            segment.size_bytes = segment.saved_bytes
        self._unsaved.clear()

    def take_unsaved(self) -> list[Chunk]:
        """What to give to `save`. It stays unsaved until `saved` says otherwise."""
        self._seal_buffer()
        return list(self._unsaved)

    def save(self, chunks: list[Chunk]) -> None:
        """Writes and syncs. Raises OSError; asking again is safe. Blocks: call in a thread."""
        self.write(chunks)
        for segment in {segment.number: segment for segment, _, _ in chunks}.values():
            os.fdatasync(segment.fd)
            if not os.fstat(segment.fd).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "a segment was deleted")

    def write(self, chunks: list[Chunk]) -> None:
        """The first half of `save`: from here on not even `kill -9` loses it, though a power cut would. May run
        beside a `save`, with later chunks. Raises OSError. Blocks: call in a thread."""
        for segment, offset, data in chunks:
            if segment.fd < 0:
                self._create(segment)
            done = 0
            while done < len(data):
                done += os.pwrite(segment.fd, memoryview(data)[done:], offset + done)

    def _create(self, segment: Segment) -> None:
        with self._opening:
            if segment.fd >= 0:
                return
            if not segment.path.parent.is_dir():
                self._make_again()
            segment.fd = os.open(segment.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            _sync_directory(segment.path.parent)

    def _make_again(self) -> None:
        """Somebody has wiped the directory under us, with our lock in it."""
        assert self._own is not None
        self._own.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = _lock(self._own.path, create=True)
        if made is None:
            raise OSError(errno.EBUSY, "another process has taken the spool's directory")
        os.close(self._own.lock_fd)
        self._own.lock_fd = made.lock_fd

    def lose_deleted(self) -> set[int]:
        """Segments whose files are gone though we did not delete them; to be called after `save` has failed. What was
        in them is not on disk any more."""
        made = [segment for segment in self._by_number.values() if segment.saved_bytes or segment.fd >= 0]
        known = [segment for segment in made if not segment.is_gone]
        gone = [segment for segment in known if not segment.path.exists()]
        for segment in gone:
            segment.is_gone = True
            if segment.fd >= 0:
                os.close(segment.fd)
                segment.fd = -1
        return {segment.number for segment in gone}

    def saved(self, chunks: list[Chunk]) -> None:
        """`save` has done these."""
        del self._unsaved[: len(chunks)]
        for segment, offset, data in chunks:
            segment.saved_bytes = max(segment.saved_bytes, offset + len(data))

    # --- read, let go ---

    def read(self, where: Where) -> bytes:
        """An event's bytes. Raises OSError or ValueError when they are not there any more. Blocks: call in a thread."""
        segment = self._by_number[where.segment]
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            framed = os.pread(fd, where.length + spool.FRAME.size, where.offset - spool.FRAME.size)
        finally:
            os.close(fd)
        if next(spool.scan(framed), None) != (Kind.EVENT, spool.FRAME.size, where.length):
            raise ValueError("damaged record")
        return framed[spool.FRAME.size :]

    def release(self, where: Where) -> None:
        """This event is needed no more."""
        self._by_number[where.segment].live -= 1

    def sweep(self) -> int:
        """Deletes segments that hold nothing needed any more; how many bytes that freed. Oldest first and without
        leaving out any: a MARK that says an older event is confirmed must not go before that event. The current one
        stays, and so does every other until all, the current one's snapshot too, is on disk."""
        if self._current.saved_bytes == 0 or self._unsaved:
            return 0
        freed = 0
        for folder in list(self._folders):
            while folder.segments and folder.segments[0].live <= 0 and folder.segments[0] is not self._current:
                freed += self._delete(folder.segments.pop(0))
            if not folder.segments and folder is not self._own:
                self._folders.remove(folder)
                _unlock(folder, remove=True)
        return freed

    def _delete(self, segment: Segment) -> int:
        if segment.fd >= 0:
            os.close(segment.fd)
        segment.path.unlink(missing_ok=True)
        del self._by_number[segment.number]
        self.size_bytes -= segment.size_bytes
        return segment.size_bytes

    def close(self) -> None:
        """Lets go of files and locks; files stay. An own directory that holds nothing goes too."""
        for segment in self._by_number.values():
            if segment.fd >= 0:
                os.close(segment.fd)
        for folder in self._folders:
            _unlock(folder, remove=False)
        self._folders.clear()
        self._by_number.clear()


def _lock(path: Path, *, create: bool) -> Folder | None:
    """None: another process has it, or it is no spool directory."""
    if create:
        path.mkdir(mode=0o700, exist_ok=True)
    elif not (path / "lock").is_file():
        return None
    while True:
        fd = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == os.stat(path / "lock").st_ino:
                return Folder(path, fd)
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:  # whoever had it removed the directory meanwhile
            os.close(fd)
            if not create:
                return None
            path.mkdir(mode=0o700, exist_ok=True)
            continue
        os.close(fd)


def _unlock(folder: Folder, *, remove: bool) -> None:
    if remove:
        try:
            (folder.path / "lock").unlink(missing_ok=True)
            folder.path.rmdir()
        except OSError:
            pass  # something of somebody else's lies in it
    os.close(folder.lock_fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
