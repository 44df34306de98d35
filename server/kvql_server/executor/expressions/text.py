"""A program of the wire as the expression that a person would write, for EXPLAIN and for ASSERT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_values
from kvql.v1 import kvql_pb2 as pb
from kvql.values import literal
from kvql_server.executor.expressions.items import (
    DISTINCT,
    FILTER,
    HAS_ELSE,
    HAS_ESCAPE,
    HAS_OPERAND,
    INSENSITIVE,
    NEGATED,
)

TEXT_MAX: Final = 1_000
"""Characters after which an expression is cut."""

_INFIX: Final[dict[int, tuple[str, int]]] = {
    pb.OP_OR: ("OR", 1), pb.OP_AND: ("AND", 2), pb.OP_EQ: ("=", 5), pb.OP_NE: ("<>", 5), pb.OP_LT: ("<", 5),
    pb.OP_LE: ("<=", 5), pb.OP_GT: (">", 5), pb.OP_GE: (">=", 5), pb.OP_STARTS_WITH: ("^=", 6),
    pb.OP_CONCAT: ("||", 7), pb.OP_ADD: ("+", 8), pb.OP_SUBTRACT: ("-", 8), pb.OP_MULTIPLY: ("*", 9),
    pb.OP_DIVIDE: ("/", 9), pb.OP_MODULO: ("%", 9),
}  # fmt: skip
_NOT, _IS, _LIKE, _UNARY, _POSTFIX, _ATOM = 3, 4, 6, 10, 11, 12

_Part = tuple[str, int]
"""Text and how tightly its outermost operator binds."""


def text(expression: pb.Expression, subqueries: Sequence[pb.SelectCommand] = ()) -> str:
    """The expression, cut if it is long; ``subqueries`` are those that its steps name."""
    from kvql_server.executor.expressions.builder import operands

    constants = decode_values(expression.constants, intervals=True)
    stack: list[_Part] = []
    for step in expression.steps:
        count = operands(step)
        children = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        try:
            if step.op == pb.OP_SUBQUERY:
                stack.append(_cut((f"({_select(subqueries[step.argument])})", _ATOM)))
                continue
            stack.append(_cut(_step(step, expression.names, constants, children)))
        except (IndexError, ValueError):
            raise errors.error(errors.INVALID, "malformed expression: an operand is missing") from None
    return stack[-1][0] if stack else ""


def _select(command: pb.SelectCommand) -> str:
    parts = ["SELECT DISTINCT" if command.distinct else "SELECT"]
    parts.append(", ".join(text(p.expression) + (f" AS {p.name}" if p.aliased else "") for p in command.projections))
    if command.namespace:
        parts.append(f"FROM {command.namespace}")
    if command.HasField("where"):
        parts.append(f"WHERE {text(command.where)}")
    if command.group_by or command.group_all:
        parts.append(f"GROUP BY {', '.join(map(text, command.group_by)) or 'ALL'}")
    if command.HasField("having"):
        parts.append(f"HAVING {text(command.having)}")
    if command.order_by:
        parts.append(f"ORDER BY {', '.join(map(_ordering, command.order_by))}")
    parts += [f"LIMIT {command.limit}"] * command.HasField("limit")
    parts += [f"OFFSET {command.offset}"] * bool(command.offset)
    return " ".join(parts)


def _ordering(ordering: pb.Ordering) -> str:
    out = text(ordering.expression) + (" DESC" if ordering.descending else "")
    if ordering.HasField("nulls_first"):
        out += " NULLS FIRST" if ordering.nulls_first else " NULLS LAST"
    return out


def _cut(part: _Part) -> _Part:
    return part if len(part[0]) <= TEXT_MAX else (part[0][:TEXT_MAX] + " …", part[1])


def _within(part: _Part, binding: int) -> str:
    return part[0] if part[1] >= binding else f"({part[0]})"


def _step(step: pb.Step, names: Sequence[str], constants: list[Any], parts: list[_Part]) -> _Part:
    op, flags = step.op, step.flags
    negated = "NOT " if flags & NEGATED else ""
    if op == pb.OP_CONSTANT:
        return literal(constants[step.argument]), _ATOM
    if op == pb.OP_COLUMN:
        return ".".join(names[step.argument : step.argument + (step.arity or 1)]), _ATOM
    if op == pb.OP_STAR:
        return "*", _ATOM
    if op in _INFIX:
        sign, binding = _INFIX[op]
        return f" {sign} ".join(_within(p, binding + (i > 0)) for i, p in enumerate(parts)), binding
    if op == pb.OP_NOT:
        return f"NOT {_within(parts[0], _NOT)}", _NOT
    if op in (pb.OP_IS_NULL, pb.OP_IS_MISSING):
        what = "NULL" if op == pb.OP_IS_NULL else "MISSING"
        return f"{_within(parts[0], _IS)} IS {negated}{what}", _IS
    if op == pb.OP_DISTINCT:
        return f"{_within(parts[0], _IS + 1)} IS {negated}DISTINCT FROM {_within(parts[1], _IS + 1)}", _IS
    return _further(step, names, parts, negated)


def _further(step: pb.Step, names: Sequence[str], parts: list[_Part], negated: str) -> _Part:
    op, flags = step.op, step.flags
    tight = [_within(p, _LIKE + 1) for p in parts]
    if op == pb.OP_MATCH:
        return f"{tight[0]} {'!' if negated else ''}~{'*' if flags & INSENSITIVE else ''} {tight[1]}", _LIKE
    if op == pb.OP_LIKE:
        escape = f" ESCAPE {tight[2]}" if flags & HAS_ESCAPE else ""
        return f"{tight[0]} {negated}{'ILIKE' if flags & INSENSITIVE else 'LIKE'} {tight[1]}{escape}", _LIKE
    if op == pb.OP_BETWEEN:
        return f"{tight[0]} {negated}BETWEEN {tight[1]} AND {tight[2]}", _LIKE
    if op == pb.OP_IN:
        return f"{tight[0]} {negated}IN ({', '.join(p for p, _ in parts[1:])})", _LIKE
    if op in (pb.OP_NEGATE, pb.OP_PLUS):
        return f"{'-' if op == pb.OP_NEGATE else '+'} {_within(parts[0], _UNARY)}", _UNARY
    if op == pb.OP_CAST:
        arguments = f"({', '.join(p for p, _ in parts[1:])})" if len(parts) > 1 else ""
        return f"{_within(parts[0], _POSTFIX)}::{names[step.argument]}{arguments}", _POSTFIX
    if op == pb.OP_INDEX:
        return f"{_within(parts[0], _POSTFIX)}[{parts[1][0]}]", _POSTFIX
    if op == pb.OP_FIELD:
        return f"{_within(parts[0], _POSTFIX)}.{names[step.argument]}", _POSTFIX
    if op == pb.OP_CALL:
        return _call(step, names, parts), _ATOM
    if op == pb.OP_CASE:
        return _case(step, [p for p, _ in parts]), _ATOM
    if op == pb.OP_JSON_ARRAY:
        return f"[{', '.join(p for p, _ in parts)}]", _ATOM
    flat = [p for p, _ in parts]
    return "{" + ", ".join(f"{n}: {v}" for n, v in zip(flat[::2], flat[1::2], strict=True)) + "}", _ATOM


def _call(step: pb.Step, names: Sequence[str], parts: list[_Part]) -> str:
    arguments = [p for p, _ in parts]
    condition = f" FILTER (WHERE {arguments.pop()})" if step.flags & FILTER else ""
    head = "DISTINCT " if step.flags & DISTINCT else ""
    return f"{names[step.argument]}({head}{', '.join(arguments)}){condition}"


def _case(step: pb.Step, parts: list[str]) -> str:
    otherwise = f" ELSE {parts.pop()}" if step.flags & HAS_ELSE else ""
    operand = f" {parts.pop(0)}" if step.flags & HAS_OPERAND else ""
    whens = "".join(f" WHEN {a} THEN {b}" for a, b in zip(parts[::2], parts[1::2], strict=True))
    return f"CASE{operand}{whens}{otherwise} END"
