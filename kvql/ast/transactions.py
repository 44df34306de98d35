"""Transactions, history and watch; what looks at a statement before it is carried out (LANGUAGE §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvql.ast.expressions import Expression, Name, Operand
from kvql.ast.sql import AsOf
from kvql.node import hidden, node
from kvql.span import Span

if TYPE_CHECKING:
    from kvql.ast import Data, Write


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
