from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.net.spool_files import SpoolFiles
from bridge.publish import events
from bridge.publish.spool import HEADER, Kind, Where


def body(seq: int, call: str = "c") -> bytes:
    return events.encode(events.dtmf(call, 1000, leg="a", role="caller", digit="1", duration_ms=80), seq, "i")


def opened(root: Path, instance: str = "one", **more: float) -> SpoolFiles:
    options = {"keep_s": 60.0, "max_bytes": 1 << 30} | more
    files = SpoolFiles(root, instance, keep_s=options["keep_s"], max_bytes=int(options["max_bytes"]))
    files.open(0.0)
    return files


def save(files: SpoolFiles) -> None:
    chunks = files.take_unsaved()
    files.save(chunks)
    files.saved(chunks)


def append(files: SpoolFiles, *seqs: int) -> list[Where]:
    return [files.append(Kind.EVENT, body(seq)) for seq in seqs]


def reopened(root: Path, instance: str = "one") -> tuple[SpoolFiles, dict[str, list[int]]]:
    files = SpoolFiles(root, instance, keep_s=60.0, max_bytes=1 << 30)
    recovery = files.open(0.0)
    return files, {call: sorted(remains.events) for call, remains in recovery.calls.items()}


def test_what_was_saved_is_there_for_the_next_process_and_what_was_not_is_not(tmp_path: Path) -> None:
    files = opened(tmp_path)
    append(files, 1, 2)
    save(files)
    append(files, 3)
    files.close()
    _, found = reopened(tmp_path)
    assert found == {"c": [1, 2]}


def test_an_event_is_read_back_from_its_place(tmp_path: Path) -> None:
    files = opened(tmp_path)
    places = append(files, 1, 2, 3)
    save(files)
    assert files.read(places[1]) == body(2)
    damaged = bytearray(next((tmp_path / "one").glob("*.spool")).read_bytes())
    damaged[places[1].offset + 5] ^= 1
    next((tmp_path / "one").glob("*.spool")).write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        files.read(places[1])


def test_saving_again_after_a_failure_half_way_writes_nothing_twice(tmp_path: Path) -> None:
    files = opened(tmp_path)
    append(files, 1)
    chunks = files.take_unsaved()
    files.save(chunks)  # done, but nobody was told: an error came with the sync
    append(files, 2)
    save(files)
    files.close()
    _, found = reopened(tmp_path)
    assert found == {"c": [1, 2]}


def test_a_dead_process_directory_is_adopted_and_goes_when_its_events_are_done(tmp_path: Path) -> None:
    dead = opened(tmp_path, "dead")
    append(dead, 1, 2)
    save(dead)
    dead.close()
    files = SpoolFiles(tmp_path, "alive", keep_s=60.0, max_bytes=1 << 30)
    recovery = files.open(0.0)
    save(files)
    assert files.sweep() == 0
    for found in recovery.calls["c"].events.values():
        files.release(found.where)
    assert files.sweep() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["alive"]


def test_a_living_process_directory_is_left_alone(tmp_path: Path) -> None:
    other = opened(tmp_path, "other")
    append(other, 1)
    save(other)
    _, found = reopened(tmp_path, "mine")
    assert found == {}
    with pytest.raises(ConfigError, match="in use"):
        opened(tmp_path, "other")


def test_segments_go_oldest_first_and_only_once_the_new_one_is_on_disk(tmp_path: Path) -> None:
    files = opened(tmp_path)
    (first,) = append(files, 1)
    files.rotate(b"{}", 1.0)
    (second,) = append(files, 2)
    files.rotate(b"{}", 2.0)
    files.release(second)
    files.release(first)
    assert files.sweep() == 0  # nothing saved yet
    save(files)
    assert files.sweep() > 0
    assert len(list((tmp_path / "one").glob("*.spool"))) == 1


def test_an_old_segment_that_is_needed_keeps_the_younger_ones(tmp_path: Path) -> None:
    """They hold the MARKs that say what of it is confirmed."""
    files = opened(tmp_path)
    append(files, 1)
    files.rotate(b"{}", 1.0)
    (second,) = append(files, 2)
    files.rotate(b"{}", 2.0)
    save(files)
    files.release(second)
    assert files.sweep() == 0


def test_a_segment_is_closed_when_full_or_old_but_not_when_empty(tmp_path: Path) -> None:
    files = opened(tmp_path, keep_s=30.0, max_bytes=8 * (64 << 10))
    assert not files.wants_rotation(1000.0)
    append(files, 1)
    assert not files.wants_rotation(29.0)
    assert files.wants_rotation(30.0)
    append(files, *range(2, 600))
    assert files.wants_rotation(1.0)


def test_words_on_disk_are_for_their_owner_only(tmp_path: Path) -> None:
    files = opened(tmp_path / "deep" / "root")
    append(files, 1)
    save(files)
    directory = tmp_path / "deep" / "root" / "one"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_an_instance_name_is_no_path(tmp_path: Path) -> None:
    opened(tmp_path / "root", "../../evil/..")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"spool\.path"):
        opened(tmp_path / "file" / "spool")


def test_a_file_that_is_no_segment_costs_nothing_but_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "000000000007.spool").write_bytes(HEADER + b"\x00" * 100)
    (tmp_path / "one" / "junk.spool").write_bytes(b"junk")
    files, found = reopened(tmp_path)
    append(files, 1)
    save(files)
    assert found == {}


def test_a_segment_that_was_deleted_before_its_first_sync_is_given_up(tmp_path: Path) -> None:
    files = opened(tmp_path)
    append(files, 1)
    files.write(files.take_unsaved())
    next((tmp_path / "one").glob("*.spool")).unlink()  # to free a full disk, say
    with pytest.raises(FileNotFoundError):
        save(files)
    assert len(files.lose_deleted()) == 1
    files.discard_unsaved()
    files.rotate(b"{}", 1.0)
    append(files, 1)
    save(files)
    files.close()
    _, found = reopened(tmp_path)
    assert found == {"c": [1]}


def test_an_event_that_stands_in_two_segments_keeps_none_of_them_for_ever(tmp_path: Path) -> None:
    files = opened(tmp_path)
    append(files, 1)
    files.write(files.take_unsaved())  # its sync failed
    files.discard_unsaved()
    files.rotate(b"{}", 1.0)
    append(files, 1)
    save(files)
    files.close()
    files = SpoolFiles(tmp_path, "one", keep_s=60.0, max_bytes=1 << 30)
    recovery = files.open(0.0)
    files.append(Kind.SNAPSHOT, b"{}")
    save(files)
    assert files.read(recovery.calls["c"].events[1].where) == body(1)
    files.release(recovery.calls["c"].events[1].where)
    assert files.sweep() > 0
    assert len(list((tmp_path / "one").glob("*.spool"))) == 1
