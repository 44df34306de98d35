"""Statements and their clauses, in the order of the grammar."""

from __future__ import annotations

from typing import Any, Final

from kvql import ast, errors
from kvql.ast import DeleteKeys, Get, Has, Item, Literal, Name, Order, Pair, Put, Select, Source, Star, Upsert
from kvql.node import maker
from kvql.parser.build.literals import sequence
from kvql.span import Span
from kvql.values import parse_timestamp

_new: Final = tuple.__new__
_pair: Final = maker(Pair)
_put: Final = maker(Put)
_upsert: Final = maker(Upsert)
_get: Final = maker(Get)
_item: Final = maker(Item)
_order: Final = maker(Order)
_select: Final = maker(Select)
_source: Final = maker(Source)


# ── short forms ───────────────────────────────────────────────────────────────────────────────────────────────────


def pair(v: list[Any], start: int, end: int) -> Pair:
    return _pair(v[0], v[1], _new(Span, (start, end)))


def put(v: list[Any], start: int, end: int) -> Put:
    return _put(tuple(v[1]), v[2], v[3], _new(Span, (start, end)))


def upsert(v: list[Any], start: int, end: int) -> Upsert:
    return _upsert(tuple(v[1]), v[2], v[3], _new(Span, (start, end)))


def update_key(v: list[Any], start: int, end: int) -> ast.UpdateKey:
    both = Pair(v[1], v[2], span=_hull(v[1], v[2]))
    return ast.UpdateKey(both, v[3], span=_new(Span, (start, end)))


def _hull(first: Any, last: Any) -> Span:
    """From the start of one node to the end of another."""
    return _new(Span, (first.span[0], last.span[1]))


def get(v: list[Any], start: int, end: int) -> Get:
    return _get(tuple(v[1]), _new(Span, (start, end)))


def has(v: list[Any], start: int, end: int) -> Has:
    return Has(tuple(v[1]), span=_new(Span, (start, end)))


def delete_keys(v: list[Any], start: int, end: int) -> DeleteKeys:
    return DeleteKeys(tuple(v[1]), v[2], span=_new(Span, (start, end)))


def count(v: list[Any], start: int, end: int) -> ast.Count:
    return ast.Count(v[1], v[2], span=_new(Span, (start, end)))


def show_keys(v: list[Any], start: int, end: int) -> ast.ShowKeys:
    return ast.ShowKeys(v[2], v[3], v[4], span=_new(Span, (start, end)))


def show_data(v: list[Any], start: int, end: int) -> ast.ShowData:
    return ast.ShowData(v[2], v[3], v[4], span=_new(Span, (start, end)))


def show_namespaces(v: list[Any], start: int, end: int) -> ast.ShowNamespaces:
    return ast.ShowNamespaces(span=_new(Span, (start, end)))


def use(v: list[Any], start: int, end: int) -> ast.Use:
    return ast.Use(v[1], span=_new(Span, (start, end)))


def expire(v: list[Any], start: int, end: int) -> ast.Expire:
    return ast.Expire(v[1], v[2], v[3], span=_new(Span, (start, end)))


def persist(v: list[Any], start: int, end: int) -> ast.Persist:
    return ast.Persist(v[1], v[2], span=_new(Span, (start, end)))


# ── SELECT ────────────────────────────────────────────────────────────────────────────────────────────────────────


def select(v: list[Any], start: int, end: int) -> Select:
    _, distinct, items, source, where, groups, having, orders, limit, offset = v
    group_all = groups is GROUP_ALL
    return _select(
        tuple(items),
        distinct is not None,
        source,
        where,
        () if group_all or groups is None else tuple(groups),
        group_all,
        having,
        () if orders is None else tuple(orders),
        limit,
        offset,
        _new(Span, (start, end)),
    )


GROUP_ALL: Final = ("ALL",)


def group_all(v: list[Any], start: int, end: int) -> tuple[str]:
    return GROUP_ALL


def star_item(v: list[Any], start: int, end: int) -> Item:
    return _item(Star(span=_new(Span, (start, end))), None, _new(Span, (start, end)))


def item(v: list[Any], start: int, end: int) -> Item:
    return _item(v[0], v[2] if len(v) > 1 else None, _new(Span, (start, end)))


def source(v: list[Any], start: int, end: int) -> Source:
    return _source(v[0], v[1] if len(v) > 1 else None, False, _new(Span, (start, end)))


