"""Statements made to hurt: huge, deep, wide. Each is carried out or refused by name, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from kvql_server.auth import LOCAL
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, Pages, Work, step
from kvql_server.executor.expressions import builder, conditions, values
from kvql_server.settings import MEBIBYTE, Settings

from kvql.codec import encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb

GAP_MAX_S = 1.0
"""How long others may wait; it is some 20 ms, but tests run on busy machines. It was up to half a minute."""


class Store:
    """An executor as a server has it: with an event loop in which others want their turn."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.executor = Executor(MemoryEngine(), settings=settings, start_namespace="t")
        self.lane = Lane("t")
        self.gap_s = 0.0

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            self.gap_s = max(self.gap_s, time.monotonic() - before)
            before = time.monotonic()

    async def _whole(self, request: pb.Request) -> Result:
        work: Work = self.executor.work(request.deadline_ms)
        work.yields = True
        result = await self.executor.execute(request, self.lane, LOCAL, work)
        if isinstance(result.rows, Pages):
            result.rows = [row async for page in result.rows for row in page]
        return result

    def run(self, request: pb.Request | str, parameters: Any = None) -> Result:
        """The result, while a heart beats."""
        if isinstance(request, str):
            request = compile_statement(parse(request)[0], parameters)
        prepared = request

        async def both() -> Result:
            heart = asyncio.create_task(self._beat())
            await asyncio.sleep(0.01)
            self.gap_s = 0.0
            try:
                return await self._whole(prepared)
            finally:
                heart.cancel()

        return asyncio.run(both())

    def rows(self, request: pb.Request | str, parameters: Any = None) -> list[tuple[Any, ...]]:
        rows = self.run(request, parameters).rows
        assert isinstance(rows, list)
        assert self.gap_s < GAP_MAX_S
        return rows

    def refused(self, request: pb.Request | str, parameters: Any = None) -> Error:
        with pytest.raises(Error) as caught:
            self.run(request, parameters)
        assert self.gap_s < GAP_MAX_S
        assert len(caught.value.message) < 1000
        assert len(caught.value.hint or "") < 2000
        return caught.value


@pytest.fixture
def store() -> Store:
    made = Store()
    made.run("""INSERT INTO t VALUES ('a', 1), ('b', 2.5), ('c', 'x'), ('j', {"name": "n", "deep": {"er": [7]}})""")
    return made


def op(name: str, arity: int = 0, argument: int = 0, flags: int = 0) -> pb.Step:
    return pb.Step(op=pb.Op.Value(f"OP_{name}"), arity=arity, argument=argument, flags=flags)


def select(*expressions: pb.Expression, **fields: Any) -> pb.Request:
    command = pb.SelectCommand(from_session=True, **fields)
    for number, expression in enumerate(expressions):
        command.projections.add(name=f"c{number}", expression=expression)
    return pb.Request(select=command)


def program(steps: list[pb.Step], *names: str, constants: tuple[Any, ...] = ()) -> pb.Expression:
    return pb.Expression(steps=steps, names=names, constants=encode_values(list(constants)))


COLUMN = op("COLUMN", 1)

