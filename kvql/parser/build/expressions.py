"""Expressions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from kvql import errors
from kvql.ast import (
    And,
    Between,
    Call,
    Case,
    Cast,
    Chain,
    Column,
    Compare,
    Expression,
    Field,
    In,
    Index,
    IsTest,
    Like,
    Literal,
    Not,
    Or,
    Sign,
    Star,
    Subquery,
    TestKind,
    TypeName,
)
from kvql.node import maker
from kvql.parser.build.literals import identifier, sequence
from kvql.span import Span
from kvql.values import INTEGER_MAX, INTEGER_MIN

_new: Final = tuple.__new__
_column: Final = maker(Column)
_compare: Final = maker(Compare)
_chain: Final = maker(Chain)
_and: Final = maker(And)
_call: Final = maker(Call)


# ── columns and what follows them ─────────────────────────────────────────────────────────────────────────────────


def column(v: list[Any], start: int, end: int) -> Column:
    return _column((v[0],), _new(Span, (start, end)))


def quoted_column(v: list[Any], start: int, end: int) -> Column:
    return _column((identifier(v[0], start, end),), _new(Span, (start, end)))


def _step(kind: str, operand: Any, end: int) -> tuple[str, Any, int]:
    return kind, operand, end


def field_step(v: list[Any], start: int, end: int) -> tuple[str, Any, int]:
    return _step(".", v[1].text, end)


def index_step(v: list[Any], start: int, end: int) -> tuple[str, Any, int]:
    return _step("[", v[1], end)


def cast_step(v: list[Any], start: int, end: int) -> tuple[str, Any, int]:
    return _step("::", v[1], end)


def postfix(v: list[Any], start: int, end: int) -> Expression:
    """``a.b['c']::int``; names after a plain column make a longer column."""
    node: Expression = v[0]
    for kind, operand, at in v[1]:
        span = Span(start, at)
        if kind == ".":
            if type(node) is Column:
                node = Column((*node.parts, operand), span=span)
            else:
                node = Field(node, operand, span=span)
        elif kind == "[":
            node = Index(node, operand, span=span)
        else:
            node = Cast(node, operand, span=span)
    return node


# ── operators ─────────────────────────────────────────────────────────────────────────────────────────────────────


def or_(v: list[Any], start: int, end: int) -> Or:
    return Or((v[0], *v[1]), span=_new(Span, (start, end)))


def and_(v: list[Any], start: int, end: int) -> And:
    return _and((v[0], *v[1]), _new(Span, (start, end)))


def not_(v: list[Any], start: int, end: int) -> Not:
    return Not(v[1], span=_new(Span, (start, end)))


def is_null(v: list[Any], start: int, end: int) -> IsTest:
    return IsTest(v[0], TestKind.NULL, span=_new(Span, (start, end)))


def is_not_null(v: list[Any], start: int, end: int) -> IsTest:
    return IsTest(v[0], TestKind.NULL, True, span=_new(Span, (start, end)))


def is_missing(v: list[Any], start: int, end: int) -> IsTest:
    return IsTest(v[0], TestKind.MISSING, span=_new(Span, (start, end)))


def is_not_missing(v: list[Any], start: int, end: int) -> IsTest:
    return IsTest(v[0], TestKind.MISSING, True, span=_new(Span, (start, end)))


def is_distinct(v: list[Any], start: int, end: int) -> Compare:
    return _compare("IS DISTINCT FROM", v[0], v[4], _new(Span, (start, end)))


def is_not_distinct(v: list[Any], start: int, end: int) -> Compare:
    return _compare("IS NOT DISTINCT FROM", v[0], v[5], _new(Span, (start, end)))


def compare(v: list[Any], start: int, end: int) -> Compare:
    operator = "<>" if v[1] == "!=" else v[1]
    return _compare(operator, v[0], v[2], _new(Span, (start, end)))


def equal(v: list[Any], start: int, end: int) -> Compare:
    return _compare("=", v[0], v[2], _new(Span, (start, end)))


def like(v: list[Any], start: int, end: int) -> Like:
    return Like(v[0], v[2], v[3], span=_new(Span, (start, end)))


def not_like(v: list[Any], start: int, end: int) -> Like:
    return Like(v[0], v[3], v[4], negated=True, span=_new(Span, (start, end)))


def ilike(v: list[Any], start: int, end: int) -> Like:
    return Like(v[0], v[2], v[3], insensitive=True, span=_new(Span, (start, end)))


def not_ilike(v: list[Any], start: int, end: int) -> Like:
    return Like(v[0], v[3], v[4], insensitive=True, negated=True, span=_new(Span, (start, end)))


def between(v: list[Any], start: int, end: int) -> Between:
    return Between(v[0], v[2], v[4], span=_new(Span, (start, end)))


def not_between(v: list[Any], start: int, end: int) -> Between:
    return Between(v[0], v[3], v[5], negated=True, span=_new(Span, (start, end)))


def in_(v: list[Any], start: int, end: int) -> In:
    return In(v[0], tuple(v[3]), span=_new(Span, (start, end)))


def not_in(v: list[Any], start: int, end: int) -> In:
    return In(v[0], tuple(v[4]), negated=True, span=_new(Span, (start, end)))


def chain(v: list[Any], start: int, end: int) -> Chain:
    """``a + b - c``: the helper rule has collected ``+ b - c``."""
    flat = v[1]
    return _chain(v[0], tuple(zip(flat[::2], flat[1::2], strict=True)), _new(Span, (start, end)))


def sign(v: list[Any], start: int, end: int) -> Expression:
    """A sign before a number is part of it, so that the smallest INTEGER can be written."""
    operand = v[1]
    if type(operand) is Literal and type(operand.value) in _NUMBERS:
        number: Any = operand.value
        if v[0] == "-":
            number = number.copy_negate() if type(number) is Decimal and number else -number
            if type(number) is int:
                number = number if number <= INTEGER_MAX else Decimal(number)
            elif type(number) is Decimal and number.as_tuple().exponent == 0 and number == INTEGER_MIN:
                number = INTEGER_MIN
        return Literal(number, span=_new(Span, (start, end)))
    return Sign(v[0], operand, span=_new(Span, (start, end)))


_NUMBERS: Final = frozenset({int, Decimal, float})


def group(v: list[Any], start: int, end: int) -> Expression:
    """``( e )`` is e: the tree says what the brackets said."""
    inner: Expression = v[1]
    return inner


def subquery(v: list[Any], start: int, end: int) -> Subquery:
    return Subquery(v[1], span=_new(Span, (start, end)))


# ── functions, CASE, types ────────────────────────────────────────────────────────────────────────────────────────

_Arguments = tuple[tuple[Expression, ...], bool]


def arguments_star(v: list[Any], start: int, end: int) -> _Arguments:
    return (Star(span=_new(Span, (start, end))),), False


def arguments(v: list[Any], start: int, end: int) -> _Arguments:
    return tuple(v[0]), False


def arguments_distinct(v: list[Any], start: int, end: int) -> _Arguments:
    return tuple(v[1]), True


def call(v: list[Any], start: int, end: int) -> Call:
    given, distinct = v[2] or ((), False)
    return _call(v[0].lower(), given, distinct, v[4], _new(Span, (start, end)))


def case(v: list[Any], start: int, end: int) -> Case:
    return Case(v[1], tuple(v[2]), v[3], span=_new(Span, (start, end)))


def when(v: list[Any], start: int, end: int) -> tuple[Expression, Expression]:
    return v[1], v[3]


def cast(v: list[Any], start: int, end: int) -> Cast:
    return Cast(v[2], v[4], span=_new(Span, (start, end)))


def type_(v: list[Any], start: int, end: int) -> TypeName:
    return TypeName(v[0].lower(), span=_new(Span, (start, end)))


def type_1(v: list[Any], start: int, end: int) -> TypeName:
    return TypeName(v[0].lower(), (_argument(v[2], start, end),), span=_new(Span, (start, end)))


def type_2(v: list[Any], start: int, end: int) -> TypeName:
    sizes = (_argument(v[2], start, end), _argument(v[4], start, end))
    return TypeName(v[0].lower(), sizes, span=_new(Span, (start, end)))


def _argument(digits: str, start: int, end: int) -> int:
    if len(digits) > 9:
        raise errors.error(errors.OVERFLOW, "the argument of a type is too large", span=Span(start, end))
    return int(digits)


def type_double(v: list[Any], start: int, end: int) -> TypeName:
    return TypeName("double precision", span=_new(Span, (start, end)))


BUILDERS: Final = {
    "column": column,
    "quoted_column": quoted_column,
    "field_step": field_step,
    "index_step": index_step,
    "cast_step": cast_step,
    "postfix": postfix,
    "or_": or_,
    "and_": and_,
    "not_": not_,
    "is_null": is_null,
    "is_not_null": is_not_null,
    "is_missing": is_missing,
    "is_not_missing": is_not_missing,
    "is_distinct": is_distinct,
    "is_not_distinct": is_not_distinct,
    "compare": compare,
    "equal": equal,
    "like": like,
    "not_like": not_like,
    "ilike": ilike,
    "not_ilike": not_ilike,
    "between": between,
    "not_between": not_between,
    "in_": in_,
    "not_in": not_in,
    "chain": chain,
    "sign": sign,
    "group": group,
    "subquery": subquery,
    "arguments_star": arguments_star,
    "arguments": arguments,
    "arguments_distinct": arguments_distinct,
    "call": call,
    "case": case,
    "when": when,
    "cast": cast,
    "type": type_,
    "type_1": type_1,
    "type_2": type_2,
    "type_double": type_double,
    "exprs": sequence,
}
