"""The finished functions: over pages of pairs, over groups, over one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from types import CodeType
from typing import Any, Final, TypeAlias

from kvql.errors import Error
from kvql.names import nearest, short
from kvql.result import Notice, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import type_of
from kvql_server.engines.base import Page
from kvql_server.executor.expressions.builder import Builder
from kvql_server.executor.expressions.fields import FieldPath
from kvql_server.executor.expressions.items import Item
from kvql_server.executor.expressions.scope import Scope

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[Row]
PageFunction: TypeAlias = Callable[[Page], list[Any]]
"""The rows of those pairs of a page that satisfy the condition."""


_KEPT_CHARACTERS: Final = 8_192
"""Sources up to this length are compiled once a process; 1,024 of them are kept."""
_SOURCES: Final = "sources"
"""The variable that holds the sources by the names of their files, so that whoever holds a traceback finds them."""


def _compiled(source: str) -> CodeType:
    return compile(source, f"<generated {hash(source):x}>", "exec")


_compiled_once = lru_cache(maxsize=1024)(_compiled)


def placed(error: Error, places: Mapping[str, int]) -> Error:
    """``error`` with the step whose source raised it while a row was computed, where that can be told."""
    if not error.item and error.span is None and places:
        error.item = _raised_by(error, places)
        error.part = pb.PART_STEP if error.item else 0
    return error


def _raised_by(error: Error, places: Mapping[str, int]) -> int:
    """The step, from 1; 0 if it is not known. Python tells for each frame which piece of its source was running."""
    found = 0
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        source = trace.tb_frame.f_globals.get(_SOURCES, {}).get(code.co_filename)
        if source is not None:
            line, _, start, end = next(islice(code.co_positions(), trace.tb_lasti // 2, None))
            if line is not None:
                text = source.split("\n")[line - 1].encode()[start:end].decode(errors="replace")
                found = places.get(text, found)
        trace = trace.tb_next
    return found


def execute(source: str, variables: dict[str, Any], *, kept: bool = True) -> dict[str, Any]:
    """Define what ``source`` defines among ``variables``. ``kept``: another statement will have the same source."""
    code = _compiled_once(source) if kept and len(source) <= _KEPT_CHARACTERS else _compiled(source)
    variables.setdefault(_SOURCES, {})[code.co_filename] = source
    exec(code, variables)  # noqa: S102 - built from templates, see the builder
    return variables


def cells(builder: Builder, items: Iterable[Item]) -> str:
    """The source of a tuple of these."""
    return f"({builder.spread([item.code for item in items])})"


def page_function(builder: Builder, row: str, condition: str = "") -> PageFunction:
    """``row`` for each pair that satisfies ``condition`` (source; empty: every pair)."""
    keys = _names_key(row) or _names_key(condition) or bool(builder.functions)
    builder.reads_keys = builder.reads_keys or keys
    loop = "k, e in page" if keys else "e in page.entries"
    tail = f" if {condition}" if condition else ""
    made: PageFunction = builder.run(f"def rows(page):\n return [{row} for {loop}{tail}]\n", "rows")
    return made


def test_function(builder: Builder, condition: str) -> Callable[[Page], list[bool]]:
    """Whether each pair of a page satisfies ``condition`` (source)."""
    source = f"def tests(page):\n return [True if {condition} else False for k, e in page]\n"
    return builder.run(source, "tests")  # type: ignore[no-any-return]  # a function of that shape, by its source


def _names_key(source: str) -> bool:
    """Whether the key is read: ``k`` as a word of its own, which no other name of generated code is."""
    return re.search(r"(?<![\w.'\"])k(?!\w)", source) is not None


def change_function(builder: Builder, row: str) -> Callable[[Iterable[tuple[str, Any, Any]]], Rows]:
    """``row`` for each (key, entry, other entry): RETURNING, and what ON CONFLICT computes."""
    source = f"def rows(changes):\n return [{row} for k, e, o in changes]\n"
    made: Callable[[Iterable[tuple[str, Any, Any]]], Rows] = builder.run(source, "rows")
    return made


def group_function(builder: Builder, row: str, condition: str) -> Callable[[Iterable[tuple[Row, Row]]], Rows]:
    """``row`` for each (values of the group, values of the aggregates) that satisfies HAVING."""
    tail = f" if {condition}" if condition else ""
    source = f"def rows(groups):\n return [{row} for k, e in groups{tail}]\n"
    made: Callable[[Iterable[tuple[Row, Row]]], Rows] = builder.run(source, "rows")
    return made


# ── expressions that name no column ───────────────────────────────────────────────────────────────────────────────


def constant(expression: pb.Expression, now: int, steps_max: int = 10_000) -> Any:
    """The value of an expression that names no column."""
    return constants([("", expression)], now, steps_max)[1][0]


def constants(
    projections: Sequence[tuple[str, pb.Expression]], now: int, steps_max: int, places: dict[str, int] | None = None
) -> tuple[tuple[ResultColumn, ...], Row]:
    """One row of expressions that name no column (SELECT 1 + 2): its columns and its values."""
    builder = Builder(Scope(), now, steps_max, places)
    items, base = [], 0
    for name, expression in projections:
        items.append((name, builder.program(expression, base)))
        base += len(expression.steps)
    function = builder.run(f"def row(k, e):\n return {cells(builder, [item for _, item in items])}\n", "row")
    values = function(None, None)
    columns = tuple(
        ResultColumn(name, item.type if value is None else type_of(value))
        for (name, item), value in zip(items, values, strict=True)
    )
    return columns, values


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────────

_ABSENT_TOLD_MAX: Final = 20
"""Fields that no row had, each with a notice of its own; of more only the number is told."""


def notices(builder: Builder) -> list[Notice]:
    """What a statement has to say when all its rows are read: comparisons without an answer, fields that no row had."""
    out = []
    for kind, count in sorted(builder.skipped.types.items()):
        rows = "1 row" if count == 1 else f"{count:,} rows"
        out.append(Notice(f"{rows} skipped: value is {kind.name}"))
    declared = {(field.name,) for field in builder.scope.fields}
    absent = [p for p in builder.paths.values() if p.asked and not p.found and p.steps not in declared]
    out += [_absent(path, builder.scope) for path in absent[:_ABSENT_TOLD_MAX]]
    if len(absent) > _ABSENT_TOLD_MAX:
        out.append(Notice(f"no row has {len(absent) - _ABSENT_TOLD_MAX:,} more of the fields"))
    return out


def _absent(path: FieldPath, scope: Scope) -> Notice:
    shown = "".join(f".{s}" if isinstance(s, str) else f"[{s}]" for s in path.steps).removeprefix(".")
    near = None
    for depth, step in enumerate(path.steps):
        known = [*path.names.get(depth, ()), *(() if depth else scope.columns)]
        if near is None and isinstance(step, str) and step not in known:
            near = nearest(step, known)
    return Notice(f"no row has a field {short(shown)}", f"did you mean {near}?" if near else None)
