"""Scalar subqueries of a statement: each is a SELECT of one column and at most one row, and stands for that value.

They are read one after the other, before anything is computed from them, on the statement's own snapshot; inside a
transaction what they read is validated at COMMIT like any other read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from kvql import errors
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.executor import select
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.expressions.generated import placed
from kvql_server.executor.expressions.items import malformed
from kvql_server.transaction import Transaction

SUBQUERIES_MAX: Final = 100
"""Of one statement: each may read a whole namespace."""


class Answers(NamedTuple):
    """The value of each subquery with its type, where that is known of a NULL; and what they had to say."""

    values: list[tuple[Any, Type | None]]
    notices: list[Notice]


async def read(
    transaction: Transaction, call: Call, expression: pb.Expression, commands: Sequence[pb.SelectCommand]
) -> Answers:
    """What the OP_SUBQUERY steps of ``expression`` stand for. Errors have their place among the statement's steps, in
    which those of the expression come first and then those of each subquery."""
    answers = Answers([], [])
    places = _places(call, expression, len(commands))
    base = len(expression.steps)
    for command, place in zip(commands, places, strict=True):
        await call.work.turn()
        try:
            result, value = await _one(transaction, call, command)
        except Error as e:
            if e.item and e.part == pb.PART_STEP:
                e.item += base
            elif e.sqlstate != errors.CANCELLED:
                e.item, e.part = place + 1, pb.PART_STEP
            raise
        assert result.columns is not None
        answers.values.append((value, result.columns[0].type))
        answers.notices.extend(result.notices)
        base += select.steps_of(command)
    return answers


def _places(call: Call, expression: pb.Expression, count: int) -> list[int]:
    """The step that names each subquery; none is named twice or not at all."""
    if count > SUBQUERIES_MAX:
        raise errors.error(errors.TOO_COMPLEX, f"a statement has at most {SUBQUERIES_MAX} subqueries")
    if not count:
        return []
    steps = expression.steps[: call.settings.expression_steps_max]
    named = [(step.argument, at) for at, step in enumerate(steps) if step.op == pb.OP_SUBQUERY]
    named.sort()
    if [argument for argument, _ in named] != list(range(count)):
        raise malformed("its subqueries are not those that it names")
    return [at for _, at in named]


async def _one(transaction: Transaction, call: Call, command: pb.SelectCommand) -> tuple[Result, Any]:
    """The result and its only value; NULL without a row."""
    request = pb.Request(namespace=call.request.namespace, select=command)
    if not command.HasField("limit") or 2 < command.limit <= select.INTEGER_MAX:
        request.select.limit = 2  # the second row is one too many
    inner = Call(
        request, call.lane, call.principal, call.work, call.engine, call.clock, call.access, call.settings, call.watches
    )  # fmt: skip
    try:
        result = await select.select(transaction, inner)
        rows = await _rows(result)
    except Error as e:
        raise placed(e, inner.places) from None
    if len(rows) > 1:
        raise errors.error(
            errors.MORE_THAN_ONE_ROW, "more than one row returned by a subquery used as an expression",
            hint="narrow it with WHERE, add LIMIT 1, or take an aggregate: (SELECT max(value) …)",
        )  # fmt: skip
    return result, rows[0][0] if rows else None


async def _rows(result: Result) -> list[tuple[Any, ...]]:
    try:
        if result.columns is None or len(result.columns) != 1:
            raise errors.error(errors.SYNTAX, "subquery must return only one column")
        if isinstance(result.rows, Pages):
            return [row async for page in result.rows for row in page]
        return list(result.rows)
    finally:
        if isinstance(result.rows, Pages):
            result.rows.close()
