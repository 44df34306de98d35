"""AS OF, and what HISTORY OF has of it: which moments can be read, whose past it is, what transactions see of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kvql_server.auth import Principal
from kvql_server.engines.memory import MemoryEngine, MemorySnapshot
from kvql_server.transaction import Transaction

from kvql.codec import encode_values
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import from_micros
from tests.server.busy import BusyStore
from tests.server.timed import ENGINES, TimedStore

MIB = 1 << 20


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimedStore]:
    made = TimedStore(request.param, tmp_path)
    yield made
    made.close()


def add_user(store: TimedStore, name: str) -> Principal:
    """A user who is no administrator."""
    from kvql_server.catalog import USER, User, encode
    from kvql_server.engines.base import SYSTEM_NAMESPACE
    from kvql_server.executor import step

    transaction = Transaction(store.engine, "")
    transaction.put(SYSTEM_NAMESPACE, USER + name, encode(User("hash")), None)
    assert isinstance(step(transaction.commit()), int)
    transaction.close()
    return Principal(name)


# ── moments ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_time_reads_what_was_there_then(store: TimedStore) -> None:
    store("PUT a 1, b 2")
    first = store.clock.now()
    store.clock.advance(60)
    store("UPDATE a 10; DELETE b; PUT c 3")
    store.clock.advance(60)
    at = from_micros(first)
    assert store("SELECT * FROM main AS OF TIMESTAMP ?", [at]) == [("a", 1), ("b", 2)]
    assert store("SELECT * FROM main AS OF TIMESTAMP now() - 61s") == [("a", 1), ("b", 2)]
    assert store("SELECT * FROM main AS OF TIMESTAMP now() - 60s") == [("a", 10), ("c", 3)]
    assert store("SELECT * FROM main AS OF TIMESTAMP now()") == [("a", 10), ("c", 3)]
    assert store("SELECT * FROM main AS OF TIMESTAMP ?", [at.isoformat()]) == [("a", 1), ("b", 2)]


def test_a_time_hides_what_had_expired_by_then(store: TimedStore) -> None:
    store("PUT a 1, b 2 TTL 30s; PUT c 3")
    revision = store.revision
    store.clock.advance(29)
    assert store("SELECT key FROM main AS OF TIMESTAMP now()") == [("a",), ("b",), ("c",)]
    store.clock.advance(1)
    assert store("SELECT key FROM main AS OF TIMESTAMP now() - 1s") == [("a",), ("b",), ("c",)]
    assert store("SELECT key FROM main AS OF TIMESTAMP now()") == [("c",)]
    # the expiry is a revision of its own, whoever looks first
    assert store("SELECT key FROM main AS OF REVISION ?", [revision]) == [("a",), ("b",), ("c",)]
    assert store("SELECT key FROM main AS OF REVISION ?", [store.revision]) == [("c",)]
    assert store.revision == revision + 1
    assert store("SELECT ttl, expires_at FROM main AS OF REVISION ? WHERE key = 'a'", [revision]) == [
        (timedelta(0), from_micros(store.clock.now()))
    ]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_moments_that_cannot_be_read(store: TimedStore, inside: bool) -> None:
    store("PUT a 1")
    revision = store.revision
    for point, parameters, message, hint in [
        ("REVISION ?", [revision + 1], f"revision {revision + 1} is in the future", f"revision {revision}"),
        ("REVISION ?", [-1], "revision -1 is negative", None),
        ("REVISION ?", ["1"], "a revision is an INTEGER, not TEXT", "revision"),
        ("REVISION ?", [None], "a revision is an INTEGER, not NULL", "revision"),
        ("REVISION ?", [True], "a revision is an INTEGER, not BOOLEAN", "revision"),
        ("TIMESTAMP now() + 1s", [], "2026-01-02T02:50:46Z is in the future", "it is 2026-01-02T02:50:45Z"),
        ("TIMESTAMP ?", [None], "AS OF TIMESTAMP needs a TIMESTAMP, not NULL", "now() - 5m"),
        ("TIMESTAMP 5", [], "AS OF TIMESTAMP needs a TIMESTAMP, not INTEGER", "now() - 5m"),
        ("TIMESTAMP ?", [timedelta(minutes=5)], "AS OF TIMESTAMP needs a TIMESTAMP, not INTERVAL", "now() - 5m"),
    ]:  # fmt: skip
        text = f"SELECT * FROM main AS OF {point}"
        session = store.session()
        if inside:
            session("BEGIN")
        error = session.refusal(text, parameters)
        assert (error.sqlstate, error.message) == ("22023", message)
        assert hint is None or hint in (error.hint or "")
        assert error.span is not None and text[error.span.start : error.span.end] in (point.split(" ", 1)[1], "+")
    assert store.first.refusal("SELECT * FROM main AS OF TIMESTAMP ?", ["soon"]).sqlstate == "22P02"
    error = store.first.refusal("SELECT 1 FROM main AS OF TIMESTAMP now() - created_at")
    assert (error.sqlstate, error.hint) == ("42703", "a moment of the past is computed without a pair")
    assert store.first.refusal("SELECT 1 FROM main AS OF TIMESTAMP 1/0").sqlstate == "22012"


def test_what_is_compacted(store: TimedStore) -> None:
    store("PUT other 1; CREATE NAMESPACE s WITH (history = '10m'); USE s; PUT a 1")
    first, at = store.revision, from_micros(store.clock.now())
    store.clock.advance(300)
    store("UPDATE a 2")
    second = store.revision
    store.clock.advance(301)
    store.engine.tick()
    error = store.first.refusal("SELECT * FROM s AS OF REVISION ?", [first - 2])
    assert (error.sqlstate, error.message) == ("72000", f"namespace s did not exist at revision {first - 2}")
    # what a revision shows is known for as long as the change that ended it is kept
    assert store("SELECT * FROM s AS OF REVISION ?", [first]) == [("a", 1)]
    store.clock.advance(300)
    error = store.first.refusal("SELECT * FROM s AS OF REVISION ?", [first])
    assert (error.sqlstate, error.message) == ("72000", f"revision {first} has been compacted")
    assert error.hint == (
        f"the oldest revision kept is {second}; namespace s keeps 10 minutes, 67,108,864 bytes at most: "
        "ALTER NAMESPACE s SET (history = …, history_bytes = …)"
    )
    error = store.first.refusal("SELECT * FROM s AS OF TIMESTAMP ?", [at])
    assert (error.sqlstate, error.message) == ("72000", "the state at 2026-01-02T02:50:45Z has been compacted")
    assert store("SELECT * FROM s AS OF TIMESTAMP now() - 10m") == [("a", 2)]


def test_no_history_is_no_past_but_the_present(store: TimedStore) -> None:
    store("CREATE NAMESPACE s WITH (history = '0s'); USE s; PUT a 1; UPDATE a 2")
    error = store.first.refusal("SELECT * FROM s AS OF REVISION ?", [store.revision - 1])
    assert error.message == f"revision {store.revision - 1} has been compacted"
    assert error.hint == "namespace s keeps no history; ALTER NAMESPACE s SET (history = '1h') begins to"
    assert store("SELECT value FROM s AS OF REVISION ?", [store.revision]) == [(2,)]
    assert store("SELECT event, value FROM HISTORY OF s") == [("UPDATE", 2)]
    store.clock.ticking_us = 1
    assert store("SELECT value FROM s AS OF TIMESTAMP now()") == [(2,)]


# ── whose past ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("created", ["CREATE NAMESPACE s", "PUT k mine", "UPSERT k mine",
                                     "INSERT INTO s VALUES ('k', 'mine')"])  # fmt: skip
def test_a_new_namespace_has_none_of_the_old_ones_past(store: TimedStore, created: str) -> None:
    ann = store.session(add_user(store, "ann"), "s")
    bob = store.session(add_user(store, "bob"), "s")
    ann("PUT secret 1; UPDATE secret 2; PUT k 7 COMMENT 'hidden'")
    then = store.revision
    store.clock.advance(10)
    ann("DROP NAMESPACE s")
    assert store.first.refusal("SELECT * FROM s AS OF REVISION ?", [then]).sqlstate == "3F000"
    store.clock.advance(10)
    bob(created)
    since = store.revision - 1
    mine = [] if created.startswith("CREATE") else [("k", "mine")]
    for point, parameters in [("REVISION ?", [then]), ("REVISION ?", [since]), ("TIMESTAMP now() - 15s", []),
                              ("TIMESTAMP now() - 5s", []), ("TIMESTAMP now() - 25s", [])]:  # fmt: skip
        for statement in ("SELECT * FROM s AS OF {}", "RESTORE FROM s AS OF {}", "RESTORE secret AS OF {}"):
            error = bob.refusal(statement.format(point), parameters)
            assert error.sqlstate == "72000", (point, error)
            assert "did not exist" in error.message
            assert error.hint == f"it was created after revision {since}"
    assert bob("SELECT * FROM s AS OF REVISION ?", [since + 1]) == mine
    assert bob("SELECT * FROM s AS OF TIMESTAMP now()") == mine
    assert bob("SELECT key, value, event FROM HISTORY OF s") == [(k, v, "PUT") for k, v in mine]
    bob("UPSERT secret 5")
    assert bob("SELECT event, value FROM HISTORY OF s WHERE key = 'secret'") == [("PUT", 5)]


def test_dropped_and_created_in_one_transaction(store: TimedStore) -> None:
    store("CREATE NAMESPACE s; USE s; PUT old 1, both 1")
    one, two = store.session(namespace="s"), store.session(namespace="main")
    one("BEGIN; DROP NAMESPACE s; CREATE NAMESPACE s")
    two("PUT x 1; PUT y 1")  # revisions at which the old one is still there
    between = store.revision
    one("PUT both 2; COMMIT")
    assert store("SELECT * FROM s AS OF REVISION ?", [between]) == []
    assert store("SELECT key, value, event FROM HISTORY OF s WHERE key <> 'both'") == []
    assert [row[1] for row in store("SELECT key, value FROM HISTORY OF s WHERE key = 'both'")] == [2]
    assert store("SELECT * FROM s AS OF REVISION ?", [store.revision]) == [("both", 2)]


@pytest.mark.parametrize("created", ["CREATE NAMESPACE s", "PUT mine 1"])
def test_what_others_wrote_to_the_old_one_meanwhile_is_a_conflict(store: TimedStore, created: str) -> None:
    """Or it would be younger than the new namespace, and seen in its past."""
    store("CREATE NAMESPACE s; USE s; PUT old 1")
    one, two = store.session(namespace="s"), store.session(namespace="s")
    one(f"BEGIN; DROP NAMESPACE s; {created}")
    two("PUT late 1")
    assert one.refusal("COMMIT").sqlstate == "40001"
    one(f"BEGIN; DROP NAMESPACE s; {created}; COMMIT")
    assert {row[0] for row in one("SELECT key FROM HISTORY OF s")} <= {"mine"}


def test_where_a_session_starts_has_no_past_before_the_first_write(store: TimedStore) -> None:
    store("PUT a 1; UPDATE a 2")
    assert store("SELECT value FROM main AS OF REVISION ?", [store.revision - 1]) == [(1,)]
    store("DROP NAMESPACE main")
    assert store("SELECT * FROM HISTORY OF main") == []
    for point in (f"REVISION {store.revision}", f"REVISION {store.revision - 2}", "TIMESTAMP now()"):
        assert "did not exist" in store.first.refusal(f"SELECT * FROM main AS OF {point}").message


def test_rights(store: TimedStore) -> None:
    ann = store.session(add_user(store, "ann"), "s")
    bob = store.session(add_user(store, "bob"), "s")
    ann("PUT a 1; UPDATE a 2")
    for statement in ("SELECT * FROM s AS OF REVISION 1", "SELECT * FROM HISTORY OF s", "RESTORE a AS OF REVISION 1",
                      "RESTORE FROM s AS OF REVISION 1", "ALTER NAMESPACE s SET (history = '0s')"):  # fmt: skip
        error = bob.refusal(statement)
        assert (error.sqlstate, error.message) == ("3F000", "namespace s does not exist")
    assert ann("SELECT value FROM s AS OF REVISION ?", [store.revision - 1]) == [(1,)]


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transaction_reads_the_past_of_its_snapshot(store: TimedStore) -> None:
    store("PUT a 1")
    first = store.revision
    store("UPDATE a 2")
    one, two = store.session(), store.session()
    one("BEGIN; UPDATE a 3; PUT b 1")
    snapshot = store.revision
    two("UPDATE a 4; PUT c 1")
    assert one("SELECT * FROM main AS OF REVISION ?", [first]) == [("a", 1)]
    assert one("SELECT * FROM main AS OF REVISION ?", [snapshot]) == [("a", 2)]
    assert one("SELECT * FROM main AS OF TIMESTAMP now()") == [("a", 2)]
    assert one("SELECT key, value FROM HISTORY OF main") == [("a", 1), ("a", 2)]
    assert one("SELECT * FROM main") == [("a", 3), ("b", 1)]
    error = one.refusal("SELECT * FROM main AS OF REVISION ?", [store.revision])
    assert error.hint == f"this transaction sees revision {snapshot}"


def test_reading_the_past_is_no_conflict(store: TimedStore) -> None:
    store("PUT a 1")
    first = store.revision
    store("UPDATE a 2")
    one = store.session()
    one("BEGIN; PUT sum 0")
    assert one("SELECT sum(value) FROM main AS OF REVISION ?", [first]) == [(1,)]
    store("UPDATE a 9; PUT z 1")
    one("COMMIT")
    assert store("SELECT * FROM main WHERE key = 'sum'") == [("sum", 0)]


def test_rows_go_on_while_the_namespace_changes(store: TimedStore) -> None:
    """Rows of the past are read while others write and the history ends."""
    from kvql_server.executor import step

    from kvql.compiler import compile_statement
    from kvql.parser import parse

    for n in range(0, 9000, 1500):
        store("INSERT INTO main VALUES " + ", ".join(f"('k{i:05}', {i})" for i in range(n, n + 1500)))
    revision = store.revision
    store("UPDATE main SET value = 0")
    (statement,) = parse(f"SELECT value FROM main AS OF REVISION {revision}")
    lane = store.first.lane
    work = store.executor.work()
    result = step(store.executor.execute(compile_statement(statement), lane, store.first.principal, work))
    rows: Any = iter(result.rows)
    read = [next(rows)]
    store("TRUNCATE NAMESPACE main")
    assert [*read, *rows] == [(n,) for n in range(9000)]


# ── every clause and path ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_path_and_clause(store: TimedStore) -> None:
    store('PUT a1 1, a2 2, b1 3, b2 x; PUT c {"n": 1}')
    revision = store.revision
    store("TRUNCATE NAMESPACE main; PUT a1 100, z 1")
    past = f"FROM main AS OF REVISION {revision}"
    assert store(f"SELECT value {past} WHERE key = 'a2'") == [(2,)]
    assert store(f"SELECT value {past} WHERE key IN ('a1', 'b1', 'z')") == [(1,), (3,)]
    assert store(f"SELECT key {past} WHERE key ^= 'a'") == [("a1",), ("a2",)]
    assert store(f"SELECT key {past} WHERE key BETWEEN 'a2' AND 'b1'") == [("a2",), ("b1",)]
    assert store(f"SELECT key {past} WHERE value > 1 ORDER BY key DESC") == [("b1",), ("a2",)]
    assert store(f"SELECT key {past} ORDER BY key DESC LIMIT 1 OFFSET 1") == [("b2",)]
    assert store(f"SELECT type, count(*) AS n {past} GROUP BY type HAVING n > 1") == [("INTEGER", 3)]
    assert store(f"SELECT count(*) {past}") == [(5,)]
    assert store(f"SELECT DISTINCT version {past}") == [(1,)]
    assert store(f"SELECT n {past} WHERE n IS NOT NULL") == [(1,)]
    assert store(f"SELECT sum(value) {past} WHERE type = 'INTEGER'") == [(6,)]
    assert store(f"SELECT key {past} WHERE FALSE") == []
    assert next(r[1] for r in store(f"EXPLAIN SELECT key {past} WHERE key ^= 'a'")) == (
        f"prefix 'a' of namespace main as of revision {revision}"
    )
    assert store(f"ASSERT (SELECT sum(value) {past} WHERE key ^= 'a') = 3") == []
    error = store.first.refusal("ASSERT (SELECT 1 FROM main AS OF REVISION 999) = 1")
    assert error.message == "revision 999 is in the future"
    assert error.span is not None and error.span.start == len("ASSERT (SELECT 1 FROM main AS OF REVISION ")


def test_values_of_types_that_are_gone(store: TimedStore) -> None:
    """Comparisons do not look at types that the namespace has not got; the past may have had others."""

    store("PUT a text, b 200, c 1.5, d 7, f 300; DELETE f; PUT f 'again'")
    then = store.revision
    store("UPDATE a 1; UPDATE c 2; DELETE d; UPDATE f 3")
    after = store.revision
    store("TRUNCATE NAMESPACE main; PUT b 1, g 2")
    for _ in range(2):
        for revision, above, total in ((then, ["b", "d"], "208.5"), (after, ["b"], "206")):
            past = f"FROM main AS OF REVISION {revision}"
            assert store(f"SELECT key {past} WHERE value > 5") == [(key,) for key in above]
            assert str(store(f"SELECT sum(value) {past} WHERE type <> 'TEXT'")[0][0]) == total
            assert store(f"SELECT key {past} WHERE key ^= 'b' AND value > 5") == [("b",)]
            assert store(f"SELECT key {past} WHERE key = 'b' AND value > 5") == [("b",)]
            assert store(f"SELECT key {past} WHERE value = 'text'") == ([("a",)] if revision == then else [])
        if store.kind == "memory":
            return
        store.engine.checkpoint()  # with it the table knows the types of today's values alone
        store.reopen()


def test_the_engine_is_asked_in_its_own_thread() -> None:
    """A statement of many steps is compiled in another one, which must not look into what others are changing."""
    asked: set[int] = set()

    class Telling(MemorySnapshot):
        def kinds(self, namespace: str) -> frozenset[type] | None:
            asked.add(threading.get_ident())
            return super().kinds(namespace)

    class Engine(MemoryEngine):
        def snapshot(self, revision: int | None = None, time: int | None = None) -> MemorySnapshot:
            made = super().snapshot(revision, time)
            made.__class__ = Telling
            return made

    store = BusyStore(engine=Engine())
    first = store.run("INSERT INTO t VALUES ('a', 1), ('b', 500)").revision
    where = " OR ".join(f"value = {n}" for n in range(300))
    for past in ("", f"AS OF REVISION {first}"):
        assert store.rows(f"SELECT count(*) FROM t {past} WHERE {where}") == [(1,)]
    assert asked == {threading.get_ident()}


# ── what else there is ────────────────────────────────────────────────────────────────────────────────────────────


def test_declared_fields_in_the_past(store: TimedStore) -> None:
    store("CREATE NAMESPACE p (name TEXT, event TEXT, born TIMESTAMP)")
    store("INSERT INTO p (key, name, event, born) VALUES ('a', 'Ann', 'x', TIMESTAMP '2000-01-01')")
    revision = store.revision
    store("UPDATE p SET name = 'Anna'; DELETE FROM p")
    born = datetime(2000, 1, 1, tzinfo=UTC)
    assert store("SELECT * FROM p AS OF REVISION ?", [revision]) == [("Ann", "x", born)]
    assert store("SELECT * FROM HISTORY OF p") == [("Ann", "x", born), ("Anna", "x", born), (None, None, None)]
    assert store("SELECT event, name FROM HISTORY OF p") == [("PUT", "Ann"), ("UPDATE", "Anna"), ("DELETE", None)]
    assert store.first.refusal("SELECT nam FROM HISTORY OF p").hint == "did you mean name?"


# ── what only the wire can say ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command",
    [
        pb.SelectCommand(namespace="main", history=True, as_of=pb.AsOf(revision=pb.Expression())),
        pb.SelectCommand(namespace="main", as_of=pb.AsOf()),
        pb.SelectCommand(namespace="main", as_of=pb.AsOf(revision=pb.Expression())),
        pb.SelectCommand(namespace="main", as_of=pb.AsOf(timestamp=pb.Expression(steps=[pb.Step(op=pb.OP_ADD)]))),
        pb.SelectCommand(as_of=pb.AsOf(revision=pb.Expression())),
        pb.SelectCommand(history=True),
    ],
)
def test_malformed_commands_are_refused(store: TimedStore, command: pb.SelectCommand) -> None:
    from kvql_server.executor import step

    store("PUT a 1")
    command.projections.add(name="x", expression=_constant(1))
    with pytest.raises(Error, match="22023"):
        step(store.executor.execute(pb.Request(select=command), store.first.lane, store.first.principal,
                                    store.executor.work()))  # fmt: skip


def test_the_namespace_in_use_has_a_past_too(store: TimedStore) -> None:
    """The language always names it; the wire need not."""
    from kvql_server.executor import step

    store("PUT a 1")
    command = pb.SelectCommand(from_session=True, as_of=pb.AsOf(revision=_constant(store.revision)))
    command.projections.add(name="x", expression=_constant(7))
    store("DELETE a")
    result = step(store.executor.execute(pb.Request(select=command), store.first.lane, store.first.principal,
                                         store.executor.work()))  # fmt: skip
    assert list(result.rows) == [(7,)]


def _constant(value: Any) -> pb.Expression:
    return pb.Expression(steps=[pb.Step(op=pb.OP_CONSTANT)], constants=encode_values([value]))


def test_nothing_stays_open(store: TimedStore) -> None:
    """Whatever becomes of a statement, the snapshots that it read are let go."""
    store("PUT a 1, b x")
    then = store.revision
    store("UPDATE a 2")
    past = f"AS OF REVISION {then}"
    for text in (
        f"SELECT * FROM main {past}", f"EXPLAIN SELECT * FROM main {past}",
        f"EXPLAIN ANALYZE SELECT * FROM main {past}",
        f"ASSERT (SELECT max(value) FROM main {past}) = 'x'", "SELECT * FROM HISTORY OF main",
        f"DRY RUN RESTORE FROM main {past}", f"EXPLAIN RESTORE a {past}", f"RESTORE a {past}",
    ):  # fmt: skip
        store(text)
        assert store.engine.status()["open_snapshots"] == 0, text
    store("UPDATE a 3")
    for text in (
        f"SELECT nope.x.y / 0 FROM main {past} WHERE value + 1 > 0", f"SELECT sum(value) FROM main {past}",
        f"SELECT key FROM main {past} GROUP BY value", "SELECT event.x FROM HISTORY OF main",
        f"RESTORE nope {past}", f"RESTORE FROM main WHERE value / 0 > 2 {past}",
        f"ASSERT (SELECT 1 FROM main {past}) = 1",
    ):  # fmt: skip
        store.first.refusal(text)
        assert store.engine.status()["open_snapshots"] == 0, text
    assert store.first.refusal("SELECT * FROM main AS OF TIMESTAMP now() - 900000d").sqlstate in (
        "72000",
        "22003",
        "22008",
    )
