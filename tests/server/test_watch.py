"""WATCH in process: what is an event, where a watch begins, and what ends it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kvql_server.auth import LOCAL
from kvql_server.catalog import Namespace
from kvql_server.clock import ManualClock
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, Watching, step
from kvql_server.executor.watches import may_rest
from kvql_server.settings import Settings

import kvql
from kvql.client.events import Event
from kvql.compiler import compile_statement
from kvql.parser import parse
from tests.server.watching import Watched, events
from tests.servers import WAIT_S


@pytest.fixture(params=["memory", "hashtable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(":memory:" if request.param == "memory" else str(tmp_path / "store"))
    yield made
    if not made.connection.closed:
        made.close()


def told(watch: Any) -> list[tuple[str, str | None, Any, Any]]:
    """Event, key, old value, value."""
    return [(e.event, e.key, e.old_value, e.value) for e in events(watch)]


def failure(store: Watched, text: str, **options: Any) -> kvql.Error:
    with pytest.raises(kvql.Error) as caught:
        store.connection.watch(text, **options).next(0.3)
    return caught.value


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HIGH, LOW = 10, 1
MATRIX = [  # what was there, what is done, the event under WHERE value > 5
    (None, f"PUT k {HIGH}", "PUT"), (None, f"PUT k {LOW}", None),
    (HIGH, "UPDATE k 11", "UPDATE"), (HIGH, f"UPDATE k {LOW}", "LEAVE"),
    (LOW, f"UPDATE k {HIGH}", "ENTER"), (LOW, "UPDATE k 2", None),
    (HIGH, "DELETE k", "DELETE"), (LOW, "DELETE k", None),
    (HIGH, "EXPIRE k 1ms", "EXPIRE"), (LOW, "EXPIRE k 1ms", None),
    (HIGH, "TRUNCATE NAMESPACE main", "DELETE"), (LOW, "TRUNCATE NAMESPACE main", None),
    (HIGH, f"UPSERT k {HIGH}", "UPDATE"), (HIGH, "UPSERT k 'text'", "LEAVE"), (HIGH, "UPSERT k NULL", "LEAVE"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "change", "event"), MATRIX)
def test_enter_and_leave(store: Watched, before: int | None, change: str, event: str | None) -> None:
    store.run("PUT other 1")
    if before is not None:
        store.run(f"PUT k {before}")
    watch = store.connection.watch("WATCH main WHERE value > 5")
    store.run(change)
    found = [e for e in events(watch) if e.event != "UPDATE" or not change.startswith("EXPIRE")]
    assert [e.event for e in found] == ([] if event is None else [event])
    if event in ("EXPIRE", "DELETE"):
        assert found[0].old_value == HIGH and found[0].value is None


def test_an_event_says_all(store: Watched) -> None:
    watch = store.connection.watch("WATCH")
    revision = store.run("PUT a 1").revision
    event = watch.next(WAIT_S)
    assert event == Event("PUT", revision, "a", None, 1, "admin") and event.old_value is None
    store.run('UPSERT a {"x": [1, 2]}')
    assert watch.next(WAIT_S) == Event("UPDATE", revision + 1, "a", 1, {"x": [1, 2]}, "admin")
    store.run("EXPIRE a 1ms")
    events(watch)
    gone = store.connection.watch(f"WATCH main FROM REVISION {revision + 2}").next(WAIT_S)
    assert gone is not None and (gone.event, gone.old_value, gone.by) == ("EXPIRE", {"x": [1, 2]}, None)


def test_the_events_of_a_commit_come_in_order_of_the_keys(store: Watched) -> None:
    watch = store.connection.watch("WATCH main")
    store.run("BEGIN")
    store.run("PUT c 1, a 1")
    store.run("PUT b 1")
    store.run("UPDATE b 2")
    store.run("PUT d 1")
    store.run("DELETE d")
    assert events(watch, 0.05) == []
    store.run("COMMIT")
    assert told(watch) == [("PUT", "a", None, 1), ("PUT", "b", None, 2), ("PUT", "c", None, 1)]


def test_expiry_comes_in_order_and_before_what_follows() -> None:
    clock = ManualClock()
    store = Watched(":memory:", clock)
    watch = store.connection.watch("WATCH main")
    store.run("PUT a 1 TTL 60ms")
    store.run("PUT b 1 TTL 20ms")
    for _ in range(2):
        clock.advance(0.04)
        store.engine.tick()
    assert [(e.event, e.key) for e in events(watch)] == [
        ("PUT", "a"), ("PUT", "b"), ("EXPIRE", "b"), ("EXPIRE", "a"),
    ]  # fmt: skip
    store.run("PUT a 2 TTL 1ms")
    clock.advance(0.01)
    store.run("PUT a 3")
    assert told(watch) == [("PUT", "a", None, 2), ("EXPIRE", "a", 2, None), ("PUT", "a", None, 3)]
    store.close()


def test_an_expiry_is_told_when_it_happens(store: Watched) -> None:
    """Nobody else does anything: whoever waits is told by the store's own clock."""
    watch = store.connection.watch("WATCH main")
    store.run("PUT a 1 TTL 20ms")
    assert [(e.event, e.key) for e in (watch.next(WAIT_S), watch.next(WAIT_S)) if e] == [
        ("PUT", "a"), ("EXPIRE", "a"),
    ]  # fmt: skip


