"""History in the files: it survives checkpoints and openings, and leaves the disk when its time is over."""

from __future__ import annotations

import asyncio
import errno
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Clear, Delete, Put, PutRun, Transaction
from kvql_server.engines.hashtable import HashTableEngine, checkpoint
from kvql_server.engines.hashtable.files import OsFiles
from kvql_server.engines.hashtable.store import SWEEP_PAIRS
from kvql_server.tools.check_checkpoint import CheckpointCheck

from kvql.values import Json
from tests.engine.disk import Disk
from tests.engine.history_conformance import SECOND, RandomStore, past, state_at
from tests.servers import WAIT_S, wait_until


def reopen(engine: HashTableEngine, clock: ManualClock, folder: Path) -> HashTableEngine:
    engine.close_now()
    return HashTableEngine.open(folder, clock=clock)


def contains(folder: Path, marker: bytes) -> bool:
    return any(marker in path.read_bytes() for path in folder.iterdir())


async def commit(engine: HashTableEngine, *writes: Any, user: str = "") -> int:
    (revision,) = await engine.commit_many([Transaction((), writes, user)])
    assert isinstance(revision, int)
    return revision


def opened(folder: Path, seed: int) -> tuple[ManualClock, HashTableEngine, RandomStore]:
    """A new store whose every state is remembered."""
    clock = ManualClock()
    engine = HashTableEngine.open(folder, clock=clock)
    return clock, engine, RandomStore(engine, clock, seed)


@pytest.mark.parametrize("seed", range(4))
async def test_every_revision_can_be_read_after_openings(tmp_path: Path, seed: int) -> None:
    clock, engine, store = opened(tmp_path, seed)
    for part in range(5):
        for _ in range(15):
            await store.step()
        if part % 2:
            engine.checkpoint()
        engine = store.engine = reopen(engine, clock, tmp_path)
        await store.check()
    before = await past(engine)
    engine.checkpoint()
    engine = reopen(engine, clock, tmp_path)
    assert await past(engine) == before
    engine.close_now()


@pytest.mark.parametrize("seed", range(3))
async def test_a_watcher_resumes_where_it_was_in_the_process_before(tmp_path: Path, seed: int) -> None:
    """From every revision: first puts are not in the files, and are found in the tables."""
    clock, engine, store = opened(tmp_path, seed)
    for _ in range(30):
        await store.step()
    engine.checkpoint()
    for _ in range(10):
        await store.step()
    engine = store.engine = reopen(engine, clock, tmp_path)
    newest = engine.snapshot().revision
    for start in list(store.states):
        folded = dict(store.states[start])
        watching = engine.watch("a", start)
        last = max(r for r in store.states if r <= newest)
        while folded != store.states[last]:
            commit = await asyncio.wait_for(anext(watching), WAIT_S)
            for change in commit.changes:
                before = folded.pop(change.key, None)
                assert (before and before[1]) == (change.previous and change.previous.revision)
                if change.entry is not None:
                    folded[change.key] = (change.entry.value, change.entry.revision, change.entry.version)
            assert folded == store.states[commit.revision]
        await watching.aclose()
    engine.close_now()


@pytest.mark.parametrize("seed", range(4))
async def test_every_moment_can_be_read_after_openings(tmp_path: Path, seed: int) -> None:
    """First puts are not in the files, and yet the last change before a moment may be one."""
    clock, engine, store = opened(tmp_path, seed)
    for part in range(4):
        for number in range(8):
            await store.step()
            clock.advance(1)
            await commit(engine, Put("a", f"new{part}.{number}", number))
            await store.note()
        if part % 2:
            engine.checkpoint()
        engine = store.engine = reopen(engine, clock, tmp_path)
        last = {time: revision for revision, time in sorted(store.times.items())}
        for time, revision in last.items():
            told = engine.revision_at("a", time)
            assert told <= revision and await state_at(engine, told) == store.states[revision]
        assert await state_at(engine, engine.revision_at("a", min(store.times.values()) - 1)) == {}
    engine.close_now()


