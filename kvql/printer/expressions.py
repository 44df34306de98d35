"""Expressions, with brackets only where precedence needs them."""

from __future__ import annotations

import enum
from datetime import timedelta
from decimal import Decimal
from typing import Final, assert_never

from kvql import ast
from kvql.printer import words
from kvql.values import Json


class Level(enum.IntEnum):
    """Precedence, the loosest first: the rules of the grammar from ``expr`` to ``primary``."""

    EXPR = 0
    OR = 1
    AND = 2
    NOT = 3
    IS = 4
    COMPARE = 5
    MATCH = 6
    CONCAT = 7
    ADD = 8
    MULTIPLY = 9
    UNARY = 10
    POSTFIX = 11
    PRIMARY = 12


_MATCHES: Final = frozenset({"~", "~*", "!~", "!~*", "^="})
_CHAINS: Final = {
    "||": Level.CONCAT,
    "+": Level.ADD,
    "-": Level.ADD,
    "*": Level.MULTIPLY,
    "/": Level.MULTIPLY,
    "%": Level.MULTIPLY,
}


def expression(node: ast.Expression, at_least: Level = Level.EXPR) -> str:
    """The text of ``node``; in brackets if it binds more loosely than its place asks for."""
    level, text = _print(node)
    return text if level >= at_least else f"({text})"


def expressions(nodes: tuple[ast.Expression, ...]) -> str:
    return ", ".join(expression(n) for n in nodes)


def _print(node: ast.Expression) -> tuple[Level, str]:
    match node:
        case ast.Literal():
            return _literal(node)
        case ast.Param():
            return Level.PRIMARY, words.param(node)
        case ast.Column(parts=parts):
            return Level.POSTFIX, ".".join([words.column(parts[0]), *map(words.name, parts[1:])])
        case ast.Star():
            return Level.PRIMARY, "*"
        case ast.JsonObject() | ast.JsonArray():
            return Level.PRIMARY, json(node)
        case ast.Or(terms=terms):
            return Level.OR, " OR ".join(expression(t, Level.AND) for t in terms)
        case ast.And(terms=terms):
            return Level.AND, " AND ".join(expression(t, Level.NOT) for t in terms)
        case ast.Not(operand=operand):
            return Level.NOT, f"NOT {expression(operand, Level.NOT)}"
        case ast.IsTest() | ast.Compare() | ast.Like() | ast.Between() | ast.In():
            return _predicate(node)
        case ast.Chain(first=first, rest=rest):
            level = _CHAINS[rest[0][0]]
            inner = Level(level + 1)
            return level, expression(first, inner) + "".join(f" {op} {expression(e, inner)}" for op, e in rest)
        case ast.Sign(operator=operator, operand=operand):
            text = expression(operand, Level.UNARY)
            return Level.UNARY, f"{operator} {text}" if text[0] in "+-" else f"{operator}{text}"
        case ast.Cast(operand=operand, type=type_name):
            return Level.POSTFIX, f"{_base(operand)}::{type_text(type_name)}"
        case ast.Index(operand=operand, index=index):
            return Level.POSTFIX, f"{_base(operand)}[{expression(index)}]"
        case ast.Field(operand=operand, name=name):
            return Level.POSTFIX, f"{_base(operand)}.{words.name(name)}"
        case ast.Call():
            return Level.PRIMARY, _call(node)
        case ast.Case():
            return Level.PRIMARY, _case(node)
        case ast.Subquery(select=select):
            from kvql.printer.statements import statement

            return Level.PRIMARY, f"({statement(select)})"
        case _:
            assert_never(node)


def _literal(node: ast.Literal) -> tuple[Level, str]:
    value = node.value
    text = words.constant(value)
    if text[0] == "-":
        return Level.UNARY, text
    return Level.PRIMARY, text


def _base(node: ast.Expression) -> str:
    """What ``::``, ``[`` and ``.`` follow; a number in brackets, since ``5.a`` would be none."""
    text = expression(node, Level.POSTFIX)
    numeric = isinstance(node, ast.Literal) and isinstance(node.value, int | float | Decimal | timedelta)
    return f"({text})" if numeric and text[0] not in "(TF" else text


def _predicate(node: ast.IsTest | ast.Compare | ast.Like | ast.Between | ast.In) -> tuple[Level, str]:
    match node:
        case ast.IsTest(operand=operand, kind=kind, negated=negated):
            return Level.IS, f"{expression(operand, Level.IS)} IS {'NOT ' if negated else ''}{kind.value}"
        case ast.Compare(operator=operator, left=left, right=right):
            if operator.startswith("IS"):
                return Level.IS, f"{expression(left, Level.IS)} {operator} {expression(right, Level.COMPARE)}"
            level, inner = (Level.MATCH, Level.CONCAT) if operator in _MATCHES else (Level.COMPARE, Level.MATCH)
            return level, f"{expression(left, inner)} {operator} {expression(right, inner)}"
    operand_text = expression(node.operand, Level.CONCAT) + (" NOT" if node.negated else "")
    match node:
        case ast.Like(pattern=pattern, escape=escape, insensitive=insensitive):
            operator = "ILIKE" if insensitive else "LIKE"
            text = f"{operand_text} {operator} {expression(pattern, Level.CONCAT)}"
            return Level.MATCH, text if escape is None else f"{text} ESCAPE {expression(escape, Level.CONCAT)}"
        case ast.Between(low=low, high=high):
            limits = f"{expression(low, Level.CONCAT)} AND {expression(high, Level.CONCAT)}"
            return Level.MATCH, f"{operand_text} BETWEEN {limits}"
        case ast.In(items=items):
            return Level.MATCH, f"{operand_text} IN ({expressions(items)})"
        case _:
            assert_never(node)


def type_text(node: ast.TypeName) -> str:
    return node.name + (f"({', '.join(map(str, node.arguments))})" if node.arguments else "")


def _call(node: ast.Call) -> str:
    inner = ("DISTINCT " if node.distinct else "") + expressions(node.arguments)
    text = f"{node.name}({inner})"
    return text if node.filter is None else f"{text} FILTER (WHERE {expression(node.filter)})"


def _case(node: ast.Case) -> str:
    parts = ["CASE"]
    if node.operand is not None:
        parts.append(expression(node.operand))
    parts += [f"WHEN {expression(condition)} THEN {expression(result)}" for condition, result in node.whens]
    if node.otherwise is not None:
        parts.append(f"ELSE {expression(node.otherwise)}")
    return " ".join([*parts, "END"])


def json(node: ast.Expression) -> str:
    """A JSON literal with parameters in it."""
    match node:
        case ast.JsonObject(members=members):
            return "{" + ", ".join(f"{_json_name(name)}: {json(value)}" for name, value in members) + "}"
        case ast.JsonArray(items=items):
            return "[" + ", ".join(json(item) for item in items) + "]"
        case ast.Literal():
            return words.json_constant(node)
        case ast.Param():
            return words.param(node)
    raise ValueError(f"a JSON literal cannot hold {type(node).__name__}")


def _json_name(name: str) -> str:
    return Json.dump([name]).text[1:-1]