def test_conditions_reach_into_json_and_hidden_columns(store: Watched) -> None:
    watch = store.connection.watch("WATCH main WHERE city = 'Ulm' AND version > 1 AND updated_by = ?", ["admin"])
    store.run('PUT ann {"city": "Ulm"}, bob {"city": "Bonn"}')
    store.run('UPDATE ann {"city": "Ulm", "n": 1}')
    store.run("UPDATE main SET city = 'Ulm' WHERE key = 'bob'")
    store.run("UPDATE main SET city = 'Rom' WHERE key = 'ann'")
    assert [(e.event, e.key) for e in events(watch)] == [("ENTER", "ann"), ("ENTER", "bob"), ("LEAVE", "ann")]


def test_a_select_can_be_watched(store: Watched) -> None:
    store.run("PUT a 1")
    watch = store.connection.watch("SELECT * FROM main WHERE value > :n", {"n": 0})
    store.run("PUT b 2")
    assert told(watch) == [("PUT", "b", None, 2)]
    assert failure(store, "SELECT key FROM main").sqlstate == "0A000"
    assert failure(store, "SELECT * FROM main LIMIT 1").sqlstate == "0A000"
    assert failure(store, "GET a").sqlstate == "0A000"


# ── where it begins ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_initial(store: Watched) -> None:
    store.run("PUT b 2, a 1, c 30")
    watch = store.connection.watch("WATCH main WHERE value < 10 WITH INITIAL")
    store.run("PUT d 4")
    revision = store.run("UPDATE a 40").revision
    found = events(watch)
    assert [(e.event, e.key) for e in found] == [
        ("INITIAL", "a"), ("INITIAL", "b"), ("LIVE", None), ("PUT", "d"), ("LEAVE", "a"),
    ]  # fmt: skip
    assert [e.revision for e in found] == [revision - 2] * 3 + [revision - 1, revision]


def test_from_revision_is_behind_it(store: Watched) -> None:
    first = store.run("PUT a 1").revision
    store.run("PUT b 2")
    store.run("PUT c 3")
    assert told(store.connection.watch(f"WATCH main FROM REVISION {first}")) == [
        ("PUT", "b", None, 2), ("PUT", "c", None, 3),
    ]  # fmt: skip
    assert told(store.connection.watch("WATCH main FROM REVISION ?", [first + 2])) == []
    error = failure(store, f"WATCH main FROM REVISION {first + 3}")
    assert error.sqlstate == "22023" and "in the future" in error.message
    initial = store.connection.watch(f"WATCH main WITH INITIAL FROM REVISION {first + 1}")
    assert [e[:3:2] for e in events(initial)] == [("INITIAL", "a"), ("INITIAL", "b"), ("LIVE", None), ("PUT", "c")]


