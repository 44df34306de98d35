"""Statements: each clause in its place, what is absent left out."""

from __future__ import annotations

from typing import assert_never

from kvql import ast
from kvql.ast import Expression, Name, Operand
from kvql.printer.expressions import Level, expression, expressions, json, type_text
from kvql.printer.words import name, namespace, operand, param, short_value, word
from kvql.values import Type, type_of


def statement(node: ast.Statement) -> str:
    """The text of a statement."""
    match node:
        case ast.Explain(statement=inner, analyze=analyze):
            return f"EXPLAIN {'ANALYZE ' if analyze else ''}{statement(inner)}"
        case ast.DryRun(statement=inner):
            return f"DRY RUN {statement(inner)}"
        case ast.CheckAccess(statement=inner, user=user):
            return f"CHECK ACCESS{_clause('AS', user)} {statement(inner)}"
        case (
            ast.Put() | ast.Upsert() | ast.UpdateKey() | ast.Get() | ast.Has() | ast.DeleteKeys() | ast.Count()
            | ast.ShowKeys() | ast.ShowData() | ast.ShowNamespaces() | ast.Expire() | ast.Persist()
        ):  # fmt: skip
            return _short_form(node)
        case ast.Select():
            return _select(node)
        case ast.Insert():
            return _insert(node)
        case ast.Update() | ast.Delete() | ast.Truncate() | ast.Restore():
            return _write(node)
        case (
            ast.Use() | ast.Begin() | ast.Commit() | ast.Rollback() | ast.Savepoint() | ast.Release() | ast.Assert()
            | ast.Let() | ast.SourceFile() | ast.Watch() | ast.Export() | ast.Import()
        ):  # fmt: skip
            return _session(node)
        case _:
            return _admin(node)


def _clause(keyword: str, node: Name | Operand | Expression | None) -> str:
    """`` KEYWORD node``, or nothing."""
    if node is None:
        return ""
    return f" {keyword} {namespace(node) if isinstance(node, Name) else expression(node)}"


# ── short forms ───────────────────────────────────────────────────────────────────────────────────────────────────


def _pair(pair: ast.Pair) -> str:
    return f"{word(pair.key)} {_value(pair.value)}"


def _value(node: Expression) -> str:
    match node:
        case ast.Literal(value=value):
            text = short_value(value)
            return f"({expression(node)})" if text is None else text
        case ast.Param():
            return param(node)
        case ast.JsonObject() | ast.JsonArray():
            return json(node)
    return f"({expression(node)})"


def _words(nodes: tuple[Operand, ...]) -> str:
    return ", ".join(map(word, nodes))


def _short_form(
    node: ast.Put | ast.Upsert | ast.UpdateKey | ast.Get | ast.Has | ast.DeleteKeys | ast.Count | ast.ShowKeys
    | ast.ShowData | ast.ShowNamespaces | ast.Expire | ast.Persist,
) -> str:  # fmt: skip
    match node:
        case ast.Put(pairs=pairs, ttl=ttl, comment=comment) | ast.Upsert(pairs=pairs, ttl=ttl, comment=comment):
            verb = "PUT" if isinstance(node, ast.Put) else "UPSERT"
            return f"{verb} {', '.join(map(_pair, pairs))}{_clause('TTL', ttl)}{_comment(comment)}"
        case ast.UpdateKey(pair=pair, comment=comment):
            return f"UPDATE {_pair(pair)}{_comment(comment)}"
        case ast.Get(keys=keys):
            return f"GET {_words(keys)}"
        case ast.Has(keys=keys):
            return f"HAS {_words(keys)}"
        case ast.DeleteKeys(keys=keys, comment=comment):
            return f"DELETE {_words(keys)}{_comment(comment)}"
        case ast.Count():
            return f"COUNT{_listing(node)}"
        case ast.ShowKeys(limit=limit):
            return f"SHOW KEYS{_listing(node)}{_clause('LIMIT', limit)}"
        case ast.ShowData(limit=limit):
            return f"SHOW DATA{_listing(node)}{_clause('LIMIT', limit)}"
        case ast.ShowNamespaces():
            return "SHOW NAMESPACES"
        case ast.Expire(key=key, ttl=ttl, comment=comment):
            return f"EXPIRE {word(key)} {operand(ttl)}{_comment(comment)}"
        case ast.Persist(key=key, comment=comment):
            return f"PERSIST {word(key)}{_comment(comment)}"
        case _:
            assert_never(node)


def _comment(node: Operand | None) -> str:
    return "" if node is None else f" COMMENT {operand(node)}"


def _listing(node: ast.Count | ast.ShowKeys | ast.ShowData) -> str:
    return _clause("FROM", node.namespace) + ("" if node.pattern is None else f" LIKE {word(node.pattern)}")


