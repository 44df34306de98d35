"""A workload whose every revision is known beforehand, on a recording disk, photographed before each of its calls.

The model is a dict of pairs that is copied at each revision: independent of the engine, and slow. ``picture`` is what
can be read of an engine, in the model's form; whoever adds something that a store must not lose adds it to both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Clear, Conflict, Delete, Put, PutRun, Transaction, Unchanged
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.log import SyncMode

from kvql.values import Json
from tests.engine.disk import MUTATING, Disk
from tests.stores import abandon, step

FOLDER: Final = "/store"
BEFORE_ALL: Final = -(2**63)
HISTORIES: Final = ("a", "b")
"""Namespaces that keep a history."""
NAMESPACES: Final = (*HISTORIES, base.SYSTEM_NAMESPACE)
"""In the last one are users, namespaces and their options, grants, what became of requests: pairs like all others."""
KEYS: Final = tuple(f"k{n}" for n in range(9))
CHECKPOINTS: Final = 3
MODES: Final[tuple[SyncMode, ...]] = ("always", "checkpoint", "interval")
VALUES: Final = (None, True, 1, 1.0, Decimal("1.0"), b"1", Json('{"a": [1, null]}'), datetime(2026, 1, 2, tzinfo=UTC))


class Pair(NamedTuple):
    kind: type
    """Of the value: 1 and True are not the same."""
    value: Any
    revision: int
    version: int
    created_at: int
    updated_at: int
    user: str
    comment: str
    expires_at: int | None


State = dict[tuple[str, str], Pair]
States = dict[int, State]


class Photo(NamedTuple):
    """The disk at a moment, and what is owed at that moment."""

    disk: Disk
    states: States
    """By revision, all that were made so far."""
    floor: int
    """Everything up to this revision was confirmed, or told to who watches, or read after a recovery."""
    given_out: int
    """No later commit may have this revision or one before it."""
    now: int
    mode: SyncMode
    skips: bool
    """Whether revisions may have been left out: only ``always`` never does."""


def open_store(disk: Disk, now: int, mode: SyncMode) -> HashTableEngine:
    return HashTableEngine.open(FOLDER, files=disk, clock=ManualClock(now), sync=mode)


def settle(engine: HashTableEngine) -> None:
    """What was committed is on the disk when this returns, in every mode."""
    engine._log.flush()


def picture(engine: HashTableEngine) -> State:
    """All that can be read, pairs that are due included."""
    out: State = {}
    snapshot = engine.snapshot()
    for namespace in NAMESPACES:
        table = snapshot.table(namespace)
        if table is None:
            continue
        start: str | None = ""
        while start is not None:
            page, start = table.page(start, None, "key", 4096, snapshot.revision, BEFORE_ALL)
            for key, e in page:
                out[namespace, key] = pair_of(e)
    snapshot.close()
    return out


def pair_of(e: Any) -> Pair:
    """An entry in the model's form."""
    return Pair(
        type(e.value), e.value, e.revision, e.version, e.created_at, e.updated_at, e.updated_by, e.comment, e.expires_at
    )


async def picture_of(engine: HashTableEngine, revision: int | None, namespaces: Sequence[str] = NAMESPACES) -> State:
    """The same as of an earlier revision, as history tells it; or of the newest, as whoever reads now sees it."""
    out: State = {}
    snapshot = engine.snapshot(revision)
    for namespace in namespaces:
        async for page in snapshot.scan(namespace):
            for key, e in page:
                out[namespace, key] = pair_of(e)
    snapshot.close()
    return out


def applied(state: State, writes: list[Any], revision: int, now: int, user: str, comment: str) -> State:
    """The model's commit."""
    out = dict(state)
    for write in writes:
        if isinstance(write, Clear):
            out = {place: pair for place, pair in out.items() if place[0] != write.namespace}
        elif isinstance(write, Delete):
            out.pop((write.namespace, write.key), None)
        else:
            place = write.namespace, write.key
            old = out.get(place)
            version = 1 if old is None else old.version if old.revision == revision else old.version + 1
            created = now if old is None else old.created_at
            value = write.value
            out[place] = Pair(type(value), value, revision, version, created, now, user, comment, write.expires_at)
    return out


def which(states: States, found: State, revision: int) -> int:
    """The newest revision up to ``revision`` with exactly these pairs; -1 if there is none."""
    return next((r for r in sorted(states, reverse=True) if r <= revision and states[r] == found), -1)


def expired(state: State, now: int) -> State:
    return {place: pair for place, pair in state.items() if pair.expires_at is None or pair.expires_at > now}


