"""The syntax tree: what the parser makes, the printer prints and the compiler reads.

Every node is a frozen dataclass with slots (of ``kvql.node``'s make, which is faster), compared by content and never by
place: ``span`` (code points of the text that was parsed, or ``None`` on a node that was made by hand) takes part in
neither ``==`` nor ``repr``. Lists are tuples. Flat chains are flat nodes (``a OR b OR c`` is one ``Or`` of three), so
no walk is deeper than the text is nested, and nesting is bounded (``values.NESTING_MAX``).

``Statement`` and ``Expression`` are closed unions: a ``match`` over one ends in ``assert_never``, and the type
checker then names every place where a new statement must go.

One module a family of statements, as in the grammar: ``expressions`` (and the leaves that all share), ``short_forms``,
``sql``, ``transactions``, ``administration``, ``scripts``; which of them is what stands here. Callers write
``kvql.ast.Put`` and need not know in which of them a node is.
"""

from typing import TypeAlias

from kvql.ast.administration import (
    AlterNamespace,
    AlterUser,
    CancelSession,
    CheckAccess,
    CreateNamespace,
    CreateRole,
    CreateUser,
    Describe,
    DropNamespace,
    DropRole,
    DropUser,
    FieldDef,
    Grant,
    GrantRole,
    Option,
    ShowGrants,
    ShowRoles,
    ShowSessions,
    ShowUsers,
)
from kvql.ast.expressions import (
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
    JsonArray,
    JsonObject,
    Like,
    Literal,
    Name,
    Not,
    Operand,
    Or,
    Param,
    Sign,
    Star,
    Subquery,
    TestKind,
    TypeName,
)
from kvql.ast.scripts import Export, Import, Let, SourceFile
from kvql.ast.short_forms import (
    Count,
    DeleteKeys,
    Expire,
    Get,
    Has,
    Pair,
    Persist,
    Put,
    ShowData,
    ShowKeys,
    ShowNamespaces,
    UpdateKey,
    Upsert,
    Use,
)
from kvql.ast.sql import AsOf, Assignment, Delete, Insert, Item, OnConflict, Order, Select, Source, Truncate, Update
from kvql.ast.transactions import Assert, Begin, Commit, DryRun, Explain, Release, Restore, Rollback, Savepoint, Watch

__all__ = [
    "Admin",
    "AlterNamespace",
    "AlterUser",
    "And",
    "AsOf",
    "Assert",
    "Assignment",
    "Begin",
    "Between",
    "Call",
    "CancelSession",
    "Case",
    "Cast",
    "Chain",
    "CheckAccess",
    "Column",
    "Commit",
    "Compare",
    "Count",
    "CreateNamespace",
    "CreateRole",
    "CreateUser",
    "Data",
    "Delete",
    "DeleteKeys",
    "Describe",
    "DropNamespace",
    "DropRole",
    "DropUser",
    "DryRun",
    "Expire",
    "Explain",
    "Export",
    "Expression",
    "Field",
    "FieldDef",
    "Get",
    "Grant",
    "GrantRole",
    "Has",
    "Import",
    "In",
    "Index",
    "Insert",
    "IsTest",
    "Item",
    "JsonArray",
    "JsonObject",
    "Let",
    "Like",
    "Literal",
    "Name",
    "Not",
    "OnConflict",
    "Operand",
    "Option",
    "Or",
    "Order",
    "Pair",
    "Param",
    "Persist",
    "Put",
    "Query",
    "Release",
    "Restore",
    "Rollback",
    "Savepoint",
    "Select",
    "Session",
    "ShowData",
    "ShowGrants",
    "ShowKeys",
    "ShowNamespaces",
    "ShowRoles",
    "ShowSessions",
    "ShowUsers",
    "Sign",
    "Source",
    "SourceFile",
    "Star",
    "Statement",
    "Subquery",
    "TestKind",
    "Truncate",
    "TypeName",
    "Update",
    "UpdateKey",
    "Upsert",
    "Use",
    "Watch",
    "Write",
]

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
