"""From the flat postfix programs of the wire to the source of Python functions.

Nothing of a request's text ever becomes source: names are looked up in fixed tables, constants are bound as variables,
and the source is built from templates alone. Equal shapes therefore give equal sources, which are compiled once a
process (``generated``).

A row function sees ``k`` (the key), ``e`` (the entry) and, where a statement has two states of a pair, ``o`` (the
other one). AND, OR, IN and the like are n-ary and flat; an operand that is nested deep becomes a function of its own,
so no input makes Python's compiler run out of depth. In a grouped query (``grouping``) the outer functions see the
values of the groups as ``k`` and those of the aggregates as ``e``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import NESTING_MAX, Json, Type, from_micros, type_of
from kvql_server.executor import operators
from kvql_server.executor.aggregates import AGGREGATES
from kvql_server.executor.expressions import conditions, runtime, values
from kvql_server.executor.expressions.fields import MISSING, Decoder, FieldPath, present
from kvql_server.executor.expressions.grouping import Grouping
from kvql_server.executor.expressions.items import (
    CALLS_MAX,
    DEPTH_MAX,
    DISTINCT,
    FILTER,
    HAS_ELSE,
    HAS_ESCAPE,
    HAS_OPERAND,
    PIECE,
    SOURCE_MAX,
    Item,
    malformed,
    names_of,
)
from kvql_server.executor.expressions.scope import Scope, source_of
from kvql_server.executor.functions import FUNCTIONS

Handler = Callable[["Builder", pb.Step, list[Item]], Item]

_ONE: Final = frozenset({pb.OP_NOT, pb.OP_IS_NULL, pb.OP_IS_MISSING, pb.OP_NEGATE, pb.OP_PLUS, pb.OP_FIELD})
_CONDITIONS: Final = frozenset({"WHERE", "HAVING", "ON CONFLICT"})
"""Clauses that are likelier than others to be where a value should have been a BOOLEAN."""
_NONE: Final = frozenset({pb.OP_CONSTANT, pb.OP_COLUMN, pb.OP_STAR, pb.OP_SUBQUERY})
_KEPT_STEPS: Final = 1_000
"""Steps of a statement up to which what is compiled for it is kept for the next one of its shape."""
_PATHS_LOOKED_AROUND: Final = 50
"""Fields of a statement for which a similar name is looked for where no row has them."""
_PATH_MAX: Final = NESTING_MAX
"""Steps into a JSON value: what lies deeper cannot be stored."""


_LIGHT: Final = _NONE | {
    pb.OP_AND, pb.OP_OR, pb.OP_NOT, pb.OP_IS_NULL, pb.OP_IS_MISSING, pb.OP_BETWEEN, pb.OP_STARTS_WITH, pb.OP_CASE,
    pb.OP_ADD, pb.OP_SUBTRACT, pb.OP_MULTIPLY, pb.OP_DIVIDE, pb.OP_MODULO, pb.OP_NEGATE, pb.OP_PLUS,
}  # fmt: skip
_COMPARISONS: Final = frozenset({pb.OP_EQ, pb.OP_NE, pb.OP_LT, pb.OP_LE, pb.OP_GT, pb.OP_GE, pb.OP_DISTINCT})


def _is_heavy(op: int, item: Item, children: Sequence[Item]) -> bool:
    """Whether the length of the value matters for what an operator takes."""
    if item.is_constant:
        return False
    if op in _COMPARISONS:
        return not any(child.is_key or (child.is_constant and type(child.value) is not Json) for child in children)
    return op != pb.OP_IN or not children[0].is_key


def operands(step: pb.Step) -> int:
    """How many operands a step takes from the stack."""
    op, arity, flags = step.op, step.arity, step.flags
    if op in _NONE:
        return 0
    if op in _ONE:
        return 1
    if op == pb.OP_CALL:
        return arity + bool(flags & FILTER)
    if op == pb.OP_CAST:
        return arity or 1
    if op in (pb.OP_AND, pb.OP_OR, pb.OP_JSON_ARRAY):
        return arity
    if op == pb.OP_IN:
        return arity + 1
    if op == pb.OP_CASE:
        return 2 * arity + bool(flags & HAS_OPERAND) + bool(flags & HAS_ELSE)
    if op == pb.OP_JSON_OBJECT:
        return 2 * arity
    if op == pb.OP_BETWEEN:
        return 3
    return 2 + bool(op == pb.OP_LIKE and flags & HAS_ESCAPE)


class Builder:
    """Turns programs into source; the programs of one statement share its constants and its limit of steps.

    ``now`` is in microseconds since 1970. ``clause`` names the clause at hand for errors.
    """

    def __init__(self, scope: Scope, now: int, steps_max: int, places: dict[str, int] | None = None) -> None:
        self.scope = scope
        self.places = {} if places is None else places
        """Source of an operand -> its step among all of the statement's, from 1: where an error of a row came from."""
        self.clause = "an expression"
        self.grouping: Grouping | None = None
        self.skipped = operators.Skipped()
        self.variables: dict[str, Any] = {**runtime.NAMES, "ttl_of": runtime.ttl_of(now), "skipped": self.skipped}
        self.functions: list[str] = []
        self._defined = 0
        """How many of them have been compiled."""
        self.steps = 0
        """Of all programs so far, those of aliases as often as they are named."""
        self.step = 0
        """The one at hand among the statement's, from 1; 0 if errors are not told by step."""
        self.reads_keys = False
        """Whether any function over pages asks for keys."""
        self.paths: dict[tuple[str, tuple[str | int, ...]], FieldPath] = {}
        """By the source of the value that is reached into, and the steps."""
        self.heavy = False
        """Whether what a row takes grows with the length of its value."""
        self.extra = 0
        """What a row takes beside its steps, in steps: a search by a long pattern is more than one."""
        self.subqueries: Sequence[tuple[Any, Type | None]] | None = None
        """What OP_SUBQUERY stands for, value and type; None where no subquery may stand."""
        self.base = 0
        """Steps of the statement's programs before the one at hand: errors count over all of them."""
        self._decode = Decoder()
        self._now = now
        self._steps_left = steps_max
        self._count = 0
        self._expanding = False
        self._inside: frozenset[int] = frozenset()
        """Steps of the program at hand that belong to an aggregate's arguments: they are about rows, not groups."""
        self.about_rows = False
        """Nothing is replaced by the value of its group: the arguments of aggregates, and GROUP BY itself."""

    # ── names and constants ───────────────────────────────────────────────────────────────────────────────────

    def name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def bind(self, value: Any) -> str:
        """The name of a variable that holds ``value``."""
        name = self.name("c")
        self.variables[name] = value
        return name

    def constant(self, value: Any, kind: Type | None = None) -> Item:
        """``value`` as an operand; ``kind`` is its type if it is NULL of one."""
        known = kind if value is None else type_of(value)
        return Item(self.bind(value), is_constant=True, value=value, type=known)

    def _subquery(self, place: int) -> Item:
        """The value that was read for it already."""
        if self.subqueries is None:
            raise errors.error(
                errors.NOT_SUPPORTED, "a subquery is supported in ASSERT and LET only",
                hint="a subquery itself holds none",
            )  # fmt: skip
        if place >= len(self.subqueries):
            raise malformed("a subquery is missing")
        return self.constant(*self.subqueries[place])

    def function(self, body: str) -> str:
        """The call of a new function with this body (lines with their indent)."""
        name = self.name("f")
        self.functions.append(f"def {name}(k, e, o=None):\n{body}\n")
        return f"{name}(k, e, o)" if self.scope.qualifiers else f"{name}(k, e)"

    def spread(self, codes: Sequence[str]) -> str:
        """``a, b, c, `` of a tuple or a call; many of them come from functions that make a piece of the row each."""
        if len(codes) > PIECE:
            pieces = [codes[at : at + PIECE] for at in range(0, len(codes), PIECE)]
            return self.spread([f"*{self.function(f' return ({self.spread(piece)})')}" for piece in pieces])
        return "".join([f"{code}, " for code in codes])

    def settle(self, item: Item) -> None:
        """Give a long chain of arithmetic its code: an operator a line, a function for every few hundred of them."""
        if item.code:
            return
        if all(function == "concat" for function, _, _ in item.parts[1:]):
            item.code = f"concat_all(({self.spread([code for _, code, _ in item.parts])}))"
            item.depth += 1
        else:
            first, lines = item.parts[0][1], list[str]()
            for function, code, step in item.parts[1:]:
                if not lines:
                    lines.append(f" t = {first}")
                call = f"{function}(t, {code})"
                lines.append(f" t = {call}")
                if step:
                    self.places[call] = step
                if len(lines) > 4 * PIECE:
                    first, lines = self.function("\n".join([*lines, " return t"])), []
            item.code = self.function("\n".join([*lines, " return t"])) if lines else first
            item.depth = 1
            item.calls += 1 + len(item.parts) // (4 * PIECE)
        if item.parts[-1][2]:
            self.places[item.code] = item.parts[-1][2]
        item.parts = []

    # ── programs ──────────────────────────────────────────────────────────────────────────────────────────────

    def program(self, expression: pb.Expression, base: int | None = None) -> Item:
        """The whole program as one operand; 22023 if it is malformed, 54001 if it is too long.

        ``base``: where its steps start among the statement's, if an error is to be told by place.
        """
        if base is not None:
            self.base = base
        steps = expression.steps
        self.steps += len(steps)
        self._steps_left -= len(steps)
        if self._steps_left < 0:
            raise errors.error(errors.TOO_COMPLEX, "the expression is too long", hint="split the statement")
        constants = decode_values(expression.constants, intervals=True)
        outer, self._inside = self._inside, self._inside
        if self.grouping is not None and not self.about_rows:
            self._inside = inside_aggregates(expression)
        stack: list[Item] = []
        at = 0
        try:
            for at, step in enumerate(steps):
                self.step = 0 if base is None else base + at + 1
                item = self._step(step, at, expression.names, constants, stack)
                if base is not None and item.code:
                    self._remember(item, base + at + 1)
                stack.append(item)
        except Error as e:
            if base is not None and not e.item and e.span is None:
                e.item, e.part = base + at + 1, pb.PART_STEP
            raise
        finally:
            self._inside = outer
        if len(stack) != 1:
            raise malformed("it does not leave one value")
        if stack[0].is_star:
            raise malformed("* is no value")
        self.settle(stack[0])
        return stack[0]

    def _remember(self, item: Item, place: int) -> None:
        """Which step the sources are of that may raise while a row is computed."""
        if item.code[-1:] == ")":
            self.places[item.code] = place
        if item.raw:
            self.places[item.raw] = place
        if item.type is not Type.BOOLEAN:
            test = f"boolean({item.code})"
            if self.clause in _CONDITIONS or test not in self.places:
                self.places[test] = place

    def _step(
        self, step: pb.Step, at: int, names: Sequence[str], constants: list[Any], stack: list[Item]
    ) -> Item:  # fmt: skip
        count = operands(step)
        if count > len(stack):
            raise malformed("an operand is missing")
        children = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        op, before = step.op, len(self.functions)
        for place, child in enumerate(children):
            if not child.code and not child.is_star and (place or op not in values.ARITHMETIC):
                self.settle(child)
        if op == pb.OP_CONSTANT:
            if step.argument >= len(constants):
                raise malformed("a constant is missing")
            item = self.constant(constants[step.argument])
        elif op == pb.OP_SUBQUERY:
            item = self._subquery(step.argument)
        elif op == pb.OP_COLUMN:
            item = self._column(names_of(names, step.argument, step.arity or 1), at)
        elif op == pb.OP_CALL:
            item = self._call(names_of(names, step.argument, 1)[0].lower(), step, children, at)
        else:
            if any(child.is_star for child in children):
                raise malformed("* is no value")
            item = self._operator(step, names, children)
        if self.grouping is not None:
            item = self._grouped(item, step, at, names, children)
        self.heavy = self.heavy or (op not in _LIGHT and _is_heavy(op, item, children))
        item = self._shallow(item)
        if not item.is_constant:
            made = min(len(self.functions) - before, 2)
            item.calls = max(item.calls, max([child.calls for child in children], default=0) + made)
            if item.calls > CALLS_MAX:
                raise errors.error(
                    errors.TOO_COMPLEX, "the expression is nested too deeply", hint="compute it in several steps"
                )
        return item

    def _operator(self, step: pb.Step, names: Sequence[str], children: list[Item]) -> Item:
        op = step.op
        if op == pb.OP_STAR:
            return Item("", is_star=True)
        if op == pb.OP_CAST:
            return self.folded(values.cast(self, names_of(names, step.argument, 1)[0], children), children)
        if op == pb.OP_FIELD:
            return values.index(self, children[0], self.constant(names_of(names, step.argument, 1)[0]))
        handler = _HANDLERS.get(op)
        if handler is None:
            raise malformed(f"unknown operator {op}")
        return self.folded(handler(self, step, children), children)

    def folded(self, item: Item, children: Sequence[Item]) -> Item:
        """The item's value, where all its operands are constants; an expression that fails is left for its row."""
        if not children or not all(child.is_constant for child in children):
            return item
        try:
            value = self.run(f"def folded(k, e, o=None):\n return {item.raw or item.code}\n", "folded")(None, None)
        except Error:
            return item
        self.skipped.types.clear()  # no row was read yet
        folded = self.constant(present(value), item.type)
        folded.raw = "MISSING" if value is MISSING else ""
        return folded

    def run(self, source: str, name: str) -> Any:
        """What ``name`` is after the functions so far and ``source`` were executed."""
        from kvql_server.executor.expressions.generated import execute

        kept = self.steps <= _KEPT_STEPS
        while self._defined < len(self.functions):
            execute(self.functions[self._defined], self.variables, kept=kept)
            self._defined += 1
        return execute(source, self.variables, kept=kept)[name]

    def _shallow(self, item: Item) -> Item:
        if not item.code or (item.depth < DEPTH_MAX and len(item.code) <= SOURCE_MAX):
            return item
        if item.raw:
            item.raw = self.function(f" return {item.raw}")
            item.code, item.depth = f"present({item.raw})", 2
        else:
            item.code, item.depth = self.function(f" return {item.code}"), 1
        item.parts, item.test, item.place = [], "", None
        return item

    # ── columns ───────────────────────────────────────────────────────────────────────────────────────────────

    def _column(self, parts: list[str], at: int) -> Item:
        alias = None if self._expanding else self.scope.alias(parts)
        if alias is not None:
            all_inside = self.about_rows
            self._expanding, self.about_rows = True, all_inside or at in self._inside
            try:
                return self.program(alias)
            finally:
                self._expanding, self.about_rows = False, all_inside
        found = self.scope.find(parts)
        code, kind = source_of(self.scope.columns, found.entry, found.nullable, found.column)
        if found.path:
            item = self.path_item(code, found.path)
            if found.declared is not None:
                item = values.declared(self, item, found.declared)
        else:
            item = Item(code, code.count("("), kind, is_key=code == "k")
        if self.grouping is not None:
            item.loose = (".".join(parts), self.base + at + 1)
            item.identity = self.grouping.intern(("column", found.column, found.entry, found.path))
        return item

    def path_item(self, value: str, steps: tuple[str | int, ...]) -> Item:
        """A piece of the JSON value whose source is ``value``."""
        if len(steps) > _PATH_MAX:
            raise errors.error(errors.TOO_COMPLEX, f"JSON is nested at most {_PATH_MAX} levels deep")
        self.heavy = True
        self.extra += 10
        path = self.paths.get((value, steps))
        if path is None:
            path = self.paths[value, steps] = FieldPath(
                steps, self._decode, looks=len(self.paths) < _PATHS_LOOKED_AROUND
            )
            path.name = self.bind(path)
        raw = f"{path.name}({value})"
        return Item(f"present({raw})", value.count("(") + 2, raw=raw, place=(value, steps))

    # ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, name: str, step: pb.Step, children: list[Item], at: int) -> Item:
        if name in AGGREGATES:
            return self._aggregate(name, step, children, at)
        if any(child.is_star for child in children) or step.flags & (DISTINCT | FILTER):
            if name != "now" and name not in FUNCTIONS:
                raise values.unknown(name)
            what = "*" if any(c.is_star for c in children) else "FILTER" if step.flags & FILTER else "DISTINCT"
            raise errors.error(errors.SYNTAX, f"{what} belongs to aggregates, and {shown(name)} is none")
        if name == "now":
            if children:
                raise errors.error(errors.UNKNOWN_FUNCTION, f"function now takes 0 arguments, not {len(children)}")
            return self.constant(from_micros(self._now))
        item = values.call(self, name, children)
        return self.folded(item, children) if children else item

    def _aggregate(self, name: str, step: pb.Step, children: list[Item], at: int) -> Item:
        arguments = list(children)
        condition = arguments.pop() if step.flags & FILTER else None
        if self.grouping is None:
            raise errors.error(
                errors.GROUPING, f"aggregate functions are not allowed in {self.clause}",
                hint="conditions on aggregates stand in HAVING" if self.clause == "WHERE" else None,
            )  # fmt: skip
        place = self.base + at + 1
        return self.grouping.aggregate(name, bool(step.flags & DISTINCT), arguments, condition, place)

    def _grouped(self, item: Item, step: pb.Step, at: int, names: Sequence[str], children: list[Item]) -> Item:
        """What the item is beside the groups: one of their values, or something that still holds a row's column."""
        grouping = self.grouping
        assert grouping is not None
        if not item.identity:
            name = names[step.argument] if step.op in (pb.OP_CALL, pb.OP_CAST, pb.OP_FIELD) else ""
            own = (type(item.value).__name__, str(item.value)) if step.op == pb.OP_CONSTANT else ()
            identity = (step.op, step.flags, step.arity, name.lower(), *own, *[c.identity for c in children])
            item.identity = grouping.intern(identity)
        is_aggregate = item.aggregated
        item.aggregated = item.aggregated or any(child.aggregated for child in children)
        if not self.about_rows and at not in self._inside:
            known = grouping.known(item)
            if known is not None:
                return known
        if item.loose is None and not item.is_constant and not is_aggregate:
            item.loose = next((c.loose for c in children if c.loose is not None), None)
        return item


def inside_aggregates(expression: pb.Expression) -> frozenset[int]:
    """The places of the steps that belong to an argument of an aggregate."""
    found: list[range] = []
    starts: list[int] = []
    for at, step in enumerate(expression.steps):
        count = operands(step)
        start = starts[-count] if 0 < count <= len(starts) else at
        del starts[len(starts) - min(count, len(starts)) :]
        starts.append(start)
        name = expression.names[step.argument] if step.argument < len(expression.names) else ""
        if step.op == pb.OP_CALL and name.lower() in AGGREGATES:
            while found and found[-1].start >= start:
                found.pop()  # a part of this one
            found.append(range(start, at))
    return frozenset(chain.from_iterable(found))


def shown(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 64 else "of that name"


_HANDLERS: Final[dict[int, Handler]] = {**conditions.HANDLERS, **values.HANDLERS}
