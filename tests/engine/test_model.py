"""Both engines against dictionaries: whatever is done, they agree with a model that copies everything."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Absent, Clear, Conflict, Delete, Put, RangeUnchanged, Transaction, Unchanged
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.memory import MemoryEngine

from tests.stores import abandon, step

NAMESPACES = st.sampled_from(["a", "b"])
KEYS = st.sampled_from([f"k{n}" for n in range(8)])
WRITES = st.one_of(
    st.builds(Put, NAMESPACES, KEYS, st.integers(0, 99)),
    st.builds(lambda n, k, v, ttl: (n, k, v, ttl), NAMESPACES, KEYS, st.integers(0, 99), st.integers(1, 4)),
    st.builds(Delete, NAMESPACES, KEYS),
    st.builds(Clear, NAMESPACES),
)
State = dict[tuple[str, str], tuple[Any, int, int, int, int | None]]  # value, revision, version, created, expires


class StoreAgainstModel(RuleBasedStateMachine):
    """The model is a dict of all pairs; a snapshot of it is a copy."""

    @initialize(durable=st.booleans())
    def open(self, durable: bool) -> None:
        self.durable = durable
        self.clock = ManualClock()
        self.folder = tempfile.mkdtemp(prefix="kvql-model-")
        self.engine: Any = self.make()
        self.state: State = {}
        self.revision = 0
        self.snapshots: list[tuple[Any, State]] = []

    def make(self) -> Any:
        return HashTableEngine.open(self.folder, clock=self.clock) if self.durable else MemoryEngine(self.clock)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            step(self.engine.close())
            shutil.rmtree(self.folder)

    # ── what the model does ───────────────────────────────────────────────────────────────────────────────────

    def expire(self) -> None:
        gone = [p for p, pair in self.state.items() if pair[4] is not None and pair[4] <= self.clock.now()]
        if gone:
            self.revision += 1
        for place in gone:
            del self.state[place]

    def apply(self, writes: list[Any]) -> None:
        self.revision += 1
        now = self.clock.now()
        for write in writes:
            if isinstance(write, Clear):
                self.state = {place: pair for place, pair in self.state.items() if place[0] != write.namespace}
            elif isinstance(write, Delete):
                self.state.pop((write.namespace, write.key), None)
            else:
                place = write.namespace, write.key
                old = self.state.get(place)
                version = 1 if old is None else old[2] if old[1] == self.revision else old[2] + 1
                created = now if old is None else old[3]
                self.state[place] = write.value, self.revision, version, created, write.expires_at

    # ── what may happen ───────────────────────────────────────────────────────────────────────────────────────

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4))
    def commit(self, writes: list[Any]) -> None:
        due = self.clock.now()
        puts = [Put(w[0], w[1], w[2], due + w[3] * 1_000_000) if isinstance(w, tuple) else w for w in writes]
        self.expire()
        (outcome,) = step(self.engine.commit_many([Transaction((), puts, "ann")]))
        self.apply(puts)
        assert outcome == self.revision

    @rule(namespace=NAMESPACES, key=KEYS, pick=st.integers(0, 9), write=st.integers(0, 99))
    def guarded(self, namespace: str, key: str, pick: int, write: int) -> None:
        """Guards as a transaction makes them, from a snapshot that may be old."""
        self.expire()
        self.engine.tick()
        snapshot, seen = self.snapshots[pick % len(self.snapshots)] if self.snapshots else (None, None)
        place = namespace, key
        old = self.state.get(place)
        guards: list[Any] = [Absent(namespace, key) if old is None else Unchanged(namespace, key, old[1])]
        holds = True
        if snapshot is not None and seen is not None:
            guards.append(RangeUnchanged(namespace, "", None, snapshot.revision))
            now = {p: pair[1] for p, pair in self.state.items() if p[0] == namespace}
            then = {p: pair[1] for p, pair in seen.items() if p[0] == namespace}
            holds = now == then
        (outcome,) = step(self.engine.commit_many([Transaction(guards, [Put(namespace, key, write)])]))
        if isinstance(outcome, Conflict):
            # what came and went in between is a change, though the model's pictures are alike
            assert not holds or snapshot is not None
        else:
            assert holds
            self.apply([Put(namespace, key, write)])
            assert outcome == self.revision

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def tick(self) -> None:
        self.expire()
        self.engine.tick()

    @precondition(lambda self: len(self.snapshots) < 4)
    @rule()
    def snapshot(self) -> None:
        snapshot = self.engine.snapshot()
        assert snapshot.revision == self.revision
        now = self.clock.now()
        live = {place: pair for place, pair in self.state.items() if pair[4] is None or pair[4] > now}
        self.snapshots.append((snapshot, live))

    @precondition(lambda self: self.snapshots)
    @rule(pick=st.integers(0, 9))
    def close_snapshot(self, pick: int) -> None:
        self.snapshots.pop(pick % len(self.snapshots))[0].close()

    @rule()
    def sync(self) -> None:
        self.engine.sync(self.revision)

    @precondition(lambda self: self.durable)
    @rule()
    def checkpoint(self) -> None:
        self.expire()
        self.engine.checkpoint()

    @precondition(lambda self: self.durable)
    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        """kill -9 after a sync loses nothing; the process's death without one is test_crash's."""
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()
        if clean:
            self.engine.close_now()
        else:
            self.engine.sync(self.revision)
            abandon(self.engine)
            self.engine._lock.release()
        self.engine = self.make()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "engine"):
            return
        for snapshot, seen in self.snapshots:
            compare(snapshot, seen)
        now = self.clock.now()
        current = self.engine.snapshot()
        compare(current, {p: pair for p, pair in self.state.items() if pair[4] is None or pair[4] > now})
        current.close()


def scan(snapshot: Any, namespace: str, order: str) -> list[Any]:
    pages = snapshot.scan(namespace, order=order)
    out: list[Any] = []
    while True:
        try:
            out += step(anext(pages))
        except StopAsyncIteration:
            return out


def compare(snapshot: Any, seen: State) -> None:
    for namespace in ("a", "b"):
        expected = {key: pair for (space, key), pair in sorted(seen.items()) if space == namespace}
        for order in ("key", "reverse", "any"):
            found = scan(snapshot, namespace, order)
            if order != "any":
                assert [key for key, _ in found] == sorted(expected, reverse=order == "reverse")
            assert {k: (e.value, e.revision, e.version, e.created_at, e.expires_at) for k, e in found} == expected
        assert step(snapshot.count(namespace)) == len(expected)
        got = step(snapshot.get_many(namespace, [f"k{n}" for n in range(8)]))
        assert [entry and entry.value for entry in got] == [expected.get(f"k{n}", (None,))[0] for n in range(8)]


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