async def test_an_empty_namespace_has_a_past_too(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    begun = clock.now()
    for number in range(3):
        engine.keep_history("a", 3600 * SECOND, 1 << 20)
        clock.advance(1)
        revision = await commit(engine, Put("b", "k", number))
        if number == 1:
            engine.checkpoint()
        engine = reopen(engine, clock, tmp_path)
    engine.keep_history("a", 3600 * SECOND, 1 << 20)
    await commit(engine, Put("a", "k", 1))
    for earlier in range(1, revision + 1):
        assert await state_at(engine, earlier) == {}
    assert await state_at(engine, engine.revision_at("a", begun)) == {}
    engine.close_now()


async def test_a_watcher_of_a_table_that_was_truncated_whole(tmp_path: Path) -> None:
    """It resumes before puts that the table told of which is gone."""
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    engine.keep_history("a", 3600 * SECOND, 1 << 30)
    assert await engine.commit_puts(PutRun("a", [f"k{n}" for n in range(70_000)], list(range(70_000)))) == 1
    engine.checkpoint()
    engine = reopen(engine, clock, tmp_path)
    engine.keep_history("a", 3600 * SECOND, 1 << 30)
    cleared = await commit(engine, Clear("a"))
    await engine.synced(cleared)
    puts = 0
    async for told in engine.watch("a", 0):
        if told.revision == cleared:
            break
        puts += len(list(told.changes))
    assert puts == 70_000
    engine.close_now()


async def test_an_opening_keeps_what_it_will_be_told_to_keep(tmp_path: Path) -> None:
    """More than the default: it must not go before the first tick, when the settings are known."""
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    engine.keep_history("a", 2 * 3600 * SECOND, 1 << 30)
    first = await commit(engine, Put("a", "k", 1))
    second = await commit(engine, Put("a", "k", 2))
    clock.advance(5400)
    await commit(engine, Put("a", "k", 3))
    engine.tick()
    for _ in range(2):
        engine = reopen(engine, clock, tmp_path)
        engine.keep_history("a", 2 * 3600 * SECOND, 1 << 30)
        engine.tick()
        assert (await state_at(engine, first))["k"][0] == 1
        engine.checkpoint()
    engine = reopen(engine, clock, tmp_path)
    engine.tick()
    assert engine.oldest("a") == second, "nobody said anything, and the default is an hour"
    engine.close_now()


async def test_every_type_of_value_is_kept(tmp_path: Path) -> None:
    values = [1, Decimal("3.50"), None, Json('{"a": 1}'), b"\0\xff", 2.5, True, "å"]
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    revision = await commit(engine, *[Put("a", f"k{n}", value) for n, value in enumerate(values)], user="ann")
    await commit(engine, Clear("a"), user="bob")
    engine.checkpoint()
    engine = reopen(engine, clock, tmp_path)
    snapshot = engine.snapshot(revision)
    found = await snapshot.get_many("a", [f"k{n}" for n in range(len(values))])
    assert [(type(e.value), e.value, e.updated_by) for e in found if e] == [(type(v), v, "ann") for v in values]
    snapshot.close()
    rows = [row async for page in engine.snapshot().history("a") for row in page]
    assert [state.updated_by for _, state in rows] == ["ann", "bob"] * len(values)
    engine.close_now()


async def test_a_table_that_was_truncated_whole(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    engine.keep_history("a", 3600 * SECOND, 1 << 30)
    keys = [f"k{n}" for n in range(70_000)]
    assert await engine.commit_puts(PutRun("a", keys, list(range(70_000)))) == 1
    full = engine.snapshot().revision
    empty = await commit(engine, Clear("a"))
    engine.checkpoint()
    engine.close_now()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    engine.keep_history("a", 3600 * SECOND, 1 << 30)
    assert len(await state_at(engine, full)) == 70_000 and not await state_at(engine, empty)
    engine.close_now()


async def test_what_history_kept_leaves_the_disk_when_it_ends(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock, checkpoint_interval_s=10)
    engine.keep_history("a", 60 * SECOND, 1 << 20)
    await commit(engine, Put("a", "replaced", "OLDMARK"), Put("a", "deleted", "OLDMARK"))
    await commit(engine, Put("a", "expired", "OLDMARK", clock.now() + SECOND))
    await commit(engine, Put("a", "replaced", 1), Delete("a", "deleted"))
    clock.advance(5)
    engine.tick()
    engine.checkpoint()
    assert contains(tmp_path, b"OLDMARK")
    clock.advance(61)

    def is_gone() -> bool:
        engine.tick()
        return not engine.status()["checkpoint_running"] and not contains(tmp_path, b"OLDMARK")

    wait_until(is_gone)  # nothing was written since, and yet the next checkpoint must drop it
    engine.close_now()
    assert not contains(tmp_path, b"OLDMARK")


async def test_without_history_the_next_checkpoint_drops_it(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    engine.keep_history("a", 0, 0)
    await commit(engine, Put("a", "k", "OLDMARK"))
    await engine.synced(await commit(engine, Put("a", "k", 1)))
    assert contains(tmp_path, b"OLDMARK")
    engine.checkpoint()
    assert not contains(tmp_path, b"OLDMARK")
    revision = await commit(engine, Put("a", "k", 2))
    watching = engine.watch("a", revision - 1)
    await engine.synced(revision)
    assert (await asyncio.wait_for(anext(watching), WAIT_S)).revision == revision
    await watching.aclose()
    engine.close_now()


async def test_a_checkpoint_of_the_release_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Format 1 had neither history nor journals: it is read, and history begins there."""
    clock = ManualClock()
    begun = clock.now()
    clock.advance(1)
    engine = HashTableEngine.open(tmp_path, clock=clock)
    await commit(engine, Put("a", "k", 1))
    revision = await commit(engine, Put("a", "k", 2))
    with monkeypatch.context() as older:
        older.setattr(checkpoint, "FORMAT", 1)
        older.setattr("kvql_server.engines.hashtable.checkpointer.Job._write_history", lambda self, writer: None)
        engine.checkpoint()
    engine = reopen(engine, clock, tmp_path)
    assert engine.oldest("a") == engine.oldest("unknown") == revision
    await commit(engine, Put("a", "k", 3))
    await commit(engine, Put("unknown", "k", 3))
    assert engine.oldest("a") == engine.oldest("unknown") == revision
    with pytest.raises(base.Compacted):
        engine.revision_at("unknown", begun)
    assert (await state_at(engine, revision))["k"][0] == 2
    engine.close_now()


async def test_verify_reads_history_too(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock)
    for n in range(50):
        await commit(engine, Put("a", f"k{n % 5}", n))
    engine.checkpoint()
    engine.close_now()
    (name,) = [name for name in os.listdir(tmp_path) if name.endswith(".kvc")]
    check = CheckpointCheck(OsFiles(), str(tmp_path), name)
    assert check.finding is None and check.steps == 45 and "45 steps of history" in check.line().what


@pytest.mark.parametrize("call", ["write", "sync", "read", "rename", "sync_folder"])
async def test_a_checkpoint_that_only_drops_history_and_fails(call: str) -> None:
    """It has the revision, and so the name, of the one that MANIFEST names: that must outlive the failure."""
    clock, disk = ManualClock(), Disk()
    engine = HashTableEngine.open("/d", clock=clock, files=disk)
    engine.keep_history("a", 60 * SECOND, 1 << 20)
    await commit(engine, Put("a", "k", 1))
    await commit(engine, Put("a", "k", 2))
    engine.checkpoint()
    clock.advance(61)
    engine.tick()
    renamed = False

    def fail(name: str, path: str) -> None:
        nonlocal renamed
        renamed = renamed or (name == "rename" and ".kvc" in path)
        if name == call and (".kvc.tmp" in path or (renamed and name == "sync_folder")):
            raise OSError(errno.ENOSPC, "no space left on device", path)

    disk.on_call = fail
    with pytest.raises(base.EngineError, match="no space left"):
        engine.checkpoint()
    engine = HashTableEngine.open("/d", clock=clock, files=disk.killed())
    assert (await state_at(engine, 2))["k"][0] == 2
    engine.close_now()


async def test_a_checkpoint_that_only_drops_history_is_tried_again() -> None:
    clock, disk = ManualClock(), Disk()
    engine = HashTableEngine.open("/d", clock=clock, files=disk)
    engine.keep_history("a", 60 * SECOND, 1 << 20)
    await commit(engine, Put("a", "k", "OLDMARK"))
    await commit(engine, Put("a", "k", 2))
    engine.checkpoint()
    clock.advance(61)
    engine.tick()

    def fail(name: str, path: str) -> None:
        if name == "write" and ".kvc" in path:
            raise OSError(errno.ENOSPC, "no space left on device", path)

    disk.on_call = fail
    with pytest.raises(base.EngineError, match="no space left"):
        engine.checkpoint()
    disk.killed()
    engine.checkpoint()
    assert not any(b"OLDMARK" in inode.data for inode in disk.names_now.values())


async def test_a_truncated_table_is_written_while_those_who_saw_it_leave() -> None:
    """Its history lies in the table itself, which must stay as it is as long as it is being written."""
    clock, disk = ManualClock(), Disk()
    engine = HashTableEngine.open("/store", clock=clock, files=disk)
    await commit(engine, *[Put("a", f"k{n:06}", n) for n in range(SWEEP_PAIRS + 100)])
    reader = engine.snapshot()
    deleted = await commit(engine, *[Delete("a", f"k{n:06}") for n in range(50)])
    await commit(engine, Clear("a"))
    writes = 0

    def leave(name: str, path: str) -> None:
        nonlocal writes
        writes += name == "write" and path.endswith(".kvc.tmp")
        if writes == 4:
            reader.close()

    disk.on_call = leave
    engine.checkpoint()
    assert writes > 4
    engine.close_now()
    engine = HashTableEngine.open("/store", clock=clock, files=disk)
    assert len(await state_at(engine, deleted)) == SWEEP_PAIRS + 50
    engine.close_now()


async def test_a_checkpoint_that_meets_a_fault_of_ours_has_failed() -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, checkpoint_interval_s=0.001)
    await commit(engine, Put("a", "k", 1))

    def fail(name: str, path: str) -> None:
        if name == "create" and path.endswith(".kvc.tmp"):
            raise RuntimeError("who would have thought")

    disk.on_call = fail
    while engine.status()["checkpoint_error"] is None:
        assert engine.status()["last_checkpoint"] is None
        engine.tick()
        await asyncio.sleep(0.001)
    assert "who would have thought" in engine.status()["checkpoint_error"]
    with pytest.raises(base.EngineError, match="who would have thought"):
        engine.checkpoint()
    disk.heal()
    engine.checkpoint()
    engine.close_now()
