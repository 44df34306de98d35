"""How much of a statement is done before others have their turn: a few milliseconds, whatever the statement is.

A page of 4,096 pairs takes a fraction of a millisecond where integers are compared, and minutes where long texts are
searched by long patterns. So pages are cut by an estimate of what they cost, which is put right by measuring; what
cannot be cut, one row or the compilation of a long statement, is done in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from kvql.values import Json
from kvql_server.engines.base import Page
from kvql_server.executor.call import Call, Work
from kvql_server.executor.expressions import Builder

T = TypeVar("T")

TURN_COST: Final = 20_000_000
"""Of a turn, in half nanoseconds: 10 ms."""
_ROW_COST: Final = 100
"""Of a step for a row, beside what the length of the value costs: 50 ns."""
_ASIDE_COST: Final = 5 * TURN_COST
"""Of a row, above which it is computed in a thread."""
_SLOW_S: Final = 0.02
_QUICK_S: Final = 0.005
_FIRST: Final = 1 / 16
"""What the first turn may cost of ``TURN_COST``, until it is known how good the estimate is."""
_STEPS_AT_ONCE: Final = 300
_FIXED: Final = frozenset({int, bool, float, type(None), datetime})
"""Types of values whose length is nothing to worry about."""


class Aside(Page):
    """A single row that takes so long that it is to be computed in a thread."""

    __slots__ = ()


def goes_aside(work: Work, steps: int) -> bool:
    """Whether what compiles so many steps is done in a thread, from where nobody may ask the engine anything."""
    return steps > _STEPS_AT_ONCE and work.yields


async def aside(work: Work, steps: int, make: Callable[[], T]) -> T:
    """What ``make`` gives; in a thread where it compiles so many steps that others would wait for it."""
    return await asyncio.to_thread(make) if goes_aside(work, steps) else make()


async def expiry(call: Call) -> None:
    """Let all that is due be carried out, with turns for others. Nobody has one between its end and what comes next:
    where a snapshot is taken then, nothing that was due before it comes after it."""
    while call.engine.expire_due():
        await call.work.turn()


async def computed(function: Callable[[Any], T], page: Any) -> T:
    """The rows of a page that ``in_turns`` gave."""
    if type(page) is Aside:
        return await asyncio.to_thread(function, page)
    return function(page)


async def single(page: Page) -> AsyncIterator[Page]:
    """A page as a stream of pages."""
    yield page


async def in_turns(
    pages: AsyncIterator[Page], work: Work, builder: Builder, kinds: frozenset[type] | None
) -> AsyncIterator[Page]:
    """The pages, cut into pieces, with a turn for others before each. ``kinds``: the types of values, where known."""
    weighed = builder.heavy and not (kinds is not None and kinds <= _FIXED)
    step_cost = builder.steps + builder.extra + 1
    share = _FIRST
    async for page in pages:
        at = 0
        while at < len(page):
            budget = int(TURN_COST * share) // step_cost
            if weighed:
                end, size = _piece(page, at, budget)
            else:
                end, size = min(len(page), at + max(1, budget // _ROW_COST)), 0
            await work.turn()
            costly = end - at == 1 and work.yields and step_cost * (size + _ROW_COST) > _ASIDE_COST
            if at == 0 and end == len(page) and not costly:
                piece = page
            else:
                piece = (Aside if costly else Page)(page.keys[at:end], page.entries[at:end])
            started = time.thread_time()
            yield piece
            spent = time.thread_time() - started
            if spent > _SLOW_S:
                share = max(share * _SLOW_S / 2 / spent, 2**-20)
            elif spent < _QUICK_S and share < 1:
                share = min(1.0, share * 2)
            at = end


def _piece(page: Page, start: int, budget: int) -> tuple[int, int]:
    """The end of a piece from ``start`` on, of at least one row, and how long its values are together."""
    size = total = 0
    at = start
    for at in range(start, len(page)):
        value = page.entries[at].value
        kind = type(value)
        more = len(value) if kind is str or kind is bytes else len(value.text) if kind is Json else 16
        if at > start and total + more + _ROW_COST > budget:
            return at, size
        size += more
        total += more + _ROW_COST
    return at + 1, size