def source_history_word(v: list[Any], start: int, end: int) -> Source:
    """A namespace that is called ``history``."""
    name = Name(v[0], span=_new(Span, (start, start + len(v[0]))))
    return _source(name, v[1] if len(v) > 1 else None, False, _new(Span, (start, end)))


def source_history(v: list[Any], start: int, end: int) -> Source:
    return _source(v[2], None, True, _new(Span, (start, end)))


def as_of_revision(v: list[Any], start: int, end: int) -> ast.AsOf:
    return ast.AsOf(revision=v[3], span=_new(Span, (start, end)))


def as_of_timestamp(v: list[Any], start: int, end: int) -> ast.AsOf:
    """``AS OF TIMESTAMP '2026-01-02'`` is the literal TIMESTAMP '2026-01-02'."""
    when = v[3]
    if type(when) is Literal and type(when.value) is str:
        try:
            when = Literal(parse_timestamp(when.value), span=when.span)
        except errors.Error as e:
            raise e.at(when.span) from None
    return ast.AsOf(timestamp=when, span=_new(Span, (start, end)))


def order(v: list[Any], start: int, end: int) -> Order:
    return _order(v[0], v[1] is True, v[2], _new(Span, (start, end)))


def _true(v: list[Any], start: int, end: int) -> bool:
    return True


def _false(v: list[Any], start: int, end: int) -> bool:
    return False


# ── writes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert(v: list[Any], start: int, end: int) -> ast.Insert:
    _, _, namespace, columns, _, rows, ttl, conflict, returning, comment = v
    return ast.Insert(
        namespace, tuple(columns or ()), tuple(rows), ttl, conflict, tuple(returning or ()), comment,
        span=_new(Span, (start, end)),
    )  # fmt: skip


def row(v: list[Any], start: int, end: int) -> tuple[ast.Expression, ...]:
    return tuple(v[1])


def conflict_nothing(v: list[Any], start: int, end: int) -> ast.OnConflict:
    return ast.OnConflict(target=_names(v[2]), span=_new(Span, (start, end)))


def conflict_update(v: list[Any], start: int, end: int) -> ast.OnConflict:
    return ast.OnConflict(tuple(v[6]), v[7], _names(v[2]), span=_new(Span, (start, end)))


def _names(columns: list[Name] | None) -> tuple[str, ...]:
    return tuple([c.text for c in columns or ()])


def assignment(v: list[Any], start: int, end: int) -> ast.Assignment:
    return ast.Assignment(tuple([name.text for name in v[0]]), v[2], span=_new(Span, (start, end)))


def update(v: list[Any], start: int, end: int) -> ast.Update:
    return ast.Update(v[1], tuple(v[3]), v[4], tuple(v[5] or ()), v[6], span=_new(Span, (start, end)))


def delete(v: list[Any], start: int, end: int) -> ast.Delete:
    return ast.Delete(v[2], v[3], tuple(v[4] or ()), v[5], span=_new(Span, (start, end)))


def truncate(v: list[Any], start: int, end: int) -> ast.Truncate:
    return ast.Truncate(v[2], v[3], span=_new(Span, (start, end)))


# ── transactions, history, watching ───────────────────────────────────────────────────────────────────────────────


def begin(v: list[Any], start: int, end: int) -> ast.Begin:
    return ast.Begin(v[1] is True, span=_new(Span, (start, end)))


def commit(v: list[Any], start: int, end: int) -> ast.Commit:
    return ast.Commit(span=_new(Span, (start, end)))


def rollback(v: list[Any], start: int, end: int) -> ast.Rollback:
    return ast.Rollback(v[2] if len(v) > 1 else None, span=_new(Span, (start, end)))


def savepoint(v: list[Any], start: int, end: int) -> ast.Savepoint:
    return ast.Savepoint(v[1], span=_new(Span, (start, end)))


def after_savepoint(v: list[Any], start: int, end: int) -> Any:
    return v[1]


def release(v: list[Any], start: int, end: int) -> ast.Release:
    return ast.Release(v[1], span=_new(Span, (start, end)))


def assert_(v: list[Any], start: int, end: int) -> ast.Assert:
    return ast.Assert(v[1], v[3] if len(v) > 2 else None, span=_new(Span, (start, end)))


