"""Comparisons and logic: their source, and the keys for which they can be true."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.executor import access_path, operators
from kvql_server.executor.access_path import FULL, Path
from kvql_server.executor.expressions.items import (
    HAS_ESCAPE,
    INSENSITIVE,
    NEGATED,
    PIECE,
    WIDE,
    Item,
    deepest,
    malformed,
)
from kvql_server.executor.expressions.items import negated as _negated
from kvql_server.executor.expressions.runtime import compiled_like
from kvql_server.executor.like import Like
from kvql_server.executor.match import compiled_regex
from kvql_server.executor.ordering import group_key

if TYPE_CHECKING:
    from kvql_server.executor.expressions.builder import Builder

_ORDERINGS: Final[dict[int, tuple[str, str]]] = {
    pb.OP_LT: ("<", "less"), pb.OP_LE: ("<=", "less_equal"),
    pb.OP_GT: (">", "greater"), pb.OP_GE: (">=", "greater_equal"),
}  # fmt: skip
_SAME_CLASS: Final = {int: frozenset((int, Decimal)), str: frozenset((str,))}
"""Types that Python compares with one another as KVQL does; not FLOAT, because of NaN, and not BOOLEAN."""
_MIRRORED: Final[dict[int, int]] = {
    pb.OP_EQ: pb.OP_EQ, pb.OP_NE: pb.OP_NE, pb.OP_LT: pb.OP_GT, pb.OP_LE: pb.OP_GE, pb.OP_GT: pb.OP_LT,
    pb.OP_GE: pb.OP_LE,
}  # fmt: skip


def logic(builder: Builder, step: pb.Step, items: list[Item]) -> Item:
    """AND: FALSE if one is FALSE, else NULL if one is NULL, else TRUE; only as far as needed. OR mirrored."""
    if not items:
        raise malformed("AND and OR need operands")
    if len(items) > PIECE:
        # three values or not, AND and OR may be taken together in any groups
        return logic(builder, step, [logic(builder, step, items[i : i + PIECE]) for i in range(0, len(items), PIECE)])
    either = step.op == pb.OP_OR
    combine: Callable[[Path, Path], Path] = access_path.unite if either else access_path.intersect
    path = items[0].path
    for item in items[1:]:
        path = combine(path, item.path)
    test = (" or " if either else " and ").join(f"({item.truth})" for item in items)
    decisive, other = ("True", "False") if either else ("False", "True")
    names = [builder.name("t") for _ in items]
    tests = " or ".join(f"({n} := {i.logical}) is {decisive}" for n, i in zip(names, items, strict=True))
    unknown = " or ".join(f"{n} is None" for n in names)
    if len(items) <= WIDE:
        code = f"({decisive} if {tests} else None if {unknown} else {other})"
        return Item(code, deepest(items, 3), Type.BOOLEAN, path, test=f"({test})")
    code = builder.function(f" if {tests}: return {decisive}\n return None if {unknown} else {other}")
    # the test as a function too; whichever of the two is not used costs its compilation only
    return Item(code, 1, Type.BOOLEAN, path, test=builder.function(f" return {test}"))


def compare(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    a, b = operands
    op: int = step.op
    if a.is_constant and not b.is_constant:
        # a skipped row is told by the type that it has, not by the constant's
        a, b, op = b, a, _MIRRORED[op]
    operator = _ORDERINGS[op][0] if op in _ORDERINGS else "="
    path = FULL
    if op != pb.OP_NE and a.is_key and b.is_constant:
        path = access_path.compared(operator, b.value)
    if op in _ORDERINGS:
        template = f"{_ORDERINGS[op][1]}({{}}, {b.code}, skipped, {_row(builder)})"
    else:
        template = f"equal({{}}, {b.code})" if op == pb.OP_EQ else f"negation(equal({{}}, {b.code}))"
    code, depth, test = template.format(a.code), deepest(operands, 2), ""
    if b.is_constant and type(b.value) in (int, str):
        # the common case without a call: both sides of one type
        kind = type(b.value).__name__
        python = "!=" if op == pb.OP_NE else "==" if op == pb.OP_EQ else operator
        known = builder.scope.kinds if a.code == "e.value" else None
        if known is not None and known <= _SAME_CLASS[type(b.value)]:
            code = f"({a.code} {python} {b.code})"
            return Item(code, depth, Type.BOOLEAN, path, test=code)
        left = builder.name("t")
        head = f"{left} {python} {b.code} if type({left} := {a.code}) is {kind} else"
        code, depth = f"({head} {template.format(left)})", depth + 1
        test = f"({head} {template.format(left)} is True)"
    return Item(code, depth, Type.BOOLEAN, path, test=test)


def _row(builder: Builder) -> str:
    """What tells one row from the next where skipped rows are counted."""
    return "e" if builder.scope.namespace is not None else "None"


def distinct(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    a, b = operands
    head = "not " if step.flags & NEGATED else ""
    return Item(f"({head}distinct({a.code}, {b.code}))", deepest(operands, 2), Type.BOOLEAN)


def between(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    value, low, high = operands
    path = FULL
    if value.is_key and low.is_constant and high.is_constant:
        path = access_path.intersect(access_path.compared(">=", low.value), access_path.compared("<=", high.value))
    code = f"between({value.code}, {low.code}, {high.code}, skipped, {_row(builder)})"
    return _negated(step, Item(code, deepest(operands), Type.BOOLEAN, path))


def in_(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    operand, *items = operands
    if not items:
        raise malformed("IN needs items")
    depth = deepest(operands, 2)
    if not all(i.is_constant for i in items):
        listed = f"({builder.spread([i.code for i in items])})"
        return _negated(step, Item(f"among({operand.code}, {listed})", depth, Type.BOOLEAN))
    values = [i.value for i in items]
    keys = builder.bind(frozenset([group_key(v) for v in values if v is not None]))
    path = access_path.point(*[v for v in values if type(v) is str]) if operand.is_key else FULL
    code = f"among_keys({operand.code}, {keys}, {None in set(map(type, values)) or any(v is None for v in values)})"
    return _negated(step, Item(code, depth, Type.BOOLEAN, path))


def starts_with(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    a, b = operands
    path = FULL
    if a.is_key and b.is_constant and type(b.value) is str:
        path = access_path.prefix(b.value, exact=True)
    code = f"starts_with({a.code}, {b.code}, skipped, {_row(builder)})"
    return _negated(step, Item(code, deepest(operands), Type.BOOLEAN, path))


def like(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    operand, pattern, *rest = operands
    builder.extra += 100  # where it holds a _, character by character
    insensitive = bool(step.flags & INSENSITIVE)
    escape = rest[0] if step.flags & HAS_ESCAPE else builder.constant("\\")
    depth = deepest(operands)
    if not pattern.is_constant or not escape.is_constant:
        code = f"like({operand.code}, {pattern.code}, {escape.code}, {insensitive}, skipped, {_row(builder)})"
        return _negated(step, Item(code, depth, Type.BOOLEAN))
    if pattern.value is None or escape.value is None:
        return builder.constant(None, Type.BOOLEAN)
    if type(pattern.value) is not str or type(escape.value) is not str:
        raise operators.no_operator("LIKE", "", pattern.value)
    builder.extra += len(pattern.value) // 4
    compiled = compiled_like(pattern.value, escape.value, insensitive)
    path = like_path(compiled, pattern.value) if operand.is_key and not insensitive else FULL
    code = f"matches({operand.code}, {builder.bind(compiled.matches)}, skipped, {_row(builder)})"
    return _negated(step, Item(code, depth, Type.BOOLEAN, path))


def match(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    """``~`` and its kin."""
    operand, pattern = operands
    builder.extra += 10
    insensitive = bool(step.flags & INSENSITIVE)
    if not pattern.is_constant:
        code = f"match({operand.code}, {pattern.code}, {insensitive}, skipped, {_row(builder)})"
        return _negated(step, Item(code, deepest(operands), Type.BOOLEAN))
    if pattern.value is None:
        return builder.constant(None, Type.BOOLEAN)
    if type(pattern.value) is not str:
        raise operators.no_operator("~", "", pattern.value)
    compiled = compiled_regex(pattern.value, insensitive)
    builder.extra += compiled.size // 10
    test = builder.bind(compiled)
    code = f"matches({operand.code}, {test}, skipped, {_row(builder)})"
    return _negated(step, Item(code, deepest(operands), Type.BOOLEAN))


def not_(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    (a,) = operands
    test = f"({a.code} is False)" if a.type is Type.BOOLEAN else ""
    return Item(f"negation({a.code})", a.depth + 1, Type.BOOLEAN, test=test)


def is_null(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    (a,) = operands
    code = f"({a.code} is {'not ' if step.flags & NEGATED else ''}None)"
    return Item(code, a.depth + 1, Type.BOOLEAN, test=code)


def is_missing(builder: Builder, step: pb.Step, operands: list[Item]) -> Item:
    """Only a piece of a JSON value can be missing; everything else is there, even if it is NULL."""
    (a,) = operands
    code = f"({a.raw or 'None'} is {'not ' if step.flags & NEGATED else ''}MISSING)"
    return Item(code, a.depth + 1, Type.BOOLEAN, test=code)


def condition_of(builder: Builder, where: pb.Expression, base: int) -> tuple[Path, str]:
    """What WHERE comes to: the keys that need to be read, and the source of what is left to check (empty: nothing).
    ``base``: the number of the statement's steps before it."""
    builder.clause = "WHERE"
    test = builder.program(where, base)
    try:
        if test.is_constant:
            return (FULL if operators.boolean(test.value) else access_path.EMPTY), ""
        return test.path, "" if test.path.exact else test.truth
    except Error as e:
        e.item, e.part = base + 1, pb.PART_STEP
        raise


def like_path(compiled: Like, pattern: str) -> Path:
    """The keys that a LIKE on the key can match."""
    if compiled.exact is not None:
        return access_path.point(compiled.exact)
    only_prefix = pattern == compiled.prefix + "%"
    return access_path.prefix(compiled.prefix, exact=only_prefix) if compiled.prefix else FULL


HANDLERS: Final[dict[int, Callable[[Any, pb.Step, list[Item]], Item]]] = {
    pb.OP_AND: logic, pb.OP_OR: logic, pb.OP_NOT: not_, pb.OP_IS_NULL: is_null, pb.OP_IS_MISSING: is_missing,
    pb.OP_DISTINCT: distinct, pb.OP_BETWEEN: between, pb.OP_IN: in_, pb.OP_STARTS_WITH: starts_with,
    pb.OP_LIKE: like, pb.OP_MATCH: match,
    **dict.fromkeys((pb.OP_EQ, pb.OP_NE, *_ORDERINGS), compare),
}  # fmt: skip
