"""Every statement becomes its command, and what cannot be written on the wire is refused with its place."""

from __future__ import annotations

import typing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kvql import ast, errors
from kvql.codec import decode_values
from kvql.compiler import Parameters, compile_statement, span_of
from kvql.parser import parse
from kvql.span import Span
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json

L, P, N = ast.Literal, ast.Param, ast.Name


def pair(key: object, value: object) -> ast.Pair:
    return ast.Pair(_operand(key), _operand(value))


def _operand(x: object) -> typing.Any:
    return x if isinstance(x, L | P | ast.Chain | ast.JsonObject) else L(x)


def refusal(statement: ast.Statement, parameters: typing.Any = None) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        compile_statement(statement, parameters)
    return caught.value


def test_put_with_everything() -> None:
    put = ast.Put((pair("a", 1), pair("b", "x")), ttl=L(timedelta(seconds=60)), comment=L("why"))
    request = compile_statement(put)
    assert request.write.mode == pb.WRITE_MODE_PUT
    assert list(request.write.keys) == ["a", "b"]
    assert decode_values(request.write.values) == [1, "x"]
    assert request.write.ttl_ms == 60_000
    assert request.comment == "why"
    assert not request.write.each and not request.write.statement_sizes


@pytest.mark.parametrize(
    "value",
    ["x", "", 5, -(2**63), True, False, None, 1.5, Decimal("0.10"), b"\x00\xff", Json('{"a": [1]}'),
     datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)],
)  # fmt: skip
def test_every_type_of_value_travels(value: object) -> None:
    for statement in (ast.Put((pair("k", value),)), ast.Upsert((pair("k", value), pair("l", value)))):
        got = decode_values(compile_statement(statement).write.values)
        assert got[0] == value and type(got[0]) is type(value)
    by_parameter = compile_statement(ast.Put((ast.Pair(P(0), P(1)),)), ["k", value])
    assert decode_values(by_parameter.write.values) == [value]


def test_update_is_a_write_without_ttl() -> None:
    request = compile_statement(ast.UpdateKey(pair("a", 1), comment=L("c")))
    assert request.write.mode == pb.WRITE_MODE_UPDATE and request.write.ttl_ms == 0 and request.comment == "c"


def test_commands_of_keys() -> None:
    assert list(compile_statement(ast.Get((L("a"), L("b")))).get.keys) == ["a", "b"]
    assert list(compile_statement(ast.Has((L("a"),))).has.keys) == ["a"]
    assert list(compile_statement(ast.DeleteKeys((L("a"),))).delete.keys) == ["a"]
    expire = compile_statement(ast.Expire(L("a"), L(timedelta(milliseconds=250)))).expire
    assert (expire.key, expire.ttl_ms) == ("a", 250)
    persist = compile_statement(ast.Persist(L("a"))).expire
    assert (persist.key, persist.ttl_ms) == ("a", 0)


def test_lists() -> None:
    count = compile_statement(ast.Count(N("shop"), L("a%"))).list
    assert (count.what, count.namespace, count.pattern) == (pb.ListCommand.COUNT, "shop", "a%")
    keys = compile_statement(ast.ShowKeys(limit=L(0))).list
    assert keys.what == pb.ListCommand.KEYS and keys.HasField("limit") and keys.limit == 0
    data = compile_statement(ast.ShowData(pattern=L(""))).list
    assert data.what == pb.ListCommand.DATA and data.HasField("pattern") and not data.HasField("limit")
    assert compile_statement(ast.ShowNamespaces()).WhichOneof("command") == "namespaces"


def test_session_statements() -> None:
    assert compile_statement(ast.Use(N("shop"))).use.namespace == "shop"
    begin = compile_statement(ast.Begin(read_only=True)).transaction
    assert begin.action == pb.TransactionCommand.BEGIN and begin.read_only
    assert compile_statement(ast.Commit()).transaction.action == pb.TransactionCommand.COMMIT
    assert compile_statement(ast.Rollback()).transaction.action == pb.TransactionCommand.ROLLBACK
    for statement, action in (
        (ast.Savepoint(N("s")), pb.TransactionCommand.SAVEPOINT),
        (ast.Rollback(N("s")), pb.TransactionCommand.ROLLBACK_TO),
        (ast.Release(N("s")), pb.TransactionCommand.RELEASE),
    ):
        made = compile_statement(statement).transaction
        assert (made.action, made.name) == (action, "s")
    assert refusal(ast.Savepoint(N("\ud800"))).sqlstate == "22023"


