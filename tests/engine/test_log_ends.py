"""The log when it fails, in whichever way: that is the end, who waits is told, and nothing is built on a gap."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, manifest, record, recovery
from kvql_server.engines.hashtable.store import Store

from tests.engine import fates
from tests.engine.disk import Disk
from tests.stores import abandon, state_of, step


def test_a_failed_sync_is_the_end() -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    disk.fail("sync", OSError(errno.EIO, "input/output error"))
    with pytest.raises(base.OutcomeUnknown, match=r"log-00000001\.kvl failed"):
        engine.sync(revision)
    disk.heal()
    assert engine.failed is not None
    for _ in range(2):
        with pytest.raises(base.OutcomeUnknown):
            engine.sync(revision)
        with pytest.raises(base.OutcomeUnknown):
            step(engine.commit_many([Transaction((), [Put("a", "k", 2)])]))
    assert state_of(engine) == {"k": 1}, "reads go on until the server ends"
    engine.tick()
    engine.close_now()
    again = HashTableEngine.open("/store", files=disk.killed())
    assert state_of(again) in ({"k": 1}, {})
    again.close_now()


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_a_write_that_ends_in_any_other_way_is_the_end_too(error: BaseException) -> None:
    """The commits that it was to write are in nobody's hands then: what was written after them would follow a gap."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    (first,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    disk.fail("write", error)
    with pytest.raises((base.OutcomeUnknown, KeyboardInterrupt)):
        engine.sync(first)
    disk.heal()
    with pytest.raises(base.OutcomeUnknown, match=type(error).__name__):
        engine.sync(step(engine.commit_many([Transaction((), [Put("a", "k", 2)])]))[0])
    assert engine.failed is not None
    engine.close_now()
    again = HashTableEngine.open("/store", files=disk.killed())
    assert state_of(again) == {}
    again.close_now()


@pytest.mark.parametrize("what", ["a commit", "a run of puts", "an expiry"])
def test_a_commit_that_is_applied_in_part_is_the_end(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log knows nothing of it, and what comes after it would rest on it."""
    disk, clock = Disk(), ManualClock()
    engine = HashTableEngine.open("/store", files=disk, clock=clock)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1, clock.now() + 1_000_000)])]))
    engine.sync(revision)
    clock.advance(2 if what == "an expiry" else 0)

    def fails(*given: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine._store, "apply_puts" if what == "a run of puts" else "apply", fails)
    with pytest.raises(MemoryError):
        if what == "a run of puts":
            step(engine.commit_puts(base.PutRun("a", ["x"], [1])))
        elif what == "an expiry":
            engine.tick()
        else:
            step(engine.commit_many([Transaction((), [Put("a", "k", 2)])]))
    monkeypatch.undo()
    assert engine.failed is not None and "MemoryError" in engine.failed
    with pytest.raises(base.OutcomeUnknown):
        step(engine.commit_many([Transaction((), [Put("a", "k", 3)])]))
    engine.close_now()


async def test_who_begins_to_wait_while_the_log_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HashTableEngine.open("/store", files=Disk())
    (revision,) = await engine.commit_many([Transaction((), [Put("a", "k", 1)])])
    log, lock = engine._log, engine._log._queue_lock

    class FailsBefore:
        """The lock, which this thread gets only after another one has found that the disk is broken."""

        def __enter__(self) -> None:
            if log.failed is None:
                log.failed = "about to"
                log._fail(OSError(errno.EIO, "input/output error"))
            lock.acquire()

        def __exit__(self, *exc: object) -> None:
            lock.release()

    monkeypatch.setattr(log, "_queue_lock", FailsBefore())
    with pytest.raises(base.OutcomeUnknown, match="input/output error"):
        await asyncio.wait_for(engine.synced(revision), 10)
    engine.close_now()


@pytest.mark.parametrize("mode", ["always", "interval", "checkpoint"])
@pytest.mark.parametrize("before", [0, 3])
def test_what_a_failed_sync_left_in_memory_only_is_written_again(mode: Any, before: int) -> None:
    """The next process reads it from the system's memory, and its sync has nothing to do: whatever it has read must be
    on the disk all the same."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, sync=mode)
    for n in range(before):
        step(engine.commit_many([Transaction((), [Put("a", f"before{n}", n)])]))
        engine._log.flush()
    step(engine.commit_many([Transaction((), [Put("a", f"k{n}", "x" * 300)]) for n in range(9)]))
    disk.fail("sync", OSError(errno.EIO, "input/output error"))
    with pytest.raises(base.OutcomeUnknown):
        engine._log.flush()
    abandon(engine)
    again = HashTableEngine.open("/store", files=disk.killed())
    read = state_of(again)
    assert len(read) == before + 9
    abandon(again)
    last = HashTableEngine.open("/store", files=fates.worst(disk))
    assert state_of(last) == read
    last.close_now()


def test_what_later_records_call_durable_is_not_written_again() -> None:
    """However long the log is, an opening writes again what came with the last sync, or but the closing."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    sizes = []
    for closed in (False, True):
        for n in range(200):
            step(engine.commit_many([Transaction((), [Put("a", f"k{n}", "x" * 300)]) for _ in range(4)]))
            engine._log.flush()
        if closed:
            engine.close_now()
        abandon(engine)
        found = manifest.decode(bytes(disk.names_now["/store/MANIFEST"].data), "MANIFEST")
        scans = recovery.load(disk, "/store", found, Store()).scans
        sizes.append(next(scan.end - scan.sure for scan in reversed(scans) if scan.commits))
        engine = HashTableEngine.open("/store", files=disk.killed())
    engine.close_now()
    assert 4 * 300 < sizes[0] < 9 * 400 and sizes[1] == record.RECORD_EXTRA_BYTES
