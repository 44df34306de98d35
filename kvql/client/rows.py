"""Rows on their way to Python: as values of Python's, and chunk by chunk where they are many."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain, islice
from typing import Any, Final

from kvql.client.lane import located
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange
from kvql.values import Json

Row = tuple[Any, ...]
CHUNK_ROWS: Final = 1000


def as_python(rows: list[Row]) -> list[Row]:
    """``rows`` as Python hands them out: JSON as dict and list."""
    for row in rows:
        for value in row:
            if type(value) is Json:
                return [tuple([v.to_python() if type(v) is Json else v for v in r]) for r in rows]
    return rows


async def whole_if_small(exchange: Exchange, *, leave: bool = True) -> Result:
    """The result, and its end too if that comes next: then all rows are here and the counts are final.

    ``leave``: whoever is cancelled here does not ask again.
    """
    done = False
    try:
        result = await exchange.result()
        if not exchange.complete and not exchange.endless:
            rows = await exchange.more()
            result.rows = [*result.rows, *rows]
        done = True
    finally:
        if not done and leave:
            exchange.abandon()
    return result


class AsyncRows:
    """The rows of an answer whose end is not here yet, for one reader. Dropping it stops the work."""

    def __init__(self, exchange: Exchange, first: list[Row], source: str | None) -> None:
        self._exchange: Exchange | None = exchange
        self._first = first
        self._source = source

    async def more(self) -> list[Row]:
        """The next rows; none at the end. Raises what ended the statement early."""
        if self._first:
            first, self._first = self._first, []
            return first
        exchange = self._exchange
        if exchange is None:
            return []
        try:
            rows: list[Row] = await exchange.more()
        except Error as e:
            self._exchange = None
            raise located(e, self._source) from None
        if not rows:
            self._exchange = None
        return rows

    def close(self) -> None:
        """Stop the work if it still runs; no rows will come."""
        self._first = []
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None

    __del__ = close


class Rows:
    """The rows of a large answer, for one reader: one after the other, or chunk by chunk."""

    def __init__(self, more: Callable[[], list[Row]], close: Callable[[], None]) -> None:
        self.more = more
        """The next rows; none at the end."""
        self.close = close

    def __iter__(self) -> Iterator[Row]:
        while rows := self.more():
            yield from rows


def computed(rows: Iterator[Row], source: str | None) -> list[Row] | Rows:
    """Rows that are computed when they are asked for: all if they are few, like ``whole_if_small``."""
    chunks = _chunks(rows, source)
    first = next(chunks, [])
    if len(first) < CHUNK_ROWS and not next(chunks, []):
        return first
    more = chain([first], chunks)
    return Rows(lambda: next(more, []), chunks.close)


def _chunks(rows: Iterator[Row], source: str | None) -> Generator[list[Row], None, None]:
    """``rows`` in lists; what was there before an error comes before it."""
    while True:
        chunk: list[Row] = []
        try:
            chunk.extend(islice(rows, CHUNK_ROWS))
        except Error as e:
            if chunk:
                yield chunk
            raise located(e, source) from None
        if not chunk:
            return
        yield chunk