# ── SQL forms ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _select(node: ast.Select) -> str:
    parts = ["SELECT", "DISTINCT" if node.distinct else "", _items(node.items)]
    if node.source is not None:
        parts.append(_source(node.source))
    parts.append(_clause("WHERE", node.where).strip())
    if node.group_all:
        parts.append("GROUP BY ALL")
    elif node.group_by:
        parts.append(f"GROUP BY {expressions(node.group_by)}")
    parts.append(_clause("HAVING", node.having).strip())
    if node.order_by:
        parts.append("ORDER BY " + ", ".join(map(_order, node.order_by)))
    parts += [_clause("LIMIT", node.limit).strip(), _clause("OFFSET", node.offset).strip()]
    return " ".join(filter(None, parts))


def _items(items: tuple[ast.Item, ...]) -> str:
    return ", ".join(expression(i.expression) + ("" if i.alias is None else f" AS {name(i.alias.text)}") for i in items)


def _source(node: ast.Source) -> str:
    if node.history:
        return f"FROM HISTORY OF {namespace(node.namespace)}"
    return f"FROM {namespace(node.namespace)}" + ("" if node.as_of is None else f" {_as_of(node.as_of)}")


def _as_of(node: ast.AsOf) -> str:
    if node.revision is not None:
        return f"AS OF REVISION {operand(node.revision)}"
    when = node.timestamp
    assert when is not None, "AS OF has a revision or a time"
    if isinstance(when, ast.Literal) and type_of(when.value) is Type.TIMESTAMP:
        return f"AS OF {expression(when)}"
    return f"AS OF TIMESTAMP {expression(when, Level.CONCAT)}"


def _order(node: ast.Order) -> str:
    text = expression(node.expression) + (" DESC" if node.descending else "")
    return text if node.nulls_first is None else f"{text} NULLS {'FIRST' if node.nulls_first else 'LAST'}"


def _insert(node: ast.Insert) -> str:
    parts = [f"INSERT INTO {namespace(node.namespace)}"]
    if node.columns:
        parts.append(f"({', '.join(name(c.text) for c in node.columns)})")
    parts.append("VALUES " + ", ".join(f"({expressions(row)})" for row in node.rows))
    if node.ttl is not None:
        parts.append(f"TTL {operand(node.ttl)}")
    if node.on_conflict is not None:
        parts.append(_on_conflict(node.on_conflict))
    return " ".join(parts) + _returning(node.returning) + _comment(node.comment)


def _on_conflict(node: ast.OnConflict) -> str:
    target = f" ({', '.join(map(name, node.target))})" if node.target else ""
    if not node.assignments:
        return f"ON CONFLICT{target} DO NOTHING"
    return f"ON CONFLICT{target} DO UPDATE SET {_assignments(node.assignments)}{_clause('WHERE', node.where)}"


def _assignments(nodes: tuple[ast.Assignment, ...]) -> str:
    return ", ".join(f"{'.'.join(map(name, a.path))} = {expression(a.value)}" for a in nodes)


def _returning(items: tuple[ast.Item, ...]) -> str:
    return f" RETURNING {_items(items)}" if items else ""


def _write(node: ast.Update | ast.Delete | ast.Truncate | ast.Restore) -> str:
    match node:
        case ast.Update(namespace=target, assignments=assignments, where=where):
            text = f"UPDATE {namespace(target)} SET {_assignments(assignments)}{_clause('WHERE', where)}"
            return text + _returning(node.returning) + _comment(node.comment)
        case ast.Delete(namespace=target, where=where):
            text = f"DELETE FROM {namespace(target)}{_clause('WHERE', where)}"
            return text + _returning(node.returning) + _comment(node.comment)
        case ast.Truncate(namespace=target):
            return f"TRUNCATE NAMESPACE {namespace(target)}{_comment(node.comment)}"
        case ast.Restore(as_of=as_of, namespace=None):
            return f"RESTORE {_words(node.keys)} {_as_of(as_of)}{_comment(node.comment)}"
        case ast.Restore(as_of=as_of, namespace=target):
            assert target is not None
            head = f"RESTORE FROM {namespace(target)}{_clause('WHERE', node.where)}"
            return f"{head} {_as_of(as_of)}{_comment(node.comment)}"
        case _:
            assert_never(node)


# ── sessions, transactions, scripts ───────────────────────────────────────────────────────────────────────────────


