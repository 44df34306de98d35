"""Statements made to hurt: huge, deep, wide. Each is carried out or refused by name, and nobody else waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kvql_server.settings import MEBIBYTE, Settings

from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from tests.server.busy import COLUMN, GAP_MAX_S, BusyStore, op, program, select


def test_who_lets_nobody_have_a_turn_is_seen() -> None:
    class Hog(BusyStore):
        async def _whole(self, request: pb.Request) -> Result:
            ends = time.process_time() + 0.05
            while time.process_time() < ends:
                pass
            return Result()

    hog = Hog()
    hog.run("SELECT 1")
    assert hog.gap_s >= 0.05


# ── wide ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300, 5_000, 16_000])
def test_chains_of_any_length(busy: BusyStore, count: int) -> None:
    where = "FROM t WHERE key = 'a'"
    assert busy.rows(f"SELECT value{' + 1' * count} {where}") == [(1 + count,)]
    assert busy.rows(f"SELECT value{' - 1 + 2' * (count // 2)} {where}") == [(1 + count // 2,)]
    assert busy.rows(f"SELECT length(key{' || key' * count}) {where}") == [(1 + count,)]
    assert busy.rows(f"SELECT 1{' + 1' * count}") == [(1 + count,)]
    assert busy.rows(f"SELECT 1 {where} AND 100000 > value{' + 1' * count}") == [(1,)]


@pytest.mark.parametrize("count", [1, 16, 17, 64, 65, 130, 2_000])
def test_wide_expressions_of_any_width(busy: BusyStore, count: int) -> None:
    numbers = range(count)
    where = "FROM t WHERE key = 'a'"
    assert busy.rows(f"SELECT key FROM t WHERE {' OR '.join(f'value = {i + 1}' for i in numbers)}")[0] == ("a",)
    assert busy.rows(f"SELECT key FROM t WHERE {' AND '.join(f'value <> {i + 2}' for i in numbers)}")[0] == ("a",)
    assert busy.rows(f"SELECT value IN ({', '.join(f'version + {i}' for i in numbers)}) {where}") == [(True,)]
    whens = " ".join(f"WHEN value = {i} + 2 THEN {i}" for i in numbers)
    assert busy.rows(f"SELECT CASE {whens} ELSE -1 END {where}") == [(-1,)]
    assert busy.rows(f"SELECT CASE {whens} END FROM t WHERE key = 'a'") == [(None,)]
    whens = " ".join(f"WHEN {i} THEN {i} * 2" for i in numbers)
    assert busy.rows(f"SELECT CASE value + {count - 2} {whens} ELSE -1 END {where}") == [((count - 1) * 2,)]
    assert busy.rows(f"SELECT coalesce({', '.join(['comment'] * (count - 1) + ['key'])}) {where}") == [("a",)]
    assert busy.rows(f"SELECT greatest({', '.join(f'value + {i}' for i in numbers)}) {where}") == [(count,)]
    listed = busy.rows(f"SELECT concat({', '.join(f'value + {i}' for i in numbers)}) {where}")
    assert listed == [("".join(str(i + 1) for i in numbers),)]
    fields = ", ".join(f"value + {i} AS x{i}" for i in numbers)
    assert busy.rows(f"SELECT {fields} {where}") == [tuple(i + 1 for i in numbers)]
    assert busy.rows(f"SELECT {fields} {where} ORDER BY {', '.join(f'x{i}' for i in numbers)}")[0][-1] == count
    assert busy.rows(f"SELECT {', '.join(f'count(value + {i})' for i in numbers)} {where}") == [(1,) * count]
    groups = ", ".join(f"value + {i}" for i in numbers)
    assert busy.rows(f"SELECT count(*) {where} GROUP BY {groups}") == [(1,)]
    assert busy.run(f"UPDATE t SET {', '.join(f'f{i} = {i}' for i in numbers)} WHERE key = 'j'").row_count == 1
    assert busy.rows("SELECT json_length(value) FROM t WHERE key = 'j'") == [(2 + count,)]


def test_three_values_survive_the_cutting_of_wide_logic(busy: BusyStore) -> None:
    for count in (3, 17, 70, 200):
        for at in (0, count - 1):
            for special, either, both in (("NULL", None, None), ("TRUE", True, None), ("FALSE", None, False)):
                terms = ["comment = 'x'"] * count  # NULL, as there is no comment
                terms[at] = special if special == "NULL" else f"(key = 'a') = {special}"
                shown = f"SELECT {' OR '.join(terms)}, {' AND '.join(terms)} FROM t WHERE key = 'a'"
                assert busy.rows(shown) == [(either, both)], (count, at, special)


def test_many_functions_before_many_constants(busy: BusyStore) -> None:
    count = 1_000
    case = "CASE WHEN value = 1 THEN 2 END"
    assert busy.rows(f"SELECT {', '.join([case] * count)}, {', '.join(['1 + 1'] * count)} FROM t WHERE key = 'a'") == [
        (2,) * (2 * count)
    ]


def test_many_columns_and_many_orders(busy: BusyStore) -> None:
    names = [f"f{i}" for i in range(6_000)]
    assert len(busy.rows(f"SELECT {', '.join(names)} FROM t ORDER BY {', '.join(f'g{i}' for i in range(6_000))}")) == 4


def test_many_aliases(busy: BusyStore) -> None:
    aliases = ", ".join(f"value AS x{i}" for i in range(5_000))
    where = " OR ".join(f"Y{i} = 1" for i in range(5_000))
    assert busy.rows(f"SELECT {aliases} FROM t WHERE {where}") == []
    assert len(busy.rows(f"SELECT {aliases} FROM t WHERE {where.replace('Y', 'X')}")) == 1


def test_aliases_that_stand_for_much(busy: BusyStore) -> None:
    alias = f"version{' + 1' * 200} AS x"
    assert busy.rows(f"SELECT {alias} FROM t WHERE ({' OR '.join(['x = 201'] * 100)}) AND key = 'a'") == [(201,)]
    assert busy.refused(f"SELECT {alias} FROM t WHERE {' OR '.join(['x = 201'] * 1_000)}").sqlstate == "54001"


def test_fields_that_nobody_has(busy: BusyStore) -> None:
    busy.run("UPSERT j ?", [{f"name{i}": i for i in range(50_000)}])
    result = busy.run(f"SELECT {', '.join(f'nam{i}x' for i in range(5_000))} FROM t")
    assert len(result.rows) == 4
    assert 2 < len(result.notices) < 30
    assert "more" in result.notices[-1].message
    assert busy.gap_s < GAP_MAX_S


def test_a_declared_namespace_with_many_fields() -> None:
    busy = BusyStore()
    fields = [f"Field{i}" for i in range(1_000)]
    busy.run(f"CREATE TABLE t ({', '.join(f'{f} INTEGER' for f in fields)})")
    busy.run(f"INSERT INTO t VALUES ({', '.join(map(str, range(1_000)))})")
    columns = ", ".join(f.lower() for f in fields)
    assert busy.rows(f"SELECT {', '.join([columns] * 10)} FROM t") == [tuple(range(1_000)) * 10]
    for statement in ("SELECT nothing FROM t", "INSERT INTO t (nothing) VALUES (1)", "UPDATE t SET nothing = 1"):
        error = busy.refused(statement)
        assert error.sqlstate == "42703"


# ── deep ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TOO_DEEP = "54001"
DEEP: dict[str, Callable[[int], pb.Expression]] = {
    "NOT": lambda n: program([COLUMN, op("IS_NULL"), *[op("NOT")] * n], "type"),
    "IS NULL": lambda n: program([COLUMN, *[op("IS_NULL")] * n], "value"),
    "negation": lambda n: program([COLUMN, *[op("NEGATE")] * n], "version"),
    "CASE": lambda n: program([COLUMN, op("IS_NULL", flags=1)] * n + [COLUMN] + [op("CASE", 1)] * n, "value"),
    "CASE in its condition": lambda n: program(
        [COLUMN, op("IS_NULL")] + [op("CONSTANT"), op("CASE", 1)] * n, "value", constants=(True,)
    ),
    "CALL": lambda n: program([COLUMN, *[op("CALL", 1, 1)] * n], "key", "lower"),
    "wide CALL": lambda n: program([COLUMN, *([COLUMN] * 17 + [op("CALL", 18, 1)]) * (n // 18)], "comment", "coalesce"),
    "INDEX": lambda n: program([COLUMN] * (n + 1) + [op("INDEX")] * n, "value"),
    "INDEX of INDEX": lambda n: program([COLUMN, *[COLUMN, op("INDEX")] * n], "value"),
    "FIELD": lambda n: program([COLUMN, *[op("FIELD")] * n], "value"),
    "CAST": lambda n: program([COLUMN, *[op("CAST", 1, 1)] * n], "key", "text"),
    "=": lambda n: program([COLUMN] * (n + 1) + [op("EQ")] * n, "version"),
    "-": lambda n: program([COLUMN] * (n + 1) + [op("SUBTRACT")] * n, "version"),
    "||": lambda n: program([COLUMN] * (n + 1) + [op("CONCAT")] * n, "key"),
    "LIKE": lambda n: program([COLUMN] * (n + 1) + [op("LIKE")] * n, "key"),
    "BETWEEN": lambda n: program([COLUMN] * (2 * n + 1) + [op("BETWEEN")] * n, "version"),
    "IN": lambda n: program([COLUMN] * (n + 1) + [op("IN", 1)] * n, "version"),
    "AND": lambda n: program([COLUMN, op("IS_NULL")] * (n + 1) + [op("AND", 2)] * n, "version"),
    "AND OR": lambda n: program(
        [COLUMN, op("IS_NULL"), *[COLUMN, op("IS_NULL"), op("OR", 2), COLUMN, op("IS_NULL"), op("AND", 2)] * (n // 2)],
        "version",
    ),
    "wide AND": lambda n: program(
        [COLUMN, op("IS_NULL"), *([COLUMN, op("IS_NULL")] * 17 + [op("AND", 18)]) * (n // 36)], "version"
    ),
    "JSON": lambda n: program([COLUMN, *[op("JSON_ARRAY", 1)] * n], "version"),
    "FILTER": lambda n: program([COLUMN] + [COLUMN, op("CALL", 1, 1, 8)] * n, "version", "count"),
}  # fmt: skip


@pytest.mark.parametrize("depth", [90, 12_000])
@pytest.mark.parametrize("name", DEEP)
def test_deep_programs_are_computed_or_refused(busy: BusyStore, name: str, depth: int) -> None:
    request = select(DEEP[name](depth))
    try:
        busy.rows(request)
    except Error as e:
        # operands of the wrong type, and what aggregates forbid, are the programs' own faults
        assert e.sqlstate in (TOO_DEEP, "42804", "42883", "42803", "22P02"), e
        if depth == 90:
            assert e.sqlstate != TOO_DEEP or name == "JSON", e
    assert busy.gap_s < GAP_MAX_S
    assert busy.rows("SELECT 1") == [(1,)]


def test_ten_thousand_nots_are_right(busy: BusyStore) -> None:
    for count, expected in ((10_000, False), (10_001, True)):
        assert busy.rows(select(DEEP["NOT"](count)))[0] == (expected,)


def test_a_missing_field_is_missing_however_deep_the_expression(busy: BusyStore) -> None:
    for depth in (1, 45, 120):
        for name, expected in (("name", False), ("nowhere", True)):
            steps = [op("COLUMN", 1), op("COLUMN", 1, 1)] + [op("CALL", 1, 2)] * depth + [op("INDEX"), op("IS_MISSING")]
            expression = program(steps, "value", "comment", "lower")
            assert busy.rows(select(expression))[0] == (True,)  # a step that is NULL leads nowhere
            direct = program([op("COLUMN", 1), op("IS_MISSING")], name)
            assert busy.rows(select(direct))[-1] == (expected,)


# ── many values, large values ─────────────────────────────────────────────────────────────────────────────────────


def test_many_values_that_are_computed(busy: BusyStore) -> None:
    count = 10_000
    pairs = ", ".join(f"('k{i}', {i} + 1)" for i in range(count))
    assert busy.run(f"INSERT INTO t VALUES {pairs} RETURNING value").rows[-1] == (count,)
    assert busy.gap_s < GAP_MAX_S
    assert busy.run(f"UPSERT {', '.join(f'k{i} ({i} + 1)' for i in range(count))}").row_count == count
    assert busy.gap_s < GAP_MAX_S
    conflict = f"INSERT INTO t VALUES {pairs} ON CONFLICT DO UPDATE SET value = value + EXCLUDED.value RETURNING *"
    assert busy.run(conflict).rows[-1] == (f"k{count - 1}", 2 * count)
    assert busy.gap_s < GAP_MAX_S


def test_a_value_that_is_long_to_compute(busy: BusyStore) -> None:
    long = "1" + " + 1" * 9_000
    assert busy.run(f"INSERT INTO t VALUES ('z', {long})").row_count == 1
    assert busy.gap_s < GAP_MAX_S
    assert busy.run(f"UPSERT z ({long})").row_count == 1
    assert busy.gap_s < GAP_MAX_S
    assert busy.rows("SELECT value FROM t WHERE key = 'z'") == [(9_001,)]


@pytest.mark.parametrize("statement", [
    "SELECT sum(length(lower(value))) FROM big", "SELECT count(*) FROM big WHERE value LIKE '%a_a_y%'",
    "SELECT count(*) FROM big WHERE value ~ '(a+a+)+y'", "SELECT count(*) FROM big WHERE value ILIKE '%B%'",
    "SELECT count(DISTINCT value || key) FROM big", "SELECT max(substr(value, 2) || 'x') FROM big",
    "UPDATE big SET value = replace(value, 'aa', 'a') RETURNING length(value)",
    "SELECT length(value || value || value) FROM big ORDER BY upper(value) DESC LIMIT 2",
    "DRY RUN UPDATE big SET value = value || 'b'",
])  # fmt: skip
def test_long_values(busy: BusyStore, statement: str) -> None:
    busy.lane.namespace = "big"
    text = "a" * 500_000
    for number in range(20):
        busy.run("PUT ? ?", [f"k{number:02}", text])
    busy.rows(statement)


def test_a_long_pattern_over_long_values_can_be_stopped(busy: BusyStore) -> None:
    busy.lane.namespace = "big"
    for number in range(20):
        busy.run("PUT ? ?", [f"k{number:02}", "a" * 900_000])
    request = compile_statement(
        parse("SELECT count(*) FROM big WHERE value LIKE ?")[0], ["%" + "a_" * 12_000 + "b%"]
    )  # fmt: skip
    request.deadline_ms = 300
    started = time.process_time()
    assert busy.refused(request).sqlstate == "57014"
    assert time.process_time() - started < 10, "of minutes"


def test_long_json(busy: BusyStore) -> None:
    busy.lane.namespace = "big"
    for number in range(10):
        busy.run("PUT ? ?", [f"k{number}", {f"name{i}": i for i in range(20_000)}])
    assert busy.rows("SELECT sum(name7) FROM big") == [(70,)]
    assert len(busy.rows("SELECT count(*) FROM big GROUP BY value")) == 1
    assert len(busy.rows("SELECT key FROM big ORDER BY value DESC")) == 10
    assert busy.rows("UPDATE big SET name7 = name7 + 1 RETURNING name7") == [(8,)] * 10


def test_what_a_statement_writes_is_bounded() -> None:
    busy = BusyStore(Settings(statement_bytes_max=MEBIBYTE))
    for start in range(0, 2_000, 500):
        busy.run("UPSERT " + ", ".join(f"k{i} {i}" for i in range(start, start + 500)))
    for mode in ("", "DRY RUN ", "EXPLAIN ANALYZE "):
        assert busy.refused(f"{mode}UPDATE t SET value = ?", ["x" * 1_000]).sqlstate == "53400"
    assert busy.rows("SELECT count(*) FROM t WHERE typeof(value) = 'INTEGER'") == [(2_000,)]
    assert busy.run("UPDATE t SET value = ? WHERE key ^= 'k1'", ["x" * 100]).row_count == 1_111
