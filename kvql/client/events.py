"""The events of a watch, one by one, with the position behind each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from kvql import ast, errors
from kvql.client.lane import located
from kvql.client.rows import as_python
from kvql.errors import Error
from kvql.transport import Watched
from kvql.transport.fetching import Position

T = TypeVar("T")


class Event(NamedTuple):
    """A change of a pair: ``event`` is PUT, UPDATE, DELETE, EXPIRE, ENTER or LEAVE; INITIAL for a pair that was there
    when a watch WITH INITIAL began, and LIVE (with no key) when those are over.

    Values are Python's; NULL and "not there" are both None. ``by`` is the user's name, None for what expired.
    """

    event: str
    revision: int
    key: str | None
    old_value: Any
    value: Any
    by: str | None


class AsyncEvents:
    """See ``Watch``. For one reader."""

    def __init__(
        self, open_exchange: Callable[[], Watched], source: str | None, check_open: Callable[[], None]
    ) -> None:
        """``check_open`` raises once the connection is closed."""
        self.check_open = check_open
        self._open_exchange = open_exchange
        self._source = source
        self._exchange: Watched | None = None
        self._rows: list[tuple[Any, ...]] = []
        """Those that have come and were not handed out yet, last first."""
        self._position: Position | None = None
        self._last: tuple[Any, ...] | None = None
        """The event that was handed out last, if the position does not know of it yet."""
        self._closed = False

    @property
    def position(self) -> Position | None:
        if self._last is not None and self._position is not None:
            self._position, self._last = self._position.behind(self._last), None
        return self._position

    @property
    def closed(self) -> bool:
        return self._closed

    async def open(self) -> None:
        """Begin, if it has not begun; raises what the server has against it."""
        if self._closed:
            raise errors.InterfaceError("the watch is closed", sqlstate="24000")
        if self._exchange is not None:
            return
        self._exchange = exchange = self._open_exchange()
        try:
            first = (await exchange.result()).rows
        except Error as e:
            self._closed = True
            raise located(e, self._source) from None
        except BaseException:
            self.close()
            raise
        self._position = exchange.position
        self._rows = as_python(list(first))[::-1]

    async def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None if none came within so many seconds, and after ``close``."""
        if self._closed:
            return None
        self.check_open()
        await self.open()
        exchange = self._exchange
        assert exchange is not None
        while not self._rows:
            self._position = exchange.position
            try:
                if timeout is not None and not await exchange.ready(timeout):
                    self._position = exchange.position
                    return None
                self._rows = as_python(await exchange.more())[::-1]
            except Error as e:
                self.close()
                raise located(e, self._source) from None
        return self.taken()

    def taken(self) -> Event | None:
        """The next of the events that are here already; None if none is."""
        rows = self._rows
        if not rows:
            return None
        row = rows.pop()
        self._last = row if rows else None
        if self._last is None and self._exchange is not None:
            self._position = self._exchange.position
        return Event(*row)

    def close(self) -> None:
        """End it, in the server too. Repeatable."""
        self._closed = True
        self._rows = []
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.abandon()

    __del__ = close


class Events:
    """The same, waiting in the calling thread."""

    def __init__(self, events: AsyncEvents, drive: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._events = events
        self._drive = drive

    @property
    def position(self) -> Position | None:
        return self._events.position

    @property
    def closed(self) -> bool:
        return self._events.closed

    def open(self) -> None:
        self._drive(self._events.open())

    def next(self, timeout: float | None = None) -> Event | None:
        if self.closed:
            return None
        self._events.check_open()
        event: Event | None = self._events.taken() or self._drive(self._events.next(timeout))
        return event

    def close(self) -> None:
        self._events.close()


def as_watch(statement: ast.Statement, source: str | None) -> ast.Watch:
    """A WATCH as it is; a plain SELECT as the WATCH of the pairs that it selects."""
    if isinstance(statement, ast.Watch):
        return statement
    if isinstance(statement, ast.Select) and _is_plain(statement):
        named = None if statement.source is None else statement.source.namespace
        return ast.Watch(named, statement.where, span=statement.span)
    raise errors.error(
        errors.NOT_SUPPORTED, "only WATCH, or SELECT * with no more than FROM and WHERE, can be watched",
        hint="WATCH [ns] [WHERE e] [WITH INITIAL] [FROM REVISION n]", span=statement.span, source=source,
    )  # fmt: skip


def _is_plain(select: ast.Select) -> bool:
    """``SELECT * [FROM ns] [WHERE e]``."""
    if len(select.items) != 1 or not isinstance(select.items[0].expression, ast.Star):
        return False
    plain = ast.Select(select.items, source=select.source, where=select.where)
    return select == plain and (select.source is None or (select.source.as_of is None and not select.source.history))
