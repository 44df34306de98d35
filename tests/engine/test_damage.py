"""Files changed behind the store's back: cut off what a crash leaves, refuse what it cannot have done, never guess."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Clear, Delete, Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, record
from kvql_server.engines.hashtable.files import OsFiles
from kvql_server.tools.examine import examine

from kvql.values import Json
from tests.engine.disk import Disk
from tests.stores import RECORDS, abandon, commit, ends, expected, log_of, state_of, step


def test_the_tail_cut_at_every_byte_of_the_last_three_records(store: Path) -> None:
    log = log_of(store)
    data = log.read_bytes()
    bounds = ends(data)
    assert len(bounds) == RECORDS and bounds[-1] == len(data)
    for cut in range(bounds[-4], len(data)):
        shutil.rmtree(store.parent / "copy", ignore_errors=True)
        shutil.copytree(store, store.parent / "copy")
        copy = store.parent / "copy" / log.name
        os.truncate(copy, cut)
        whole = sum(end <= cut for end in bounds)
        engine = HashTableEngine.open(copy.parent)
        assert state_of(engine) == expected(whole)
        if cut in bounds:
            assert not engine.warnings
        else:
            assert f"{log.name} was damaged" in engine.warnings[0] and str(bounds[whole - 1]) in engine.warnings[0]
            assert (copy.parent / f"{log.name}.broken").read_bytes() == data[:cut]
        commit(engine, Put("a", "after", 1))
        engine.close_now()
        again = HashTableEngine.open(copy.parent)
        assert state_of(again) == {**expected(whole), "after": 1} and not again.warnings
        again.close_now()


def test_zeros_at_the_end_are_a_clean_end(store: Path) -> None:
    with log_of(store).open("ab") as file:
        file.write(bytes(8192))
    engine = HashTableEngine.open(store)
    assert state_of(engine) == expected(RECORDS) and not engine.warnings
    engine.close_now()


def test_a_changed_byte_before_whole_records_is_refused(store: Path) -> None:
    log = log_of(store)
    data = log.read_bytes()
    last = ends(data)[-2]
    rng = random.Random(1)
    for _ in range(300):
        at = rng.randrange(0, last)
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        log.write_bytes(changed)
        with pytest.raises(base.Corrupted, match=log.name):
            HashTableEngine.open(store)
        assert log.read_bytes() == changed, "a refusal changes nothing"
    log.write_bytes(data)


def test_zeros_before_whole_records_is_refused(store: Path) -> None:
    log = log_of(store)
    data = bytearray(log.read_bytes())
    start = ends(bytes(data))[1] + 10
    data[start : start + 200] = bytes(200)
    log.write_bytes(data)
    with pytest.raises(base.Corrupted, match="offset"):
        HashTableEngine.open(store)


@pytest.mark.parametrize("kind", ["flip", "cut", "longer"])
def test_a_damaged_checkpoint_is_refused_whole(store: Path, kind: str) -> None:
    path = next(store.glob("checkpoint-*"))
    data = path.read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        if kind == "flip":
            changed[at] ^= 0x10
        elif kind == "cut":
            del changed[at:]
        else:
            changed += data[: at + 1]
        path.write_bytes(changed)
        with pytest.raises(base.Corrupted, match=path.name):
            HashTableEngine.open(store)


def test_files_that_are_missing_empty_or_foreign(store: Path) -> None:
    log, manifest, checkpoint = log_of(store), store / "MANIFEST", next(store.glob("checkpoint-*"))
    for path in (log, manifest, checkpoint):
        data = path.read_bytes()
        for content in (None, b"", b"hello, I am somebody else's file\n" * 3):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(base.Corrupted, match=path.name):
                HashTableEngine.open(store)
            path.write_bytes(data)
    (store / "notes.txt").write_text("mine")
    (store / "MANIFEST.tmp").write_text("half")
    (store / "checkpoint-0000000000000099.kvc.tmp").write_text("half")
    engine = HashTableEngine.open(store)
    assert state_of(engine) == expected(RECORDS)
    engine.close_now()
    assert (store / "notes.txt").exists() and not list(store.glob("*.tmp"))


def test_a_segment_of_another_store_is_refused(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    engine = HashTableEngine.open(other)
    commit(engine, Put("a", "k", 1))
    engine.close_now()
    shutil.copy(log_of(other), log_of(store))
    with pytest.raises(base.Corrupted, match="belongs elsewhere"):
        HashTableEngine.open(store)


def test_a_refusal_leaves_a_torn_end_as_it_is(store: Path) -> None:
    log = log_of(store)
    os.truncate(log, log.stat().st_size - 3)
    stray = store / "log-00000077.kvl"
    stray.write_bytes(log.read_bytes())
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    with pytest.raises(base.Corrupted, match=r"log-00000077.kvl holds commits, but MANIFEST does not know it"):
        HashTableEngine.open(store)
    assert before == {path.name: path.read_bytes() for path in store.iterdir()}


def test_a_newer_format_is_refused_by_name(store: Path) -> None:
    log, manifest = log_of(store), store / "MANIFEST"
    data = bytearray(log.read_bytes())
    data[8] = 2
    good = log.read_bytes()
    log.write_bytes(data)
    with pytest.raises(base.Corrupted, match="has format 2, this release reads up to 1; use a newer release"):
        HashTableEngine.open(store)
    log.write_bytes(good)
    body = manifest.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[0].replace(b'"format": 1', b'"format": 7')
    manifest.write_bytes(body + f"\n{zlib.crc32(body):08x}\n".encode())
    with pytest.raises(base.Corrupted, match="has format 7"):
        HashTableEngine.open(store)


def test_deleted_and_replaced_bytes_leave_the_disk_at_the_checkpoint(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path)
    engine.keep_history("a", 0, 0)
    commit(engine, Put("a", "k", "SECRETMARK1"), Put("a", "j", "SECRETMARK2"), Put("a", "stays", "here"))
    commit(engine, Put("a", "k", "public"), Delete("a", "j"))

    def on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert b"SECRETMARK" in on_disk()
    engine.checkpoint()
    assert b"SECRETMARK" not in on_disk() and b"here" in on_disk()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    engine.checkpoint()
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}, "nothing was written since"
    engine.close_now()


def test_one_process_a_folder(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path)
    with pytest.raises(base.Locked, match=f"in use by process {os.getpid()}"):
        HashTableEngine.open(tmp_path)
    code = "import sys; from kvql_server.engines.hashtable import HashTableEngine as E; E.open(sys.argv[1])"
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert child.returncode == 1 and f"in use by process {os.getpid()}" in child.stderr
    engine.close_now()
    HashTableEngine.open(tmp_path).close_now()


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        engine = HashTableEngine.open(tmp_path / "new")
        commit(engine, Put("a", "k", 1))
        engine.checkpoint()
        engine.close_now()
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "new").iterdir())


def test_only_what_is_carried_out_counts_for_max_bytes() -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, max_bytes=5000)
    commit(engine, Put("a", "k", 1))
    before = engine.status()["memory_bytes"]
    for n in range(100):
        refused = Transaction((Absent("a", "k"),), [Put("a", f"new{n}", "x")])
        (outcome,) = step(engine.commit_many([refused]))
        assert isinstance(outcome, base.Conflict)
    assert engine.status()["memory_bytes"] == before
    disk.fail("allocate", OSError(errno.ENOSPC, "no space left on device"))
    with pytest.raises(base.StoreFull, match="no space left"):
        for _ in range(10_000):
            commit(engine, Put("a", "k", "x" * 1000))
    held = engine.status()["memory_bytes"]
    for n in range(10):
        with pytest.raises(base.StoreFull, match="no space left"):
            commit(engine, Put("a", f"new{n}", "x" * 1000))
    with pytest.raises(base.StoreFull, match="no space left"):
        step(engine.commit_puts(base.PutRun("a", ["n"], ["x" * 1000])))
    assert engine.status()["memory_bytes"] == held
    engine.close_now()


def test_max_bytes_refuses_and_recovers(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path, max_bytes=5000)
    for n in range(10):
        commit(engine, Put("a", f"k{n}", "x" * 200))
    with pytest.raises(base.StoreFull, match="max_bytes"):
        for n in range(10, 20):
            commit(engine, Put("a", f"k{n}", "x" * 200))
    commit(engine, Put("a", "k0", "y" * 200))
    commit(engine, Delete("a", "k1"), Delete("a", "k2"))
    commit(engine, Put("a", "k11", "x" * 200))
    engine.close_now()


def test_max_bytes_counts_a_key_that_a_commit_writes_twice_once(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path, max_bytes=100_000)
    commit(engine, Put("a", "k", "x" * 200), Put("a", "l", "x" * 100))
    for n in range(20):
        commit(engine, Delete("a", "k"), Put("a", "k", "y" * n), Put("a", "m", "z" * 50), Put("a", "m", "z"))
    commit(
        engine, Put("a", "n", "x"), Clear("a"), Put("a", "l", "xy"), Clear("a"), Put("a", "l", "x"), Put("b", "k", 1)
    )
    counted = engine.status()["memory_bytes"]
    engine.close_now()
    engine = HashTableEngine.open(tmp_path, max_bytes=100_000)
    assert engine.status()["memory_bytes"] == counted
    engine.close_now()


async def test_group_commit_takes_many_at_once(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path)
    syncs = 0
    file = engine._log.segment.file
    real = file.sync

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def sync(self) -> None:
            nonlocal syncs
            syncs += 1
            real()

    engine._log.segment.file = Counting()

    async def writer(number: int) -> None:
        for n in range(40):
            (revision,) = await engine.commit_many([Transaction((), [Put("a", f"k{number}-{n}", n)])])
            assert isinstance(revision, int)
            await engine.synced(revision)
            assert engine.status()["synced_revision"] >= revision

    await asyncio.gather(*[writer(number) for number in range(50)])
    assert syncs < 1000, "2,000 commits shared their syncs"
    await engine.close()


async def test_a_checkpoint_runs_while_writes_go_on(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path, checkpoint_interval_s=0.05)
    done, n = 0, 0
    seen = None
    while done < 3:
        n += 1
        (revision,) = await engine.commit_many([Transaction((), [Put("a", f"k{i}", n) for i in range(50)])])
        await engine.synced(revision)
        engine.tick()
        last = engine.status()["last_checkpoint"]
        if last != seen:
            seen, done = last, done + 1
    assert engine.status()["checkpoint_error"] is None
    await engine.close()
    again = HashTableEngine.open(tmp_path)
    assert state_of(again) == {f"k{i}": n for i in range(50)}
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    await again.close()


def test_a_checkpoint_never_swallows_an_expiry(tmp_path: Path) -> None:
    """A pair whose time has come goes by a commit with its own revision, not by being left out of a file."""
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path / "store", clock=clock)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1, clock.now() + 1_000_000)])]))
    clock.advance(1)
    engine.checkpoint()
    abandon(engine)
    engine._lock.release()
    again = HashTableEngine.open(tmp_path / "store", clock=clock)
    assert again.snapshot().revision == revision + 1
    assert state_of(again) == {}
    again.close_now()


def test_a_run_of_puts_is_one_record_and_as_many_commits(tmp_path: Path) -> None:
    values = [1, "two", Decimal("3.50"), None, Json('{"a": 1}'), b"\x00", 2.5, True, -(2**63), "é" * 40_000]
    keys = [f"k{n}" for n in range(len(values))]
    for quick in (True, False):
        clock = ManualClock()
        engine = HashTableEngine.open(tmp_path / str(quick), clock=clock)
        if quick:
            assert step(engine.commit_puts(base.PutRun("a", keys, values, "ann", "why"))) == 1
        else:
            step(
                engine.commit_many(
                    [Transaction((), [Put("a", k, v)], "ann", "why") for k, v in zip(keys, values, strict=True)]
                )
            )
        commit(engine, Put("a", "after", 1))
        state = state_of(engine)
        engine.close_now()
        (log,) = (tmp_path / str(quick)).glob("log-*.kvl")
        assert len(ends(log.read_bytes())) == (3 if quick else len(keys) + 2), "and the closing"
        seen = examine(OsFiles(), str(tmp_path / str(quick)))
        assert not seen.findings and seen.revision == len(keys) + 1
        again = HashTableEngine.open(tmp_path / str(quick), clock=clock)
        assert state_of(again) == state == dict(zip([*keys, "after"], [*values, 1], strict=True))
        entries = step(again.snapshot().get_many("a", keys))
        assert [(e.revision, e.version, e.updated_by, e.comment) for e in entries if e is not None] == [
            (n, 1, "ann", "why") for n in range(1, len(keys) + 1)
        ]
        again.close_now()


def test_a_run_longer_than_a_record(tmp_path: Path) -> None:
    count = record.RUN_MAX + 2
    engine = HashTableEngine.open(tmp_path)
    assert step(engine.commit_puts(base.PutRun("a", [f"k{n}" for n in range(count)], list(range(count))))) == 1
    engine.close_now()
    (log,) = tmp_path.glob("log-*.kvl")
    assert len(ends(log.read_bytes())) == 3, "two, and the closing"
    seen = examine(OsFiles(), str(tmp_path))
    assert not seen.findings and seen.revision == count
    again = HashTableEngine.open(tmp_path)
    assert again.status()["revision"] == again.status()["pairs"] == count
    again.close_now()


def test_what_is_no_run_of_puts(tmp_path: Path) -> None:
    """Whole records that no release writes: refused by name and place, not half carried out."""
    good = msgspec.msgpack.encode(("ann", "", "a", ["k", "l"], [1, 2]))
    bad = {
        "a run of 3 puts holds 2": (good, 3),
        "as many values as keys": (msgspec.msgpack.encode(("ann", "", "a", ["k"], [])), 1),
        "Expected `str`": (msgspec.msgpack.encode(("ann", "", "a", [1], [1])), 1),
        "a key twice": (msgspec.msgpack.encode(("ann", "", "a", ["k", "k"], [1, 1])), 2),
        "cannot be read": (msgspec.msgpack.encode(("ann", "")), 1),
    }
    for number, (why, (payload, size)) in enumerate(bad.items()):
        folder = tmp_path / str(number)
        engine = HashTableEngine.open(folder)
        log = engine._log
        data, log.crc = record.frame(record.PUTS, log.epoch, log.crc, 1, 0, engine._clock.now(), payload, size)
        log.segment.reserve(len(data))
        log.append(data, size)
        log.flush()
        abandon(engine)
        engine._lock.release()
        with pytest.raises(base.Corrupted, match=why):
            HashTableEngine.open(folder)
        assert any(why in finding.reason for finding in examine(OsFiles(), str(folder)).findings)


def test_a_run_of_puts_over_keys_that_are_there(tmp_path: Path) -> None:
    """No release writes that, and recovery does not look for it first: it sees that the table has not grown as it
    should."""
    engine = HashTableEngine.open(tmp_path)
    step(engine.commit_puts(base.PutRun("a", ["k", "l"], [1, 2])))
    log = engine._log
    payload = msgspec.msgpack.encode(("ann", "", "a", ["l", "m"], [3, 4]))
    data, log.crc = record.frame(record.PUTS, log.epoch, log.crc, 3, 0, engine._clock.now(), payload, 2)
    log.segment.reserve(len(data))
    log.append(data, 2)
    log.flush()
    abandon(engine)
    engine._lock.release()
    with pytest.raises(base.Corrupted, match="or one that is there"):
        HashTableEngine.open(tmp_path)


def test_a_segment_that_lost_all_its_records(tmp_path: Path) -> None:
    """Cut behind its header, it looks as if nothing had ever been in it; what comes after it tells otherwise."""
    folder = tmp_path / "store"
    for n in range(2):
        engine = HashTableEngine.open(folder)
        if not n:
            commit(engine, Put("a", "base", 0))
            engine.checkpoint()
        commit(engine, Put("a", f"k{n}", n))
        commit(engine, Put("a", f"k{n}", n + 1))
        engine.close_now()
    first, second = sorted(folder.glob("log-*.kvl"))
    os.truncate(first, record.SEGMENT_HEADER_BYTES)
    with pytest.raises(base.Corrupted, match=rf"{second.name} is damaged at offset 32: .*revision 4 .* revision 2"):
        HashTableEngine.open(folder)


def test_a_snapshot_outlives_two_truncations(tmp_path: Path) -> None:
    """The table that came between them was seen by nobody; the one before it is."""
    engine = HashTableEngine.open(tmp_path)
    commit(engine, Put("a", "k", 1))
    snapshot = engine.snapshot()
    commit(engine, base.Clear("a"), Put("a", "k", 2))
    commit(engine, base.Clear("a"))
    table = snapshot.table("a")
    assert table is not None and [key for key, _ in table.page("", None, "key", 9, 1, 0)[0]] == ["k"]
    assert state_of(engine) == {}
    snapshot.close()
    engine.tick()
    assert engine._store.tables["a"].older is None
    engine.close_now()
