"""The SQL forms (LANGUAGE §4)."""

from __future__ import annotations

from kvql.ast.expressions import Expression, Name, Operand
from kvql.node import hidden, node
from kvql.span import Span


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
