"""Programs and commands put together at random, as a message can hold them: an answer or a documented error, always."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from kvql_server.auth import LOCAL
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, step
from kvql_server.executor.expressions.builder import operands

from kvql.codec import encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json

COLUMNS: Final = ("key", "value", "version", "a", "b", "ttl", "created_at", "comment", "size", "type", "old", "")
NAMES: Final = (
    *COLUMNS, "lower", "length", "round", "substr", "concat", "coalesce", "count", "sum", "min", "max", "string_agg",
    "avg",
    "now", "date_trunc", "json_keys", "text", "integer", "numeric", "float", "json", "interval", "timestamp", "boolean",
    "bytes", "split_part", "replace", "trim", "nullif", "greatest", "typeof", "abs", "json_length", "x.y",
)  # fmt: skip
CONSTANTS: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), Decimal("1.5"), Decimal("1e500"), Decimal("-0.0000001"), 0.0,
    float("nan"), float("inf"), 1e308, 5e-324, "", "a", "%a_", "\\", "1", "2026-01-01", "day", "[", "é𝄞", b"", b"\xff",
    datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), Json('{"a":1}'),
    Json('{"a":{"b":[1e400,null]}}'), timedelta(0), timedelta(days=100_000_000), timedelta(microseconds=-1),
)  # fmt: skip
OPS: Final = [*(op for op in pb.Op.values() if op not in (pb.OP_UNSPECIFIED, pb.OP_STAR)), *[pb.OP_CALL] * 6]
PATHS: Final = (["value"], ["a"], ["a", "b"], ["expires_at"], ["key"], [""], ["value", "a"], ["A"])
COLUMN_LISTS: Final = ([], ["key", "value"], ["key", "a"], ["key", "expires_at"], ["a", "b"], ["KEY", "Value"])
DOCUMENTED: Final = {
    "0A000", "22001", "22003", "22012", "22023", "2201B", "22P02", "23502", "23505", "25P02", "3F000", "42601", "42701",
    "42703", "42803", "42804", "42883", "42P10", "53400", "54001",
}  # fmt: skip


class Maker:
    """Commands from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def program(self) -> pb.Expression:
        """Mostly one that leaves one value; now and then a step is anything at all."""
        choice, names = self.random.choice, self.random.sample(NAMES, 8) + list(COLUMNS)
        length, depth, steps = choice((1, 1, 2, 3, 5, 8, 15, 30)), 0, list[pb.Step]()
        while (len(steps) < length or depth > 1) and len(steps) < 200:
            made = pb.Step(op=choice(OPS), arity=choice((1, 2, 3)), flags=choice((0, 0, 0, 1, 2, 4, 8, 16, 32, 64)))
            if self.random.random() < 0.01:
                made = pb.Step(op=made.op, arity=choice((0, 9, 2**32 - 1)), argument=choice((7, 99)), flags=127)
                depth = max(depth, 1)
            elif (depth < 2 and len(steps) < length) or operands(made) > depth:
                leaf = choice((pb.OP_CONSTANT, pb.OP_COLUMN))
                place = self.random.randrange(4) if leaf == pb.OP_CONSTANT else 8 + self.random.randrange(len(COLUMNS))
                made = pb.Step(op=leaf, arity=1, argument=place)
                depth += 1
            else:
                made.argument = self.random.randrange(8)
                depth += 1 - operands(made)
            steps.append(made)
        constants = encode_values([choice(CONSTANTS) for _ in range(4)])
        return pb.Expression(steps=steps, names=names, constants=constants)

    def some(self, *counts: int) -> list[pb.Expression]:
        return [self.program() for _ in range(self.random.choice(counts))]

    def shown(self) -> list[pb.Projection]:
        star = pb.Expression(steps=[pb.Step(op=pb.OP_STAR)])
        choice = self.random.choice
        return [
            pb.Projection(
                name=choice(("a", "x", "key", "")), expression=choice((e, e, star)), aliased=choice((True, False))
            )
            for e in self.some(1, 1, 2, 3)
        ]

    def assigned(self) -> list[pb.Assignment]:
        return [pb.Assignment(path=self.random.choice(PATHS), expression=e) for e in self.some(1, 1, 2)]

    def command(self) -> pb.Request:
        choice = self.random.choice
        namespace = choice(("t", "t", "t", "d", "", "nope"))
        where, returning = choice((None, self.program())), choice(([], self.shown()))
        match self.random.randrange(5):
            case 0:
                update = pb.UpdateRowsCommand(
                    namespace=namespace, assignments=self.assigned(), where=where, returning=returning
                )
                return pb.Request(update_rows=update)
            case 1:
                return pb.Request(
                    delete_rows=pb.DeleteRowsCommand(namespace=namespace, where=self.program(), returning=returning)
                )
            case 2:
                return pb.Request(insert=self.insert(namespace, returning))
            case _:
                orders = [pb.Ordering(expression=e, descending=choice((True, False))) for e in self.some(0, 0, 1, 2)]
                select = pb.SelectCommand(
                    namespace=namespace, from_session=choice((True, False)), projections=self.shown(), where=where,
                    distinct=choice((True, False, False)), group_all=choice((True, *[False] * 9)), order_by=orders,
                    group_by=self.some(0, 0, 0, 1, 2), having=choice((None, None, None, self.program())),
                    limit=choice((None, None, 0, 5, 2**63)), offset=choice((None, None, 1, 2**64 - 1)),
                )  # fmt: skip
                return pb.Request(select=select)

    def insert(self, namespace: str, returning: list[pb.Projection]) -> pb.InsertCommand:
        choice = self.random.choice
        storable = [c for c in CONSTANTS if type(c) is not timedelta]
        values = [
            choice((choice(storable), f"k{self.random.randrange(9)}", self.program())) for _ in range(choice((2, 4, 3)))
        ]
        values[0] = choice((values[0], "k1", "new"))
        conflict = pb.OnConflict(assignments=choice(([], self.assigned())), where=choice((None, self.program())))
        return pb.InsertCommand(
            namespace=namespace, columns=choice(COLUMN_LISTS), width=choice((2, 2, 2, 0, 1)), returning=returning,
            values=encode_values(values), ttl_ms=choice((0, 0, 1000, -1)), on_conflict=choice((None, conflict)),
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_commands(seed: int) -> None:
    executor, lane, maker = Executor(MemoryEngine(), start_namespace="t"), Lane("t"), Maker(seed)
    codes: Counter[str] = Counter()

    def run(request: pb.Request) -> None:
        list(step(executor.execute(request, lane, LOCAL, executor.work(5_000))).rows)

    def begin_again() -> None:
        lane.rollback()
        for text in (
            "DROP NAMESPACE IF EXISTS t", "DROP NAMESPACE IF EXISTS d", "CREATE TABLE d (a INTEGER, b TEXT NOT NULL)",
            "INSERT INTO t VALUES ('k0', 1), ('k1', 'x'), ('k2', NULL), ('k3', {\"a\": {\"b\": [1, null]}, \"b\": 2})",
            "INSERT INTO t VALUES ('k4', 1.5), ('k5', TRUE), ('k6', 1e0), ('k7', x'00')",
            "INSERT INTO t VALUES ('k8', TIMESTAMP '2026-01-01')",
            "INSERT INTO d VALUES (1, 'x'), (2, 'y')",
        ):  # fmt: skip
            run(compile_statement(parse(text)[0]))

    for number in range(1_500):
        if number % 100 == 0:
            begin_again()
            if number % 200 == 0:
                run(compile_statement(parse("BEGIN")[0]))
        request = maker.command()
        request.mode = maker.random.choice((0, 0, 0, 1, 2, 3))
        try:
            run(request)
            codes["fine"] += 1
        except Error as e:
            assert e.sqlstate in DOCUMENTED, (e, request)
            assert len(e.message) < 1_000
            codes[e.sqlstate] += 1
        if lane.transaction is not None and lane.transaction.failed:
            lane.rollback()
    assert codes["fine"] > 50, codes
