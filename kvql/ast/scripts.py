"""What the client carries out itself, because the files are its own (LANGUAGE §8)."""

from __future__ import annotations

from kvql.ast.expressions import Expression, Name, Operand
from kvql.ast.sql import OnConflict
from kvql.node import hidden, node
from kvql.span import Span


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