def watch(v: list[Any], start: int, end: int) -> ast.Watch:
    return ast.Watch(v[1], v[2], v[3] is True, v[4], span=_new(Span, (start, end)))


def restore_keys(v: list[Any], start: int, end: int) -> ast.Restore:
    return ast.Restore(v[2], tuple(v[1]), comment=v[3], span=_new(Span, (start, end)))


def restore_rows(v: list[Any], start: int, end: int) -> ast.Restore:
    return ast.Restore(v[4], (), v[2], v[3], v[5], span=_new(Span, (start, end)))


def explain(v: list[Any], start: int, end: int) -> ast.Explain:
    return ast.Explain(v[1], span=_new(Span, (start, end)))


def explain_analyze(v: list[Any], start: int, end: int) -> ast.Explain:
    return ast.Explain(v[2], True, span=_new(Span, (start, end)))


def dry_run(v: list[Any], start: int, end: int) -> ast.DryRun:
    return ast.DryRun(v[2], span=_new(Span, (start, end)))


def check_access(v: list[Any], start: int, end: int) -> ast.CheckAccess:
    return ast.CheckAccess(v[2], span=_new(Span, (start, end)))


def check_access_as(v: list[Any], start: int, end: int) -> ast.CheckAccess:
    return ast.CheckAccess(v[4], v[3], span=_new(Span, (start, end)))


# ── namespaces, users, rights ─────────────────────────────────────────────────────────────────────────────────────


def create_namespace(v: list[Any], start: int, end: int) -> ast.CreateNamespace:
    _, _, if_not_exists, namespace, fields, options = v
    return ast.CreateNamespace(
        namespace, tuple(fields or ()), tuple(options or ()), if_not_exists is True, span=_new(Span, (start, end))
    )


def alter_namespace(v: list[Any], start: int, end: int) -> ast.AlterNamespace:
    return ast.AlterNamespace(v[2], tuple(v[5]), span=_new(Span, (start, end)))


def drop_namespace(v: list[Any], start: int, end: int) -> ast.DropNamespace:
    return ast.DropNamespace(v[3], v[2] is True, span=_new(Span, (start, end)))


def describe(v: list[Any], start: int, end: int) -> ast.Describe:
    return ast.Describe(v[1], span=_new(Span, (start, end)))


def field(v: list[Any], start: int, end: int) -> ast.FieldDef:
    return ast.FieldDef(v[0], v[1], span=_new(Span, (start, end)))


def field_not_null(v: list[Any], start: int, end: int) -> ast.FieldDef:
    return ast.FieldDef(v[0], v[1], True, span=_new(Span, (start, end)))


def option(v: list[Any], start: int, end: int) -> ast.Option:
    return ast.Option(v[0], v[2], span=_new(Span, (start, end)))


def create_user(v: list[Any], start: int, end: int) -> ast.CreateUser:
    return ast.CreateUser(v[2], v[4], span=_new(Span, (start, end)))


def alter_user(v: list[Any], start: int, end: int) -> ast.AlterUser:
    return ast.AlterUser(v[2], v[4], span=_new(Span, (start, end)))


def drop_user(v: list[Any], start: int, end: int) -> ast.DropUser:
    return ast.DropUser(v[2], span=_new(Span, (start, end)))


def create_role(v: list[Any], start: int, end: int) -> ast.CreateRole:
    return ast.CreateRole(v[2], span=_new(Span, (start, end)))


def drop_role(v: list[Any], start: int, end: int) -> ast.DropRole:
    return ast.DropRole(v[2], span=_new(Span, (start, end)))


EVERY: Final = object()


def every_namespace(v: list[Any], start: int, end: int) -> object:
    return EVERY


def privilege(v: list[Any], start: int, end: int) -> str:
    word: str = v[0]
    return word.upper()


def grant(v: list[Any], start: int, end: int) -> ast.Grant:
    _, privileges, _, _, scope, key_like, _, grantee = v
    namespace = None if scope is EVERY else scope
    return ast.Grant(tuple(privileges), namespace, grantee, key_like, span=_new(Span, (start, end)))


def revoke(v: list[Any], start: int, end: int) -> ast.Grant:
    _, privileges, _, _, scope, key_like, _, grantee = v
    namespace = None if scope is EVERY else scope
    return ast.Grant(tuple(privileges), namespace, grantee, key_like, True, span=_new(Span, (start, end)))