def _session(
    node: ast.Use | ast.Begin | ast.Commit | ast.Rollback | ast.Savepoint | ast.Release | ast.Assert | ast.Let
    | ast.SourceFile | ast.Watch | ast.Export | ast.Import,
) -> str:  # fmt: skip
    match node:
        case ast.Use(namespace=target):
            return f"USE {namespace(target)}"
        case ast.Begin(read_only=read_only):
            return "BEGIN READ ONLY" if read_only else "BEGIN"
        case ast.Commit():
            return "COMMIT"
        case ast.Rollback(savepoint=savepoint):
            return "ROLLBACK" if savepoint is None else f"ROLLBACK TO {name(savepoint.text)}"
        case ast.Savepoint(name=made):
            return f"SAVEPOINT {name(made.text)}"
        case ast.Release(name=made):
            return f"RELEASE {name(made.text)}"
        case ast.Assert(condition=condition, message=message):
            return f"ASSERT {expression(condition)}" + ("" if message is None else f", {operand(message)}")
        case ast.Let(name=made, value=value):
            return f"LET {name(made.text)} = {expression(value)}"
        case ast.SourceFile(path=path):
            return f"SOURCE {operand(path)}"
        case ast.Watch(namespace=target, where=where, from_revision=revision):
            text = "WATCH" + ("" if target is None else f" {namespace(target)}") + _clause("WHERE", where)
            return text + (" WITH INITIAL" if node.with_initial else "") + _clause("FROM REVISION", revision)
        case ast.Export(path=path, namespace=target, where=where, format=form):
            text = "EXPORT" + ("" if target is None else f" {namespace(target)}") + _clause("WHERE", where)
            return f"{text} TO {operand(path)}{_format(form)}"
        case ast.Import(path=path, namespace=target, format=form, on_conflict=conflict):
            text = f"IMPORT FROM {operand(path)}{_clause('INTO', target)}{_format(form)}"
            return text + ("" if conflict is None else f" {_on_conflict(conflict)}") + _comment(node.comment)
        case _:
            assert_never(node)


def _format(node: Name | None) -> str:
    return "" if node is None else f" FORMAT {name(node.text)}"


# ── namespaces, users, rights ─────────────────────────────────────────────────────────────────────────────────────


def _options(nodes: tuple[ast.Option, ...]) -> str:
    return f"({', '.join(f'{name(o.name.text)} = {expression(o.value)}' for o in nodes)})"


def _fields(nodes: tuple[ast.FieldDef, ...]) -> str:
    parts = [f"{name(f.name.text)} {type_text(f.type)}{' NOT NULL' if f.not_null else ''}" for f in nodes]
    return f" ({', '.join(parts)})" if nodes else ""


def _admin(
    node: ast.CreateNamespace | ast.AlterNamespace | ast.DropNamespace | ast.Describe | ast.CreateUser | ast.AlterUser
    | ast.DropUser | ast.CreateRole | ast.DropRole | ast.Grant | ast.GrantRole | ast.ShowUsers | ast.ShowRoles
    | ast.ShowGrants | ast.ShowSessions | ast.CancelSession,
) -> str:  # fmt: skip
    match node:
        case ast.CreateNamespace(namespace=made, fields=fields, options=options):
            head = f"CREATE NAMESPACE {'IF NOT EXISTS ' if node.if_not_exists else ''}{namespace(made)}"
            return head + _fields(fields) + (f" WITH {_options(options)}" if options else "")
        case ast.AlterNamespace(namespace=made, options=options):
            return f"ALTER NAMESPACE {namespace(made)} SET {_options(options)}"
        case ast.DropNamespace(namespace=made, if_exists=if_exists):
            return f"DROP NAMESPACE {'IF EXISTS ' if if_exists else ''}{namespace(made)}"
        case ast.Describe(namespace=made):
            return f"DESCRIBE {namespace(made)}"
        case ast.CreateUser(user=user, password=password):
            return f"CREATE USER {namespace(user)} PASSWORD {operand(password)}"
        case ast.AlterUser(user=user, password=password):
            return f"ALTER USER {namespace(user)} PASSWORD {operand(password)}"
        case ast.DropUser(user=user):
            return f"DROP USER {namespace(user)}"
        case ast.CreateRole(role=role):
            return f"CREATE ROLE {namespace(role)}"
        case ast.DropRole(role=role):
            return f"DROP ROLE {namespace(role)}"
        case ast.Grant():
            return _grant(node)
        case ast.GrantRole(role=role, grantee=grantee, revoke=revoke):
            verb, link = ("REVOKE", "FROM") if revoke else ("GRANT", "TO")
            return f"{verb} {namespace(role)} {link} {namespace(grantee)}"
        case ast.ShowUsers():
            return "SHOW USERS"
        case ast.ShowRoles():
            return "SHOW ROLES"
        case ast.ShowGrants(user=user):
            return "SHOW GRANTS" + _clause("FOR", user)
        case ast.ShowSessions():
            return "SHOW SESSIONS"
        case ast.CancelSession(session=session):
            return f"CANCEL {namespace(session)}"
        case _:
            assert_never(node)


def _grant(node: ast.Grant) -> str:
    verb, link = ("REVOKE", "FROM") if node.revoke else ("GRANT", "TO")
    scope = "*" if node.namespace is None else namespace(node.namespace)
    like = "" if node.key_like is None else f" WHERE KEY LIKE {operand(node.key_like)}"
    return f"{verb} {', '.join(node.privileges)} ON NAMESPACE {scope}{like} {link} {namespace(node.grantee)}"
