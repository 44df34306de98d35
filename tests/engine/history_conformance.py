"""What every engine that keeps history must do: a mixin beside :class:`tests.engine.conformance.Conformance`."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Clear, Delete, Gone, Put, Transaction

from tests.servers import WAIT_S

SECOND = 1_000_000
Model = dict[str, tuple[Any, int, int]]
"""key -> (value, revision, version)"""


async def state_of(snapshot: Any, namespace: str = "a", **named: Any) -> Model:
    """What a snapshot shows by scanning."""
    out: Model = {}
    async for page in snapshot.scan(namespace, **named):
        for key, entry in page:
            assert key not in out
            out[key] = (entry.value, entry.revision, entry.version)
    return out


async def state_at(engine: Any, revision: int, namespace: str = "a", **named: Any) -> Model:
    snapshot = engine.snapshot(revision)
    try:
        return await state_of(snapshot, namespace, **named)
    finally:
        snapshot.close()


async def past(engine: Any, namespace: str = "a", start: str = "", end: str | None = None) -> list[Any]:
    """(key, revision, value or 'gone' or 'expired') as ``history`` tells it."""
    snapshot = engine.snapshot()
    try:
        return [
            (key, s.revision, ("expired" if s.expired else "gone") if isinstance(s, Gone) else s.value)
            async for page in snapshot.history(namespace, start, end)
            for key, s in page
        ]
    finally:
        snapshot.close()


class RandomStore:
    """Random commits on an engine, and what the namespace was after each of them."""

    def __init__(self, engine: Any, clock: ManualClock, seed: int) -> None:
        self.engine = engine
        self.clock = clock
        self.random = random.Random(seed)
        self.states: dict[int, Model] = {}
        self.times: dict[int, int] = {}
        print(f"seed {seed}")

    async def step(self) -> None:
        keys = [f"k{n}" for n in range(12)]
        writes: list[Any] = []
        for _ in range(self.random.choice((1, 1, 1, 2, 5))):
            what = self.random.random()
            key = self.random.choice(keys)
            if what < 0.65:
                expires = self.clock.now() + 3 * SECOND if self.random.random() < 0.2 else None
                writes.append(Put("a", key, self.random.randrange(100), expires))
            elif what < 0.97:
                writes.append(Delete("a", key))
            else:
                writes.append(Clear("a"))
        self.clock.advance(self.random.random())
        self.engine.tick()
        await self.note()
        (revision,) = await self.engine.commit_many([Transaction((), writes, f"user{self.random.randrange(3)}")])
        await self.engine.synced(revision)
        await self.note()

    async def note(self) -> None:
        snapshot = self.engine.snapshot()
        self.states[snapshot.revision] = await state_of(snapshot)
        self.times.setdefault(snapshot.revision, self.clock.now())
        snapshot.close()

    async def check(self) -> None:
        """Every revision that can be read shows what was there, by every way of reading."""
        oldest = self.engine.oldest("a")
        for revision, model in self.states.items():
            if revision < oldest:
                with pytest.raises(base.Compacted):
                    await state_at(self.engine, revision)
                continue
            assert await state_at(self.engine, revision) == model
            assert list((await state_at(self.engine, revision, order="reverse")).items()) == sorted(
                model.items(), reverse=True
            )
            assert await state_at(self.engine, revision, order="any") == model
            part = {key: state for key, state in model.items() if "k2" <= key < "k6"}
            assert list((await state_at(self.engine, revision, start="k2", end="k6")).items()) == sorted(part.items())
            snapshot = self.engine.snapshot(revision)
            asked = [f"k{n}" for n in range(14)]
            found = await snapshot.get_many("a", asked)
            assert [e is not None and e.value for e in found] == [k in model and model[k][0] for k in asked]
            assert await snapshot.count("a") == len(model)
            snapshot.close()


class HistoryConformance:
    """Uses ``commit`` and the fixtures of ``Conformance``."""

    @pytest.mark.parametrize("seed", range(6))
    async def test_every_revision_can_be_read(self, engine: Any, clock: ManualClock, seed: int) -> None:
        store = RandomStore(engine, clock, seed)
        for _ in range(60):
            await store.step()
        await store.check()

    @pytest.mark.parametrize("seed", range(3))
    async def test_folding_what_a_watcher_sees_gives_every_state(
        self, engine: Any, clock: ManualClock, seed: int
    ) -> None:
        store = RandomStore(engine, clock, seed)
        start = engine.snapshot().revision
        for _ in range(60):
            await store.step()
        newest = max(store.states)
        watching = engine.watch("a", start)
        folded: dict[str, Any] = {}
        revision = start
        while revision < max(r for r, s in store.states.items() if s != store.states.get(r - 1)):
            commit = await asyncio.wait_for(anext(watching), WAIT_S)
            assert commit.revision > revision
            revision = commit.revision
            for change in commit.changes:
                before = folded.pop(change.key, None)
                assert (before is None) == (change.previous is None)
                assert before is None or before.revision == change.previous.revision
                if change.entry is not None:
                    folded[change.key] = change.entry
            assert {k: e.value for k, e in folded.items()} == {k: s[0] for k, s in store.states[revision].items()}
        assert revision <= newest
        await watching.aclose()

    async def test_history_tells_every_state_by_key(self, engine: Any, clock: ManualClock) -> None:
        first = (await engine.commit_many([Transaction((), [Put("a", "k", 1)], "ann", "why")]))[0]
        await engine.commit_many([Transaction((), [Put("a", "k", 2), Put("a", "b", "x", clock.now() + SECOND)])])
        await engine.commit_many([Transaction((), [Delete("a", "k")], "bob", "old")])
        await engine.commit_many([Transaction((), [Put("a", "k", 3), Put("a", "z", 1)])])
        clock.advance(2)
        engine.tick()
        await engine.commit_many([Transaction((), [Put("a", "n", 1), Delete("a", "n")])])
        assert await past(engine) == [
            ("b", first + 1, "x"), ("b", first + 4, "expired"),
            ("k", first, 1), ("k", first + 1, 2), ("k", first + 2, "gone"), ("k", first + 3, 3),
            ("z", first + 3, 1),
        ]  # fmt: skip
        assert [row[0] for row in await past(engine, start="c", end="l")] == ["k"] * 4
        snapshot = engine.snapshot()
        gone = [s async for page in snapshot.history("a", "k", "k\0") for _, s in page][2]
        assert (gone.updated_by, gone.comment, gone.value, gone.expired) == ("bob", "old", None, False)
        snapshot.close()
        assert await past(engine, "nothing") == []

    async def test_times(self, engine: Any, clock: ManualClock) -> None:
        at: list[tuple[int, int]] = []
        for n in range(5):
            (revision,) = await engine.commit_many([Transaction((), [Put("a", "k", n)])])
            at.append((clock.now(), revision))
            await engine.commit_many([Transaction((), [Put("b", "k", n)])])
            clock.advance(10)
        for time, revision in at:
            assert engine.revision_at("a", time) == revision
            assert engine.revision_at("a", time + 9 * SECOND) == revision
        earlier = engine.revision_at("a", at[0][0] - 10 * SECOND)
        assert earlier < at[0][1] and await state_at(engine, earlier) == {}, "there was nothing before the first change"

    async def test_a_namespace_has_a_past_before_its_first_change(self, engine: Any, clock: ManualClock) -> None:
        (first,) = await engine.commit_many([Transaction((), [Put("b", "k", 1)])])
        engine.keep_history("a", 3600 * SECOND, 1 << 20)
        watching = engine.watch("a", first)
        waiting = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        (second,) = await engine.commit_many([Transaction((), [Put("b", "k", 2)])])
        assert await state_at(engine, first) == await state_at(engine, second) == {}
        (third,) = await engine.commit_many([Transaction((), [Put("a", "k", 1)])])
        await engine.synced(third)
        assert await state_at(engine, first) == await state_at(engine, second) == {}
        assert (await asyncio.wait_for(waiting, WAIT_S)).revision == third
        await watching.aclose()

    async def test_history_ends_with_its_time(self, engine: Any, clock: ManualClock) -> None:
        engine.keep_history("a", 60 * SECOND, 1 << 20)
        store = RandomStore(engine, clock, 1)
        for _ in range(20):
            await store.step()
        middle = max(store.states)
        clock.advance(30)
        for _ in range(20):
            await store.step()
        clock.advance(59.5 - (clock.now() - store.times[middle]) / SECOND)
        engine.tick()
        await store.note()
        assert 0 < engine.oldest("a") <= middle
        await store.check()
        assert all(row[1] <= max(store.states) for row in await past(engine))
        clock.advance(120)
        engine.tick()
        await store.note()
        assert engine.oldest("a") >= max(r for r, t in store.times.items() if t < clock.now() - 60 * SECOND)
        newest = await state_at(engine, max(store.states))
        assert {row[0]: row[2] for row in await past(engine)} == {key: state[0] for key, state in newest.items()}

    async def test_history_is_bounded_by_bytes(self, engine: Any, clock: ManualClock) -> None:
        engine.keep_history("a", 3600 * SECOND, 2 << 20)
        for n in range(400):
            await engine.commit_many([Transaction((), [Put("a", f"k{n % 7}", "x" * 20_000)])])
        assert engine.status()["history"]["a"]["bytes"] < 2.1 * (1 << 20)
        newest = engine.snapshot().revision
        assert newest - 120 < engine.oldest("a") < newest - 80
        assert len(await state_at(engine, engine.oldest("a"))) == 7

    async def test_no_history(self, engine: Any, clock: ManualClock) -> None:
        engine.keep_history("a", 0, 1 << 20)
        (first,) = await engine.commit_many([Transaction((), [Put("a", "k", 1)])])
        (second,) = await engine.commit_many([Transaction((), [Put("a", "k", 2)])])
        assert engine.oldest("a") == second
        with pytest.raises(base.Compacted):
            await state_at(engine, first)
        assert await past(engine) == [("k", second, 2)]
        assert {k: s[0] for k, s in (await state_at(engine, second)).items()} == {"k": 2}

    async def test_compact(self, engine: Any, clock: ManualClock) -> None:
        for n in range(5):
            (revision,) = await engine.commit_many([Transaction((), [Put("a", "k", n)])])
        await engine.compact(revision - 1)
        assert (await state_at(engine, revision - 1))["k"][0] == 3
        with pytest.raises(base.Compacted):
            await state_at(engine, revision - 3)
        with pytest.raises(base.Compacted):
            await anext(engine.watch("a", revision - 3))

    async def test_a_past_snapshot_stays_what_it_is(self, engine: Any, clock: ManualClock) -> None:
        (first,) = await engine.commit_many([Transaction((), [Put("a", f"k{n}", n) for n in range(10)])])
        (second,) = await engine.commit_many([Transaction((), [Put("a", "k1", "new"), Delete("a", "k2")])])
        old = engine.snapshot(first)
        assert len(await state_of(old)) == 10
        await engine.commit_many([Transaction((), [Clear("a"), Put("a", "k1", "newer")])])
        assert {k: s[0] for k, s in (await state_of(old)).items()} == {f"k{n}": n for n in range(10)}
        assert (await state_at(engine, second))["k1"][0] == "new"
        old.close()

    async def test_truncating_many(self, engine: Any, clock: ManualClock) -> None:
        """More than an engine would record one by one."""
        engine.keep_history("a", 3600 * SECOND, 1 << 30)
        (first,) = await engine.commit_many([Transaction((), [Put("a", f"k{n}", n) for n in range(70_000)])])
        (second,) = await engine.commit_many([Transaction((), [Clear("a"), Put("a", "k5", "five"), Put("a", "x", 1)])])
        await engine.synced(second)
        assert len(await state_at(engine, first)) == 70_000
        assert {k: s[0] for k, s in (await state_at(engine, second)).items()} == {"k5": "five", "x": 1}
        watching = engine.watch("a", first)
        changes = {change.key: change for change in (await asyncio.wait_for(anext(watching), WAIT_S)).changes}
        assert len(changes) == 70_001 and changes["k7"].entry is None and changes["k7"].previous.value == 7
        assert changes["k5"].previous.value == 5 and changes["k5"].entry.value == "five"
        await watching.aclose()
        assert await past(engine, start="k5", end="k50") == [
            ("k5", first, 5), ("k5", second, "five")
        ]  # fmt: skip
        engine.keep_history("a", 0, 0)
        for _ in range(10):
            engine.tick()
        assert {k: s[0] for k, s in (await state_at(engine, second)).items()} == {"k5": "five", "x": 1}

    async def test_two_truncations_in_one_commit(self, engine: Any, clock: ManualClock) -> None:
        (first,) = await engine.commit_many([Transaction((), [Put("a", f"k{n}", n) for n in range(70_000)])])
        between = [Put("a", f"n{n}", n) for n in range(70_000)]
        writes = [Clear("a"), *between, Clear("a"), Put("a", "last", 1)]
        (second,) = await engine.commit_many([Transaction((), writes)])
        assert await state_at(engine, first) == {f"k{n}": (n, first, 1) for n in range(70_000)}
        assert await state_at(engine, second) == {"last": (1, second, 1)}

    async def test_who_watches_slowly_is_never_told_half(self, engine: Any, clock: ManualClock) -> None:
        """What went while he was at an earlier commit is told whole, or not at all."""
        (first,) = await engine.commit_many([Transaction((), [Put("a", f"k{n}", n) for n in range(70_000)])])
        watching = engine.watch("a", first)
        puts = Transaction((), [Put("a", "k", 1)])
        second, third = await engine.commit_many([puts, Transaction((), [Clear("a")])])
        await engine.synced(third)
        assert (await anext(watching)).revision == second
        await engine.compact(third + 1)
        for _ in range(10):
            engine.tick()
        try:
            assert len(list((await anext(watching)).changes)) == 70_001
        except base.Compacted as e:
            assert e.oldest == third
        await watching.aclose()