def grant_role(v: list[Any], start: int, end: int) -> ast.GrantRole:
    return ast.GrantRole(v[1], v[3], span=_new(Span, (start, end)))


def revoke_role(v: list[Any], start: int, end: int) -> ast.GrantRole:
    return ast.GrantRole(v[1], v[3], True, span=_new(Span, (start, end)))


def show_users(v: list[Any], start: int, end: int) -> ast.ShowUsers:
    return ast.ShowUsers(span=_new(Span, (start, end)))


def show_roles(v: list[Any], start: int, end: int) -> ast.ShowRoles:
    return ast.ShowRoles(span=_new(Span, (start, end)))


def show_grants(v: list[Any], start: int, end: int) -> ast.ShowGrants:
    return ast.ShowGrants(v[3] if len(v) > 2 else None, span=_new(Span, (start, end)))


def show_sessions(v: list[Any], start: int, end: int) -> ast.ShowSessions:
    return ast.ShowSessions(span=_new(Span, (start, end)))


def cancel(v: list[Any], start: int, end: int) -> ast.CancelSession:
    return ast.CancelSession(v[1], span=_new(Span, (start, end)))


# ── scripts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def let(v: list[Any], start: int, end: int) -> ast.Let:
    return ast.Let(v[1], v[3], span=_new(Span, (start, end)))


def source_file(v: list[Any], start: int, end: int) -> ast.SourceFile:
    return ast.SourceFile(v[1], span=_new(Span, (start, end)))


def import_(v: list[Any], start: int, end: int) -> ast.Import:
    return ast.Import(v[2], v[3], v[4], v[5], v[6], span=_new(Span, (start, end)))


def export(v: list[Any], start: int, end: int) -> ast.Export:
    _, namespace, where, _, path, file_format = v
    return ast.Export(path, namespace, where, file_format, span=_new(Span, (start, end)))


BUILDERS: Final = {
    "pair": pair,
    "put": put,
    "upsert": upsert,
    "update_key": update_key,
    "get": get,
    "has": has,
    "delete_keys": delete_keys,
    "count": count,
    "show_keys": show_keys,
    "show_data": show_data,
    "show_namespaces": show_namespaces,
    "use": use,
    "expire": expire,
    "persist": persist,
    "select": select,
    "group_all": group_all,
    "star_item": star_item,
    "item": item,
    "source": source,
    "source_history_word": source_history_word,
    "source_history": source_history,
    "as_of_revision": as_of_revision,
    "as_of_timestamp": as_of_timestamp,
    "order": order,
    "ascending": _false,
    "descending": _true,
    "nulls_first": _true,
    "nulls_last": _false,
    "insert": insert,
    "row": row,
    "conflict_nothing": conflict_nothing,
    "conflict_update": conflict_update,
    "assignment": assignment,
    "update": update,
    "delete": delete,
    "truncate": truncate,
    "begin": begin,
    "read_only": _true,
    "commit": commit,
    "rollback": rollback,
    "savepoint": savepoint,
    "after_savepoint": after_savepoint,
    "release": release,
    "assert": assert_,
    "watch": watch,
    "initial": _true,
    "restore_keys": restore_keys,
    "restore_rows": restore_rows,
    "explain": explain,
    "explain_analyze": explain_analyze,
    "dry_run": dry_run,
    "check_access": check_access,
    "check_access_as": check_access_as,
    "create_namespace": create_namespace,
    "alter_namespace": alter_namespace,
    "drop_namespace": drop_namespace,
    "describe": describe,
    "field": field,
    "field_not_null": field_not_null,
    "option": option,
    "if_exists": _true,
    "if_not_exists": _true,
    "create_user": create_user,
    "alter_user": alter_user,
    "drop_user": drop_user,
    "create_role": create_role,
    "drop_role": drop_role,
    "every_namespace": every_namespace,
    "privilege": privilege,
    "grant": grant,
    "revoke": revoke,
    "grant_role": grant_role,
    "revoke_role": revoke_role,
    "show_users": show_users,
    "show_roles": show_roles,
    "show_grants": show_grants,
    "show_sessions": show_sessions,
    "cancel": cancel,
    "let": let,
    "source_file": source_file,
    "import": import_,
    "export": export,
    **dict.fromkeys(
        (
            "pairs", "keys", "items", "columns", "rows", "assignments", "path", "orders", "fields", "options",
            "privileges",
        ),
        sequence,
    ),
}  # fmt: skip
