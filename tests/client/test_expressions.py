"""Expressions as postfix programs: checked by running them on a stack that knows only arities."""

from __future__ import annotations

import pytest

from kvql import ast, errors
from kvql.codec import decode_values
from kvql.compiler import Parameters
from kvql.compiler.expressions import compile_expression
from kvql.v1 import kvql_pb2 as pb

L, P, C = ast.Literal, ast.Param, ast.Column


def shown(node: ast.Expression, *parameters: object) -> str:
    """The program as text: names and constants filled in."""
    program = compile_expression(node, Parameters(parameters))
    constants = decode_values(program.constants, intervals=True)
    out = []
    for step in program.steps:
        op = pb.Op.Name(step.op).removeprefix("OP_").lower()
        if step.op == pb.OP_CONSTANT:
            out.append(repr(constants[step.argument]))
            continue
        if step.op == pb.OP_COLUMN:
            op = ".".join(program.names[step.argument : step.argument + step.arity])
        elif step.op in (pb.OP_CALL, pb.OP_CAST, pb.OP_FIELD):
            op += f":{program.names[step.argument]}"
        if step.arity and step.op != pb.OP_COLUMN:
            op += f"/{step.arity}"
        out.append(op + (f"!{step.flags}" if step.flags else ""))
    return " ".join(out)


@pytest.mark.parametrize(
    ("node", "program"),
    [
        (L(1), "1"),
        (C(("address", "city")), "address.city"),
        (ast.Star(), "star"),
        (ast.Or((C(("a",)), C(("b",)), C(("c",)))), "a b c or/3"),
        (ast.And((C(("a",)), ast.Not(C(("b",))))), "a b not and/2"),
        (ast.IsTest(C(("a",)), ast.TestKind.NULL, negated=True), "a is_null!1"),
        (ast.IsTest(C(("a",)), ast.TestKind.MISSING), "a is_missing"),
        (ast.Compare("<>", C(("a",)), L(1)), "a 1 ne"),
        (ast.Compare("!~*", C(("a",)), L("x")), "a 'x' match!3"),
        (ast.Compare("^=", C(("key",)), L("x")), "key 'x' starts_with"),
        (ast.Compare("IS NOT DISTINCT FROM", C(("a",)), L(1)), "a 1 distinct!1"),
        (ast.Like(C(("a",)), L("x%"), L("!"), insensitive=True, negated=True), "a 'x%' '!' like!67"),
        (ast.Between(C(("a",)), L(1), L(2), negated=True), "a 1 2 between!1"),
        (ast.In(C(("a",)), (L(1), L(2))), "a 1 2 in/2"),
        (ast.Chain(L(1), (("+", L(2)), ("-", L(3)))), "1 2 add 3 subtract"),
        (ast.Chain(L("a"), (("||", L("b")),)), "'a' 'b' concat"),
        (ast.Sign("-", C(("a",))), "a negate"),
        (ast.Cast(C(("a",)), ast.TypeName("numeric", (10, 2))), "a 10 2 cast:numeric/3"),
        (ast.Index(C(("value",)), L("tags")), "value 'tags' index"),
        (ast.Field(ast.Index(C(("value",)), L(0)), "b"), "value 0 index field:b"),
        (ast.Call("count", (ast.Star(),), filter=C(("a",))), "star a call:count/1!8"),
        (ast.Call("sum", (C(("a",)),), distinct=True), "a call:sum/1!4"),
        (ast.Case(C(("a",)), ((L(1), L(2)),), L(3)), "a 1 2 3 case/1!48"),
        (ast.Case(None, ((C(("a",)), L(2)), (C(("b",)), L(4)))), "a 2 b 4 case/2"),
        (ast.JsonObject((("a", P(0)), ("b", L(2)))), "'a' 'p' 'b' 2 json_object/2"),
        (ast.JsonArray((P(0), L(None))), "'p' None json_array/2"),
    ],
)
def test_programs(node: ast.Expression, program: str) -> None:
    assert shown(node, "p") == program


def test_names_are_written_once() -> None:
    program = compile_expression(ast.Or(tuple(C(("age",)) for _ in range(1000))), Parameters())
    assert list(program.names) == ["age"] and len(program.steps) == 1001


def test_neither_length_nor_depth_overflows() -> None:
    wide = ast.Chain(L(0), tuple(("+", L(i)) for i in range(100_000)))
    assert len(compile_expression(wide, Parameters()).steps) == 200_001
    deep: ast.Expression = L(1)
    for _ in range(50_000):
        deep = ast.Not(deep)
    assert len(compile_expression(deep, Parameters()).steps) == 50_001


def test_a_subquery_is_refused() -> None:
    with pytest.raises(errors.NotSupportedError):
        compile_expression(ast.Subquery(ast.Select((ast.Item(L(1)),))), Parameters())
