# Made by tools/make_sync.py from kvql/_async/watch.py. Never edit: run `make sync`.
"""The changes of a namespace as they happen."""

from __future__ import annotations

from types import TracebackType

from kvql.client.events import Event, Events
from kvql.transport.fetching import Position


class Watch:
    """Iterate over it: an ``Event`` for every change, in order, until it is closed.

    A connection that breaks is no end: the watch is taken up again where it broke off, without a gap and without an
    event twice, for as long as the server keeps what happened meanwhile (72000 if not) and is back within a minute.
    With a ``timeout`` an iteration ends when no event came for so long; another iteration goes on after it.
    """

    def __init__(self, events: Events, timeout: float | None) -> None:
        self._events = events
        self.timeout = timeout
        """Seconds that an iteration waits for an event; None for as long as it takes."""

    def open(self) -> Watch:
        """Begin, if it has not begun: what is changed from now on will be seen."""
        self._events.open()
        return self

    @property
    def position(self) -> Position | None:
        """Behind the event that was given last: keep it, and ``con.watch(…, after=position)`` goes on from there."""
        return self._events.position

    @property
    def closed(self) -> bool:
        return self._events.closed

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        event = self._events.next(self.timeout)
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None if none came within ``timeout`` seconds."""
        return self._events.next(timeout)

    def close(self) -> None:
        """End the watch, in the server too. Repeatable."""
        self._events.close()

    def __enter__(self) -> Watch:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
