"""GROUP BY and aggregates: what is collected while pages go by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any, Final

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql_server.engines.base import Page
from kvql_server.executor.aggregates import Accumulator, make
from kvql_server.executor.call import Work
from kvql_server.executor.expressions import Builder, Grouping, Item, page_function
from kvql_server.executor.expressions.grouping import Aggregate
from kvql_server.executor.ordering import order_key
from kvql_server.executor.pipeline import PAGE_ROWS, Memory, ordered
from kvql_server.executor.turns import computed

_SKIP: Final = object()
"""Stands for a row that an aggregate's FILTER leaves out."""
_GROUP_BYTES: Final = 500
"""What a group costs beside its values, for each aggregate."""

Groups = AsyncIterator[list[tuple[tuple[Any, ...], tuple[Any, ...]]]]
"""Pages of (values of the group, values of the aggregates)."""


def _argument(aggregate: Aggregate) -> str:
    """The source of what one row gives to an aggregate."""
    if not aggregate.arguments:
        return "True"
    if len(aggregate.arguments) == 1:
        return aggregate.arguments[0]
    return f"({', '.join(aggregate.arguments)})"


def _feed(accumulator: Accumulator, aggregate: Aggregate, values: list[Any], memory: Memory) -> None:
    if not aggregate.arguments:
        accumulator.add_count(len(values))
        return
    holds = aggregate.distinct or aggregate.name == "string_agg"
    before = accumulator.held_bytes if holds else 0
    try:
        accumulator.add_many(values)
    except Error as e:
        raise _at(e, aggregate)
    if holds:
        memory.take(accumulator.held_bytes - before)


def _results(accumulators: list[Accumulator], aggregates: list[Aggregate]) -> tuple[Any, ...]:
    out = []
    for accumulator, aggregate in zip(accumulators, aggregates, strict=True):
        try:
            out.append(accumulator.result())
        except Error as e:
            raise _at(e, aggregate)
    return tuple(out)


def _at(error: Error, aggregate: Aggregate) -> Error:
    error.item, error.part = aggregate.step, pb.PART_STEP
    return error


# ── one group: all rows ───────────────────────────────────────────────────────────────────────────────────────────


def whole(
    builder: Builder, grouping: Grouping, condition: str, memory: Memory
) -> Callable[[AsyncIterator[Page]], Groups]:
    """The aggregates over everything that is read: one group, also of no rows."""
    aggregates = grouping.aggregates
    builder.heavy = builder.heavy or any(a.distinct or a.name in ("min", "max") for a in aggregates)
    first, inner = None, condition
    if len(aggregates) != 1 and condition:
        # the condition once a row, whatever the number of aggregates
        first, inner = page_function(builder, "(k, e)", condition), ""
    functions = [
        page_function(builder, _argument(a), " and ".join(f"({c})" for c in (inner, a.condition) if c))
        for a in aggregates
    ]

    async def run(pages: AsyncIterator[Page]) -> Groups:
        accumulators = [make(a.name, a.distinct) for a in aggregates]
        async for page in pages:
            matched = page if first is None else type(page).of(await computed(first, page))
            for accumulator, aggregate, function in zip(accumulators, aggregates, functions, strict=True):
                _feed(accumulator, aggregate, await computed(function, matched), memory)
        yield [((), _results(accumulators, aggregates))]

    return run


# ── many groups ───────────────────────────────────────────────────────────────────────────────────────────────────


class _State:
    __slots__ = ("accumulators", "values")

    def __init__(self, values: tuple[Any, ...], aggregates: list[Aggregate]) -> None:
        self.values = values
        self.accumulators = [make(a.name, a.distinct) for a in aggregates]


def grouped(
    builder: Builder, grouping: Grouping, condition: str, memory: Memory, work: Work
) -> Callable[[AsyncIterator[Page]], Groups]:
    """A row for each group, in the order of the groups' values."""
    aggregates, groups = grouping.aggregates, grouping.groups
    builder.variables["SKIP"] = _SKIP
    builder.heavy = True  # JSON is grouped by its content
    values, arguments = builder.spread([g.code for g in groups]), builder.spread([_filtered(a) for a in aggregates])
    row = f"({_key(builder, groups)}, ({values}), ({arguments}))"
    function = page_function(builder, row, condition)

    async def run(pages: AsyncIterator[Page]) -> Groups:
        states: dict[Hashable, _State] = {}
        async for page in pages:
            buckets: dict[Hashable, tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = {}
            for key, values, arguments in await computed(function, page):
                bucket = buckets.get(key)
                if bucket is None:
                    buckets[key] = (values, [arguments])
                else:
                    bucket[1].append(arguments)
            for key, (values, rows) in buckets.items():
                state = states.get(key)
                if state is None:
                    state = states[key] = _State(values, aggregates)
                    memory.hold([values])
                    memory.take(_GROUP_BYTES * (1 + len(aggregates)))
                _add(state, aggregates, rows, memory)
        async for page_of_groups in _in_order(states, aggregates, memory, work):
            yield page_of_groups

    return run


def _add(state: _State, aggregates: list[Aggregate], rows: list[tuple[Any, ...]], memory: Memory) -> None:
    for at, (accumulator, aggregate) in enumerate(zip(state.accumulators, aggregates, strict=True)):
        values = [r[at] for r in rows]
        if aggregate.condition:
            values = [v for v in values if v is not _SKIP]
        _feed(accumulator, aggregate, values, memory)


async def _in_order(
    states: dict[Hashable, _State], aggregates: list[Aggregate], memory: Memory, work: Work
) -> Groups:  # fmt: skip
    """The groups in the order of their values: the same on every engine, whatever the order of reading was."""

    async def pages() -> AsyncIterator[list[Any]]:
        waiting = list(states.values())
        for at in range(0, len(waiting), PAGE_ROWS):
            yield [
                (tuple(map(order_key, s.values)), (s.values, _results(s.accumulators, aggregates)))
                for s in waiting[at : at + PAGE_ROWS]
            ]

    async for page in ordered(pages(), False, memory, work):
        yield page


def _key(builder: Builder, groups: list[Item]) -> str:
    """The source of what makes two rows one group."""
    keys = [f"group_key({g.code})" for g in groups]
    return keys[0] if len(keys) == 1 else f"({builder.spread(keys)})"


def _filtered(aggregate: Aggregate) -> str:
    argument = _argument(aggregate)
    return f"({argument} if {aggregate.condition} else SKIP)" if aggregate.condition else argument
