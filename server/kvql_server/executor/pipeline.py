"""The stages of a query between the pages that are read and the rows that leave: pages of rows in, pages of rows out.

Every stage works page by page and lets others have their turn between pages. Those that must hold rows (sort, distinct,
groups) count what they hold against the memory of a query. A row that is to be sorted comes as ``(key, cells)``.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from kvql import errors
from kvql.values import Json
from kvql_server.executor.call import Work
from kvql_server.executor.ordering import group_key

Rows: TypeAlias = list[Any]
Stream: TypeAlias = AsyncIterator[Rows]

PAGE_ROWS: Final = 4096
RUN_ROWS: Final = 16_384
"""Rows that are sorted in one go: some ten milliseconds."""
TOP_MAX: Final = 4096
"""Up to so many rows ORDER BY … LIMIT keeps only the best, in a bounded heap."""
_SAMPLE: Final = 16


@dataclass(slots=True)
class Stage:
    """One step of a plan, and what it did if it was measured. ``time_s`` includes the stages before it."""

    name: str
    detail: str
    run: Callable[[Any], AsyncIterator[Any]] | None = None
    """None: it is a part of the stage before, told apart for people."""
    rows: int | None = None
    time_s: float | None = None


def connect(stages: Iterable[Stage], source: Any, *, measured: bool = False) -> AsyncIterator[Any]:
    """The output of the last stage; ``source`` is what the first one takes."""
    stream: AsyncIterator[Any] = source
    for stage in stages:
        if stage.run is not None:
            stream = stage.run(stream)
            if measured:
                stream = _measured(stage, stream)
    return stream


async def _measured(stage: Stage, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    rows, spent = 0, 0.0
    while True:
        start = time.perf_counter()
        page = await anext(stream, None)
        spent += time.perf_counter() - start
        rows += 0 if page is None else len(page)
        stage.rows, stage.time_s = rows, spent
        if page is None:
            return
        yield page


class Memory:
    """What a query holds, by estimate; 53400 above the limit."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self._max = bytes_max

    def hold(self, rows: Sequence[Any]) -> None:
        """Some rows more; their size is taken from a sample of them."""
        if not rows:
            return
        sample = rows[:: max(1, len(rows) // _SAMPLE)]
        self.take(sum(map(weight, sample)) * len(rows) // len(sample))

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise errors.error(
                errors.LIMIT, f"the query needs more than its {self._max // (1024 * 1024):,} MiB of memory",
                hint="narrow it with WHERE, or add a LIMIT (query_bytes_max is the setting)",
            )  # fmt: skip

    def release(self, rows: Sequence[Any]) -> None:
        """What was held and is not any more, as far as ``hold`` would count it."""
        if rows:
            sample = rows[:: max(1, len(rows) // _SAMPLE)]
            self._left += sum(map(weight, sample)) * len(rows) // len(sample)


def weight(value: Any) -> int:
    """About how many bytes a value, or a tuple of values, takes."""
    kind = type(value)
    if kind is tuple:
        return 56 + sum(map(weight, value))
    if kind is str or kind is bytes:
        return 60 + len(value)
    if kind is Json:
        return 110 + len(value.text)
    return 40


# ── limit, distinct ───────────────────────────────────────────────────────────────────────────────────────────────


async def limited(stream: Stream, limit: int | None, offset: int) -> Stream:
    """Stops reading as soon as it has enough."""
    left = limit
    if left == 0:
        return
    async for given in stream:
        rows = given
        if offset:
            rows, offset = rows[offset:], max(0, offset - len(rows))
        if left is not None:
            rows = rows[:left]
            left -= len(rows)
        if rows:
            yield rows
        if left == 0:
            return


async def distinct(stream: Stream, cells: Callable[[Any], tuple[Any, ...]], memory: Memory) -> Stream:
    """The first row of each kind: 1 and 1.0 are one kind, NULL is one."""
    seen: set[Hashable] = set()
    async for page in stream:
        fresh = []
        for row in page:
            key = tuple(map(group_key, cells(row)))
            if key not in seen:
                seen.add(key)
                fresh.append(row)
        memory.hold(fresh)
        if fresh:
            yield fresh


# ── sort ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_KEY: Final = itemgetter(0)


async def ordered(stream: Stream, reverse: bool, memory: Memory, work: Work) -> Stream:
    """All rows by their keys: runs of bounded length are sorted as they come, and merged as they leave."""
    runs: list[Rows] = []
    run: Rows = []
    async for page in stream:
        run += page
        memory.hold(page)
        if len(run) >= RUN_ROWS:
            run.sort(key=_KEY, reverse=reverse)
            runs.append(run)
            run = []
            await work.turn()
    run.sort(key=_KEY, reverse=reverse)
    merged = heapq.merge(*runs, run, key=_KEY, reverse=reverse) if runs else iter(run)
    while rows := list(islice(merged, PAGE_ROWS)):
        yield [cells for _, cells in rows]
        await work.turn()


async def top(stream: Stream, reverse: bool, count: int, memory: Memory) -> Stream:
    """The first ``count`` rows by their keys; never more than those and a page are held."""
    pick = heapq.nlargest if reverse else heapq.nsmallest
    best: Rows = []
    async for page in stream:
        candidates = page
        if len(best) == count:
            worst = best[-1][0]
            candidates = [r for r in page if (r[0] > worst if reverse else r[0] < worst)]
        if candidates:
            memory.release(best)
            best = pick(count, chain(best, candidates), key=_KEY)
            memory.hold(best)
    if best:
        yield [cells for _, cells in best]


class Descending:
    """A key that sorts the other way round than the others of its row."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: Descending) -> bool:
        return bool(other.key < self.key)

    def __gt__(self, other: Descending) -> bool:
        return bool(other.key > self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and bool(self.key == other.key)
