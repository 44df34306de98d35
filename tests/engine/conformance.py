"""What every engine must do, as a class: subclass it, say how to open one, and pytest runs all of it.

The engine is driven through the contract alone, so an engine that lives elsewhere (etcd) joins by one subclass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Clear, Conflict, Delete, Put, RangeUnchanged, Transaction, Unchanged

from kvql.values import Json
from tests.servers import WAIT_S

VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), -0.0, Decimal("0.10"), Decimal("-1e500"), "",
    "å\n𝄞", b"", b"\0\xff" * 40, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC),
    Json('{"a":[1,2.50,null]}'), Json("[]"),
]  # fmt: skip


class Conformance:
    """``make`` opens an engine; tests get it as ``engine`` with the ``clock`` that it runs on."""

    async def make(self, clock: ManualClock, tmp_path: Any) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def engine(self, clock: ManualClock, tmp_path: Any) -> AsyncIterator[Any]:
        engine = await self.make(clock, tmp_path)
        yield engine
        await engine.close()

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────

    async def commit(self, engine: Any, *writes: Any, guards: Sequence[Any] = (), **meta: Any) -> Any:
        (outcome,) = await engine.commit_many([Transaction(guards, writes, **meta)])
        return outcome

    async def keys(self, engine: Any, namespace: str = "a", *args: Any, **named: Any) -> list[str]:
        snapshot = engine.snapshot()
        try:
            return [key async for page in snapshot.scan(namespace, *args, **named) for key, _ in page]
        finally:
            snapshot.close()

    async def get(self, engine: Any, key: str, namespace: str = "a") -> Any:
        snapshot = engine.snapshot()
        try:
            return await snapshot.get(namespace, key)
        finally:
            snapshot.close()

    # ── pairs ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_every_type_of_value_comes_back(self, engine: Any) -> None:
        for number, value in enumerate(VALUES):
            await self.commit(engine, Put("a", f"k{number}", value))
        for number, value in enumerate(VALUES):
            entry = await self.get(engine, f"k{number}")
            assert type(entry.value) is type(value) and repr(entry.value) == repr(value)

    async def test_an_entry_tells_its_history(self, engine: Any, clock: ManualClock) -> None:
        begun = clock.now()
        first = await self.commit(engine, Put("a", "k", 1), user="ann", comment="new")
        clock.advance(1)
        second = await self.commit(engine, Put("a", "k", 2, begun + 10**9), user="bob")
        entry = await self.get(engine, "k")
        assert second > first
        assert (entry.value, entry.revision, entry.version) == (2, second, 2)
        assert (entry.created_at, entry.updated_at, entry.expires_at) == (begun, clock.now(), begun + 10**9)
        assert (entry.updated_by, entry.comment) == ("bob", "")

    async def test_a_version_starts_anew_after_delete_and_a_revision_never_does(self, engine: Any) -> None:
        await self.commit(engine, Put("a", "k", 1))
        await self.commit(engine, Put("a", "k", 1))
        gone = await self.commit(engine, Delete("a", "k"))
        assert await self.get(engine, "k") is None
        again = await self.commit(engine, Put("a", "k", 1))
        entry = await self.get(engine, "k")
        assert again > gone and (entry.version, entry.revision) == (1, again)

    async def test_namespaces_are_apart(self, engine: Any) -> None:
        await self.commit(engine, Put("a", "k", 1), Put("b", "k", 2))
        await self.commit(engine, Clear("a"))
        assert await self.get(engine, "k") is None and (await self.get(engine, "k", "b")).value == 2
        assert await self.get(engine, "k", "unknown") is None and await self.keys(engine, "unknown") == []

    async def test_the_later_write_to_a_key_wins(self, engine: Any) -> None:
        await self.commit(engine, Put("a", "k", 1), Put("a", "k", 2), Delete("a", "j"), Put("a", "j", 3), Clear("b"))
        assert (await self.get(engine, "k")).value == 2 and (await self.get(engine, "j")).value == 3
        await self.commit(engine, Put("a", "x", 1), Clear("a"), Put("a", "y", 1))
        assert await self.keys(engine) == ["y"]
        await self.commit(engine, Put("a", "z", 1), Delete("a", "z"))
        assert await self.keys(engine) == ["y"]

    # ── guards ────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_absent(self, engine: Any) -> None:
        assert isinstance(await self.commit(engine, Put("a", "k", 1), guards=[Absent("a", "k")]), int)
        outcome = await self.commit(engine, Put("a", "k", 2), guards=[Absent("a", "other"), Absent("a", "k")])
        assert outcome == Conflict(Absent("a", "k"), 1)
        assert (await self.get(engine, "k")).value == 1

    async def test_absent_since_sees_what_came_and_went(self, engine: Any) -> None:
        seen = await self.commit(engine, Put("a", "other", 1))
        snapshot = engine.snapshot()
        await self.commit(engine, Put("a", "k", 1))
        await self.commit(engine, Delete("a", "k"))
        assert isinstance(await self.commit(engine, guards=[Absent("a", "k", seen)]), Conflict)
        assert isinstance(await self.commit(engine, Put("a", "x", 1), guards=[Absent("a", "k")]), int)
        assert isinstance(await self.commit(engine, Put("a", "x", 1), guards=[Absent("a", "y", seen)]), int)
        snapshot.close()

    async def test_unchanged(self, engine: Any) -> None:
        first = await self.commit(engine, Put("a", "k", 1))
        second = await self.commit(engine, Put("a", "k", 2), guards=[Unchanged("a", "k", first)])
        assert isinstance(second, int)
        assert await self.commit(engine, Put("a", "k", 3), guards=[Unchanged("a", "k", first)]) == Conflict(
            Unchanged("a", "k", first), 0
        )
        await self.commit(engine, Delete("a", "k"))
        assert isinstance(await self.commit(engine, Put("a", "k", 3), guards=[Unchanged("a", "k", second)]), Conflict)
        assert isinstance(await self.commit(engine, guards=[Unchanged("none", "k", 1)]), Conflict)

    @pytest.mark.parametrize(
        ("write", "holds"),
        [
            (Put("a", "k5", 1), False), (Put("a", "k3", 2), False), (Delete("a", "k3"), False), (Put("a", "k9", 1),
            True),
            (Put("a", "k2", 1), True), (Put("b", "k5", 1), True), (Delete("a", "k4"), True), (Clear("a"), False),
        ],
    )  # fmt: skip
    async def test_range_unchanged(self, engine: Any, write: Any, holds: bool) -> None:
        await self.commit(engine, Put("a", "k3", 1))
        snapshot = engine.snapshot()
        await self.commit(engine, write)
        outcome = await self.commit(engine, guards=[RangeUnchanged("a", "k3", "k9", snapshot.revision)])
        assert isinstance(outcome, int) is holds
        snapshot.close()

    @pytest.mark.parametrize("count", [3, 70_000])
    async def test_what_was_absent_all_the_time_is_unchanged(self, engine: Any, count: int) -> None:
        """Also where the whole namespace was emptied, or more keys went than anybody remembers one by one."""
        keys = [f"k{n:05}" for n in range(count)]
        await self.commit(engine, *[Put("a", key, 1) for key in keys])
        snapshot = engine.snapshot()
        seen = snapshot.revision
        await self.commit(engine, Clear("a"))
        await self.commit(engine, Put("a", "later", 1), *[Put("a", key, 2) for key in keys])
        await self.commit(engine, *[Delete("a", key) for key in keys])
        held = [
            Absent("a", "x", seen), RangeUnchanged("a", "x", None, seen), RangeUnchanged("a", "", "k", seen),
            RangeUnchanged("a", "k00001x", "k00002", seen), Absent("a", "k00001x", seen),
        ]  # fmt: skip
        assert isinstance(await self.commit(engine, guards=held), int)
        for broken in (
            Absent("a", "k00001", seen), RangeUnchanged("a", "k00002", "k00003", seen), Absent("a", "later", seen),
            RangeUnchanged("a", "l", "m", seen),
        ):  # fmt: skip
            assert await self.commit(engine, guards=[*held, broken, held[0]]) == Conflict(broken, len(held))
        snapshot.close()

    async def test_range_unchanged_sees_expiry(self, engine: Any, clock: ManualClock) -> None:
        await self.commit(engine, Put("a", "k", 1, clock.now() + 1_000_000))
        snapshot = engine.snapshot()
        clock.advance(2)
        guards = [RangeUnchanged("a", "", None, snapshot.revision)]
        assert isinstance(await self.commit(engine, Put("a", "x", 1), guards=guards), Conflict)
        snapshot.close()

    async def test_transactions_of_a_call_have_fates_of_their_own(self, engine: Any) -> None:
        outcomes = await engine.commit_many([Transaction([Absent("a", "k")], [Put("a", "k", n)]) for n in range(3)])
        assert isinstance(outcomes[0], int) and all(isinstance(outcome, Conflict) for outcome in outcomes[1:])
        assert await engine.commit_many([]) == []

    async def test_a_transaction_is_all_or_nothing(self, engine: Any) -> None:
        await self.commit(engine, Put("a", "k", 1))
        outcome = await self.commit(engine, Put("a", "x", 1), Delete("a", "k"), guards=[Absent("a", "k")])
        assert isinstance(outcome, Conflict)
        assert await self.keys(engine) == ["k"]

    async def test_a_value_that_cannot_be_written_changes_nothing(self, engine: Any) -> None:
        if type(engine).__name__ == "MemoryEngine":
            pytest.skip("it writes nothing")
        with pytest.raises((TypeError, ValueError, OverflowError)):
            await engine.commit_many([Transaction((), [Put("a", "k", 1)]), Transaction((), [Put("a", "j", object())])])
        assert await self.keys(engine) == []

    # ── snapshots ─────────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_snapshot_does_not_move(self, engine: Any) -> None:
        await self.commit(engine, *[Put("a", f"k{n}", n) for n in range(5)])
        old = engine.snapshot()
        await self.commit(engine, Put("a", "k0", 9), Delete("a", "k1"), Put("a", "new", 1))
        middle = engine.snapshot()
        await self.commit(engine, Clear("a"))
        await self.commit(engine, Put("a", "k1", 7))
        for order in ("key", "any"):
            pairs = [pair async for page in old.scan("a", order=order) for pair in page]
            assert sorted((key, entry.value) for key, entry in pairs) == [(f"k{n}", n) for n in range(5)]
        assert await old.count("a") == 5 and await middle.count("a") == 5
        assert [e and e.value for e in await old.get_many("a", ["k0", "k1", "new"])] == [0, 1, None]
        assert [e and e.value for e in await middle.get_many("a", ["k0", "k1", "new"])] == [9, None, 1]
        old.close()
        old.close()
        assert [key async for page in middle.scan("a") for key, _ in page] == ["k0", "k2", "k3", "k4", "new"]
        middle.close()
        assert await self.keys(engine) == ["k1"]

    async def test_snapshot_of_an_earlier_revision(self, engine: Any) -> None:
        first = await self.commit(engine, Put("a", "k", 1))
        kept = engine.snapshot()
        second = await self.commit(engine, Put("a", "k", 2))
        again = engine.snapshot(first)
        assert (await again.get("a", "k")).value == 1 and again.revision == first
        again.close()
        kept.close()
        with pytest.raises(base.Compacted):
            engine.snapshot(second + 1)

    # ── ranges ────────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("count", [0, 1, 10, 5000, 20_000])
    async def test_scans(self, engine: Any, count: int) -> None:
        keys = [f"{(n * 7919) % 100_000:05d}" for n in range(count)]
        for at in range(0, count, 1000):
            await self.commit(engine, *[Put("a", key, 1) for key in keys[at : at + 1000]])
        ordered = sorted(keys)
        assert await self.keys(engine) == ordered
        assert await self.keys(engine, order="reverse") == ordered[::-1]
        assert sorted(await self.keys(engine, order="any")) == ordered
        low, high = "02", "0200"
        inside = [key for key in ordered if low <= key < high]
        assert await self.keys(engine, "a", low, high) == inside
        assert await self.keys(engine, "a", low, high, "reverse") == inside[::-1]
        assert await self.keys(engine, "a", "99999x") == []
        snapshot = engine.snapshot()
        assert await snapshot.count("a") == count
        assert all([len(page) <= 4096 async for page in snapshot.scan("a")])
        snapshot.close()

    async def test_keys_order_by_code_points(self, engine: Any) -> None:
        keys = ["a", "Z", "é", "\uffee", "\U0001d11e", "0", "user:1", "user:10"]
        await self.commit(engine, *[Put("a", key, 1) for key in keys])
        assert await self.keys(engine) == sorted(keys, key=str.encode)

    async def test_a_scan_goes_on_while_others_write(self, engine: Any) -> None:
        await self.commit(engine, *[Put("a", f"{n:05d}", n) for n in range(10_000)])
        snapshot = engine.snapshot()
        for order in ("key", "reverse", "any"):
            seen = []
            async for page in snapshot.scan("a", order=order):
                seen += [key for key, _ in page]
                await self.commit(
                    engine, Put("a", f"x{len(seen)}{order}", 1), Delete("a", "09999"), Delete("a", "00001")
                )
            assert sorted(seen) == [f"{n:05d}" for n in range(10_000)], order
        snapshot.close()

    async def test_a_scan_without_keys_has_the_same_entries(self, engine: Any) -> None:
        """Also while others write and delete: the snapshot's states, each once."""
        await self.commit(engine, *[Put("a", f"{n:05d}", n) for n in range(9_000)])
        snapshot = engine.snapshot()
        seen: list[int] = []
        async for page in snapshot.scan("a", order="entries"):
            assert len(page) == len(page.entries) <= 4096
            seen += [entry.value for entry in page.entries]
            await self.commit(engine, Delete("a", "00007"), Put("a", "00008", -1), Put("a", f"new{len(seen)}", -2))
        assert sorted(seen) == list(range(9_000))
        snapshot.close()

    async def test_the_types_of_values_are_never_too_few(self, engine: Any) -> None:
        """None where an engine does not know; else a superset, also for a snapshot from before."""
        await self.commit(engine, Put("a", "int", 1), Put("a", "text", "x"))
        old = engine.snapshot()
        await self.commit(engine, Clear("a"))
        await self.commit(engine, Put("a", "float", 1.5))
        new = engine.snapshot()
        for snapshot, types in ((old, {int, str}), (new, {float})):
            known = snapshot.kinds("a")
            assert known is None or types <= known
            assert snapshot.kinds("nothing here") in (None, frozenset())
            snapshot.close()

    # ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_expiry_is_at_once_for_readers_and_a_commit_of_its_own(self, engine: Any, clock: ManualClock) -> None:
        revision = await self.commit(engine, Put("a", "k", 1, clock.now() + 1_000_000), Put("a", "stays", 1))
        old = engine.snapshot()
        clock.advance(0.999999)
        assert await self.get(engine, "k") is not None
        clock.advance(0.000001)
        assert await self.get(engine, "k") is None and await self.keys(engine) == ["stays"]
        assert await old.get("a", "k") is not None, "a snapshot's time stands still"
        engine.tick()
        snapshot = engine.snapshot()
        assert snapshot.revision == revision + 1 and await snapshot.count("a") == 1
        snapshot.close()
        assert await old.get("a", "k") is not None
        old.close()
        engine.tick()
        assert engine.snapshot().revision == revision + 1

    async def test_an_expired_pair_is_absent_for_put_and_gone_for_update(self, engine: Any, clock: ManualClock) -> None:
        revision = await self.commit(engine, Put("a", "k", 1, clock.now() + 1000))
        clock.advance(1)
        assert isinstance(await self.commit(engine, Put("a", "k", 2), guards=[Unchanged("a", "k", revision)]), Conflict)
        put = await self.commit(engine, Put("a", "k", 2), guards=[Absent("a", "k")])
        entry = await self.get(engine, "k")
        assert put == revision + 2 and (entry.version, entry.created_at) == (1, clock.now())

    async def test_a_new_expiry_replaces_the_old_one(self, engine: Any, clock: ManualClock) -> None:
        await self.commit(engine, Put("a", "k", 1, clock.now() + 1_000_000), Put("a", "j", 1, clock.now() + 1_000_000))
        await self.commit(engine, Put("a", "k", 1, clock.now() + 5_000_000), Put("a", "j", 1))
        clock.advance(2)
        engine.tick()
        assert await self.keys(engine) == ["j", "k"]
        clock.advance(4)
        assert await self.keys(engine) == ["j"]

    async def test_of_two_expiries_in_one_commit_the_last_counts(self, engine: Any, clock: ManualClock) -> None:
        soon, late = clock.now() + 1_000_000, clock.now() + 2_000_000
        await self.commit(engine, Put("a", "k", 1, soon), Put("a", "k", 2, late))
        clock.advance(1)
        engine.expire_due()
        entry = await self.get(engine, "k")
        assert entry is not None and (entry.value, entry.expires_at) == (2, late)
        clock.advance(1)
        engine.expire_due()
        assert await self.get(engine, "k") is None

    async def test_what_expires_between_a_snapshot_and_its_commit(self, engine: Any, clock: ManualClock) -> None:
        """It is in the way, but not of a commit as of the snapshot's time: that pair expires after it."""
        soon, later = clock.now() + 1_000_000, clock.now() + 2_000_000
        await self.commit(engine, Put("a", "k", 1), Put("a", "soon", 1, soon), Put("a", "later", 1, later))
        clock.advance(1.5)
        engine.expire_due()
        snapshot = engine.snapshot()
        revision, time = snapshot.revision, snapshot.time
        snapshot.close()
        clock.advance(1.5)
        unchanged = RangeUnchanged("a", "", None, revision)
        assert isinstance(await self.commit(engine, Put("a", "k", 2), guards=[unchanged]), Conflict)
        assert await self.keys(engine) == ["k"]

        await self.commit(engine, Put("a", "later", 1, clock.now() + 1_000_000))
        snapshot = engine.snapshot()
        revision, time = snapshot.revision, snapshot.time
        snapshot.close()
        clock.advance(1.5)
        unchanged = RangeUnchanged("a", "", None, revision)
        written = await self.commit(engine, Put("a", "k", 3), guards=[unchanged], time=time)
        assert written == revision + 1
        assert (await self.get(engine, "k")).value == 3
        assert await self.keys(engine) == ["k"]
        engine.expire_due()
        assert await self.keys(engine) == ["k"]
        assert await self.commit(engine, Put("a", "later", 7), guards=[Absent("a", "later")]) == written + 2

    async def test_many_expire_at_once(self, engine: Any, clock: ManualClock) -> None:
        due = clock.now() + 1_000_000
        await self.commit(engine, *[Put("a", f"k{n}", n, due) for n in range(10_000)])
        clock.advance(1)
        assert isinstance(await self.commit(engine, Put("a", "k9999", 1), guards=[Absent("a", "k9999")]), int)
        assert await self.keys(engine) == ["k9999"]
        for _ in range(4):
            engine.tick()
        assert await self.keys(engine) == ["k9999"]

    # ── watch ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_watch_yields_every_commit_in_order(self, engine: Any, clock: ManualClock) -> None:
        start = await self.commit(engine, Put("a", "k", 1))
        await self.commit(engine, Put("a", "k", 2), Put("a", "j", 1, clock.now() + 10), user="ann", comment="c")
        watching = engine.watch("a", start)
        await engine.synced(engine.snapshot().revision)
        first = await asyncio.wait_for(anext(watching), WAIT_S)
        assert (first.revision, first.user, first.comment) == (start + 1, "ann", "c")
        changes = {change.key: change for change in first.changes}
        assert changes["k"].entry.value == 2 and changes["k"].previous.value == 1
        assert changes["j"].previous is None
        waiting = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        clock.advance(1)
        engine.tick()
        await engine.synced(start + 2)
        (change,) = (await asyncio.wait_for(waiting, WAIT_S)).changes
        assert change.expired and change.entry is None and change.previous.value == 1
        await self.commit(engine, Clear("a"))
        await engine.synced(start + 3)
        (change,) = (await asyncio.wait_for(anext(watching), WAIT_S)).changes
        assert (change.key, change.entry, change.expired) == ("k", None, False)
        await watching.aclose()

    async def test_a_run_of_puts_is_as_many_commits(self, engine: Any) -> None:
        """Or None and nothing done; to watchers and guards it is as if ``commit_many`` had made them."""
        start = await self.commit(engine, Put("a", "there", 1))
        old = engine.snapshot()
        for keys in (["x", "there"], ["x", "y", "x"]):
            assert await engine.commit_puts(base.PutRun("a", keys, [1] * len(keys))) is None
        assert await self.keys(engine) == ["there"] and engine.snapshot().revision == start
        values = [1, "two", Decimal("3.50"), None, Json('{"a": 1}'), b"\x00", 2.5, True]
        keys = [f"k{n}" for n in range(len(values))]
        first = await engine.commit_puts(base.PutRun("a", keys, values, "ann", "why"))
        if first is None:
            return
        assert first == start + 1
        snapshot = engine.snapshot()
        assert snapshot.revision == start + len(keys)
        entries = await snapshot.get_many("a", keys)
        assert [(type(e.value), e.value) for e in entries] == [(type(v), v) for v in values]
        assert [(e.revision, e.version, e.updated_by, e.comment) for e in entries] == [
            (first + n, 1, "ann", "why") for n in range(len(keys))
        ]
        assert [key async for page in old.scan("a") for key in page.keys] == ["there"]
        watching = engine.watch("a", start + 3)
        await engine.synced(snapshot.revision)
        seen = [await asyncio.wait_for(anext(watching), WAIT_S) for _ in range(len(keys) - 3)]
        assert [(c.revision, next(iter(c.changes)).key) for c in seen] == [
            (first + n, f"k{n}") for n in range(3, len(keys))
        ]
        for revision, holds in ((start + 3, False), (snapshot.revision, True)):
            guard = RangeUnchanged("a", "k5", "k9", revision)
            outcome = await self.commit(engine, Put("b", "x", 1), guards=[guard])
            assert isinstance(outcome, Conflict) is not holds

    async def test_a_pair_that_one_commit_removes_and_puts_is_new(self, engine: Any, clock: ManualClock) -> None:
        await self.commit(engine, Put("a", "k", 1), Put("a", "l", 1, clock.now() + 9_000_000), user="ann")
        old = await self.commit(engine, Put("a", "k", 2))
        before = engine.snapshot()
        clock.advance(1)
        revision = await self.commit(
            engine, Delete("a", "k"), Put("a", "k", 3), Delete("a", "l"), Put("a", "l", 2), Delete("a", "n"),
            Put("a", "n", 1), Put("a", "gone", 1), Delete("a", "gone"),
        )  # fmt: skip
        for key, value in (("k", 3), ("l", 2), ("n", 1)):
            entry = await self.get(engine, key)
            assert (entry.value, entry.version, entry.created_at, entry.updated_at, entry.revision) == (
                value, 1, clock.now(), clock.now(), revision,
            )  # fmt: skip
        assert await self.get(engine, "gone") is None
        assert await self.keys(engine) == ["k", "l", "n"]
        seen = await before.get("a", "k")
        assert (seen.value, seen.version, seen.revision) == (2, 2, old)
        before.close()
        clock.advance(10)
        engine.expire_due()
        assert await self.keys(engine) == ["k", "l", "n"], "the old pair's time to live went with it"
        assert isinstance(await self.commit(engine, guards=[Unchanged("a", "k", old)]), Conflict)
        assert isinstance(await self.commit(engine, guards=[RangeUnchanged("a", "k", "l", old)]), Conflict)
        assert isinstance(await self.commit(engine, guards=[Unchanged("a", "k", revision)]), int)
        await engine.synced(revision)
        watching = engine.watch("a", old)
        change = {c.key: c for c in (await asyncio.wait_for(anext(watching), WAIT_S)).changes}["k"]
        assert (change.previous.value, change.entry.value) == (2, 3), "one change, from the old state to the new one"

    async def test_watch_beyond_what_is_kept(self, engine: Any) -> None:
        engine.keep_history("a", 0, 0)
        for _ in range(3):
            await self.commit(engine, *[Put("a", f"k{n}", n) for n in range(10_000)])
        with pytest.raises(base.Compacted):
            await anext(engine.watch("a", 0))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    async def test_closed(self, clock: ManualClock, tmp_path: Any) -> None:
        engine = await self.make(clock, tmp_path / "other")
        await self.commit(engine, Put("a", "k", 1))
        await engine.close()
        await engine.close()
        with pytest.raises(base.Closed):
            await self.commit(engine, Put("a", "k", 1))
        with pytest.raises(base.Closed):
            engine.snapshot()

    async def test_status_and_compact(self, engine: Any) -> None:
        revision = await self.commit(engine, Put("a", "k", 1))
        await engine.synced(revision)
        engine.sync(revision)
        await engine.compact(revision)
        status = engine.status()
        assert (status["revision"], status["synced_revision"], status["pairs"]) == (revision, revision, 1)
        assert status["failed"] is None
