"""SQL inside BEGIN … COMMIT: what a transaction sees of itself, what DRY RUN leaves behind, who is in whose way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvql

Open = Callable[[], kvql.Connection]


@pytest.fixture(params=["memory", "hashtable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Connections to one store in process, on each engine."""
    made: list[kvql.Connection] = []

    def connect() -> kvql.Connection:
        if request.param == "memory":
            first = made[0] if made else None
            one = kvql.connect(":memory:", autocommit=True) if first is None else _beside(first)
        else:
            one = kvql.connect(str(tmp_path / "data"), autocommit=True)
        made.append(one)
        return one

    yield connect
    for one in reversed(made):
        one.close()


def _beside(connection: kvql.Connection) -> kvql.Connection:
    """Another connection to the same store."""
    return kvql.Connection(connection._client.sibling(), autocommit=True)


def rows(connection: kvql.Connection, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.execute(text, parameters).fetchall()


def refused(connection: kvql.Connection, text: str) -> str:
    with pytest.raises(kvql.Error) as caught:
        connection.execute(text).fetchall()
    return caught.value.sqlstate


# ── a transaction sees what it wrote ──────────────────────────────────────────────────────────────────────────────

QUERIES = (
    "SELECT * FROM t", "SELECT * FROM t ORDER BY key DESC", "SELECT key, value FROM t ORDER BY value, key",
    "SELECT key FROM t ORDER BY value DESC, key LIMIT 3 OFFSET 1", "SELECT value, count(*) FROM t GROUP BY value",
    "SELECT count(*), sum(value), min(key), max(value) FROM t", "SELECT count(*) FROM t WHERE value > 5",
    "SELECT key FROM t WHERE key ^= 'a'", "SELECT key FROM t WHERE key BETWEEN 'a3' AND 'b5'",
    "SELECT key, value FROM t WHERE key IN ('a1', 'a2', 'b1', 'zz')", "SELECT value FROM t WHERE key = 'a1'",
    "SELECT DISTINCT value FROM t", "SELECT key, version, comment, expires_at FROM t",
    "SELECT string_agg(key, ',') FROM t WHERE value % 2 = 0", "SELECT key FROM t WHERE key LIKE '_1' ORDER BY key DESC",
)  # fmt: skip


def _operation(random_: random.Random) -> str:
    key, value = f"{random_.choice('ab')}{random_.randrange(8)}", random_.randrange(12)
    return random_.choice([
        f"UPSERT {key} {value}", f"UPSERT {key} {value} TTL 1h",
        f"UPDATE t SET value = value + {value} WHERE key = '{key}'",
        f"UPDATE t SET value = value - 1 WHERE value > {value}", f"DELETE FROM t WHERE key = '{key}'",
        f"DELETE FROM t WHERE value = {value}", "UPDATE t SET expires_at = now() - 1s WHERE value = 3",
        "UPDATE t SET expires_at = NULL WHERE key < 'a5'",
        f"INSERT INTO t VALUES ('{key}', {value}) ON CONFLICT DO NOTHING",
        f"INSERT INTO t VALUES ('{key}', {value}), ('b9', 1) ON CONFLICT DO UPDATE SET value = EXCLUDED.value + value",
        f"INSERT INTO t (key, value, expires_at) VALUES ('{key}', {value}, now() - 1s) ON CONFLICT DO NOTHING",
        *(["TRUNCATE NAMESPACE t"] if random_.random() < 0.2 else []),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_a_transaction_sees_what_is_there_after_its_commit(store: Open, seed: int) -> None:
    random_ = random.Random(seed)
    connection = store()
    connection.execute("USE t")
    for _ in range(10):
        connection.execute(f"UPSERT {random_.choice('ab')}{random_.randrange(8)} {random_.randrange(12)}")
    connection.execute("BEGIN")
    named = False
    for _ in range(random_.randrange(1, 16)):
        connection.execute(_operation(random_))
        if random_.random() < 0.2:
            connection.execute("SAVEPOINT s")
            named = True
        elif named and random_.random() < 0.2:
            connection.execute("ROLLBACK TO s")
    inside = {query: rows(connection, query) for query in QUERIES}
    connection.execute("COMMIT")
    assert {query: rows(connection, query) for query in QUERIES} == inside


def test_a_pair_that_is_over_is_gone_for_the_transaction_that_put_it(store: Open) -> None:
    connection = store()
    connection.execute("USE t")
    connection.execute("PUT a 1")
    connection.execute("BEGIN")
    over = "INSERT INTO t (key, value, expires_at) VALUES ('b', 2, now() - 1h) RETURNING key, value, expires_at < now()"
    assert rows(connection, over) == [("b", 2, True)]
    over = "UPDATE t SET expires_at = now() - 1s RETURNING key, OLD.expires_at, NEW.value"
    assert rows(connection, over) == [("a", None, 1)]
    assert rows(connection, "SELECT * FROM t") == []
    assert rows(connection, "SELECT count(*) FROM t") == [(0,)]
    assert rows(connection, "HAS a, b") == [("a", False), ("b", False)]
    assert refused(connection, "GET b") == "02000"
    connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    connection.execute("UPDATE t SET expires_at = now() - 1s")
    connection.execute("PUT a 5")
    connection.execute("COMMIT")
    assert rows(connection, "SELECT * FROM t") == [("a", 5)]


# ── DRY RUN and EXPLAIN leave nothing behind ──────────────────────────────────────────────────────────────────────


def test_dry_run_leaves_no_trace_in_its_transaction(store: Open) -> None:
    connection = store()
    connection.execute("USE t")
    connection.execute("PUT a 1, b 2")
    connection.execute("BEGIN")
    connection.execute("UPDATE t SET value = 10 WHERE key = 'a'")
    assert rows(connection, "DRY RUN UPDATE t SET value = value + 1 COMMENT 'no'") == [
        ("UPDATE", "a", 10, 11), ("UPDATE", "b", 2, 3),
    ]  # fmt: skip
    assert rows(connection, "DRY RUN DELETE FROM t") == [("DELETE", "a", 10, None), ("DELETE", "b", 2, None)]
    assert rows(connection, "DRY RUN TRUNCATE NAMESPACE t") == [("DELETE", "a", 10, None), ("DELETE", "b", 2, None)]
    assert rows(connection, "DRY RUN INSERT INTO t VALUES ('c', 3)") == [("INSERT", "c", None, 3)]
    assert rows(connection, "DRY RUN INSERT INTO fresh VALUES ('c', 3)") == [("INSERT", "c", None, 3)]
    assert rows(connection, "SELECT * FROM t") == [("a", 10), ("b", 2)]
    connection.execute("COMMIT")
    assert rows(connection, "SELECT key, value, comment FROM t") == [("a", 10, None), ("b", 2, None)]
    assert [name for name, *_ in rows(connection, "SHOW NAMESPACES")] == ["t"]


def test_dry_run_of_a_truncate_after_a_truncate(store: Open) -> None:
    connection = store()
    connection.execute("USE t")
    connection.execute("PUT a 1, b 2")
    connection.execute("BEGIN")
    connection.execute("TRUNCATE NAMESPACE t")
    connection.execute("PUT b 5, c 6")
    expected = [("DELETE", "b", 5, None), ("DELETE", "c", 6, None)]
    assert rows(connection, "DRY RUN TRUNCATE NAMESPACE t") == expected
    assert rows(connection, "DRY RUN DELETE FROM t") == expected
    assert rows(connection, "DRY RUN UPSERT a 7") == [("INSERT", "a", None, 7)]
    connection.execute("COMMIT")
    assert rows(connection, "SELECT * FROM t") == [("b", 5), ("c", 6)]


def test_a_generated_key_of_a_dry_run_is_not_used_up(store: Open) -> None:
    connection = store()
    connection.execute("CREATE TABLE t (name TEXT)")
    for _ in range(3):
        [(_, key, _, _)] = rows(connection, "DRY RUN INSERT INTO t (name) VALUES ('x')")
        assert key == "000000000001"
    assert rows(connection, "INSERT INTO t (name) VALUES ('x') RETURNING key") == [("000000000001",)]


@pytest.mark.parametrize("statement", [
    "UPDATE t SET value = value + 1", "INSERT INTO t VALUES ('b', 1)", "DELETE FROM t WHERE key = 'a'", "UPSERT a 7",
    "TRUNCATE NAMESPACE t", "UPDATE a 5", "EXPIRE a 60s", "DELETE a", "PUT c 1, d 2",
])  # fmt: skip
def test_explain_does_nothing_and_analyze_does_it_once(store: Open, statement: str) -> None:
    connection = store()
    connection.execute("USE t")
    connection.execute("PUT a 1")
    before = rows(connection, "SELECT key, value, version, revision, ttl IS NULL FROM t")
    revision = connection.execute("GET a").revision
    rows(connection, f"EXPLAIN {statement}")
    rows(connection, f"DRY RUN {statement}")
    assert rows(connection, "SELECT key, value, version, revision, ttl IS NULL FROM t") == before
    assert connection.execute("COUNT").revision == revision
    rows(connection, f"EXPLAIN ANALYZE {statement}")
    after = rows(connection, "SELECT key, value, version, ttl IS NULL FROM t")
    assert connection.execute("COUNT").revision == revision + 1

    other = store()
    other.execute("CREATE NAMESPACE u")
    other.execute("USE u")
    other.execute("PUT a 1")
    other.execute(statement.replace(" t", " u", 1))
    assert rows(other, "SELECT key, value, version, ttl IS NULL FROM u") == after


def test_a_comment_is_that_of_the_write(store: Open) -> None:
    connection = store()
    connection.execute("USE t")
    connection.execute("INSERT INTO t VALUES ('a', 1) COMMENT 'first'")
    both = "UPDATE t SET value = 2 RETURNING OLD.comment, comment COMMENT 'second'"
    assert rows(connection, both) == [("first", "second")]
    assert rows(connection, "SELECT comment FROM t") == [("second",)]
    connection.execute("EXPLAIN ANALYZE UPDATE t SET value = 3 COMMENT 'third'")
    assert rows(connection, "SELECT comment FROM t") == [("third",)]


def test_where_a_session_starts_can_be_dropped_if_it_exists(store: Open) -> None:
    connection = store()
    notices = connection.execute("DROP NAMESPACE IF EXISTS main").notices
    assert [notice.message for notice in notices] == ["namespace main does not exist, skipping"]
    assert refused(connection, "DROP NAMESPACE main") == "3F000"
    connection.execute("PUT a 1")
    connection.execute("DROP NAMESPACE main")
    assert rows(connection, "SELECT * FROM main") == []


# ── who is in whose way ───────────────────────────────────────────────────────────────────────────────────────────

PHANTOMS = (
    ("SELECT count(*) FROM t WHERE value > 5", "PUT z 9", True), ("SELECT count(*) FROM t", "PUT z 0", True),
    ("SELECT * FROM t WHERE key ^= 'z'", "PUT z 9", True), ("SELECT * FROM t WHERE key ^= 'y'", "PUT z 9", False),
    ("SELECT * FROM t WHERE key = 'z'", "PUT z 9", True), ("SELECT * FROM t WHERE key = 'y'", "PUT z 9", False),
    ("SELECT * FROM t WHERE key IN ('x', 'z')", "PUT z 9", True), ("SELECT sum(value) FROM t", "DELETE a", True),
    ("SELECT value, count(*) FROM t GROUP BY value HAVING count(*) > 7", "UPDATE a 3", True),
    ("SELECT * FROM t WHERE FALSE", "PUT z 9", False), ("SELECT 1 + 1", "PUT z 9", False),
    ("SELECT * FROM t ORDER BY value DESC LIMIT 1", "PUT z 9", True), ("SELECT max(key) FROM t", "PUT z 9", True),
    ("DRY RUN DELETE FROM t WHERE value > 5", "PUT z 9", True), ("EXPLAIN SELECT * FROM t", "PUT z 9", False),
    ("EXPLAIN ANALYZE SELECT * FROM t", "PUT z 9", True), ("UPDATE t SET value = 1 WHERE value > 5", "PUT z 9", True),
    ("DELETE FROM t WHERE value > 5", "PUT z 9", True), ("TRUNCATE NAMESPACE t", "PUT z 9", True),
    ("INSERT INTO t VALUES ('z', 1)", "PUT z 9", True), ("INSERT INTO t VALUES ('y', 1)", "PUT z 9", False),
    ("INSERT INTO t VALUES ('z', 1) ON CONFLICT DO NOTHING", "PUT z 9", True),
    ("INSERT INTO t VALUES ('a', 1) ON CONFLICT DO UPDATE SET value = value + 1", "UPDATE a 5", True),
    ("SHOW DATA LIKE 'z%'", "PUT z 9", True), ("COUNT", "PUT z 9", True), ("HAS z", "PUT z 9", True),
    ("SELECT * FROM t", "EXPIRE a 60s", True), ("SELECT count(*) FROM t", "DROP NAMESPACE t", True),
    ("SELECT key FROM t WHERE key BETWEEN 'a' AND 'y'", "PUT z 9", False),
)  # fmt: skip


@pytest.mark.parametrize(("read", "change", "conflict"), PHANTOMS)
def test_what_was_read_must_still_hold_at_commit(store: Open, read: str, change: str, conflict: bool) -> None:
    one = store()
    other = store()
    for connection in (one, other):
        connection.execute("USE t")
    one.execute("PUT a 1, b 2")
    one.execute("BEGIN")
    reading = one.execute(read)
    if reading.columns is not None:
        reading.fetchall()
    one.execute("PUT mine 1")
    other.execute(change)
    if conflict:
        assert refused(one, "COMMIT") == "40001"
        if "DROP" not in change:
            assert rows(other, "HAS mine") == [("mine", False)]
    else:
        one.execute("COMMIT")
        assert rows(other, "HAS mine") == [("mine", True)]


def test_write_skew_is_a_conflict(store: Open) -> None:
    one = store()
    other = store()
    for connection in (one, other):
        connection.execute("USE duty")
    one.execute("PUT ann 1, bob 1")
    for connection in (one, other):
        connection.execute("BEGIN")
        assert rows(connection, "SELECT count(*) FROM duty WHERE value = 1") == [(2,)]
    one.execute("UPDATE duty SET value = 0 WHERE key = 'ann'")
    other.execute("UPDATE duty SET value = 0 WHERE key = 'bob'")
    one.execute("COMMIT")
    assert refused(other, "COMMIT") == "40001"
    assert rows(one, "SELECT sum(value) FROM duty") == [(1,)]


def test_generated_keys_of_two_transactions_are_a_conflict_and_not_twins(store: Open) -> None:
    one = store()
    other = store()
    one.execute("CREATE TABLE t (name TEXT)")
    for connection in (one, other):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t (name) VALUES ('x')")
    one.execute("COMMIT")
    assert refused(other, "COMMIT") == "40001"
    other.execute("INSERT INTO t (name) VALUES ('y')")
    assert rows(one, "SELECT key, name FROM t") == [("000000000001", "x"), ("000000000002", "y")]


@pytest.mark.parametrize("change", ["DROP NAMESPACE t", "DROP NAMESPACE t; CREATE NAMESPACE t",
                                    "DROP NAMESPACE t; CREATE TABLE t (name TEXT)"])  # fmt: skip
def test_a_namespace_that_was_dropped_meanwhile(store: Open, change: str) -> None:
    one = store()
    other = store()
    one.execute("USE t")
    one.execute("PUT a 1")
    one.execute("BEGIN")
    one.execute("UPDATE t SET value = 2")
    for statement in change.split("; "):
        other.execute(statement)
    assert rows(one, "SELECT * FROM t") == [("a", 2)]
    assert refused(one, "COMMIT") == "40001"
    assert rows(one, "SHOW NAMESPACES") == ([] if "CREATE" not in change else [("t", "admin", 0)])


def test_rows_half_read_are_those_of_their_snapshot(store: Open) -> None:
    one = store()
    other = store()
    one.executemany("PUT ? ?", [(f"k{i:05}", i) for i in range(20_000)])
    other.execute("USE main")
    reading = one.execute("SELECT key, value FROM main WHERE value >= 0")
    first = [reading.fetchone() for _ in range(1500)]
    other.execute("UPDATE main SET value = -value - 1")
    other.execute("DELETE FROM main WHERE key < 'k10000'")
    other.execute("TRUNCATE NAMESPACE main")
    other.execute("DROP NAMESPACE main")
    other.execute("PUT k00001 5")
    assert first + reading.fetchall() == [(f"k{i:05}", i) for i in range(20_000)]


def test_nothing_of_a_failed_statement_stays(store: Open) -> None:
    connection = store()
    connection.executemany("PUT ? ?", [(f"k{i:05}", i) for i in range(10_000)])
    before = rows(connection, "SELECT sum(value), count(*), max(revision) FROM main")
    for statement in (
        "UPDATE main SET value = 1000 / (9000 - value)", "DELETE FROM main WHERE 1 / (9999 - value) >= 0",
        "INSERT INTO main VALUES ('fresh', 1), ('k00001', 2)", "UPDATE main SET value = value || now() - now()",
        "UPDATE main SET value = 1 RETURNING 1 / (OLD.value - 9999)",
        "INSERT INTO main VALUES ('fresh', 1), ('k00001', 2) ON CONFLICT DO UPDATE SET value = 1 / 0",
        "DELETE FROM main RETURNING value / (value - 9000)",
        "EXPLAIN ANALYZE UPDATE main SET value = 1 / (value - 9999)",
    ):  # fmt: skip
        refused(connection, statement)
        assert rows(connection, "SELECT sum(value), count(*), max(revision) FROM main") == before, statement
