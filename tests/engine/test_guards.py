"""Guards of many ranges in one commit: a transaction has one for each range that it has read, however many."""

from __future__ import annotations

import random
from typing import Any

import pytest
from kvql_server.engines.base import Conflict, Delete, Put, RangeUnchanged, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.table import Table
from kvql_server.engines.journal import Journal

from tests.engine.disk import Disk
from tests.stores import commit, step

KEYS = [f"k{n:03}" for n in range(300)]


def store(rng: random.Random, *, told: bool) -> tuple[HashTableEngine, int, set[str]]:
    """A store, a revision of it, and the keys that changed since; ``told``: its journal knows them."""
    engine = HashTableEngine.open("/store", files=Disk())
    if not told:
        engine.keep_history("a", 0, 0)
    commit(engine, *[Put("a", key, 0) for key in KEYS[::2]])
    snapshot = engine.snapshot()
    changed = set(rng.sample(KEYS, 20))
    for key in changed:
        there = key in KEYS[::2]
        commit(engine, Delete("a", key) if there and rng.random() < 0.5 else Put("a", key, 1))
        if not there and rng.random() < 0.3:
            commit(engine, Delete("a", key))
    if not told:
        engine.checkpoint()
    assert engine._store._is_told(engine._store.journals["a"], snapshot.revision) is told
    return engine, snapshot.revision, changed


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_each_range_sees_what_changed_in_it(seed: int, told: bool) -> None:
    rng = random.Random(seed)
    engine, revision, changed = store(rng, told=told)
    held: list[RangeUnchanged] = []
    broken: list[RangeUnchanged] = []
    for _ in range(300):
        start, end = rng.choice(["", *KEYS]), rng.choice([*KEYS, "k1", "l", None])
        guard = RangeUnchanged("a", start, end, revision)
        hit = any(key >= start and (end is None or key < end) for key in changed)
        (broken if hit else held).append(guard)
    assert broken and len(held) > 30
    for guard in broken:
        (outcome,) = step(engine.commit_many([Transaction([*held[:3], guard], ())]))
        assert outcome == Conflict(guard, 3)
        (outcome,) = step(engine.commit_many([Transaction([guard], ())]))
        assert outcome == Conflict(guard, 0)
    (outcome,) = step(engine.commit_many([Transaction(held, ())]))
    assert isinstance(outcome, int)
    engine.close_now()


@pytest.mark.parametrize("told", [True, False])
def test_many_ranges_are_one_look_at_what_changed(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody else waits while guards are checked."""
    engine, revision, _ = store(random.Random(0), told=told)
    looks = 0

    class Counted(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looks
            looks += 1
            return super().items()

    records = Journal.records

    def counted(journal: Journal, after: int, until: int) -> Any:
        nonlocal looks
        looks += 1
        return records(journal, after, until)

    monkeypatch.setattr(Journal, "records", counted)
    table: Table = engine._store.tables["a"]
    table.entries = Counted(table.entries)
    guards = [RangeUnchanged("a", f"x{n}", f"x{n}x", revision) for n in range(100)]
    (outcome,) = step(engine.commit_many([Transaction(guards, ())]))
    assert isinstance(outcome, int) and 1 <= looks <= 2
    engine.close_now()
