"""Expressions to the wire's flat postfix form.

The walk keeps its own stack: neither a chain of a hundred thousand terms nor a tree that a program built by hand can
overflow Python's, and the order of steps is that of evaluation.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, assert_never

from kvql import ast, errors
from kvql.codec import encode_values
from kvql.compiler.parameters import Parameters
from kvql.errors import Error
from kvql.span import Span
from kvql.v1 import kvql_pb2 as pb
from kvql.values import from_python

NEGATED, INSENSITIVE, DISTINCT, FILTER, HAS_OPERAND, HAS_ELSE, HAS_ESCAPE, PLACE = (1 << bit for bit in range(8))

_COMPARE: Final = {
    "=": (pb.OP_EQ, 0), "<>": (pb.OP_NE, 0), "<": (pb.OP_LT, 0), "<=": (pb.OP_LE, 0), ">": (pb.OP_GT, 0),
    ">=": (pb.OP_GE, 0), "~": (pb.OP_MATCH, 0), "~*": (pb.OP_MATCH, INSENSITIVE), "!~": (pb.OP_MATCH, NEGATED),
    "!~*": (pb.OP_MATCH, NEGATED | INSENSITIVE), "^=": (pb.OP_STARTS_WITH, 0),
    "IS DISTINCT FROM": (pb.OP_DISTINCT, 0), "IS NOT DISTINCT FROM": (pb.OP_DISTINCT, NEGATED),
}  # fmt: skip
_CHAIN: Final = {
    "||": pb.OP_CONCAT, "+": pb.OP_ADD, "-": pb.OP_SUBTRACT, "*": pb.OP_MULTIPLY, "/": pb.OP_DIVIDE,
    "%": pb.OP_MODULO,
}  # fmt: skip


class _Step(NamedTuple):
    op: Any
    arity: int = 0
    argument: int = 0
    flags: int = 0


class _Constant(NamedTuple):
    """A constant that the tree does not hold as a node: a JSON name, an argument of a type."""

    value: Any


_Work = ast.Expression | _Step | _Constant


def compile_expression(
    node: ast.Expression,
    parameters: Parameters,
    into: pb.Expression | None = None,
    subqueries: list[ast.Select] | None = None,
) -> pb.Expression:
    """``node`` as a postfix program; 42P02 for a parameter without a value.

    ``subqueries`` takes those that stand in ``node``, in the order of the steps that name them; without it they are
    0A000.
    """
    out = pb.Expression() if into is None else into
    constants: list[Any] = []
    names: dict[tuple[str, ...], int] = {}
    steps: list[pb.Step] = []
    work: list[_Work] = [node]
    while work:
        item = work.pop()
        if isinstance(item, _Step):
            op, arity, argument, flags = item
            steps.append(pb.Step(op=op, arity=arity, argument=argument, flags=flags))
        elif isinstance(item, ast.Literal | _Constant):
            steps.append(pb.Step(op=pb.OP_CONSTANT, argument=len(constants)))
            constants.append(item.value)
        elif isinstance(item, ast.Param):
            steps.append(pb.Step(op=pb.OP_CONSTANT, argument=len(constants)))
            constants.append(parameters.get(item))
        elif isinstance(item, ast.Subquery):
            if subqueries is None:
                raise _misplaced(item)
            steps.append(pb.Step(op=pb.OP_SUBQUERY, argument=len(subqueries)))
            subqueries.append(item.select)
        else:
            parts, step = _expand(item)
            named = _names_of(item)
            if named:
                step = step._replace(argument=_intern(named, names, out))
            work.append(step)
            work.extend(reversed(parts))
    out.steps.extend(steps)
    if constants:
        encode_constants(constants, out.constants)
    return out


def step_spans(node: ast.Expression, subqueries: list[ast.Select] | None = None) -> list[Span | None]:
    """Where each step of the compiled ``node`` comes from, in the order of the steps; ``subqueries`` as above."""
    spans: list[Span | None] = []
    work: list[ast.Expression | _Constant | _Place] = [node]
    while work:
        item = work.pop()
        if isinstance(item, _Place):
            spans.append(item.span)
        elif isinstance(item, _Constant):
            spans.append(None)
        elif isinstance(item, ast.Literal | ast.Param | ast.Subquery):
            spans.append(item.span)
            if isinstance(item, ast.Subquery) and subqueries is not None:
                subqueries.append(item.select)
        else:
            parts, _ = _expand(item)
            work.append(_Place(item.span))
            work.extend(_Place(item.span) if isinstance(p, _Step) else p for p in reversed(parts))
    return spans


class _Place(NamedTuple):
    span: Span | None


def encode_constants(constants: list[Any], into: pb.Values) -> pb.Values:
    """``constants`` as typed columns; those of a tree built by hand are brought to KVQL's types first, or refused."""
    try:
        return encode_values(constants, into)
    except (KeyError, ValueError, TypeError, OverflowError):
        # never the case for what the parser made: a key error is a foreign type, a value error a lone surrogate
        into.Clear()
        return encode_values([v if isinstance(v, pb.Expression) else from_python(v) for v in constants], into)


