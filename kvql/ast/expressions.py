"""Expressions, and the leaves that statements share with them: constants, parameters, names, columns (LANGUAGE §4)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from kvql.node import hidden, node
from kvql.span import Span
from kvql.values import Value

if TYPE_CHECKING:
    from kvql.ast.sql import Select


@node
class Literal:
    """A constant; a ``timedelta`` for a duration (``60s``) or an interval."""

    value: Value | timedelta
    span: Span | None = hidden(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and TRUE are equal in Python, and so are 1.5 and 1.50: three types and two texts here
        if not isinstance(other, Literal):
            return NotImplemented
        mine, theirs = self.value, other.value
        return (
            type(mine) is type(theirs)
            and (mine == theirs or (mine != mine and theirs != theirs))
            and (type(mine) not in _BY_TEXT or str(mine) == str(theirs))
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


_BY_TEXT: Final = frozenset({Decimal, float})


@node
class Param:
    """A parameter: ``name`` is the text of ``:name``, or the 0-based place of ``?`` and ``?2``."""

    name: str | int
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Name:
    """A name as written: of a namespace, user, role, savepoint, option or field. The server checks its rules."""

    text: str
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Column:
    """A column, an alias, or a JSON field; which of them is decided where the statement runs.

    ``parts`` are the names between dots: ``address.city``. ``old`` and ``new`` in RETURNING are ordinary first parts.
    """

    parts: tuple[str, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Star:
    """``*`` in a projection or in ``count(*)``."""

    span: Span | None = hidden(default=None, kw_only=True)


@node
class JsonObject:
    """A JSON literal with a parameter somewhere inside; one without is a ``Literal``."""

    members: tuple[tuple[str, Expression], ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class JsonArray:
    """See ``JsonObject``."""

    items: tuple[Expression, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Or:
    terms: tuple[Expression, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class And:
    terms: tuple[Expression, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Not:
    operand: Expression
    span: Span | None = hidden(default=None, kw_only=True)


class TestKind(Enum):
    """What IS asks; the value is the text after IS."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    NULL = "NULL"
    MISSING = "MISSING"


@node
class IsTest:
    """``e IS [NOT] NULL`` and ``e IS [NOT] MISSING``."""

    operand: Expression
    kind: TestKind
    negated: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Compare:
    """``= <> < <= > >= ~ ~* !~ !~* ^=`` and ``IS [NOT] DISTINCT FROM`` (``operator`` says which); ``!=`` is ``<>``."""

    operator: str
    left: Expression
    right: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Like:
    """``[NOT] LIKE`` and ``[NOT] ILIKE``, with ESCAPE."""

    operand: Expression
    pattern: Expression
    escape: Expression | None = None
    insensitive: bool = False
    negated: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Between:
    operand: Expression
    low: Expression
    high: Expression
    negated: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class In:
    operand: Expression
    items: tuple[Expression, ...]
    negated: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Chain:
    """Operators of one precedence from left to right: ``first``, then each (operator, operand).

    The operators of a chain are all of ``||``, or all of ``+ -``, or all of ``* / %``.
    """

    first: Expression
    rest: tuple[tuple[str, Expression], ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Sign:
    """``-e`` or ``+e`` of something that is no number literal (``-5`` is a Literal)."""

    operator: str
    operand: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class TypeName:
    """A type as written, in lower case: ``varchar``, ``double precision``, with its arguments (``numeric(10, 2)``)."""

    name: str
    arguments: tuple[int, ...] = ()
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Cast:
    """``CAST(e AS t)`` and ``e::t``."""

    operand: Expression
    type: TypeName
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Index:
    """``e[i]``: a member by name or an item by place."""

    operand: Expression
    index: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Field:
    """``e.name`` where e is no plain column: ``value['a'].b``."""

    operand: Expression
    name: str
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Call:
    """A function or an aggregate; ``name`` in lower case. ``count()`` has no arguments, ``count(*)`` a Star."""

    name: str
    arguments: tuple[Expression, ...] = ()
    distinct: bool = False
    filter: Expression | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Case:
    """``CASE [operand] WHEN a THEN b … [ELSE e] END``."""

    operand: Expression | None
    whens: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Subquery:
    """``(SELECT …)`` as a scalar, in ASSERT and LET only."""

    select: Select
    span: Span | None = hidden(default=None, kw_only=True)


Expression: TypeAlias = (
    Literal | Param | Column | Star | JsonObject | JsonArray | Or | And | Not | IsTest | Compare | Like | Between | In
    | Chain | Sign | Cast | Index | Field | Call | Case | Subquery
)  # fmt: skip
Operand: TypeAlias = Literal | Param
"""A key, pattern, duration, number or text of the short forms and clauses: a constant or a parameter."""
