"""Requests that no compiler makes: each is refused by a documented code, and never told back at length."""

from __future__ import annotations

import asyncio

import pytest
from kvql_server.auth import LOCAL
from kvql_server.executor import step

from kvql.codec import encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from tests.server.busy import COLUMN, BusyStore, op, program, select

HUGE = (0, 1, 2, 3, 2**31, 2**32 - 1)
DOCUMENTED = {
    "22023", "42883", "42804", "42703", "42803", "42601", "54001", "22P02", "22003", "0A000", "42P10", "2201B",
}  # fmt: skip


@pytest.mark.parametrize("name", [n.removeprefix("OP_") for n, _ in pb.Op.items()])
def test_absurd_steps(busy: BusyStore, name: str) -> None:
    for arity in HUGE:
        for argument in HUGE:
            for flags in (0, 1, 127, 255, 2**32 - 1):
                for before in ([], [COLUMN], [COLUMN, op("CONSTANT")], [op("STAR")], [COLUMN] * 5):
                    steps = [*before, op(name, arity, argument, flags)]
                    request = select(program(steps, "value", "lower", constants=(7,)))
                    for mode in (pb.MODE_RUN, pb.MODE_EXPLAIN):
                        request.mode = mode
                        _documented(busy, request)


def _documented(busy: BusyStore, request: pb.Request) -> None:
    try:
        result = step(busy.executor.execute(request, busy.lane, LOCAL, busy.executor.work()))
        list(result.rows)
    except Error as e:
        assert e.sqlstate in DOCUMENTED, e


def test_absurd_commands(busy: BusyStore) -> None:
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
                asyncio.run(busy._whole(command))
            except Error as e:
                assert e.sqlstate in DOCUMENTED | {"23505", "42701"}, (e, command)


@pytest.mark.parametrize("mode", [4, 99])
def test_an_unknown_mode_does_nothing(busy: BusyStore, mode: int) -> None:
    request = compile_statement(parse("UPDATE t SET value = 5")[0])
    request.mode = mode
    assert busy.refused(request).sqlstate == "22023"
    busy.run("BEGIN")
    assert busy.refused(request).sqlstate == "22023"
    assert busy.refused("SELECT 1").sqlstate == "25P02"
    busy.run("ROLLBACK")
    assert busy.rows("SELECT value FROM t WHERE key = 'a'") == [(1,)]


def test_names_of_megabytes_are_not_told_back(busy: BusyStore) -> None:
    long = "x" * 2_000_000
    busy.run("CREATE TABLE d (name TEXT)")
    requests = [
        select(program([COLUMN], long)), select(program([COLUMN, op("CALL", 1, 1)], "value", long)),
        select(program([COLUMN, op("CAST", 1, 1)], "value", long)), select(program([op("COLUMN", 2)], "version", long)),
    ]  # fmt: skip
    for request in requests:
        for namespace in ("t", "d"):
            request.namespace = namespace
            try:
                result = busy.run(request)
            except Error as e:
                assert len(e.message) + len(e.hint or "") < 1_000
            else:
                assert sum(len(n.message) for n in result.notices) < 1_000
    for columns in ([long], ["key", long]):
        ones = encode_values([1] * len(columns))
        insert = pb.InsertCommand(namespace="d", width=len(columns), columns=columns, values=ones)
        assert busy.refused(pb.Request(insert=insert)).sqlstate == "42703"