def test_a_commit_is_not_split_by_going_on(store: Watched) -> None:
    watch = store.connection.watch("WATCH main")
    store.run("PUT " + ", ".join(f"k{n:02} {n}" for n in range(20)))
    store.run("PUT z 1")
    seen = []
    while len(seen) < 21:
        event = watch.next(WAIT_S)
        assert event is not None
        seen.append(event.key)
        position = watch.position
        assert position is not None and bool(position.key) is (len(seen) < 20)
        watch.close()
        watch = store.connection.watch("WATCH main", after=position)
    assert seen == [*(f"k{n:02}" for n in range(20)), "z"]


def test_another_store_is_told(store: Watched, tmp_path: Path) -> None:
    store.run("PUT a 1")
    position = store.connection.watch("WATCH main").position
    other = Watched(str(tmp_path / "other"))
    try:
        other.run("PUT a 1")
        error = failure(other, "WATCH main", after=position)
        assert error.sqlstate == "72000" and isinstance(error, kvql.OperationalError) and "WITH INITIAL" in str(error)
    finally:
        other.close()


# ── what ends it ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_namespace_that_is_dropped_ends_it(store: Watched) -> None:
    assert failure(store, "WATCH nowhere").sqlstate == "3F000"
    store.run("INSERT INTO shop VALUES ('a', 1)")
    watch = store.connection.watch("WATCH shop")
    store.run("DROP NAMESPACE shop")
    with pytest.raises(kvql.Error, match="shop does not exist") as caught:
        watch.next(WAIT_S)
    assert caught.value.sqlstate == "3F000" and watch.closed and watch.next(1) is None


def test_a_namespace_that_was_made_anew_does_not_show_the_old_one(store: Watched) -> None:
    first = store.run("INSERT INTO shop VALUES ('secret', 1)").revision
    idle = store.connection.watch("WATCH shop")
    position = idle.position
    store.run("UPDATE shop SET value = 2")
    store.run("DROP NAMESPACE shop")
    store.run("INSERT INTO shop VALUES ('fresh', 1)")
    with pytest.raises(kvql.Error, match="was dropped") as caught:
        idle.next(WAIT_S)
    assert caught.value.sqlstate == "3F000"
    assert failure(store, "WATCH shop", after=position).sqlstate == "3F000"
    for begin in ("", "WITH INITIAL "):
        watch = store.connection.watch(f"WATCH shop {begin}FROM REVISION {first}")
        assert [e.key for e in events(watch) if e.key] == ["fresh"], begin


def test_who_falls_behind_is_told(store: Watched) -> None:
    store.run("PUT a 0")
    store.engine.keep_history("main", 0, 0)
    watch = store.connection.watch("WATCH main")
    assert watch.position is not None, "it has begun"
    revision = watch.position.revision
    for n in range(12):
        store.run("UPSERT a ?", [f"{n}" * 200_000])
    with pytest.raises(kvql.OperationalError, match="the watch has fallen behind: revision") as caught:
        watch.next(WAIT_S)
    assert caught.value.sqlstate == "72000" and "WITH INITIAL" in str(caught.value.hint)
    error = failure(store, f"WATCH main FROM REVISION {revision}")
    assert error.sqlstate == "72000" and "compacted" in error.message and "fallen" not in error.message


def test_a_condition_that_cannot_be_computed_ends_it(store: Watched) -> None:
    watch = store.connection.watch("WATCH main WHERE 10 / value > 1")
    store.run("PUT a 2")
    assert watch.next(WAIT_S) is not None
    store.run("PUT b 0")
    with pytest.raises(kvql.Error, match="division by zero") as caught:
        watch.next(WAIT_S)
    assert caught.value.span is not None


@pytest.mark.parametrize(
    "condition", ["ttl > INTERVAL '1 s'", "main.ttl IS NULL", "updated_at > now() - INTERVAL '1 d'"]
)
def test_a_condition_does_not_depend_on_the_time(store: Watched, condition: str) -> None:
    store.run("PUT a 1")
    error = failure(store, f"WATCH main WHERE {condition}")
    assert error.sqlstate == "0A000" and error.span is not None and error.hint
    store.connection.watch("WATCH main WHERE value.ttl = 1").close()


