"""COUNT, SHOW KEYS, SHOW DATA, SELECT, WATCH, and the conditions that may read: ASSERT."""

from __future__ import annotations

from typing import Any, assert_never

from kvql import ast
from kvql.compiler.expressions import PLACE, compile_expression
from kvql.compiler.operands import AGGREGATES, name_of, projections
from kvql.compiler.parameters import Parameters, number_of, text_of
from kvql.v1 import kvql_pb2 as pb


def listing(statement: ast.Count | ast.ShowKeys | ast.ShowData, bound: Parameters) -> pb.Request:
    match statement:
        case ast.Count():
            out = pb.ListCommand(what=pb.ListCommand.COUNT)
        case ast.ShowKeys(limit=limit):
            out = pb.ListCommand(what=pb.ListCommand.KEYS)
        case ast.ShowData(limit=limit):
            out = pb.ListCommand(what=pb.ListCommand.DATA)
        case _:
            assert_never(statement)
    if statement.namespace is not None:
        out.namespace = name_of(statement.namespace)
    if statement.pattern is not None:
        out.pattern = text_of(statement.pattern, bound, "a pattern")
    if not isinstance(statement, ast.Count) and limit is not None:
        out.limit = number_of(limit, bound, "LIMIT")
    return pb.Request(list=out)


def select(statement: ast.Select, bound: Parameters) -> pb.SelectCommand:
    out = pb.SelectCommand(distinct=statement.distinct, group_all=statement.group_all)
    projections(statement.items, bound, out.projections)
    if statement.where is not None:
        compile_expression(statement.where, bound, out.where)
    for group in statement.group_by:
        _listed(group, bound, out.group_by.add())
    if statement.having is not None:
        compile_expression(statement.having, bound, out.having)
    for order in statement.order_by:
        ordering = out.order_by.add(descending=order.descending)
        if order.nulls_first is not None:
            ordering.nulls_first = order.nulls_first
        _listed(order.expression, bound, ordering.expression)
    if statement.limit is not None:
        out.limit = number_of(statement.limit, bound, "LIMIT")
    if statement.offset is not None:
        out.offset = number_of(statement.offset, bound, "OFFSET")
    source = statement.source
    if source is not None:
        out.namespace, out.history = name_of(source.namespace), source.history
        if source.as_of is not None:
            as_of(source.as_of, bound, out.as_of)
    else:
        out.from_session = _reads_pairs(statement, out)
    return out


def _listed(node: ast.Expression, bound: Parameters, into: pb.Expression) -> None:
    """An expression of GROUP BY or ORDER BY; a number that stands in the text, and no parameter, is a place."""
    compile_expression(node, bound, into)
    if isinstance(node, ast.Literal) and type(node.value) is int:
        into.steps[0].flags = PLACE


def as_of(node: ast.AsOf, bound: Parameters, into: pb.AsOf) -> None:
    """A moment of the past; what it must be is the server's to check."""
    if node.revision is not None:
        compile_expression(node.revision, bound, into.revision)
    elif node.timestamp is not None:
        compile_expression(node.timestamp, bound, into.timestamp)


def _reads_pairs(statement: ast.Select, out: pb.SelectCommand) -> bool:
    """Whether a SELECT without FROM means the namespace in use: it names a column or an aggregate, or has a clause."""
    if (
        statement.distinct or statement.where or statement.group_by or statement.group_all
        or statement.having or statement.order_by or statement.limit or statement.offset
    ):  # fmt: skip
        return True
    return any(
        step.op in (pb.OP_COLUMN, pb.OP_STAR)
        or (step.op == pb.OP_CALL and projection.expression.names[step.argument] in AGGREGATES)
        for projection in out.projections
        for step in projection.expression.steps
    )


def watch(statement: ast.Watch, bound: Parameters) -> pb.Request:
    out = pb.WatchCommand(initial=statement.with_initial)
    if statement.namespace is not None:
        out.namespace = name_of(statement.namespace)
    if statement.where is not None:
        compile_expression(statement.where, bound, out.where)
    if statement.from_revision is not None:
        out.from_revision = number_of(statement.from_revision, bound, "a revision")
    return pb.Request(watch=out)


# ── conditions that read ──────────────────────────────────────────────────────────────────────────────────────────


def assertion(statement: ast.Assert, bound: Parameters) -> pb.Request:
    request = pb.Request()
    command = request.assertion
    reading(statement.condition, bound, command.condition, command.subqueries)
    if statement.message is not None:
        command.message = text_of(statement.message, bound, "a message")
    return request


def reading(node: ast.Expression, bound: Parameters, into: pb.Expression, subqueries: Any) -> None:
    """An expression in which scalar subqueries may stand, with those appended to a repeated field of
    ``pb.SelectCommand``; the expression of LET is of this kind too."""
    found: list[ast.Select] = []
    compile_expression(node, bound, into, found)
    subqueries.extend([select(one, bound) for one in found])
