"""Everything that makes a value: arithmetic, casts, functions, CASE, pieces of JSON and new JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvql import errors
from kvql.names import nearest
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.catalog import Field
from kvql_server.executor import casts
from kvql_server.executor.expressions.items import HAS_ELSE, HAS_OPERAND, PIECE, WIDE, Item, deepest, malformed
from kvql_server.executor.functions import FUNCTIONS

if TYPE_CHECKING:
    from kvql_server.executor.expressions.builder import Builder

ARITHMETIC: Final[dict[int, str]] = {
    pb.OP_CONCAT: "concat", pb.OP_ADD: "add", pb.OP_SUBTRACT: "subtract", pb.OP_MULTIPLY: "multiply",
    pb.OP_DIVIDE: "divide", pb.OP_MODULO: "modulo",
}  # fmt: skip


def arithmetic(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    # a chain grows sideways, so that a sum of ten thousand terms is no deeper than one of two
    a, b = operands
    function = ARITHMETIC[step.op]
    depth = max(a.depth if not a.parts else a.depth - 1, b.depth) + 1
    parts = a.parts or [("", a.code, 0)]
    parts.append((function, b.code, builder.step))
    if len(parts) == 2:
        code = f"{function}({a.code}, {b.code})"
    elif len(parts) > WIDE:
        code = ""  # until it is known where the chain ends
    elif all(name == "concat" for name, _, _ in parts[1:]):
        code = f"concat_all(({', '.join([code for _, code, _ in parts])}))"
    else:
        code = f"chain({', '.join([parts[0][1], *[piece for name, code, _ in parts[1:] for piece in (name, code)]])})"
    return Item(code, depth, _arithmetic_type(function, a.type, b.type), parts=parts)


def _arithmetic_type(function: str, a: Type | None, b: Type | None) -> Type | None:
    """What is known of the result; None where the rows decide."""
    numbers = (Type.INTEGER, Type.DECIMAL, Type.FLOAT)
    if function == "concat":
        return Type.TEXT if Type.TEXT in (a, b) else None
    if a in numbers and b in numbers:
        return max(a, b)
    return None


def sign(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    (a,) = operands
    return Item(f"{'negate' if step.op == pb.OP_NEGATE else 'plus'}({a.code})", a.depth + 1, a.type)


def cast(builder: Builder, name: str, operands: list[Item]) -> Item:
    operand, *arguments = operands
    if not all(a.is_constant and type(a.value) is int for a in arguments):
        raise malformed("a type's arguments are integers")
    convert = casts.caster(name, tuple(a.value for a in arguments))
    target = casts.ALIASES[name.lower()]
    if operand.is_constant:
        return builder.constant(convert(operand.value), target)
    return Item(f"{builder.bind(convert)}({operand.code})", operand.depth + 1, target)


def declared(builder: Builder, item: Item, field: Field) -> Item:
    """A declared field: JSON holds times and bytes as text and integral decimals as integers."""
    target = casts.ALIASES[field.type]
    if target in (Type.TEXT, Type.INTEGER, Type.BOOLEAN, Type.JSON):
        item.type = target
        return item
    convert = builder.bind(casts.caster(field.type, ()))
    return Item(f"{convert}({item.code})", item.depth + 1, target, raw=item.raw)


# ── functions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def call(builder: Builder, name: str, operands: list[Item]) -> Item:
    """A scalar function; 42883 if there is none of that name, or not with so many arguments."""
    function = FUNCTIONS.get(name)
    if function is None:
        raise unknown(name)
    count = len(operands)
    if count < function.least or (function.most is not None and count > function.most):
        if function.most is None:
            wanted = f"at least {function.least}"
        else:
            wanted = f"{function.least}" if function.least == function.most else f"{function.least} to {function.most}"
        plural = "" if wanted == "1" else "s"
        raise errors.error(errors.UNKNOWN_FUNCTION, f"function {name} takes {wanted} argument{plural}, not {count}")
    if name == "coalesce":
        return _coalesce(builder, operands)
    code = f"{builder.bind(function.call)}({builder.spread([o.code for o in operands])})"
    kind = function.type
    if kind is None and operands and len({o.type for o in operands}) == 1:
        # round(x, n) of INTEGER is DECIMAL
        kind = operands[0].type if name in _KEEP_TYPE or (name == "round" and count == 1) else None
    return Item(code, deepest(operands), kind)


_KEEP_TYPE: Final = frozenset({"abs", "floor", "ceil", "nullif", "greatest", "least"})


def _coalesce(builder: Builder, operands: list[Item]) -> Item:
    """The first that is not NULL; those after it are not computed."""
    kinds = {o.type for o in operands}
    kind = kinds.pop() if len(kinds) == 1 else None
    if len(operands) > PIECE:
        pieces = [_coalesce(builder, operands[at : at + PIECE]) for at in range(0, len(operands), PIECE)]
        return dataclasses.replace(_coalesce(builder, pieces), type=kind)
    *first, last = operands
    if len(operands) <= WIDE:
        code = last.code
        for operand in reversed(first):
            left = builder.name("t")
            code = f"({left} if ({left} := {operand.code}) is not None else {code})"
        return Item(code, deepest(operands) + len(operands), kind)
    lines = [f" if (t := {o.code}) is not None: return t" for o in first]
    return Item(builder.function("\n".join([*lines, f" return {last.code}"])), 1, kind)


def unknown(name: str) -> errors.Error:
    from kvql_server.executor.aggregates import AGGREGATES

    shown = name if name.isidentifier() and len(name) <= 64 else "of that name"
    near = nearest(name, [*FUNCTIONS, *AGGREGATES, "now"])
    return errors.error(
        errors.UNKNOWN_FUNCTION, f"function {shown} does not exist", hint=f"did you mean {near}?" if near else None
    )


# ── CASE ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def case(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    """``CASE [operand] WHEN a THEN b … [ELSE c] END``; only the branch that is taken is computed."""
    if not step.arity:
        raise malformed("CASE needs a branch")
    operands = list(operands)
    otherwise = operands.pop().code if step.flags & HAS_ELSE else "None"
    lines: list[str] = []
    pieces: list[str] = []
    if step.flags & HAS_OPERAND:
        lines.append(f" v = {operands.pop(0).code}")
    head, results = list(lines), operands[1::2]
    for condition, result in zip(operands[::2], results, strict=True):
        if len(lines) > PIECE:
            pieces.append(builder.function("\n".join([*lines, " return NO_BRANCH"])))
            lines = list(head)
        test = f"equal(v, {condition.code}) is True" if step.flags & HAS_OPERAND else condition.truth
        lines.append(f" if {test}: return {result.code}")
    lines = [*[f" if (t := {piece}) is not NO_BRANCH: return t" for piece in pieces], *lines, f" return {otherwise}"]
    kinds = {r.type for r in results}
    return Item(builder.function("\n".join(lines)), 1, kinds.pop() if len(kinds) == 1 else None)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def index(builder: Builder, base: Item, step: Item) -> Item:
    """``base[step]`` and ``base.name``."""
    if step.is_constant and type(step.value) in (str, int) and not base.is_constant:
        value, steps = base.place if base.place is not None else (base.code, ())
        return builder.path_item(value, (*steps, step.value))
    raw = f"index({base.raw or base.code}, {step.raw or step.code})"
    return Item(f"present({raw})", max(base.depth, step.depth) + 2, raw=raw)


def _index(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    return index(builder, operands[0], operands[1])


def json_object(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    if not all(o.is_constant and type(o.value) is str for o in operands[::2]):
        raise malformed("the names of a JSON object are texts")
    return Item(f"json_object(({builder.spread([o.code for o in operands])}))", deepest(operands, 2), Type.JSON)


def json_array(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    return Item(f"json_array(({builder.spread([o.code for o in operands])}))", deepest(operands, 2), Type.JSON)


HANDLERS: Final[dict[int, Callable[[Any, pb.Step, list[Item]], Item]]] = {
    **dict.fromkeys(ARITHMETIC, arithmetic), pb.OP_NEGATE: sign, pb.OP_PLUS: sign, pb.OP_CASE: case,
    pb.OP_INDEX: _index, pb.OP_JSON_OBJECT: json_object, pb.OP_JSON_ARRAY: json_array,
}  # fmt: skip
