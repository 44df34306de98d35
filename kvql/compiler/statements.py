"""One statement to one request.

GET and PUT come first and by hand: a client sends little else, and a match over the whole language would cost more than
the work. Everything else is one ``match`` over the closed union, so that the type checker names what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias, assert_never, get_args

from kvql import ast, errors
from kvql.compiler import reads, writes
from kvql.compiler.expressions import encode_constants
from kvql.compiler.operands import commented, name_of, pair_value, unsupported
from kvql.compiler.parameters import Given, Parameters, encodable, key_of, ttl_ms_of, value_of
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb


def compile_statement(statement: ast.Statement, parameters: Given | Parameters = None) -> pb.Request:
    """The request of ``statement``; its id, lane, namespace in use, deadline and key are the sender's to fill in.

    Errors: 42P02 (a parameter without a value, a value without a parameter), 22023 (an operand of a type that can
    never be right), 0A000 (not carried out yet, or the business of the client that holds the files), each with its
    span. A ``Parameters`` is for texts of several statements: its owner calls ``finish`` after the last.
    """
    if type(parameters) is Parameters:
        bound, shared = parameters, True
    else:
        bound, shared = Parameters.of(parameters), False
    if type(statement) is ast.Get:
        request = pb.Request()
        keys = request.get.keys
        for key in statement.keys:
            keys.append(key_of(key, bound))
    elif type(statement) is ast.Put:
        request = _write(statement, pb.WRITE_MODE_PUT, bound)
    else:
        request = _compile(statement, bound)
    if not shared:
        bound.finish(statement.span)
    return request


def _compile(statement: ast.Statement, bound: Parameters) -> pb.Request:
    match statement:
        case ast.Put():
            return _write(statement, pb.WRITE_MODE_PUT, bound)
        case ast.Upsert():
            return _write(statement, pb.WRITE_MODE_UPSERT, bound)
        case ast.UpdateKey():
            return _update_key(statement, bound)
        case ast.Get(keys=keys):
            return pb.Request(get=pb.GetCommand(keys=[key_of(k, bound) for k in keys]))
        case ast.Has(keys=keys):
            return pb.Request(has=pb.HasCommand(keys=[key_of(k, bound) for k in keys]))
        case ast.DeleteKeys(keys=keys):
            request = pb.Request(delete=pb.DeleteCommand(keys=[key_of(k, bound) for k in keys]))
            return commented(request, statement.comment, bound)
        case ast.Count() | ast.ShowKeys() | ast.ShowData():
            return reads.listing(statement, bound)
        case ast.ShowNamespaces():
            return pb.Request(namespaces=pb.NamespacesCommand())
        case ast.Use(namespace=namespace):
            return pb.Request(use=pb.UseCommand(namespace=name_of(namespace)))
        case ast.Expire(key=key, ttl=ttl):
            expire = pb.ExpireCommand(key=key_of(key, bound), ttl_ms=ttl_ms_of(ttl, bound))
            return commented(pb.Request(expire=expire), statement.comment, bound)
        case ast.Persist(key=key):
            request = pb.Request(expire=pb.ExpireCommand(key=key_of(key, bound)))
            return commented(request, statement.comment, bound)
        case ast.Select():
            return pb.Request(select=reads.select(statement, bound))
        case ast.Begin(read_only=read_only):
            return _transaction(pb.TransactionCommand.BEGIN, read_only=read_only)
        case ast.Commit():
            return _transaction(pb.TransactionCommand.COMMIT)
        case ast.Rollback(savepoint=None):
            return _transaction(pb.TransactionCommand.ROLLBACK)
        case ast.Rollback(savepoint=name):
            return _transaction(pb.TransactionCommand.ROLLBACK_TO, name)
        case ast.Savepoint(name=name):
            return _transaction(pb.TransactionCommand.SAVEPOINT, name)
        case ast.Release(name=name):
            return _transaction(pb.TransactionCommand.RELEASE, name)
        case ast.Assert():
            return reads.assertion(statement, bound)
        case ast.Watch():
            return reads.watch(statement, bound)
        case ast.Insert():
            return writes.insert(statement, bound)
        case ast.Update():
            return writes.update(statement, bound)
        case ast.Delete():
            return writes.delete(statement, bound)
        case ast.Restore():
            return writes.restore(statement, bound)
        case ast.Truncate(namespace=namespace):
            request = pb.Request(truncate=pb.TruncateCommand(namespace=name_of(namespace)))
            return commented(request, statement.comment, bound)
        case ast.Explain(statement=inner, analyze=analyze):
            return _in_mode(inner, bound, pb.MODE_EXPLAIN_ANALYZE if analyze else pb.MODE_EXPLAIN)
        case ast.DryRun(statement=inner):
            return _in_mode(inner, bound, pb.MODE_DRY_RUN)
        case ast.CreateNamespace():
            return pb.Request(create_namespace=_create_namespace(statement, bound))
        case ast.AlterNamespace():
            return pb.Request(alter_namespace=_alter_namespace(statement, bound))
        case ast.Describe(namespace=namespace):
            return pb.Request(describe=pb.DescribeCommand(namespace=name_of(namespace)))
        case ast.DropNamespace(namespace=namespace, if_exists=if_exists):
            return pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=name_of(namespace), if_exists=if_exists))
        case _:
            if type(statement) not in _LATER:  # nothing that a type checker has seen
                raise errors.InterfaceError(
                    f"a statement is text or a syntax tree, not {type(statement).__name__}", sqlstate=errors.INVALID
                )
            raise _not_yet(statement)


_Later: TypeAlias = (
    ast.Import | ast.Let | ast.SourceFile | ast.Export | ast.CreateUser
    | ast.AlterUser | ast.DropUser | ast.CreateRole | ast.DropRole | ast.Grant | ast.GrantRole | ast.ShowUsers
    | ast.ShowRoles | ast.ShowGrants | ast.ShowSessions | ast.CancelSession | ast.CheckAccess
)  # fmt: skip
_LATER: Final = frozenset(get_args(_Later))


def _not_yet(statement: _Later) -> Error:
    """0A000 by name; a new statement of the union does not type-check before it is named here or compiled above."""
    match statement:
        case ast.CreateUser() | ast.AlterUser() | ast.DropUser() | ast.ShowUsers():
            return unsupported("managing users by statements", statement, hint="use kvql-server users")
        case ast.CreateRole() | ast.DropRole() | ast.ShowRoles():
            return unsupported("managing roles", statement)
        case ast.Grant(revoke=revoke) | ast.GrantRole(revoke=revoke):
            return unsupported("REVOKE" if revoke else "GRANT", statement)
        case ast.ShowGrants():
            return unsupported("SHOW GRANTS", statement)
        case ast.ShowSessions():
            return unsupported("SHOW SESSIONS", statement)
        case ast.CancelSession():
            return unsupported("CANCEL", statement)
        case ast.CheckAccess():
            return unsupported("CHECK ACCESS", statement)
        case ast.Let():
            return _of_the_client("LET", statement)
        case ast.SourceFile():
            return _of_the_client("SOURCE", statement)
        case ast.Import():
            return _of_the_client("IMPORT", statement)
        case ast.Export():
            return _of_the_client("EXPORT", statement)
        case _:
            assert_never(statement)


def _of_the_client(what: str, node: _Later) -> Error:
    return errors.error(
        errors.NOT_SUPPORTED,
        f"{what} is not supported here",
        hint="it belongs to scripts: the shell carries it out, a server never does",
        span=node.span,
    )


# ── writes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_mode(statement: ast.Data | ast.Write, bound: Parameters, mode: pb.Mode.ValueType) -> pb.Request:
    request = _compile(statement, bound)
    request.mode = mode
    return request


def _write(statement: ast.Put | ast.Upsert, mode: pb.WriteMode.ValueType, bound: Parameters) -> pb.Request:
    request = pb.Request()
    write = request.write
    write.mode = mode
    pairs = statement.pairs
    if len(pairs) == 1:
        pair = pairs[0]
        write.keys.append(key_of(pair.key, bound))
        _put_value(write.values, pair_value(pair.value, bound))
    else:
        write.keys.extend([key_of(pair.key, bound) for pair in pairs])
        encode_constants([pair_value(pair.value, bound) for pair in pairs], write.values)
    if statement.ttl is not None:
        write.ttl_ms = ttl_ms_of(statement.ttl, bound)
    return request if statement.comment is None else commented(request, statement.comment, bound)


def _update_key(statement: ast.UpdateKey, bound: Parameters) -> pb.Request:
    request = pb.Request()
    request.write.mode = pb.WRITE_MODE_UPDATE
    request.write.keys.append(key_of(statement.pair.key, bound))
    _put_value(request.write.values, pair_value(statement.pair.value, bound))
    return commented(request, statement.comment, bound)


def _put_value(into: pb.Values, value: Any) -> None:
    """One value; the two common types without the detour over columns."""
    kind = type(value)
    if kind is str:
        into.types = b"\x06"
        into.texts.append(value)
    elif kind is int:
        into.types = b"\x03"
        into.integers.append(value)
    else:
        encode_constants([value], into)


# ── transactions and namespaces ───────────────────────────────────────────────────────────────────────────────────


def _transaction(
    action: pb.TransactionCommand.Action.ValueType, savepoint: ast.Name | None = None, *, read_only: bool = False
) -> pb.Request:
    name = "" if savepoint is None else encodable(savepoint.text, savepoint.span)
    return pb.Request(transaction=pb.TransactionCommand(action=action, read_only=read_only, name=name))


def _create_namespace(statement: ast.CreateNamespace, bound: Parameters) -> pb.CreateNamespaceCommand:
    out = pb.CreateNamespaceCommand(namespace=name_of(statement.namespace), if_not_exists=statement.if_not_exists)
    _options(statement.options, bound, out)
    for field in statement.fields:
        out.fields.add(
            name=encodable(field.name.text, field.name.span), type=field.type.name,
            type_arguments=[min(a, 2**32 - 1) for a in field.type.arguments], not_null=field.not_null,
        )  # fmt: skip
    return out


def _alter_namespace(statement: ast.AlterNamespace, bound: Parameters) -> pb.AlterNamespaceCommand:
    out = pb.AlterNamespaceCommand(namespace=name_of(statement.namespace))
    _options(statement.options, bound, out)
    return out


def _options(
    options: Iterable[ast.Option], bound: Parameters, into: pb.CreateNamespaceCommand | pb.AlterNamespaceCommand
) -> None:
    into.option_names.extend([option.name.text.lower() for option in options])
    encode_constants([_option_value(option, bound) for option in options], into.option_values)


def _option_value(option: ast.Option, bound: Parameters) -> Any:
    if not isinstance(option.value, ast.Literal | ast.Param):
        raise errors.error(
            errors.INVALID,
            f'the value of "{option.name.text}" must be a constant',
            hint="put text in single quotes",
            span=option.value.span or option.span,
        )
    return value_of(option.value, bound)