def test_not_inside_a_transaction_and_not_explained(store: Watched) -> None:
    store.run("PUT a 1")
    store.run("BEGIN")
    with pytest.raises(kvql.Error) as caught:
        store.run("WATCH main")
    assert caught.value.sqlstate == "25001"
    watch = store.connection.watch("WATCH main")  # a stream of its own
    store.run("ROLLBACK")
    store.run("PUT b 1")
    assert told(watch) == [("PUT", "b", None, 1)]


def test_cancel_ends_it_from_another_thread(store: Watched) -> None:
    store.run("PUT a 1")
    watch = store.connection.watch("WATCH main")
    ended = threading.Event()

    def cancel() -> None:
        while not ended.wait(0.1):  # what comes before there is something to cancel does nothing
            store.connection.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(kvql.OperationalError) as caught:
        watch.next()
    ended.set()
    canceller.join()
    assert caught.value.sqlstate == "57014"
    assert store.run("GET a").fetchone() == ("a", 1)


def test_closing_lets_go(store: Watched) -> None:
    store.run("PUT a 1, b 2")
    running = store.store._shared.executor.watches
    for text in ("WATCH main", "WATCH main WITH INITIAL"):
        watch = store.connection.watch(text)
        assert watch.next(0) is None or text.endswith("INITIAL")
        assert len(running) == 1
        watch.close()
        watch.close()
        assert len(running) == 0 and watch.next(1) is None
        assert store.engine.status()["open_snapshots"] == 0
        for event in store.connection.watch(text, timeout=0.01):
            assert event
            break
        assert len(running) == 0, "left by break"
    cursor = store.run("WATCH main FROM REVISION 0")
    assert cursor.fetchone()[:3] == ("PUT", 1, "a")
    cursor.close()
    assert len(running) == 0
    kept = store.connection.watch("WATCH main WITH INITIAL")
    kept.next(1)
    store.connection.close()
    assert len(running) == 0
    with pytest.raises(kvql.InterfaceError):
        kept.next(1)
    kept.close()


def test_watches_that_begin_at_once_are_counted() -> None:
    """A long condition is compiled in a thread, and the others' as well meanwhile."""
    executor = Executor(MemoryEngine(), settings=Settings(watches_per_user_max=1), start_namespace="main")
    (statement,) = parse("WATCH main WHERE " + " OR ".join(f"value = {n}" for n in range(300)))

    async def begin() -> Any:
        work = executor.work()
        work.yields = True
        return (await executor.execute(compile_statement(statement), Lane("main"), LOCAL, work)).rows

    async def both() -> list[Any]:
        return await asyncio.gather(begin(), begin(), begin(), return_exceptions=True)

    began = asyncio.run(both())
    assert [one.sqlstate for one in began if isinstance(one, kvql.Error)] == ["53400", "53400"]
    for one in began:
        if isinstance(one, Watching):
            one.close()
    assert len(executor.watches) == 0


def test_few_look_at_once_and_many_at_the_same_moments(store: Watched) -> None:
    executor = store.store._shared.executor
    (statement,) = parse("WATCH main")
    command = compile_statement(statement)

    async def begin() -> Any:
        return (await executor.execute(command, Lane("main"), LOCAL, executor.work())).rows

    store.run("PUT a 1")
    moment = executor.watches.rest_until
    watches = [step(begin()) for _ in range(4)]
    assert moment("main", told=True) == moment("main", told=False) == 0
    watches += [step(begin()) for _ in range(96)]
    for told in (True, False):
        before = time.monotonic()
        one, other = moment("main", told=told), moment("main", told=told)
        assert before < one <= other
        rest_s = 0.04 if told else 0.01
        assert (one / rest_s) == pytest.approx(round(one / rest_s)), "whoever asks is told the same moments"
    assert moment("elsewhere", told=True) == 0
    assert may_rest(Namespace("ann")) and not may_rest(Namespace("ann", {"history": 0}))
    assert not may_rest(Namespace("ann", {"history_bytes": 1 << 20})), "what happens meanwhile could be gone"
    for watch in watches:
        watch.close()
    assert moment("main", told=True) == 0
