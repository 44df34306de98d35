"""The syntax tree: what the parser makes, the printer prints and the compiler reads.

Every node is a frozen dataclass with slots (of ``kvql.node``'s make, which is faster), compared by content and never by
place: ``span`` (code points of the text that was parsed, or ``None`` on a node that was made by hand) takes part in
neither ``==`` nor ``repr``. Lists are tuples. Flat chains are flat nodes (``a OR b OR c`` is one ``Or`` of three), so
no walk is deeper than the text is nested, and nesting is bounded (``values.NESTING_MAX``).

``Statement`` and ``Expression`` are closed unions: a ``match`` over one ends in ``assert_never``, and the type
checker then names every place where a new statement must go.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Final, TypeAlias

from kvql.node import hidden, node
from kvql.span import Span
from kvql.values import Value

# ── leaves ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── expressions ───────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the short forms (LANGUAGE §3) ─────────────────────────────────────────────────────────────────────────────────


@node
class Pair:
    """A key and its value; the value is any Expression if it stood in parentheses."""

    key: Operand
    value: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Put:
    pairs: tuple[Pair, ...]
    ttl: Operand | None = None
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Upsert:
    pairs: tuple[Pair, ...]
    ttl: Operand | None = None
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class UpdateKey:
    """The short ``UPDATE k v``."""

    pair: Pair
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Get:
    keys: tuple[Operand, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Has:
    keys: tuple[Operand, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class DeleteKeys:
    """The short ``DELETE k [, …]``."""

    keys: tuple[Operand, ...]
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Count:
    namespace: Name | None = None
    pattern: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowKeys:
    namespace: Name | None = None
    pattern: Operand | None = None
    limit: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowData:
    namespace: Name | None = None
    pattern: Operand | None = None
    limit: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowNamespaces:
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Use:
    namespace: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Expire:
    key: Operand
    ttl: Operand
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Persist:
    key: Operand
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


# ── the SQL forms (LANGUAGE §4) ───────────────────────────────────────────────────────────────────────────────────


@node
class AsOf:
    """``AS OF REVISION n`` or ``AS OF TIMESTAMP t``; exactly one is set."""

    revision: Operand | None = None
    timestamp: Expression | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Source:
    """What FROM names: a namespace, perhaps at an earlier revision, or its history."""

    namespace: Name
    as_of: AsOf | None = None
    history: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Item:
    """One thing to show: an expression or ``*``, and its alias."""

    expression: Expression
    alias: Name | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Order:
    """``nulls_first`` is None where the text says nothing."""

    expression: Expression
    descending: bool = False
    nulls_first: bool | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Select:
    """``group_by`` is empty for none; GROUP BY ALL sets ``group_all``."""

    items: tuple[Item, ...]
    distinct: bool = False
    source: Source | None = None
    where: Expression | None = None
    group_by: tuple[Expression, ...] = ()
    group_all: bool = False
    having: Expression | None = None
    order_by: tuple[Order, ...] = ()
    limit: Operand | None = None
    offset: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Assignment:
    """``value = e``, ``expires_at = e``, ``address.city = e``."""

    path: tuple[str, ...]
    value: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class OnConflict:
    """DO NOTHING has no assignments."""

    assignments: tuple[Assignment, ...] = ()
    where: Expression | None = None
    target: tuple[str, ...] = ()
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Insert:
    namespace: Name
    columns: tuple[Name, ...]
    rows: tuple[tuple[Expression, ...], ...]
    ttl: Operand | None = None
    on_conflict: OnConflict | None = None
    returning: tuple[Item, ...] = ()
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Update:
    """``UPDATE ns SET …``."""

    namespace: Name
    assignments: tuple[Assignment, ...]
    where: Expression | None = None
    returning: tuple[Item, ...] = ()
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Delete:
    """``DELETE FROM ns …``."""

    namespace: Name
    where: Expression | None = None
    returning: tuple[Item, ...] = ()
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Truncate:
    namespace: Name
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


# ── transactions, history, watch (LANGUAGE §6) ────────────────────────────────────────────────────────────────────


@node
class Begin:
    read_only: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Commit:
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Rollback:
    """``savepoint`` is set for ROLLBACK TO s."""

    savepoint: Name | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Savepoint:
    name: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Release:
    name: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Assert:
    condition: Expression
    message: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Watch:
    namespace: Name | None = None
    where: Expression | None = None
    with_initial: bool = False
    from_revision: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Restore:
    """``RESTORE k, … AS OF`` (keys set) or ``RESTORE FROM ns [WHERE e] AS OF`` (namespace set)."""

    as_of: AsOf
    keys: tuple[Operand, ...] = ()
    namespace: Name | None = None
    where: Expression | None = None
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Explain:
    statement: Data
    analyze: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class DryRun:
    statement: Write
    span: Span | None = hidden(default=None, kw_only=True)


# ── namespaces, users, rights (LANGUAGE §7) ───────────────────────────────────────────────────────────────────────


@node
class Option:
    """``name = value`` in WITH ( … ) and SET ( … )."""

    name: Name
    value: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class FieldDef:
    """A declared field of a namespace."""

    name: Name
    type: TypeName
    not_null: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class CreateNamespace:
    namespace: Name
    fields: tuple[FieldDef, ...] = ()
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class AlterNamespace:
    namespace: Name
    options: tuple[Option, ...]
    span: Span | None = hidden(default=None, kw_only=True)


@node
class DropNamespace:
    namespace: Name
    if_exists: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Describe:
    namespace: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class CreateUser:
    user: Name
    password: Operand
    span: Span | None = hidden(default=None, kw_only=True)


@node
class AlterUser:
    user: Name
    password: Operand
    span: Span | None = hidden(default=None, kw_only=True)


@node
class DropUser:
    user: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class CreateRole:
    role: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class DropRole:
    role: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Grant:
    """GRANT and, with ``revoke``, REVOKE of privileges; ``namespace`` is None for ``*``."""

    privileges: tuple[str, ...]
    namespace: Name | None
    grantee: Name
    key_like: Operand | None = None
    revoke: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class GrantRole:
    """GRANT r TO u and, with ``revoke``, REVOKE r FROM u."""

    role: Name
    grantee: Name
    revoke: bool = False
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowUsers:
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowRoles:
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowGrants:
    user: Name | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class ShowSessions:
    span: Span | None = hidden(default=None, kw_only=True)


@node
class CancelSession:
    """``CANCEL s``."""

    session: Name
    span: Span | None = hidden(default=None, kw_only=True)


@node
class CheckAccess:
    statement: Data
    user: Name | None = None
    span: Span | None = hidden(default=None, kw_only=True)


# ── scripts (LANGUAGE §8): the client's own statements ────────────────────────────────────────────────────────────


@node
class Let:
    name: Name
    value: Expression
    span: Span | None = hidden(default=None, kw_only=True)


@node
class SourceFile:
    """``SOURCE 'file'``."""

    path: Operand
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Import:
    path: Operand
    namespace: Name | None = None
    format: Name | None = None
    on_conflict: OnConflict | None = None
    comment: Operand | None = None
    span: Span | None = hidden(default=None, kw_only=True)


@node
class Export:
    path: Operand
    namespace: Name | None = None
    where: Expression | None = None
    format: Name | None = None
    span: Span | None = hidden(default=None, kw_only=True)


# ── the unions ────────────────────────────────────────────────────────────────────────────────────────────────────

Query: TypeAlias = Get | Has | Count | ShowKeys | ShowData | ShowNamespaces | Select
Write: TypeAlias = (
    Put | Upsert | UpdateKey | DeleteKeys | Expire | Persist | Insert | Update | Delete | Truncate | Restore | Import
)
Data: TypeAlias = Query | Write
"""What EXPLAIN and CHECK ACCESS may stand before."""
Session: TypeAlias = Use | Begin | Commit | Rollback | Savepoint | Release | Assert | Let | SourceFile | Watch | Export
Admin: TypeAlias = (
    CreateNamespace | AlterNamespace | DropNamespace | Describe | CreateUser | AlterUser | DropUser | CreateRole
    | DropRole | Grant | GrantRole | ShowUsers | ShowRoles | ShowGrants | ShowSessions | CancelSession | CheckAccess
)  # fmt: skip
Statement: TypeAlias = Data | Session | Admin | Explain | DryRun
