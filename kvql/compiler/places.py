"""From a place in a request back to a place in the text: the server never saw the text, it counts steps and columns."""

from __future__ import annotations

from collections.abc import Iterator

from kvql import ast
from kvql.compiler.expressions import step_spans
from kvql.span import Span

STEP, COLUMN, NAME, OPTION, OPTION_VALUE = 6, 7, 8, 9, 10
"""Parts of a statement that an error on the wire may blame (``Part`` in kvql.proto); the others are the parser's."""


def span_of(statement: ast.Statement, item: int, part: int) -> Span | None:
    """Where in the text of ``statement`` its ``item``-th step, column, name or option stands, from 1; or None."""
    if isinstance(statement, ast.Explain | ast.DryRun):
        return span_of(statement.statement, item, part)
    if part in (COLUMN, NAME):
        named = _names(statement)
        return named[item - 1].span if 0 < item <= len(named) else None
    if part in (OPTION, OPTION_VALUE):
        options = statement.options if isinstance(statement, ast.CreateNamespace | ast.AlterNamespace) else ()
        option = options[item - 1] if 0 < item <= len(options) else None
        return None if option is None else (option.name if part == OPTION else option.value).span
    for node in _expressions(statement):
        spans = step_spans(node)
        if item <= len(spans):
            return spans[item - 1] or node.span
        item -= len(spans)
    return None


def _names(statement: ast.Statement) -> tuple[ast.Name, ...]:
    match statement:
        case ast.Insert(columns=columns):
            return columns
        case ast.CreateNamespace(fields=fields):
            return tuple(field.name for field in fields)
        case ast.Savepoint(name=name) | ast.Release(name=name) | ast.Rollback(savepoint=ast.Name() as name):
            return (name,)
    return ()


def _expressions(statement: ast.Statement) -> Iterator[ast.Expression]:
    """The expressions of a statement in the order in which the fields of its message hold them."""
    match statement:
        case ast.Select():
            yield from (item.expression for item in statement.items)
            yield from filter(None, [statement.where])
            yield from statement.group_by
            yield from filter(None, [statement.having])
            yield from (order.expression for order in statement.order_by)
            if statement.source is not None and statement.source.as_of is not None:
                yield _moment(statement.source.as_of)
        case ast.Restore():
            yield from filter(None, [statement.where])
            yield _moment(statement.as_of)
        case ast.Assert(condition=condition):
            subqueries: list[ast.Select] = []
            step_spans(condition, subqueries)
            yield condition
            for subquery in subqueries:
                yield from _expressions(subquery)
        case ast.Watch(where=where):
            yield from filter(None, [where])
        case ast.Insert():
            yield from (value for row in statement.rows for value in row if not _is_plain(value))
            conflict = statement.on_conflict
            if conflict is not None:
                yield from (assignment.value for assignment in conflict.assignments)
                yield from filter(None, [conflict.where])
            yield from (item.expression for item in statement.returning)
        case ast.Update():
            yield from (assignment.value for assignment in statement.assignments)
            yield from filter(None, [statement.where])
            yield from (item.expression for item in statement.returning)
        case ast.Delete():
            yield from filter(None, [statement.where])
            yield from (item.expression for item in statement.returning)
        case ast.Put(pairs=pairs) | ast.Upsert(pairs=pairs):
            yield from (pair.value for pair in pairs if not _is_plain(pair.value))
        case ast.UpdateKey(pair=pair):
            yield pair.value


def _moment(node: ast.AsOf) -> ast.Expression:
    moment = node.timestamp if node.revision is None else node.revision
    assert moment is not None
    return moment


def _is_plain(node: ast.Expression) -> bool:
    """Whether a value travels as a constant and not as a program."""
    return isinstance(node, ast.Literal | ast.Param)
