"""SELECT: columns and expressions of the pairs that satisfy a condition, or one row of constants."""

from __future__ import annotations

from typing import Final

from kvql import errors
from kvql.result import Notice, Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server.executor import expression, lists
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.operators import Skipped
from kvql_server.transaction import Transaction

OFFSET_MAX: Final = 2**63 - 1
_STAR: Final = ("key", "value")


async def select(transaction: Transaction, call: Call) -> Result:
    """The rows, computed while they are read."""
    command = call.request.select
    _refuse_later(command)
    settings = call.settings
    if not command.namespace and not command.from_session:
        if command.HasField("where"):
            raise errors.error(errors.INVALID, "a condition needs a namespace to read from", hint="SELECT … FROM ns")
        columns, row = expression.constants(
            _projections(command, False), transaction.time, settings.expression_steps_max
        )
        rows = [row][command.offset : command.limit + command.offset if command.HasField("limit") else None]
        return Result(columns, rows, len(rows))
    namespace = call.namespace(command.namespace)
    await call.access.existing(transaction, call.principal, namespace)
    compiled = expression.RowFunction(
        namespace, _projections(command, True), command.where if command.HasField("where") else None,
        transaction.time, settings.expression_steps_max,
    )  # fmt: skip
    limit = command.limit if command.HasField("limit") else None
    result = lists.rows_of(
        transaction, call, namespace, compiled.path, compiled.columns, compiled.page, limit=limit, offset=command.offset
    )
    assert isinstance(result.rows, Pages)
    result.rows.at_end = lambda: tell_skipped(compiled.skipped, result.notices)
    return result


def tell_skipped(skipped: Skipped, notices: list[Notice]) -> None:
    """How many comparisons had no answer because the types differ; known when all rows are read."""
    for kind, count in skipped.types.items():
        rows = "1 row" if count == 1 else f"{count:,} rows"
        notices.append(Notice(f"{rows} skipped: value is {kind.name}"))
    skipped.types.clear()


def _projections(command: pb.SelectCommand, has_source: bool) -> list[tuple[str, pb.Expression]]:
    out: list[tuple[str, pb.Expression]] = []
    for projection in command.projections:
        steps = projection.expression.steps
        if len(steps) == 1 and steps[0].op == pb.OP_STAR and has_source:
            for name in _STAR:
                column = pb.Expression(steps=[pb.Step(op=pb.OP_COLUMN, arity=1)], names=[name])
                out.append((name, column))
        else:
            out.append((projection.name, projection.expression))
    if not out:
        raise errors.error(errors.INVALID, "SELECT needs at least one column")
    return out


def _refuse_later(command: pb.SelectCommand) -> None:
    later = (
        "DISTINCT" if command.distinct
        else "GROUP BY" if command.group_by or command.group_all
        else "HAVING" if command.HasField("having")
        else "ORDER BY" if command.order_by
        else ""
    )  # fmt: skip
    if later:
        raise errors.error(
            errors.NOT_SUPPORTED, f"{later} is not supported yet", hint="rows come in the order of their keys"
        )
    if command.offset > OFFSET_MAX or command.limit > OFFSET_MAX:
        raise errors.error(errors.INVALID, "LIMIT and OFFSET are 64-bit integers")
