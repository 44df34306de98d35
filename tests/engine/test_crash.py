"""Power loss at any call, with any legal remainder on the disk: what was confirmed is there, nothing is half there."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Iterator
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Clear, Delete, Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine

from tests.engine.disk import Disk, PowerLoss
from tests.stores import abandon, state_of, step

State = dict[str, int]
KEYS = [f"k{n}" for n in range(12)]


class Run:
    """A workload whose every state is remembered by its revision, on a disk that may die at any call."""

    def __init__(self, disk: Disk, rng: random.Random, clock: ManualClock, states: dict[int, State]) -> None:
        self.disk = disk
        self.rng = rng
        self.clock = clock
        self.states = states
        self.confirmed = 0
        self.engine: HashTableEngine | None = None

    def go(self, steps: int) -> None:
        engine = self.engine = HashTableEngine.open("/store", clock=self.clock, files=self.disk)
        revision = engine.status()["revision"]
        assert revision in self.states, f"revision {revision} was never made"
        assert state_of(engine) == self.states[revision], f"revision {revision} is not as it was"
        assert revision >= self.confirmed, f"{self.confirmed} was confirmed, {revision} is there"
        for later in [r for r in self.states if r > revision]:
            del self.states[later]
        self.confirmed = revision
        state = dict(self.states[revision])
        for _ in range(steps):
            self.one(engine, state)
        if self.rng.random() < 0.3:
            engine.close_now()

    def one(self, engine: HashTableEngine, state: State) -> None:
        what = self.rng.random()
        if what < 0.08:
            engine.checkpoint()
            return
        transactions = [self.transaction(state) for _ in range(self.rng.choice([1, 1, 1, 5]))]
        base_revision = engine.status()["revision"]
        model, after = dict(state), []
        for transaction in transactions:
            for write in transaction.writes:
                if isinstance(write, Put):
                    model[write.key] = write.value
                elif isinstance(write, Delete):
                    model.pop(write.key, None)
                else:
                    model.clear()
            after.append(dict(model))
        for number, outcome in enumerate(after, base_revision + 1):
            self.states[number] = outcome
        outcomes = step(engine.commit_many(transactions))
        state.clear()
        state.update(model)
        if self.rng.random() < 0.7:
            engine.sync(outcomes[-1])
            self.confirmed = outcomes[-1]

    def transaction(self, state: State) -> Transaction:
        size = self.rng.choice([1, 1, 3, 40])
        writes: list[Any] = []
        for _ in range(size):
            key = self.rng.choice(KEYS)
            roll = self.rng.random()
            if roll < 0.75:
                writes.append(Put("a", key, self.rng.randrange(10**6)))
            elif roll < 0.97:
                writes.append(Delete("a", key))
            else:
                writes.append(Clear("a"))
        return Transaction((), writes, "ann")


def lives(seed: int, count: int) -> Iterator[tuple[Disk, dict[int, State], int]]:
    """So many lives of a store, each ended by a power loss or a kill at some call: the disk that is left, the states by
    their revision, and the revision that was confirmed."""
    rng = random.Random(seed)
    disk, confirmed = Disk(), 0
    states: dict[int, State] = {0: {}}
    for _ in range(count):
        run = Run(disk, rng, ManualClock(), states)
        run.confirmed = confirmed
        disk.die_at(disk.calls + rng.randrange(400))
        with contextlib.suppress(PowerLoss):
            run.go(rng.randrange(60))
        confirmed = run.confirmed
        if run.engine is not None:
            abandon(run.engine)
        disk = disk.crashed(rng) if rng.random() < 0.5 else disk.killed()
        yield disk, states, confirmed


@pytest.mark.parametrize("seed", range(150))
def test_power_loss(seed: int) -> None:
    assert len(list(lives(seed, 6))) == 6


@pytest.mark.parametrize("seed", range(40))
def test_any_call_may_fail(seed: int) -> None:
    """EIO, ENOSPC or a short write once: refused or unknown, never wrong, and the next opening has all that was
    confirmed."""
    rng = random.Random(1000 + seed)
    disk, states, confirmed = Disk(), {0: {}}, 0
    for _ in range(6):
        run = Run(disk, rng, ManualClock(), states)
        run.confirmed = confirmed
        fails_at = disk.calls + rng.randrange(250)
        code = rng.choice([errno.EIO, errno.ENOSPC])

        def fail(name: str, path: str, fails_at: int = fails_at, code: int = code, disk: Disk = disk) -> int | None:
            if disk.calls == fails_at:
                if name == "write" and rng.random() < 0.5:
                    return 7
                raise OSError(code, "injected")
            return None

        disk.on_call = fail
        with contextlib.suppress(base.EngineError):
            run.go(60)
        confirmed = run.confirmed
        if run.engine is not None:
            abandon(run.engine)
        disk = disk.crashed(rng) if rng.random() < 0.5 else disk.killed()


def test_a_full_disk_is_a_refusal_and_passes() -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    engine.sync(revision)
    full = True

    def fail(name: str, path: str) -> None:
        if full and name == "allocate":
            raise OSError(errno.ENOSPC, "no space left on device")

    disk.on_call = fail
    big = Transaction((), [Put("a", "big", "x" * (2 << 20))])
    for _ in range(2):
        with pytest.raises(base.StoreFull, match="no space left"):
            step(engine.commit_many([Transaction((), [Put("a", "k", 2)]), big]))
    assert state_of(engine) == {"k": 1} and engine.failed is None
    full = False
    outcomes = step(engine.commit_many([big]))
    engine.sync(outcomes[0])
    engine.close_now()
    again = HashTableEngine.open("/store", files=disk.killed())
    assert set(state_of(again)) == {"k", "big"} and not again.warnings
    again.close_now()


@pytest.mark.parametrize("mode", ["always", "interval", "checkpoint"])
def test_space_that_the_disk_fails_to_give_is_a_refusal(mode: Any) -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, sync=mode)
    engine._log.segment.allocated = engine._log.segment.end
    disk.fail("allocate", OSError(errno.EIO, "input/output error"))
    with pytest.raises(base.StoreFull, match="no space could be reserved for the log: input/output error"):
        step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    disk.heal()
    engine.sync(step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))[0])
    engine.close_now()


@pytest.mark.parametrize("mode", ["interval", "checkpoint"])
@pytest.mark.parametrize("seed", range(10))
def test_a_revision_is_never_used_twice(mode: Any, seed: int) -> None:
    rng = random.Random(seed)
    disk, seen = Disk(), set[int]()
    for _ in range(5):
        engine = HashTableEngine.open("/store", files=disk, sync=mode)
        for n in range(rng.randrange(20)):
            (revision,) = step(engine.commit_many([Transaction((), [Put("a", f"k{n}", n)])]))
            assert revision not in seen
            seen.add(revision)
            if rng.random() < 0.1:
                engine.checkpoint()
        if rng.random() < 0.3:
            engine.close_now()
            continue
        abandon(engine)
        disk = disk.crashed(rng)


def test_an_opening_without_commits_brings_no_revision_back() -> None:
    """After a crash revisions are left out; the closing of an opening that made none is all that tells of it."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, sync="interval")
    for n in range(10):
        (given_out,) = step(engine.commit_many([Transaction((), [Put("a", f"k{n}", n)])]))
        if n == 4:
            engine._log.flush()
    abandon(engine)
    disk = disk.killed()
    for _ in range(3):
        engine = HashTableEngine.open("/store", files=disk)
        assert len(state_of(engine)) == 5 and engine.snapshot().revision > given_out
        engine.close_now()
        disk = disk.killed()


