"""Namespaces, users, rights and sessions (LANGUAGE §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvql.ast.expressions import Expression, Name, Operand, TypeName
from kvql.node import hidden, node
from kvql.span import Span

if TYPE_CHECKING:
    from kvql.ast import Data


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