# ── wide ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300, 5_000, 16_000])
def test_chains_of_any_length(store: Store, count: int) -> None:
    where = "FROM t WHERE key = 'a'"
    assert store.rows(f"SELECT value{' + 1' * count} {where}") == [(1 + count,)]
    assert store.rows(f"SELECT value{' - 1 + 2' * (count // 2)} {where}") == [(1 + count // 2,)]
    assert store.rows(f"SELECT length(key{' || key' * count}) {where}") == [(1 + count,)]
    assert store.rows(f"SELECT 1{' + 1' * count}") == [(1 + count,)]
    assert store.rows(f"SELECT 1 {where} AND 100000 > value{' + 1' * count}") == [(1,)]


@pytest.mark.parametrize("count", [1, 16, 17, 64, 65, 130, 2_000])
def test_wide_expressions_of_any_width(store: Store, count: int) -> None:
    numbers = range(count)
    where = "FROM t WHERE key = 'a'"
    assert store.rows(f"SELECT key FROM t WHERE {' OR '.join(f'value = {i + 1}' for i in numbers)}")[0] == ("a",)
    assert store.rows(f"SELECT key FROM t WHERE {' AND '.join(f'value <> {i + 2}' for i in numbers)}")[0] == ("a",)
    assert store.rows(f"SELECT value IN ({', '.join(f'version + {i}' for i in numbers)}) {where}") == [(True,)]
    whens = " ".join(f"WHEN value = {i} + 2 THEN {i}" for i in numbers)
    assert store.rows(f"SELECT CASE {whens} ELSE -1 END {where}") == [(-1,)]
    assert store.rows(f"SELECT CASE {whens} END FROM t WHERE key = 'a'") == [(None,)]
    whens = " ".join(f"WHEN {i} THEN {i} * 2" for i in numbers)
    assert store.rows(f"SELECT CASE value + {count - 2} {whens} ELSE -1 END {where}") == [((count - 1) * 2,)]
    assert store.rows(f"SELECT coalesce({', '.join(['comment'] * (count - 1) + ['key'])}) {where}") == [("a",)]
    assert store.rows(f"SELECT greatest({', '.join(f'value + {i}' for i in numbers)}) {where}") == [(count,)]
    listed = store.rows(f"SELECT concat({', '.join(f'value + {i}' for i in numbers)}) {where}")
    assert listed == [("".join(str(i + 1) for i in numbers),)]
    fields = ", ".join(f"value + {i} AS x{i}" for i in numbers)
    assert store.rows(f"SELECT {fields} {where}") == [tuple(i + 1 for i in numbers)]
    assert store.rows(f"SELECT {fields} {where} ORDER BY {', '.join(f'x{i}' for i in numbers)}")[0][-1] == count
    assert store.rows(f"SELECT {', '.join(f'count(value + {i})' for i in numbers)} {where}") == [(1,) * count]
    groups = ", ".join(f"value + {i}" for i in numbers)
    assert store.rows(f"SELECT count(*) {where} GROUP BY {groups}") == [(1,)]
    assert store.run(f"UPDATE t SET {', '.join(f'f{i} = {i}' for i in numbers)} WHERE key = 'j'").row_count == 1
    assert store.rows("SELECT json_length(value) FROM t WHERE key = 'j'") == [(2 + count,)]


def test_three_values_survive_the_cutting_of_wide_logic(store: Store) -> None:
    for count in (3, 17, 70, 200):
        for at in (0, count - 1):
            for special, either, both in (("NULL", None, None), ("TRUE", True, None), ("FALSE", None, False)):
                terms = ["comment = 'x'"] * count  # NULL, as there is no comment
                terms[at] = special if special == "NULL" else f"(key = 'a') = {special}"
                shown = f"SELECT {' OR '.join(terms)}, {' AND '.join(terms)} FROM t WHERE key = 'a'"
                assert store.rows(shown) == [(either, both)], (count, at, special)


def test_many_functions_before_many_constants(store: Store) -> None:
    count = 1_000
    case = "CASE WHEN value = 1 THEN 2 END"
    assert store.rows(f"SELECT {', '.join([case] * count)}, {', '.join(['1 + 1'] * count)} FROM t WHERE key = 'a'") == [
        (2,) * (2 * count)
    ]


def test_many_columns_and_many_orders(store: Store) -> None:
    names = [f"f{i}" for i in range(6_000)]
    assert len(store.rows(f"SELECT {', '.join(names)} FROM t ORDER BY {', '.join(f'g{i}' for i in range(6_000))}")) == 4


def test_many_aliases(store: Store) -> None:
    aliases = ", ".join(f"value AS x{i}" for i in range(5_000))
    where = " OR ".join(f"Y{i} = 1" for i in range(5_000))
    assert store.rows(f"SELECT {aliases} FROM t WHERE {where}") == []
    assert len(store.rows(f"SELECT {aliases} FROM t WHERE {where.replace('Y', 'X')}")) == 1


def test_aliases_that_stand_for_much(store: Store) -> None:
    alias = f"version{' + 1' * 200} AS x"
    assert store.rows(f"SELECT {alias} FROM t WHERE ({' OR '.join(['x = 201'] * 100)}) AND key = 'a'") == [(201,)]
    assert store.refused(f"SELECT {alias} FROM t WHERE {' OR '.join(['x = 201'] * 1_000)}").sqlstate == "54001"


def test_fields_that_nobody_has(store: Store) -> None:
    store.run("UPSERT j ?", [{f"name{i}": i for i in range(50_000)}])
    result = store.run(f"SELECT {', '.join(f'nam{i}x' for i in range(5_000))} FROM t")
    assert len(result.rows) == 4
    assert 2 < len(result.notices) < 30
    assert "more" in result.notices[-1].message
    assert store.gap_s < GAP_MAX_S


def test_a_declared_namespace_with_many_fields() -> None:
    store = Store()
    fields = [f"Field{i}" for i in range(1_000)]
    store.run(f"CREATE TABLE t ({', '.join(f'{f} INTEGER' for f in fields)})")
    store.run(f"INSERT INTO t VALUES ({', '.join(map(str, range(1_000)))})")
    columns = ", ".join(f.lower() for f in fields)
    assert store.rows(f"SELECT {', '.join([columns] * 10)} FROM t") == [tuple(range(1_000)) * 10]
    for statement in ("SELECT nothing FROM t", "INSERT INTO t (nothing) VALUES (1)", "UPDATE t SET nothing = 1"):
        error = store.refused(statement)
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
def test_deep_programs_are_computed_or_refused(store: Store, name: str, depth: int) -> None:
    request = select(DEEP[name](depth))
    try:
        store.rows(request)
    except Error as e:
        # operands of the wrong type, and what aggregates forbid, are the programs' own faults
        assert e.sqlstate in (TOO_DEEP, "42804", "42883", "42803", "22P02"), e
        if depth == 90:
            assert e.sqlstate != TOO_DEEP or name == "JSON", e
    assert store.gap_s < GAP_MAX_S
    assert store.rows("SELECT 1") == [(1,)]


def test_ten_thousand_nots_are_right(store: Store) -> None:
    for count, expected in ((10_000, False), (10_001, True)):
        assert store.rows(select(DEEP["NOT"](count)))[0] == (expected,)


def test_a_missing_field_is_missing_however_deep_the_expression(store: Store) -> None:
    for depth in (1, 45, 120):
        for name, expected in (("name", False), ("nowhere", True)):
            steps = [op("COLUMN", 1), op("COLUMN", 1, 1)] + [op("CALL", 1, 2)] * depth + [op("INDEX"), op("IS_MISSING")]
            expression = program(steps, "value", "comment", "lower")
            assert store.rows(select(expression))[0] == (True,)  # a step that is NULL leads nowhere
            direct = program([op("COLUMN", 1), op("IS_MISSING")], name)
            assert store.rows(select(direct))[-1] == (expected,)


# ── many values, large values ─────────────────────────────────────────────────────────────────────────────────────


def test_many_values_that_are_computed(store: Store) -> None:
    count = 10_000
    pairs = ", ".join(f"('k{i}', {i} + 1)" for i in range(count))
    assert store.run(f"INSERT INTO t VALUES {pairs} RETURNING value").rows[-1] == (count,)
    assert store.gap_s < GAP_MAX_S
    assert store.run(f"UPSERT {', '.join(f'k{i} ({i} + 1)' for i in range(count))}").row_count == count
    assert store.gap_s < GAP_MAX_S
    conflict = f"INSERT INTO t VALUES {pairs} ON CONFLICT DO UPDATE SET value = value + EXCLUDED.value RETURNING *"
    assert store.run(conflict).rows[-1] == (f"k{count - 1}", 2 * count)
    assert store.gap_s < GAP_MAX_S


def test_a_value_that_is_long_to_compute(store: Store) -> None:
    long = "1" + " + 1" * 9_000
    assert store.run(f"INSERT INTO t VALUES ('z', {long})").row_count == 1
    assert store.gap_s < GAP_MAX_S
    assert store.run(f"UPSERT z ({long})").row_count == 1
    assert store.gap_s < GAP_MAX_S
    assert store.rows("SELECT value FROM t WHERE key = 'z'") == [(9_001,)]


@pytest.mark.parametrize("statement", [
    "SELECT sum(length(lower(value))) FROM big", "SELECT count(*) FROM big WHERE value LIKE '%a_a_y%'",
    "SELECT count(*) FROM big WHERE value ~ '(a+a+)+y'", "SELECT count(*) FROM big WHERE value ILIKE '%B%'",
    "SELECT count(DISTINCT value || key) FROM big", "SELECT max(substr(value, 2) || 'x') FROM big",
    "UPDATE big SET value = replace(value, 'aa', 'a') RETURNING length(value)",
    "SELECT length(value || value || value) FROM big ORDER BY upper(value) DESC LIMIT 2",
    "DRY RUN UPDATE big SET value = value || 'b'",
])  # fmt: skip
def test_long_values(store: Store, statement: str) -> None:
    store.lane.namespace = "big"
    text = "a" * 500_000
    for number in range(20):
        store.run("PUT ? ?", [f"k{number:02}", text])
    store.rows(statement)


def test_a_long_pattern_over_long_values_can_be_stopped(store: Store) -> None:
    store.lane.namespace = "big"
    for number in range(20):
        store.run("PUT ? ?", [f"k{number:02}", "a" * 900_000])
    request = compile_statement(
        parse("SELECT count(*) FROM big WHERE value LIKE ?")[0], ["%" + "a_" * 12_000 + "b%"]
    )  # fmt: skip
    request.deadline_ms = 300
    started = time.monotonic()
    assert store.refused(request).sqlstate == "57014"
    assert time.monotonic() - started < 10


def test_long_json(store: Store) -> None:
    store.lane.namespace = "big"
    for number in range(10):
        store.run("PUT ? ?", [f"k{number}", {f"name{i}": i for i in range(20_000)}])
    assert store.rows("SELECT sum(name7) FROM big") == [(70,)]
    assert len(store.rows("SELECT count(*) FROM big GROUP BY value")) == 1
    assert len(store.rows("SELECT key FROM big ORDER BY value DESC")) == 10
    assert store.rows("UPDATE big SET name7 = name7 + 1 RETURNING name7") == [(8,)] * 10


def test_what_a_statement_writes_is_bounded() -> None:
    store = Store(Settings(statement_bytes_max=MEBIBYTE))
    for start in range(0, 2_000, 500):
        store.run("UPSERT " + ", ".join(f"k{i} {i}" for i in range(start, start + 500)))
    for mode in ("", "DRY RUN ", "EXPLAIN ANALYZE "):
        assert store.refused(f"{mode}UPDATE t SET value = ?", ["x" * 1_000]).sqlstate == "53400"
    assert store.rows("SELECT count(*) FROM t WHERE typeof(value) = 'INTEGER'") == [(2_000,)]
    assert store.run("UPDATE t SET value = ? WHERE key ^= 'k1'", ["x" * 100]).row_count == 1_111


# ── malformed ─────────────────────────────────────────────────────────────────────────────────────────────────────

HUGE = (0, 1, 2, 3, 2**31, 2**32 - 1)
DOCUMENTED = {
    "22023", "42883", "42804", "42703", "42803", "42601", "54001", "22P02", "22003", "0A000", "42P10", "2201B",
}  # fmt: skip


@pytest.mark.parametrize("name", [n.removeprefix("OP_") for n, _ in pb.Op.items()])
def test_absurd_steps(store: Store, name: str) -> None:
    for arity in HUGE:
        for argument in HUGE:
            for flags in (0, 1, 127, 255, 2**32 - 1):
                for before in ([], [COLUMN], [COLUMN, op("CONSTANT")], [op("STAR")], [COLUMN] * 5):
                    steps = [*before, op(name, arity, argument, flags)]
                    request = select(program(steps, "value", "lower", constants=(7,)))
                    for mode in (pb.MODE_RUN, pb.MODE_EXPLAIN):
                        request.mode = mode
                        _documented(store, request)


def _documented(store: Store, request: pb.Request) -> None:
    try:
        result = step(store.executor.execute(request, store.lane, LOCAL, store.executor.work()))
        list(result.rows)
    except Error as e:
        assert e.sqlstate in DOCUMENTED, e


def test_absurd_commands(store: Store) -> None:
    one = program([op("CONSTANT")], constants=(1,))
    star = program([op("STAR")])
    empty = pb.Expression()
    value = pb.Assignment(path=["value"], expression=one)
    commands: list[pb.Request] = [
        select(), select(empty), select(one, where=empty), select(one, group_by=[empty]), select(one, having=empty),
        select(one, order_by=[pb.Ordering(expression=empty)]), select(star, where=star), select(star, group_by=[star]),
        select(star, order_by=[pb.Ordering(expression=star)]),
        select(one, limit=2**64 - 1), select(one, offset=2**64 - 1),
        select(program([op("STAR"), op("STAR")])), select(program([op("STAR"), op("NOT")])),
        *[pb.Request(select=pb.SelectCommand(
            from_session=True, projections=[pb.Projection(name=name, aliased=True, expression=shown)],
            order_by=[pb.Ordering(expression=ordered)], where=ordered, distinct=distinct,
        )) for name in ("", "a", "key") for shown in (star, one) for distinct in (False, True)
            for ordered in (program([COLUMN], ""), program([COLUMN], "a"), program([COLUMN], "key"),
                            program([COLUMN, op("IS_NULL")], "a"))],
        *[pb.Request(update_rows=pb.UpdateRowsCommand(assignments=a)) for a in (
            [], [pb.Assignment()], [pb.Assignment(path=[""], expression=empty)], [pb.Assignment(path=["value"])],
            [pb.Assignment(path=["value"], expression=star)], [value, value],
            [pb.Assignment(path=["x"] * 500, expression=one)],
        )],
        pb.Request(update_rows=pb.UpdateRowsCommand(assignments=[value], where=empty)),
        pb.Request(update_rows=pb.UpdateRowsCommand(assignments=[value], returning=[pb.Projection()])),
        pb.Request(delete_rows=pb.DeleteRowsCommand(where=star)),
        pb.Request(delete_rows=pb.DeleteRowsCommand(returning=[pb.Projection(expression=empty)])),
        *[pb.Request(insert=pb.InsertCommand(width=width, columns=columns, values=encode_values(values)))
          for width in (0, 1, 2, 3, 2**32 - 1)
          for columns in ([], ["key"], ["key", "value"], ["value"], ["key", "key"], [""], ["key", "nope"], ["x"] * 1000)
          for values in ([], ["z"], ["z", 1], ["z", 1, 2], [None, None], [1, 1], [True] * 100)],
        pb.Request(insert=pb.InsertCommand(width=2, values=pb.Values(types=b"\x06\xff", texts=["z"]))),
        pb.Request(insert=pb.InsertCommand(
            width=2, values=pb.Values(types=b"\x06\x0b", texts=["z"], expressions=[empty]))),
        pb.Request(insert=pb.InsertCommand(width=2, values=pb.Values(types=b"\x06\x0a", texts=["z"], integers=[1]))),
        pb.Request(insert=pb.InsertCommand(
            width=2, values=encode_values(["z", 1]), on_conflict=pb.OnConflict(target=["value"]))),
        pb.Request(insert=pb.InsertCommand(
            width=2, values=encode_values(["z", 1]), on_conflict=pb.OnConflict(assignments=[pb.Assignment()]))),
        pb.Request(insert=pb.InsertCommand(width=2, values=encode_values(["z", 1]), ttl_ms=-1)),
        pb.Request(insert=pb.InsertCommand(width=2, values=encode_values(["z", 1]), ttl_ms=2**62)),
        pb.Request(),
    ]  # fmt: skip
    for command in commands:
        for mode in (0, 1, 2, 3, 4, 2**31 - 1):
            command.mode = mode
            try:
                asyncio.run(store._whole(command))
            except Error as e:
                assert e.sqlstate in DOCUMENTED | {"23505", "42701"}, (e, command)


@pytest.mark.parametrize("mode", [4, 99])
def test_an_unknown_mode_does_nothing(store: Store, mode: int) -> None:
    request = compile_statement(parse("UPDATE t SET value = 5")[0])
    request.mode = mode
    assert store.refused(request).sqlstate == "22023"
    store.run("BEGIN")
    assert store.refused(request).sqlstate == "22023"
    assert store.refused("SELECT 1").sqlstate == "25P02"
    store.run("ROLLBACK")
    assert store.rows("SELECT value FROM t WHERE key = 'a'") == [(1,)]


def test_names_of_megabytes_are_not_told_back(store: Store) -> None:
    long = "x" * 2_000_000
    store.run("CREATE TABLE d (name TEXT)")
    requests = [
        select(program([COLUMN], long)), select(program([COLUMN, op("CALL", 1, 1)], "value", long)),
        select(program([COLUMN, op("CAST", 1, 1)], "value", long)), select(program([op("COLUMN", 2)], "version", long)),
    ]  # fmt: skip
    for request in requests:
        for namespace in ("t", "d"):
            request.namespace = namespace
            try:
                result = store.run(request)
            except Error as e:
                assert len(e.message) + len(e.hint or "") < 1_000
            else:
                assert sum(len(n.message) for n in result.notices) < 1_000
    for columns in ([long], ["key", long]):
        ones = encode_values([1] * len(columns))
        insert = pb.InsertCommand(namespace="d", width=len(columns), columns=columns, values=ones)
        assert store.refused(pb.Request(insert=insert)).sqlstate == "42703"


# ── cut or not, the same ──────────────────────────────────────────────────────────────────────────────────────────


_LEAVES = {
    "number": ("version", "1", "2.5", "NULL", "length(key)", "size", "-version"),
    "text": ("key", "comment", "'x'", "NULL", "updated_by", "value::text", "name"),
    "truth": ("TRUE", "NULL", "key < 'b'", "comment IS NULL", "deep.er IS MISSING", "value = 1", "value > 1",
              "key ^= 'j'"),
}  # fmt: skip


def _expression(random_: random.Random, kind: str, depth: int) -> str:
    """An expression of some type; only now and then one that fails."""
    if depth == 0 or random_.random() < 0.1:
        return f"({random_.choice(_LEAVES[kind])})"

    def some(of: str, least: int, most: int) -> list[str]:
        return [_expression(random_, of, depth - 1) for _ in range(random_.randint(least, most))]

    match random_.randrange(5):
        case 0:
            whens = " ".join(f"WHEN {a} THEN {b}" for a, b in zip(some("truth", 3, 3), some(kind, 3, 3), strict=True))
            return f"(CASE {whens} {random_.choice(('', 'ELSE ' + some(kind, 1, 1)[0]))} END)"
        case 1:
            whens = " ".join(f"WHEN {a} THEN {b}" for a, b in zip(some("number", 3, 3), some(kind, 3, 3), strict=True))
            return f"(CASE {some('number', 1, 1)[0]} {whens} END)"
        case 2:
            return f"coalesce({', '.join(some(kind, 1, 6))})"
    if kind == "number":
        if random_.random() < 0.5:
            return f"greatest({', '.join(some(kind, 1, 6))})"
        return "(0 " + " ".join(f"{random_.choice('+-')} {e}" for e in some(kind, 1, 7)) + ")"
    if kind == "text":
        return random_.choice((f"concat({', '.join(some(kind, 1, 6))})", f"({' || '.join(some(kind, 2, 7))})"))
    of = random_.choice(("number", "text"))
    return random_.choice((
        f"({' OR '.join(some(kind, 2, 6))})", f"({' AND '.join(some(kind, 2, 6))})", f"(NOT {some(kind, 1, 1)[0]})",
        f"({some(of, 1, 1)[0]} IN ({', '.join(some(of, 1, 6))}))", f"({some(of, 1, 1)[0]} < {some(of, 1, 1)[0]})",
    ))  # fmt: skip


def _answers(store: Store, statements: list[str]) -> list[object]:
    out: list[object] = []
    for statement in statements:
        try:
            result = store.run(statement)
            out.append((repr(result.rows), result.columns, [n.message for n in result.notices]))
        except Error as e:
            out.append(e.sqlstate)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_what_is_cut_into_pieces_means_the_same(store: Store, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random_ = random.Random(seed)
    statements = []
    for _ in range(10):
        one, two, truth = [_expression(random_, kind, 3) for kind in ("number", "text", "truth")]
        statements += [
            f"SELECT {one}, {two}, {truth} FROM t", f"SELECT key FROM t WHERE {truth}",
            f"SELECT {two}, count({one}) FROM t GROUP BY {two}", f"SELECT key FROM t ORDER BY {two} DESC, {one}",
        ]  # fmt: skip
    whole = _answers(store, statements)
    assert sum(isinstance(answer, tuple) for answer in whole) > 30
    for module in (builder, conditions, values):
        for name, small in (("PIECE", 2), ("WIDE", 1), ("DEPTH_MAX", 3), ("SOURCE_MAX", 30)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, small)
    assert _answers(store, statements) == whole


def test_a_long_condition_that_explain_cuts_keeps_its_brackets(store: Store) -> None:
    long = " OR ".join(f"key = 'k{i}'" for i in range(1_000))
    details = [detail for _, detail in store.rows(f"EXPLAIN DELETE FROM t WHERE value < 0 AND ({long})")]
    assert any(detail.startswith("value < 0 AND (key = 'k0' OR ") for detail in details), details
    assert max(map(len, details)) < 1_100
