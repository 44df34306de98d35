"""The changes of a namespace as they happen."""

from __future__ import annotations

from types import TracebackType

from kvql.client.events import AsyncEvents, Event
from kvql.transport.fetching import Position


class AsyncWatch:
    """Iterate over it: an ``Event`` for every change, in order, until it is closed.

    A connection that breaks is no end: the watch is taken up again where it broke off, without a gap and without an
    event twice, for as long as the server keeps what happened meanwhile (72000 if not) and is back within a minute.
    With a ``timeout`` an iteration ends when no event came for so long; another iteration goes on after it.
    """

    def __init__(self, events: AsyncEvents, timeout: float | None) -> None:
        self._events = events
        self.timeout = timeout
        """Seconds that an iteration waits for an event; None for as long as it takes."""

    async def open(self) -> AsyncWatch:
        """Begin, if it has not begun: what is changed from now on will be seen."""
        await self._events.open()
        return self

    @property
    def position(self) -> Position | None:
        """Behind the event that was given last: keep it, and ``con.watch(…, after=position)`` goes on from there."""
        return self._events.position

    @property
    def closed(self) -> bool:
        return self._events.closed

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.next(self.timeout)
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None if none came within ``timeout`` seconds."""
        return await self._events.next(timeout)

    async def close(self) -> None:
        """End the watch, in the server too. Repeatable."""
        self._events.close()

    async def __aenter__(self) -> AsyncWatch:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()
