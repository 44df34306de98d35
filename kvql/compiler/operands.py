"""What several statements share: names, stored values, comments, and lists of things to show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kvql import ast, errors
from kvql.compiler.expressions import compile_expression
from kvql.compiler.parameters import Parameters, encodable, text_of
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type, from_python, type_of

AGGREGATES: Final = frozenset({"count", "sum", "avg", "min", "max", "string_agg"})


def name_of(name: ast.Name) -> str:
    """A name as written. An empty one would mean "the namespace in use" on the wire, and none may mean another."""
    if not name.text:
        raise errors.error(errors.INVALID, 'invalid namespace name: ""', span=name.span, part=3)
    return encodable(name.text, name.span)


def pair_value(node: ast.Expression, bound: Parameters) -> Any:
    """What a pair is given: a KVQL value, or a ``pb.Expression`` for the server to compute."""
    value: Any
    if type(node) is ast.Literal:
        value = node.value
    elif type(node) is ast.Param:
        value = bound.get(node)
    else:
        return compile_expression(node, bound)
    if type(value) in _PLAIN:
        return value
    if type_of(from_python(value)) is Type.INTERVAL:
        raise errors.error(
            errors.INVALID,
            "a duration cannot be stored",
            hint="a time to live is written TTL 60s; a point in time (now() + 60s)",
            span=node.span,
            part=2,
        )
    return value


_PLAIN: Final = frozenset({str, int, bool, float, type(None)})


def commented(request: pb.Request, comment: ast.Operand | None, bound: Parameters) -> pb.Request:
    if comment is not None:
        request.comment = text_of(comment, bound, "a comment")
    return request


def projections(items: Iterable[ast.Item], bound: Parameters, into: Any) -> None:
    """The items of SELECT or RETURNING, appended to a repeated field of ``pb.Projection``."""
    for item in items:
        projection = into.add(name=_column_name(item), aliased=item.alias is not None)
        compile_expression(item.expression, bound, projection.expression)


def _column_name(item: ast.Item) -> str:
    """The name of a result column: the alias, else what PostgreSQL would say."""
    if item.alias is not None:
        return item.alias.text
    node = item.expression
    while isinstance(node, ast.Index | ast.Cast):
        node = node.operand
    match node:
        case ast.Column(parts=parts):
            return parts[-1]
        case ast.Field(name=name) | ast.Call(name=name):
            return name
        case ast.Star():
            return "*"
        case ast.Case():
            return "case"
    return item.expression.type.name if isinstance(item.expression, ast.Cast) else "?column?"


def unsupported(what: str, node: ast.Statement, hint: str | None = None) -> Error:
    return errors.error(errors.NOT_SUPPORTED, f"{what} is not supported yet", hint=hint, span=node.span)