def test_assertions() -> None:
    one = ast.Select((ast.Item(P("a")),))
    two = ast.Select((ast.Item(ast.Column(("value",))),), where=ast.Compare("=", ast.Column(("key",)), P("b")))
    condition = ast.Compare("<", ast.Subquery(one), ast.Chain(ast.Subquery(two), (("+", P("c")),)))
    command = compile_statement(ast.Assert(condition, P("why")), {"a": 1, "b": "k", "c": 2, "why": "so"}).assertion
    assert command.message == "so"
    assert [(s.op, s.argument) for s in command.condition.steps] == [
        (pb.OP_SUBQUERY, 0), (pb.OP_SUBQUERY, 1), (pb.OP_CONSTANT, 0), (pb.OP_ADD, 0), (pb.OP_LT, 0),
    ]  # fmt: skip
    assert [s.from_session for s in command.subqueries] == [False, True]
    assert decode_values(command.subqueries[0].projections[0].expression.constants) == [1]
    nested = ast.Select((ast.Item(ast.Subquery(one)),))
    assert refusal(ast.Assert(ast.Subquery(nested))).sqlstate == "0A000"


def test_places_in_assertions_count_the_condition_first() -> None:
    text = "ASSERT (SELECT a + 1 FROM x) = 1 AND (SELECT b WHERE c) > 2, 'm'"
    [statement] = parse(text)

    def at(item: int) -> str:
        span = span_of(statement, item, pb.PART_STEP)
        return "" if span is None else text[span.start : span.end]

    assert [at(i) for i in (1, 3, 4, 6, 7)] == [
        "(SELECT a + 1 FROM x)", "(SELECT a + 1 FROM x) = 1", "(SELECT b WHERE c)", "(SELECT b WHERE c) > 2",
        "(SELECT a + 1 FROM x) = 1 AND (SELECT b WHERE c) > 2",
    ]  # fmt: skip
    assert [at(i) for i in (8, 9, 10, 11, 12, 13)] == ["a", "1", "a + 1", "b", "c", ""]
    [release] = parse("RELEASE s")
    assert span_of(release, 1, pb.PART_NAME) == (8, 9)


def test_namespaces() -> None:
    made = compile_statement(
        ast.CreateNamespace(N("n"), options=(ast.Option(N("VALUES"), L("word")),), if_not_exists=True)
    ).create_namespace
    assert (made.namespace, made.if_not_exists, list(made.option_names)) == ("n", True, ["values"])
    assert decode_values(made.option_values) == ["word"]
    dropped = compile_statement(ast.DropNamespace(N("n"), if_exists=True)).drop_namespace
    assert (dropped.namespace, dropped.if_exists) == ("n", True)


def test_select() -> None:
    select = ast.Select(
        items=(ast.Item(ast.Column(("key",))), ast.Item(ast.Column(("value",)), N("v"))),
        source=ast.Source(N("shop")),
        where=ast.Compare("=", ast.Column(("key",)), P("k")),
        order_by=(ast.Order(ast.Column(("key",)), descending=True, nulls_first=False),),
        limit=P("n"),
    )
    command = compile_statement(select, {"k": "a", "n": 3}).select
    assert [p.name for p in command.projections] == ["key", "v"]
    assert command.namespace == "shop" and not command.from_session and command.limit == 3
    assert [s.op for s in command.where.steps] == [pb.OP_COLUMN, pb.OP_CONSTANT, pb.OP_EQ]
    assert decode_values(command.where.constants) == ["a"]
    assert command.order_by[0].descending and command.order_by[0].HasField("nulls_first")


@pytest.mark.parametrize(
    ("select", "reads"),
    [
        (ast.Select((ast.Item(L(1)),)), False),
        (ast.Select((ast.Item(ast.Call("now")),)), False),
        (ast.Select((ast.Item(ast.Star()),)), True),
        (ast.Select((ast.Item(ast.Column(("age",))),)), True),
        (ast.Select((ast.Item(ast.Call("count")),)), True),
        (ast.Select((ast.Item(L(1)),), where=L(True)), True),
        (ast.Select((ast.Item(L(1)),), limit=L(5)), True),
    ],
)
def test_select_without_from_reads_the_namespace_in_use_only_if_it_names_something(
    select: ast.Select, reads: bool
) -> None:
    assert compile_statement(select).select.from_session is reads


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (ast.Item(ast.Column(("address", "city"))), "city"),
        (ast.Item(ast.Call("count")), "count"),
        (ast.Item(L(1)), "?column?"),
        (ast.Item(ast.Cast(ast.Column(("value",)), ast.TypeName("int"))), "value"),
        (ast.Item(ast.Cast(L("1"), ast.TypeName("int"))), "int"),
        (ast.Item(ast.Index(ast.Column(("value",)), L("a"))), "value"),
        (ast.Item(ast.Field(ast.Index(ast.Column(("value",)), L("a")), "b")), "b"),
        (ast.Item(ast.Case(None, ((L(True), L(1)),))), "case"),
        (ast.Item(ast.Star()), "*"),
    ],
)
def test_names_of_result_columns(item: ast.Item, name: str) -> None:
    assert compile_statement(ast.Select((item,))).select.projections[0].name == name


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_parameters_by_place_and_by_name() -> None:
    put = ast.Put((ast.Pair(P(1), P(0)),))
    assert list(compile_statement(put, ("v", "k")).write.keys) == ["k"]
    named = ast.Put((ast.Pair(P("k"), P("v")),), ttl=P("ttl"))
    request = compile_statement(named, {"k": "a", "v": {"x": 1}, "ttl": timedelta(minutes=1), "other": 1})
    assert decode_values(request.write.values) == [Json('{"x": 1}')] and request.write.ttl_ms == 60_000


