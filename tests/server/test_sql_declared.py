"""Declared fields: the same rule on every road that writes a value, and keys that nobody named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import kvql
import kvql.aio
from tests.servers import ADMIN, PASSWORDS, Server

TYPES = (
    "TEXT", "VARCHAR(3)", "INTEGER", "NUMERIC(5, 2)", "DECIMAL", "FLOAT", "BOOLEAN", "TIMESTAMP", "BYTES", "JSON",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -7, 2**63 - 1, 2**63, Decimal("1.5"), Decimal("2.50"), Decimal("2.505"),
    Decimal("999.995"), Decimal("123456.7"), Decimal("-0.001"), "", "ab", "abcd", "5", "5.5", "x5", "true", "maybe",
    "2026-01-02", "2026-01-02T03:04:05+01:00", "2026-13-01", "\\x00ff", "\\xzz", "NaN", "1e3", "𝄞𝄞𝄞", "𝄞𝄞𝄞𝄞",
    [], [1, 2], {"a": 1}, {},
)  # fmt: skip


@pytest.fixture
def con() -> Iterator[kvql.Connection]:
    with kvql.connect(":memory:", autocommit=True) as made:
        yield made


Road = Callable[[kvql.Connection, Any], object]


def _object(value: Any) -> str:
    text = json.dumps({"f": value}, default=str, ensure_ascii=False)
    return text.replace(f'"{value}"', str(value)) if isinstance(value, Decimal) else text


ROADS: dict[str, Road] = {
    "PUT": lambda con, v: con.execute("PUT new ?", [_json(v)]),
    "UPSERT": lambda con, v: con.execute("UPSERT old ?", [_json(v)]),
    "UPDATE key": lambda con, v: con.execute("UPDATE old ?", [_json(v)]),
    "PUT computed": lambda con, v: con.execute(f"PUT new ({_quoted(_object(v))}::json)"),
    "executemany": lambda con, v: con.executemany("UPSERT ? ?", [("old", _json(v))]),
    "INSERT field": lambda con, v: con.execute("INSERT INTO t (f) VALUES (?)", [v]),
    "INSERT value": lambda con, v: con.execute("INSERT INTO t (key, value) VALUES ('new', ?)", [_json(v)]),
    "INSERT computed": lambda con, v: con.execute("INSERT INTO t (key, f) VALUES ('new', coalesce(?, NULL))", [v]),
    "INSERT by place": lambda con, v: con.execute("INSERT INTO t VALUES (?)", [v]),
    "ON CONFLICT field": lambda con, v: con.execute(
        "INSERT INTO t (key) VALUES ('old') ON CONFLICT DO UPDATE SET f = ?", [v]
    ),
    "ON CONFLICT value": lambda con, v: con.execute(
        "INSERT INTO t (key) VALUES ('old') ON CONFLICT DO UPDATE SET value = ?", [_json(v)]
    ),
    "EXCLUDED": lambda con, v: con.execute(
        "INSERT INTO t (key, f) VALUES ('old', ?) ON CONFLICT DO UPDATE SET value = EXCLUDED.value", [v]
    ),
    "UPDATE field": lambda con, v: con.execute("UPDATE t SET f = ?", [v]),
    "UPDATE value": lambda con, v: con.execute("UPDATE t SET value = ?", [_json(v)]),
    "UPDATE value.field": lambda con, v: con.execute("UPDATE t SET value.f = ?", [v]),
    "DRY RUN": lambda con, v: con.execute("DRY RUN UPDATE t SET f = ?", [v]).fetchall(),
}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _json(value: Any) -> Any:
    return {"f": value}


def _outcome(con: kvql.Connection, road: str, value: Any) -> str:
    """What is stored, or the SQLSTATE of the refusal."""
    con.execute("TRUNCATE NAMESPACE t")
    con.execute("INSERT INTO t (key) VALUES ('old')")
    try:
        ROADS[road](con, value)
    except kvql.Error as e:
        assert con.execute("SELECT key, f FROM t").fetchall() == [("old", None)]
        return e.sqlstate
    if road == "DRY RUN":
        return ""
    [stored] = con.execute("SELECT value::text, typeof(f), f::text FROM t WHERE version > 1 OR key <> 'old'").fetchall()
    return str(stored)


@pytest.mark.parametrize("kind", TYPES)
def test_every_road_has_the_same_rule(con: kvql.Connection, kind: str) -> None:
    con.execute(f"CREATE TABLE t (f {kind})")
    con.execute("USE t")
    for value in VALUES:
        found = {road: _outcome(con, road, value) for road in ROADS}
        found = {road: outcome for road, outcome in found.items() if outcome}
        assert len(set(found.values())) == 1, (kind, value, found)


@pytest.mark.parametrize("road", [r for r in ROADS if "computed" not in r and r != "INSERT by place"])
def test_not_null_on_every_road(road: str) -> None:
    with kvql.connect(":memory:", autocommit=True) as con:
        con.execute("CREATE TABLE t (f INTEGER NOT NULL)")
        con.execute("USE t")
        con.execute("INSERT INTO t (key, f) VALUES ('old', 1)")
        if road.startswith("ON CONFLICT"):
            return  # the row that it proposes has no f either
        with pytest.raises(kvql.Error) as caught:
            ROADS[road](con, None)
        assert caught.value.sqlstate == "23502"
        assert con.execute("SELECT key, f FROM t").fetchall() == [("old", 1)]


@pytest.mark.parametrize("statement", [
    "PUT k {\"f\": 1, \"g\": 2}", "PUT k 5", "PUT k text", "PUT k [1]", "UPSERT k null", "UPDATE t SET g = 1",
    "INSERT INTO t (key, value) VALUES ('k', 7)", "INSERT INTO t (key, g) VALUES ('k', 1)",
    "UPDATE t SET value = 5", "UPDATE t SET value = NULL",
    "UPDATE t SET value.g = 1", "INSERT INTO t VALUES (1, 2)", "SELECT g FROM t", "DELETE FROM t WHERE g = 1",
    "INSERT INTO t (f, value) VALUES (1, 2)", "INSERT INTO t (f, F) VALUES (1, 2)",
])  # fmt: skip
def test_what_is_not_declared(con: kvql.Connection, statement: str) -> None:
    con.execute("CREATE TABLE t (f INTEGER)")
    con.execute("USE t")
    con.execute("INSERT INTO t (key, f) VALUES ('a', 1)")
    with pytest.raises(kvql.Error) as caught:
        con.execute(statement).fetchall()
    assert caught.value.sqlstate in ("42703", "42804", "42601", "42701"), caught.value
    assert con.execute("SELECT key, f FROM t").fetchall() == [("a", 1)]


# ── keys that nobody named ────────────────────────────────────────────────────────────────────────────────────────


def key(number: int) -> str:
    return f"{number:012}"


def test_generated_keys_are_in_the_order_of_insertion(con: kvql.Connection) -> None:
    con.execute("CREATE TABLE t (f INTEGER)")
    for start in range(0, 30, 3):
        con.execute("INSERT INTO t (f) VALUES (?), (?), (?)", [start, start + 1, start + 2])
    assert con.execute("SELECT key, f FROM t").fetchall() == [(key(i + 1), i) for i in range(30)]


def test_generated_keys_go_round_those_that_are_there(con: kvql.Connection) -> None:
    con.execute("CREATE TABLE t (f INTEGER)")
    con.execute(f"INSERT INTO t (key, f) VALUES ('{key(2)}', 0), ('{key(3)}', 0)")
    returned = con.execute("INSERT INTO t (f) VALUES (1), (2) RETURNING key").fetchall()
    assert returned == [(key(1),), (key(4),)]
    # also round those of the same statement, wherever they stand
    con.execute("USE t")
    con.execute(f'PUT {key(6)} {{"f": 9}}')
    returned = con.execute("INSERT INTO t (f) VALUES (3), (4) RETURNING key").fetchall()
    assert returned == [(key(5),), (key(7),)]


def test_generated_keys_after_a_truncate_a_drop_and_a_failure(con: kvql.Connection) -> None:
    con.execute("CREATE TABLE t (f INTEGER)")
    con.execute("INSERT INTO t (f) VALUES (1), (2)")
    with pytest.raises(kvql.Error):
        con.execute("INSERT INTO t (f) VALUES (1), ('x')")
    assert con.execute("INSERT INTO t (f) VALUES (3) RETURNING key").fetchall() == [(key(3),)]
    con.execute("DELETE FROM t")
    assert con.execute("INSERT INTO t (f) VALUES (4) RETURNING key").fetchall() == [(key(4),)]
    con.execute("TRUNCATE NAMESPACE t")
    assert con.execute("INSERT INTO t (f) VALUES (5) RETURNING key").fetchall() == [(key(5),)]
    con.execute("DROP NAMESPACE t")
    con.execute("CREATE TABLE t (f INTEGER)")
    assert con.execute("INSERT INTO t (f) VALUES (6) RETURNING key").fetchall() == [(key(1),)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_generated_keys_in_a_transaction(con: kvql.Connection, end: str) -> None:
    con.execute("CREATE TABLE t (f INTEGER)")
    con.execute("INSERT INTO t (f) VALUES (1)")
    con.execute("BEGIN")
    con.execute("INSERT INTO t (f) VALUES (2)")
    con.execute("DROP NAMESPACE t")
    con.execute("CREATE TABLE t (f TEXT)")
    assert con.execute("INSERT INTO t (f) VALUES ('x') RETURNING key").fetchall() == [(key(1),)]
    con.execute(end)
    expected = [(key(1), "x")] if end == "COMMIT" else [(key(1), 1)]
    assert con.execute("SELECT key, f FROM t").fetchall() == expected
    follow = "'y'" if end == "COMMIT" else "2"
    assert con.execute(f"INSERT INTO t (f) VALUES ({follow}) RETURNING key").fetchall() == [(key(2),)]


def test_generated_keys_of_many_tasks_are_all_different(server_of: Callable[[str], Server]) -> None:
    server = server_of("hashtable")
    server.drop_namespaces()

    async def work() -> Any:
        url = f"kvql://{ADMIN}@localhost:{server.port}/t"
        async with kvql.aio.connect(url, password=PASSWORDS[ADMIN], ca=str(server.ca), autocommit=True) as connection:
            await connection.execute("CREATE TABLE t (f INTEGER)")

            async def insert(number: int) -> list[Any]:
                keys: list[Any] = []
                for _ in range(10):
                    done = await connection.execute("INSERT INTO t (f) VALUES (?), (?) RETURNING key", [number, number])
                    keys += [k for (k,) in done.rows]
                return keys

            keys = await asyncio.gather(*[insert(number) for number in range(16)])
            there = await connection.execute("SELECT key FROM t")
            return keys, await there.fetchall()

    keys, there = asyncio.run(work())
    flat = [one for some in keys for one in some]
    assert sorted(flat) == [k for (k,) in there] == [key(i + 1) for i in range(320)]
    assert all(some == sorted(some) for some in keys)