def _intern(parts: tuple[str, ...], names: dict[tuple[str, ...], int], out: pb.Expression) -> int:
    """The place in ``out.names`` where ``parts`` stand one after the other."""
    place = names.get(parts)
    if place is None:
        place = names[parts] = len(out.names)
        out.names.extend(parts)
    return place


def _names_of(node: object) -> tuple[str, ...]:
    match node:
        case ast.Column(parts=parts):
            return parts
        case ast.Cast(type=ast.TypeName(name=name)) | ast.Field(name=name) | ast.Call(name=name):
            return (name,)
    return ()


def _flags(*pairs: tuple[object, int]) -> int:
    return sum(flag for present, flag in pairs if present)


def _expand(node: ast.Expression) -> tuple[list[_Work], _Step]:
    """The operands of ``node`` in order of evaluation, and the step that takes them; names are filled in later."""
    match node:
        case ast.Column(parts=parts):
            return [], _Step(pb.OP_COLUMN, len(parts))
        case ast.Star():
            return [], _Step(pb.OP_STAR)
        case ast.Or(terms=terms):
            return list(terms), _Step(pb.OP_OR, len(terms))
        case ast.And(terms=terms):
            return list(terms), _Step(pb.OP_AND, len(terms))
        case ast.Not(operand=operand):
            return [operand], _Step(pb.OP_NOT)
        case ast.IsTest(operand=operand, kind=kind, negated=negated):
            op = pb.OP_IS_NULL if kind is ast.TestKind.NULL else pb.OP_IS_MISSING
            return [operand], _Step(op, flags=_flags((negated, NEGATED)))
        case ast.Compare(operator=operator, left=left, right=right):
            op, flags = _COMPARE[operator]
            return [left, right], _Step(op, flags=flags)
        case ast.Like(operand=operand, pattern=pattern, escape=escape):
            flags = _flags((node.negated, NEGATED), (node.insensitive, INSENSITIVE), (escape, HAS_ESCAPE))
            return [operand, pattern, *([escape] if escape else [])], _Step(pb.OP_LIKE, flags=flags)
        case ast.Between(operand=operand, low=low, high=high, negated=negated):
            return [operand, low, high], _Step(pb.OP_BETWEEN, flags=_flags((negated, NEGATED)))
        case ast.In(operand=operand, items=items, negated=negated):
            return [operand, *items], _Step(pb.OP_IN, len(items), flags=_flags((negated, NEGATED)))
        case ast.Chain():
            return _expand_chain(node)
        case ast.Sign(operator=operator, operand=operand):
            return [operand], _Step(pb.OP_NEGATE if operator == "-" else pb.OP_PLUS)
        case ast.Cast(operand=operand, type=type_name):
            arguments = [_Constant(a) for a in type_name.arguments]
            return [operand, *arguments], _Step(pb.OP_CAST, 1 + len(arguments))
        case ast.Index(operand=operand, index=index):
            return [operand, index], _Step(pb.OP_INDEX)
        case ast.Field(operand=operand):
            return [operand], _Step(pb.OP_FIELD)
        case ast.Call():
            flags = _flags((node.distinct, DISTINCT), (node.filter, FILTER))
            work: list[_Work] = [*node.arguments, *([node.filter] if node.filter else [])]
            return work, _Step(pb.OP_CALL, len(node.arguments), flags=flags)
        case ast.Case():
            return _expand_case(node)
        case ast.JsonObject(members=members):
            members_flat: list[_Work] = [x for name, value in members for x in (_Constant(name), value)]
            return members_flat, _Step(pb.OP_JSON_OBJECT, len(members))
        case ast.JsonArray(items=items):
            return [*items], _Step(pb.OP_JSON_ARRAY, len(items))
        case ast.Literal() | ast.Param() | ast.Subquery():
            raise AssertionError("leaves are written where the walk meets them")
        case _:
            assert_never(node)


def _expand_chain(node: ast.Chain) -> tuple[list[_Work], _Step]:
    """``a + b - c``: a, b, ADD, c and, as the node's own step, SUBTRACT."""
    work: list[_Work] = [node.first]
    for operator, operand in node.rest:
        work += [operand, _Step(_CHAIN[operator])]
    last = work.pop()
    assert isinstance(last, _Step)
    return work, last


def _expand_case(node: ast.Case) -> tuple[list[_Work], _Step]:
    work: list[_Work] = [] if node.operand is None else [node.operand]
    for condition, result in node.whens:
        work += [condition, result]
    if node.otherwise is not None:
        work.append(node.otherwise)
    flags = _flags((node.operand, HAS_OPERAND), (node.otherwise, HAS_ELSE))
    return work, _Step(pb.OP_CASE, len(node.whens), flags=flags)


def _misplaced(node: ast.Subquery) -> Error:
    return errors.error(
        errors.NOT_SUPPORTED,
        "a subquery is supported in ASSERT and LET only",
        hint="a subquery itself holds none",
        span=node.span,
    )