def test_a_missing_parameter_is_named_with_its_place() -> None:
    error = refusal(ast.Get((P(0), P(1, span=Span(7, 8)))), ["a"])
    assert (error.sqlstate, error.span) == ("42P02", Span(7, 8))
    assert error.message == "no value for parameter ?2" and error.hint == "1 value given"
    assert isinstance(error, errors.ProgrammingError)
    error = refusal(ast.Get((P("key", span=Span(4, 8)),)), ["a"])
    assert (error.sqlstate, error.span, error.message) == ("42P02", Span(4, 8), "no value for parameter :key")
    assert refusal(ast.Get((P("key"),)), {"kee": 1}).message == "no value for parameter :key"


def test_too_many_places_are_an_error_and_more_names_are_not() -> None:
    error = refusal(ast.Get((P(0),), span=Span(0, 5)), ["a", "b"])
    assert (error.sqlstate, error.span) == ("42P02", Span(0, 5))
    assert error.message == "2 parameters given, but the statement has 1"
    assert refusal(ast.Count(), ["a"]).message == "1 parameter given, but the statement has none"
    compile_statement(ast.Count(), {"a": 1})


@pytest.mark.parametrize("given", ["ab", b"ab", 5, {1, 2}])
def test_parameters_of_the_wrong_shape(given: object) -> None:
    assert refusal(ast.Get((P(0),)), given).sqlstate == "42P02"


@pytest.mark.parametrize("key", [7, True, None, 1.5, b"a", {"a": 1}, timedelta(1)])
def test_a_key_is_text(key: object) -> None:
    error = refusal(ast.Get((P(0, span=Span(4, 5)),)), [key])
    assert error.sqlstate == "22023" and error.span == Span(4, 5)
    assert error.message.startswith("a key must be text, not")


@pytest.mark.parametrize(
    ("value", "sqlstate"),
    [(object(), "22023"), ("\ud800", "22023"), (float, "22023"), ({"a": object()}, "22023"), (timedelta(1), "22023"),
     (Decimal("NaN"), "22003"), ({1: 2}, "22023")],
)  # fmt: skip
def test_values_that_are_none(value: object, sqlstate: str) -> None:
    error = refusal(ast.Put((ast.Pair(L("k"), P(0, span=Span(6, 7))),)), [value])
    assert (error.sqlstate, error.span) == (sqlstate, Span(6, 7))


@pytest.mark.parametrize("ttl", [60, "60s", None, timedelta(0), timedelta(seconds=-1), 1.5])
def test_a_ttl_is_a_positive_duration(ttl: object) -> None:
    assert refusal(ast.Put((pair("k", 1),), ttl=P(0)), [ttl]).sqlstate == "22023"


def test_a_ttl_is_never_rounded_to_none() -> None:
    assert compile_statement(ast.Expire(L("a"), L(timedelta(microseconds=1)))).expire.ttl_ms == 1


@pytest.mark.parametrize("limit", [-1, "5", None, True, 2.0, timedelta(1)])
def test_a_limit_is_a_count(limit: object) -> None:
    assert refusal(ast.ShowKeys(limit=P(0)), [limit]).sqlstate == "22023"


def test_one_set_of_parameters_for_several_statements() -> None:
    shared = Parameters(["a", "b"])
    compile_statement(ast.Get((P(0),)), shared)
    with pytest.raises(errors.ProgrammingError):
        shared.finish()
    compile_statement(ast.Get((P(1),)), shared)
    shared.finish()


def test_trees_made_by_hand_are_checked() -> None:
    assert refusal(ast.Use(N(""))).sqlstate == "22023"
    assert refusal(ast.Get((L("\ud800"),))).sqlstate == "22023"
    assert refusal(ast.Put((pair("k", object()),))).sqlstate == "22023"
    big = compile_statement(ast.Put((pair("k", 2**70), pair("l", 1))))
    assert decode_values(big.write.values) == [Decimal(2**70), 1]