class Workload:
    """Commits alone and many at once, guards that hold and that do not, runs of puts, deletes, pairs that expire,
    TRUNCATE, three checkpoints, a restart in order and one after ``kill -9``. With the mode ``None`` each start draws
    one."""

    def __init__(self, seed: int, mode: SyncMode | None, steps: int, see: Callable[[Photo], None]) -> None:
        self.rng = random.Random(seed)
        self.mode: SyncMode = mode or "always"
        self.skips = mode != "always"
        self._draws = mode is None
        self.disk = Disk()
        self.now = ManualClock().now()
        self.states: States = {0: {}}
        self.revision = 0
        self.floor = 0
        self.given_out = 0
        self._steps = steps
        self._see = see
        self._engine: HashTableEngine | None = None

    @property
    def engine(self) -> HashTableEngine:
        assert self._engine is not None
        return self._engine

    def photo(self) -> Photo:
        floor = self.floor
        if self._engine is not None:  # while a store is opened, the one before it
            status = self._engine.status()
            told = self._engine.shown_revision if status["sync"] == "always" else 0
            floor = max(floor, status["synced_revision"], told)
        return Photo(self.disk.photo(), self.states, floor, self.given_out, self.now, self.mode, self.skips)

    def _on_call(self, name: str, path: str) -> None:
        if name in MUTATING:
            self._see(self.photo())

    def run(self) -> None:
        self.disk.on_call = self._on_call
        self.start()
        checkpoints = {self._steps * (n + 1) // (CHECKPOINTS + 1) for n in range(CHECKPOINTS)}
        in_order, killed = self._steps * 3 // 8, self._steps * 5 // 8
        for number in range(self._steps):
            if number in checkpoints:
                self.checkpoint()
            elif number == in_order:
                self.engine.close_now()
                self.floor = self.revision
                self.start()
            elif number == killed:
                self.kill()
                self.start()
            else:
                self.one()
        self._see(self.photo())
        abandon(self.engine)

    def kill(self) -> None:
        """As ``kill -9`` does."""
        abandon(self.engine)
        self.disk.locked = False

    def open(self) -> HashTableEngine:
        return open_store(self.disk, self.now, self.mode)

    def start(self) -> None:
        if self._draws:
            self.mode = self.rng.choice(MODES)
        self._engine = self.open()
        revision = self.engine.status()["revision"]
        known = which(self.states, picture(self.engine), revision)
        assert known >= self.floor, f"{self.floor} was confirmed, {known} is there"
        # another branch: photos of the time before keep theirs
        self.states = {r: state for r, state in self.states.items() if r <= known}
        self.states[revision] = self.states[known]
        assert revision >= self.given_out, "a revision comes again"
        self.revision = self.floor = revision

    def _expire(self) -> None:
        state = self.states[self.revision]
        left = expired(state, self.now)
        if left != state:
            self._became(left)

    def _became(self, state: State) -> None:
        self.revision += 1
        self.states[self.revision] = state

    def checkpoint(self) -> None:
        self._expire()
        self.engine.checkpoint()
        self.confirmed()

    def confirmed(self) -> None:
        assert self.engine.status()["revision"] == self.revision
        self.floor = self.revision

    def one(self) -> None:
        if self.rng.random() < 0.3:
            seconds = self.rng.choice((1, 1, 3))
            self.engine._clock.advance(seconds)
            self.now += seconds * 1_000_000
        self._expire()
        if self.rng.random() < 0.1:
            self._run_of_puts()
        else:
            self._transactions()
        if self.mode != "always":
            self.given_out = self.revision
        assert self.engine.status()["revision"] == self.revision
        if self.rng.random() < (0.75 if self.mode == "always" else 0.2):
            if self.mode == "checkpoint" and self.rng.random() < 0.7:
                self.engine._log.flush(sync=False)  # what its thread does each second; nothing is promised by it
                return
            settle(self.engine)
            self.confirmed()

    def _run_of_puts(self) -> None:
        keys = [f"run{self.revision}-{n}" for n in range(self.rng.choice((2, 6)))]
        values = [self.rng.randrange(100) for _ in keys]
        # the states first: the disk may be photographed while the engine is at it
        for key, value in zip(keys, values, strict=True):
            write = Put("b", key, value)
            state = self.states[self.revision]
            self._became(applied(state, [write], self.revision + 1, self.now, "eve", "a run"))
        step(self.engine.commit_puts(PutRun("b", keys, values, "eve", "a run")))

    def _transactions(self) -> None:
        transactions = [self._transaction() for _ in range(self.rng.choice((1, 1, 1, 4)))]
        expected: list[bool] = []
        for t in transactions:
            state = self.states[self.revision]
            holds = all(self._holds(guard, state) for guard in t.guards)
            expected.append(holds)
            if holds:
                self._became(applied(state, list(t.writes), self.revision + 1, self.now, t.user, t.comment))
        outcomes = step(self.engine.commit_many(transactions))
        assert [not isinstance(outcome, Conflict) for outcome in outcomes] == expected

    @staticmethod
    def _holds(guard: Any, state: State) -> bool:
        pair = state.get((guard.namespace, guard.key))
        return pair is None if isinstance(guard, Absent) else pair is not None and pair.revision == guard.revision

    def _transaction(self) -> Transaction:
        rng = self.rng
        writes: list[Any] = []
        for _ in range(rng.choice((1, 1, 2, 3, 12))):
            namespace, key, roll = rng.choice(NAMESPACES), rng.choice(KEYS), rng.random()
            if roll < 0.6:
                value = rng.choice((rng.randrange(10**6), "x" * rng.choice((3, 40, 700)), *VALUES))
                writes.append(Put(namespace, key, value))
            elif roll < 0.75:
                writes.append(Put(namespace, key, "soon gone", self.now + rng.choice((1, 2, 5)) * 1_000_000))
            elif roll < 0.95:
                writes.append(Delete(namespace, key))
            else:
                writes.append(Clear(namespace))
        guards: list[base.Guard] = []
        if rng.random() < 0.4:
            place = rng.choice(NAMESPACES), rng.choice(KEYS)
            pair = self.states[self.revision].get(place)
            guards.append(Absent(*place) if pair is None or rng.random() < 0.2 else Unchanged(*place, pair.revision))
        return Transaction(guards, writes, rng.choice(("ann", "bob")), rng.choice(("", "why")))
