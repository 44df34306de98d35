"""The short forms (LANGUAGE §3)."""

from __future__ import annotations

from kvql.ast.expressions import Expression, Name, Operand
from kvql.node import hidden, node
from kvql.span import Span


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
