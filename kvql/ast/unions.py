"""The closed unions of statements: what each kind of them may be."""

from __future__ import annotations

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
    Grant,
    GrantRole,
    ShowGrants,
    ShowRoles,
    ShowSessions,
    ShowUsers,
)
from kvql.ast.scripts import Export, Import, Let, SourceFile
from kvql.ast.short_forms import (
    Count,
    DeleteKeys,
    Expire,
    Get,
    Has,
    Persist,
    Put,
    ShowData,
    ShowKeys,
    ShowNamespaces,
    UpdateKey,
    Upsert,
    Use,
)
from kvql.ast.sql import Delete, Insert, Select, Truncate, Update
from kvql.ast.transactions import Assert, Begin, Commit, DryRun, Explain, Release, Restore, Rollback, Savepoint, Watch

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