def test_watch() -> None:
    everything = compile_statement(ast.Watch())
    assert everything.watch == pb.WatchCommand() and everything.WhichOneof("command") == "watch"
    condition = ast.Compare(">", ast.Column(("value",)), P("n"))
    statement = ast.Watch(N("shop"), condition, True, P("r"))
    command = compile_statement(statement, {"n": 5, "r": 12}).watch
    assert (command.namespace, command.initial, command.from_revision) == ("shop", True, 12)
    assert command.HasField("where")
    assert compile_statement(ast.Watch(from_revision=L(0))).watch.HasField("from_revision")
    assert refusal(ast.Watch(from_revision=L("x"))).sqlstate == "22023"


# ── what is not carried out ───────────────────────────────────────────────────────────────────────────────────────

SPAN = Span(3, 9)
LATER: list[ast.Statement] = [
    ast.CreateUser(N("u"), L("p"), span=SPAN),
    ast.AlterUser(N("u"), L("p"), span=SPAN),
    ast.DropUser(N("u"), span=SPAN),
    ast.CreateRole(N("r"), span=SPAN),
    ast.DropRole(N("r"), span=SPAN),
    ast.Grant(("READ",), N("n"), N("u"), span=SPAN),
    ast.GrantRole(N("r"), N("u"), revoke=True, span=SPAN),
    ast.ShowUsers(span=SPAN),
    ast.ShowRoles(span=SPAN),
    ast.ShowGrants(span=SPAN),
    ast.ShowSessions(span=SPAN),
    ast.CancelSession(N("1"), span=SPAN),
    ast.CheckAccess(ast.Get((L("a"),)), span=SPAN),
    ast.Let(N("x"), L(1), span=SPAN),
    ast.SourceFile(L("f"), span=SPAN),
    ast.Import(L("f"), span=SPAN),
    ast.Export(L("f"), span=SPAN),
]


@pytest.mark.parametrize("statement", LATER, ids=lambda s: type(s).__name__)
def test_statements_of_later_releases_are_refused_by_name(statement: ast.Statement) -> None:
    error = refusal(statement)
    assert (error.sqlstate, error.span) == ("0A000", SPAN)
    assert isinstance(error, errors.NotSupportedError) and "is not supported" in error.message


def test_the_past() -> None:
    """A revision and a time travel as programs, so that the server checks them, and tells where they stood."""
    star = (ast.Item(ast.Star()),)
    past = ast.AsOf(revision=ast.Param(0))
    command = compile_statement(ast.Select(star, source=ast.Source(N("n"), as_of=past)), [7]).select
    assert (command.namespace, command.history, command.as_of.WhichOneof("point")) == ("n", False, "revision")
    assert list(command.as_of.revision.constants.integers) == [7]
    command = compile_statement(ast.Select(star, source=ast.Source(N("n"), history=True))).select
    assert command.history and not command.HasField("as_of")
    restore = compile_statement(ast.Restore(past, (L("a"), ast.Param(1)), comment=L("why")), [7, "b"])
    assert (list(restore.restore.keys), restore.comment) == (["a", "b"], "why")
    where = ast.Compare("=", ast.Column(("key",)), L("a"))
    when = ast.AsOf(timestamp=ast.Call("now", span=SPAN))
    statement = ast.Restore(when, namespace=N("n"), where=where)
    command = compile_statement(statement).restore
    assert command.namespace == "n" and not command.keys
    assert (len(command.where.steps), len(command.as_of.timestamp.steps)) == (3, 1)
    assert span_of(statement, 4, pb.PART_STEP) == SPAN
    altered = compile_statement(ast.AlterNamespace(N("n"), (ast.Option(N("History"), L("1h")),))).alter_namespace
    assert (altered.namespace, list(altered.option_names)) == ("n", ["history"])


def test_every_statement_of_the_language_is_compiled_or_refused_by_name() -> None:
    """The union is closed for the type checker; this closes it for whoever does not run one."""
    compiled = {
        ast.Put, ast.Upsert, ast.UpdateKey, ast.Get, ast.Has, ast.DeleteKeys, ast.Count, ast.ShowKeys, ast.ShowData,
        ast.ShowNamespaces, ast.Use, ast.Expire, ast.Persist, ast.Select, ast.Begin, ast.Commit, ast.Rollback,
        ast.Savepoint, ast.Release, ast.Assert, ast.Watch, ast.CreateNamespace,
        ast.DropNamespace, ast.Insert, ast.Update, ast.Delete, ast.Truncate, ast.Describe, ast.Explain, ast.DryRun,
        ast.Restore, ast.AlterNamespace,
    }  # fmt: skip
    assert compiled | {type(s) for s in LATER} == set(typing.get_args(ast.Statement))
