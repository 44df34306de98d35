"""Expressions: from the flat postfix program of the wire to one generated Python function, compiled once a statement.

Nothing of a request's text ever becomes source: names are looked up in fixed tables, constants are bound as variables,
and the source is built from templates alone. Equal shapes therefore give equal sources, which are compiled once a
process.

A generated row function sees ``k`` (the key) and ``e`` (the entry). AND, OR, IN and the like are n-ary and flat; an
operand that is nested deep becomes a function of its own, so no input makes Python's compiler run out of depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.result import ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type, encoded_size, from_micros, interval_of, type_of
from kvql_server import rules
from kvql_server.executor import access_path, casts, operators
from kvql_server.executor.access_path import FULL, Path
from kvql_server.executor.like import Like
from kvql_server.executor.operators import Skipped

NEGATED, INSENSITIVE, HAS_ESCAPE = 1, 2, 64
_DEPTH_MAX: Final = 40
"""Brackets in a row, after which an operand moves into a function of its own (Python's tokenizer ends at 200)."""

# column -> (source, declared type, never NULL)
COLUMNS: Final[dict[str, tuple[str, Type | None]]] = {
    "key": ("k", Type.TEXT),
    "value": ("e.value", None),
    "type": ("type_name(e.value)", Type.TEXT),
    "version": ("e.version", Type.INTEGER),
    "revision": ("e.revision", Type.INTEGER),
    "created_at": ("time_of(e.created_at)", Type.TIMESTAMP),
    "updated_at": ("time_of(e.updated_at)", Type.TIMESTAMP),
    "updated_by": ("e.updated_by", Type.TEXT),
    "comment": ("(e.comment or None)", Type.TEXT),
    "expires_at": ("time_of(e.expires_at)", Type.TIMESTAMP),
    "ttl": ("ttl_of(e.expires_at)", Type.INTERVAL),
    "size": ("size_of(e.value)", Type.INTEGER),
}
LATER_FUNCTIONS: Final = frozenset({
    "length", "lower", "upper", "trim", "replace", "substr", "split_part", "starts_with", "concat", "abs", "round",
    "floor", "ceil", "coalesce", "nullif", "greatest", "least", "typeof", "date_trunc", "json_keys", "json_length",
    "count", "sum", "avg", "min", "max", "string_agg",
})  # fmt: skip
_ARITHMETIC: Final[dict[int, str]] = {
    pb.OP_CONCAT: "concat", pb.OP_ADD: "add", pb.OP_SUBTRACT: "subtract", pb.OP_MULTIPLY: "multiply",
    pb.OP_DIVIDE: "divide", pb.OP_MODULO: "modulo",
}  # fmt: skip
_ORDERINGS: Final[dict[int, tuple[str, str]]] = {
    pb.OP_LT: ("<", "less"), pb.OP_LE: ("<=", "less_equal"),
    pb.OP_GT: (">", "greater"), pb.OP_GE: (">=", "greater_equal"),
}  # fmt: skip
_MIRRORED: Final = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(slots=True)
class _Item:
    """An operand on the stack: its source, and what is known of it before any row is seen."""

    code: str
    depth: int = 0
    type: Type | None = None
    path: Path = FULL
    is_key: bool = False
    is_constant: bool = False
    value: Any = None
    parts: tuple[str, ...] = ()  # of a chain of arithmetic


class _Builder:
    """Turns programs into source; several programs of one statement share its constants."""

    def __init__(self, now: int, namespace: str | None, steps_max: int) -> None:
        self.skipped = Skipped()
        self.variables: dict[str, Any] = {
            "type_name": _type_name, "time_of": _time_of, "size_of": encoded_size, "ttl_of": _ttl_of(now),
            "skipped": self.skipped, "boolean": operators.boolean, "negation": operators.negation,
            "equal": operators.equal, "distinct": operators.distinct, "between": operators.between,
            "among": operators.among, "starts_with": operators.starts_with, "like": _like,
            "less": operators.less, "less_equal": operators.less_equal, "greater": operators.greater,
            "greater_equal": operators.greater_equal, "add": operators.add, "subtract": operators.subtract,
            "multiply": operators.multiply, "divide": operators.divide, "modulo": operators.modulo,
            "negate": operators.negate, "plus": operators.plus, "concat": operators.concat, "chain": operators.chain,
        }  # fmt: skip
        self.functions: list[str] = []
        self._now = now
        self._namespace = namespace
        self._steps_left = steps_max
        self._count = 0

    def name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def bind(self, value: Any) -> str:
        name = self.name("c")
        self.variables[name] = value
        return name

    def constant(self, value: Any) -> _Item:
        return _Item(self.bind(value), is_constant=True, value=value, type=None if value is None else type_of(value))

    def program(self, expression: pb.Expression) -> _Item:
        """The whole program as one operand; 22023 if it is malformed, 54001 if it is too long."""
        steps = expression.steps
        self._steps_left -= len(steps)
        if self._steps_left < 0:
            raise errors.error(errors.TOO_COMPLEX, "the expression is too long", hint="split the statement")
        constants = decode_values(expression.constants, intervals=True)
        stack: list[_Item] = []
        for step in steps:
            stack.append(self._shallow(self._step(step, expression.names, constants, stack)))
        if len(stack) != 1:
            raise _malformed("it does not leave one value")
        return stack[0]

    def _shallow(self, item: _Item) -> _Item:
        if item.depth < _DEPTH_MAX:
            return item
        name = self.name("f")
        self.functions.append(f"def {name}(k, e):\n return {item.code}\n")
        item.code, item.depth, item.parts = f"{name}(k, e)", 1, ()
        return item

    def _step(self, step: pb.Step, names: Sequence[str], constants: list[Any], stack: list[_Item]) -> _Item:
        op = step.op
        if op == pb.OP_CONSTANT:
            if step.argument >= len(constants):
                raise _malformed("a constant is missing")
            return self.constant(constants[step.argument])
        if op == pb.OP_COLUMN:
            return self._column(_names(names, step.argument, step.arity or 1))
        if op in (pb.OP_AND, pb.OP_OR):
            return self._logic(op, _pop(stack, step.arity))
        if op == pb.OP_CALL:
            return self._call(_names(names, step.argument, 1)[0], step, stack)
        if op == pb.OP_CAST:
            return self._cast(_names(names, step.argument, 1)[0], _pop(stack, step.arity or 1))
        if op == pb.OP_IN:
            operand, *items = _pop(stack, step.arity + 1)
            return _negate_if(step, self._in(operand, items))
        if op in _ARITHMETIC:
            return self._arithmetic(_ARITHMETIC[op], *_pop(stack, 2))
        if op in _ORDERINGS or op in (pb.OP_EQ, pb.OP_NE):
            return self._compare(op, *_pop(stack, 2))
        return self._other(step, stack)

    def _other(self, step: pb.Step, stack: list[_Item]) -> _Item:
        op = step.op
        if op == pb.OP_NOT:
            (a,) = _pop(stack, 1)
            return _Item(f"negation({a.code})", a.depth + 1, Type.BOOLEAN)
        if op == pb.OP_IS_NULL:
            (a,) = _pop(stack, 1)
            return _Item(f"({a.code} is {'not ' if step.flags & NEGATED else ''}None)", a.depth + 1, Type.BOOLEAN)
        if op == pb.OP_DISTINCT:
            a, b = _pop(stack, 2)
            head = "not " if step.flags & NEGATED else ""
            return _Item(f"({head}distinct({a.code}, {b.code}))", max(a.depth, b.depth) + 2, Type.BOOLEAN)
        if op == pb.OP_NEGATE or op == pb.OP_PLUS:
            (a,) = _pop(stack, 1)
            return _Item(f"{'negate' if op == pb.OP_NEGATE else 'plus'}({a.code})", a.depth + 1, a.type)
        if op == pb.OP_STARTS_WITH:
            a, b = _pop(stack, 2)
            path = FULL
            if a.is_key and b.is_constant and type(b.value) is str:
                path = access_path.prefix(b.value, exact=True)
            code = f"starts_with({a.code}, {b.code}, skipped)"
            return _negate_if(step, _Item(code, max(a.depth, b.depth) + 1, Type.BOOLEAN, path))
        if op == pb.OP_BETWEEN:
            return _negate_if(step, self._between(*_pop(stack, 3)))
        if op == pb.OP_LIKE:
            return _negate_if(step, self._like(step, stack))
        raise _later(op)

    # ── leaves ────────────────────────────────────────────────────────────────────────────────────────────────

    def _column(self, parts: list[str]) -> _Item:
        if len(parts) > 1 and parts[0] == self._namespace:
            parts = parts[1:]
        shown = ".".join(parts)
        if self._namespace is None:
            raise errors.error(
                errors.UNKNOWN_COLUMN, f"column {shown} does not exist", hint="there is no pair to read it from"
            )
        known = COLUMNS.get(parts[0].lower())
        if known is None or len(parts) > 1:
            raise errors.error(
                errors.NOT_SUPPORTED, f"fields of JSON values ({shown}) are not supported yet",
                hint=f"the columns are {', '.join(COLUMNS)}",
            )  # fmt: skip
        return _Item(known[0], known[0].count("("), known[1], is_key=known[0] == "k")

    def _call(self, name: str, step: pb.Step, stack: list[_Item]) -> _Item:
        name = name.lower()
        if name == "now" and step.arity == 0 and not step.flags:
            return self.constant(from_micros(self._now))
        if name in LATER_FUNCTIONS:
            raise errors.error(errors.NOT_SUPPORTED, f"function {name} is not supported yet")
        shown = name if name.isidentifier() and len(name) <= 64 else "of that name"
        raise errors.error(errors.UNKNOWN_FUNCTION, f"function {shown} does not exist", hint="supported so far: now()")

    def _cast(self, name: str, operands: list[_Item]) -> _Item:
        operand, *arguments = operands
        if not all(a.is_constant and type(a.value) is int for a in arguments):
            raise _malformed("a type's arguments are integers")
        cast = casts.caster(name, tuple(a.value for a in arguments))
        target = casts.ALIASES[name.lower()]
        if operand.is_constant:
            item = self.constant(cast(operand.value))
            item.type = target
            return item
        return _Item(f"{self.bind(cast)}({operand.code})", operand.depth + 1, target)

    # ── conditions ────────────────────────────────────────────────────────────────────────────────────────────

    def _logic(self, op: int, items: list[_Item]) -> _Item:
        """AND: FALSE if one is FALSE, else NULL if one is NULL, else TRUE; only as far as needed. OR mirrored."""
        decisive, other = ("True", "False") if op == pb.OP_OR else ("False", "True")
        if not items:
            raise _malformed("AND and OR need operands")
        names = [self.name("t") for _ in items]
        tests = [
            f"({n} := {i.code if i.type is Type.BOOLEAN else f'boolean({i.code})'}) is {decisive}"
            for n, i in zip(names, items, strict=True)
        ]
        unknown = " or ".join(f"{n} is None" for n in names)
        code = f"({decisive} if {' or '.join(tests)} else None if {unknown} else {other})"
        path = items[0].path
        for item in items[1:]:
            path = access_path.unite(path, item.path) if op == pb.OP_OR else access_path.intersect(path, item.path)
        return _Item(code, max(i.depth for i in items) + 3, Type.BOOLEAN, path)

    def _compare(self, op: int, a: _Item, b: _Item) -> _Item:
        depth = max(a.depth, b.depth) + 2
        operator = _ORDERINGS[op][0] if op in _ORDERINGS else "="
        path = FULL
        if op != pb.OP_NE and a.is_key and b.is_constant:
            path = access_path.compared(operator, b.value)
        elif op != pb.OP_NE and b.is_key and a.is_constant:
            path = access_path.compared(_MIRRORED[operator], a.value)
        if op in _ORDERINGS:
            template = f"{_ORDERINGS[op][1]}({{}}, {b.code}, skipped)"
        else:
            template = f"equal({{}}, {b.code})" if op == pb.OP_EQ else f"negation(equal({{}}, {b.code}))"
        code = template.format(a.code)
        if b.is_constant and type(b.value) in (int, str):
            # the common case without a call: both sides of one type
            kind = type(b.value).__name__
            python = "!=" if op == pb.OP_NE else "==" if op == pb.OP_EQ else operator
            left = self.name("t")
            code = f"({left} {python} {b.code} if type({left} := {a.code}) is {kind} else {template.format(left)})"
            depth += 1
        return _Item(code, depth, Type.BOOLEAN, path)

    def _between(self, value: _Item, low: _Item, high: _Item) -> _Item:
        path = FULL
        if value.is_key and low.is_constant and high.is_constant:
            path = access_path.intersect(access_path.compared(">=", low.value), access_path.compared("<=", high.value))
        code = f"between({value.code}, {low.code}, {high.code}, skipped)"
        return _Item(code, max(value.depth, low.depth, high.depth) + 1, Type.BOOLEAN, path)

    def _in(self, operand: _Item, items: list[_Item]) -> _Item:
        depth = max(i.depth for i in (operand, *items)) + 2
        path = FULL
        if all(i.is_constant for i in items):
            values = tuple(i.value for i in items)
            listed = self.bind(values)
            if operand.is_key:
                path = access_path.point(*[v for v in values if type(v) is str])
            if values and all(type(v) is str for v in values):
                # a set instead of a walk along the list; across types = is FALSE
                left, found = self.name("t"), self.bind(frozenset(values))
                code = f"({left} in {found} if type({left} := {operand.code}) is str else among({left}, {listed}))"
                return _Item(code, depth, Type.BOOLEAN, path)
        else:
            listed = f"({''.join(i.code + ', ' for i in items)})"
        return _Item(f"among({operand.code}, {listed})", depth, Type.BOOLEAN, path)

    def _like(self, step: pb.Step, stack: list[_Item]) -> _Item:
        escape = _pop(stack, 1)[0] if step.flags & HAS_ESCAPE else None
        operand, pattern = _pop(stack, 2)
        if not pattern.is_constant or not (escape is None or escape.is_constant):
            raise errors.error(errors.NOT_SUPPORTED, "LIKE with a pattern from a column is not supported yet")
        if pattern.value is None or (escape is not None and escape.value is None):
            return self.constant(None)
        if type(pattern.value) is not str or not (escape is None or type(escape.value) is str):
            raise operators.no_operator("LIKE", "", pattern.value)
        insensitive = bool(step.flags & INSENSITIVE)
        compiled = compiled_like(pattern.value, "\\" if escape is None else escape.value, insensitive)
        path = like_path(compiled, pattern.value) if operand.is_key and not insensitive else FULL
        code = f"like({operand.code}, {self.bind(compiled.matches)}, skipped)"
        return _Item(code, operand.depth + 1, Type.BOOLEAN, path)

    def _arithmetic(self, function: str, a: _Item, b: _Item) -> _Item:
        # a chain grows sideways, so that a sum of ten thousand terms is no deeper than one of two
        parts = (*(a.parts or (a.code,)), function, b.code)
        code = f"{function}({a.code}, {b.code})" if len(parts) == 3 else f"chain({', '.join(parts)})"
        return _Item(code, max(a.depth if not a.parts else a.depth - 1, b.depth) + 1, None, parts=parts)


def _pop(stack: list[_Item], count: int) -> list[_Item]:
    if count < 1 or count > len(stack):
        raise _malformed("an operand is missing")
    items = stack[-count:]
    del stack[-count:]
    return items


def _names(names: Sequence[str], at: int, count: int) -> list[str]:
    if at + count > len(names):
        raise _malformed("a name is missing")
    return list(names[at : at + count])


def _negate_if(step: pb.Step, item: _Item) -> _Item:
    if not step.flags & NEGATED:
        return item
    return _Item(f"negation({item.code})", item.depth + 1, Type.BOOLEAN)


def _malformed(why: str) -> Error:
    return errors.error(errors.INVALID, f"malformed expression: {why}")


_LATER: Final[dict[int, str]] = {
    pb.OP_STAR: "* inside an expression", pb.OP_IS_MISSING: "IS MISSING", pb.OP_MATCH: "~",
    pb.OP_INDEX: "reaching into a JSON value", pb.OP_FIELD: "reaching into a JSON value", pb.OP_CASE: "CASE",
    pb.OP_JSON_OBJECT: "a JSON value with a parameter inside", pb.OP_JSON_ARRAY: "a JSON value with a parameter inside",
}  # fmt: skip


def _later(op: int) -> Error:
    if op in _LATER:
        return errors.error(errors.NOT_SUPPORTED, f"{_LATER[op]} is not supported yet")
    return _malformed(f"unknown operator {op}")


# ── what generated code calls ─────────────────────────────────────────────────────────────────────────────────────


def _type_name(value: Any) -> str:
    return type_of(value).name


def _time_of(micros: int | None) -> Any:
    return None if micros is None else from_micros(micros)


def _ttl_of(now: int) -> Callable[[int | None], timedelta | None]:
    def ttl(expires_at: int | None) -> timedelta | None:
        return None if expires_at is None else interval_of(max(expires_at - now, 0))

    return ttl


def _like(value: Any, matches: Callable[[str], bool], skipped: Skipped) -> bool | None:
    if type(value) is str:
        return matches(value)
    if value is not None:
        skipped.note(value)
    return None


# ── faces ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=256)
def compiled_like(pattern: str, escape: str, insensitive: bool) -> Like:
    """A pattern, compiled once while it is in use; 22023 if it is too long or ends in its escape."""
    rules.check_pattern(pattern)
    return Like(pattern, escape, insensitive=insensitive)


def like_path(compiled: Like, pattern: str) -> Path:
    """The keys that a LIKE on the key can match."""
    if compiled.exact is not None:
        return access_path.point(compiled.exact)
    only_prefix = pattern == compiled.prefix + "%"
    return access_path.prefix(compiled.prefix, exact=only_prefix) if compiled.prefix else FULL


@lru_cache(maxsize=1024)
def _code(source: str) -> CodeType:
    return compile(source, "<expression>", "exec")


class RowFunction:
    """``page(pairs)``: the rows of those pairs that satisfy the condition. ``path``: the pairs that need to be read."""

    def __init__(
        self, namespace: str, projections: Sequence[tuple[str, pb.Expression]], where: pb.Expression | None, now: int,
        steps_max: int,
    ) -> None:  # fmt: skip
        builder = _Builder(now, namespace, steps_max)
        items = [(name, builder.program(e)) for name, e in projections]
        self.columns = tuple(ResultColumn(name, item.type) for name, item in items)
        self.skipped = builder.skipped
        self.path = FULL
        condition = ""
        if where is not None:
            test = builder.program(where)
            self.path = test.path
            if not test.path.exact:
                checked = test.code if test.type is Type.BOOLEAN else f"boolean({test.code})"
                condition = f" if {checked} is True"
        row = "".join(f"{item.code}, " for _, item in items)
        source = "".join(builder.functions) + f"def page(pairs):\n return [({row}) for k, e in pairs{condition}]\n"
        variables = builder.variables
        exec(_code(source), variables)  # noqa: S102 - built from templates, see the module's text
        self.page: Callable[[Any], list[tuple[Any, ...]]] = variables["page"]


def constant(expression: pb.Expression, now: int, steps_max: int = 10_000) -> Any:
    """The value of an expression that names no column."""
    return constants([("", expression)], now, steps_max)[1][0]


def constants(
    projections: Sequence[tuple[str, pb.Expression]], now: int, steps_max: int
) -> tuple[tuple[ResultColumn, ...], tuple[Any, ...]]:
    """One row of expressions that name no column (SELECT 1 + 2): its columns and its values."""
    builder = _Builder(now, None, steps_max)
    items = [(name, builder.program(e)) for name, e in projections]
    row = "".join(f"{item.code}, " for _, item in items)
    source = "".join(builder.functions) + f"def row(k, e):\n return ({row})\n"
    exec(_code(source), builder.variables)  # noqa: S102 - built from templates, see the module's text
    values = builder.variables["row"](None, None)
    columns = tuple(
        ResultColumn(name, item.type if value is None else type_of(value))
        for (name, item), value in zip(items, values, strict=True)
    )
    return columns, values


def stored_value(value: Any) -> Any:
    """A computed value that is to be stored: an interval cannot be."""
    if type(value) is timedelta:
        raise errors.error(errors.INVALID, "an interval cannot be stored", hint="store a timestamp: now() + 5m")
    return value