@pytest.mark.parametrize("seed", range(20))
def test_what_was_read_after_a_kill_survives_the_power_loss_after_it(seed: int) -> None:
    """The process dies between write and sync, a new one serves what it finds: so that must be on the disk by then."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    disk.fail("sync", PowerLoss())
    with pytest.raises(PowerLoss):
        engine.sync(revision)
    abandon(engine)
    disk = disk.killed()
    engine = HashTableEngine.open("/store", files=disk)
    assert state_of(engine) == {"k": 1}
    abandon(engine)
    engine = HashTableEngine.open("/store", files=disk.crashed(random.Random(seed)))
    assert state_of(engine) == {"k": 1}
    abandon(engine)


def test_the_first_sector_of_a_write_may_be_the_one_that_is_lost() -> None:
    """Where a write begins shortly before the end of a sector, a lost sector leaves fewer zeros than a header has."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    segment = engine._log.segment
    size = 0
    while segment.end % 512 < 512 - 20:
        size += 1
        (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", "x" * (size % 97))])]))
        engine.sync(revision)
    confirmed, start = state_of(engine), segment.end
    step(engine.commit_many([Transaction((), [Put("a", f"k{n}", n)]) for n in range(5)]))
    engine._log.flush(sync=False)
    abandon(engine)
    (inode,) = (inode for path, inode in disk.names_now.items() if path == segment.path)
    boundary = start - start % 512 + 512
    assert 0 < boundary - start <= 20
    inode.data[start:boundary] = bytes(boundary - start)
    again = HashTableEngine.open("/store", files=disk.killed())
    assert state_of(again) == confirmed and again.warnings
    again.close_now()


@pytest.mark.parametrize("mode", ["interval", "checkpoint"])
def test_a_power_loss_while_the_store_is_closed(mode: Any) -> None:
    """The closing vouched for commits that were on their way to the disk with it."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, sync=mode)
    for n in range(10):
        step(engine.commit_many([Transaction((), [Put("a", f"k{n}", "x" * 300)])]))
    disk.fail("sync", PowerLoss())
    with pytest.raises(PowerLoss):
        engine.close_now()
    (inode,) = (inode for path, inode in disk.names_now.items() if path == engine._log.segment.path)
    inode.data[1024:1536] = bytes(512)
    again = HashTableEngine.open("/store", files=disk.killed())
    assert 0 < len(state_of(again)) < 10
    again.close_now()


@pytest.mark.parametrize("then", ["always", "interval"])
def test_a_torn_write_after_revisions_were_left_out(then: Any) -> None:
    """Where an opening left revisions out, its first records call revisions durable that no record has."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk, sync="interval")
    step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    engine._log.flush()
    abandon(engine)
    engine = HashTableEngine.open("/store", files=disk.killed(), sync=then)
    step(engine.commit_many([Transaction((), [Put("a", f"k{n}", "x" * 300)]) for n in range(10)]))
    engine._log.flush(sync=False)
    abandon(engine)
    (inode,) = (inode for path, inode in disk.names_now.items() if path == engine._log.segment.path)
    inode.data[100:512] = bytes(412)
    again = HashTableEngine.open("/store", files=disk.killed(), sync=then)
    assert state_of(again) == {"k": 1}
    again.close_now()


def test_a_checkpoint_is_read_back() -> None:
    """A disk that keeps something else than it was given: the old checkpoint and the log stay."""
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", 1)])]))
    engine.sync(revision)

    def lie(name: str, path: str) -> None:
        if name == "sync" and path.endswith(".kvc.tmp"):
            disk.names_now[path].data[50] ^= 1

    disk.on_call = lie
    with pytest.raises(base.EngineError, match=r"the checkpoint failed: .*\.kvc\.tmp is damaged at offset"):
        engine.checkpoint()
    abandon(engine)
    again = HashTableEngine.open("/store", files=disk.killed())
    assert state_of(again) == {"k": 1}
    again.close_now()


def test_the_copy_of_a_damaged_end_is_durable() -> None:
    disk = Disk()
    engine = HashTableEngine.open("/store", files=disk)
    for n in range(2):
        (revision,) = step(engine.commit_many([Transaction((), [Put("a", "k", n)])]))
        engine.sync(revision)
    abandon(engine)
    path = engine._log.segment.path
    disk.names_now[path].data[engine._log.segment.end - 10 :] = b"!" * 10
    torn = bytes(disk.names_now[path].data)

    def die(name: str, path: str) -> None:
        if name == "truncate":
            raise PowerLoss

    disk.killed().on_call = die
    with pytest.raises(PowerLoss):
        HashTableEngine.open("/store", files=disk)
    assert disk.names_durable[path + ".broken"].durable == torn
