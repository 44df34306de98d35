"""Those who watch an engine's namespaces: they see what is durable, and are woken when there is more of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

from kvql_server.engines import base
from kvql_server.engines.journal import Journal


class _Place:
    """The watchers of one namespace that wait."""

    __slots__ = ("count", "journal", "waiters")

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.count = 0
        self.waiters: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            with contextlib.suppress(RuntimeError):  # its event loop has ended, and nobody waits any more
                waiter.get_loop().call_soon_threadsafe(_finish, waiter)


class Watchers:
    """:meth:`durable` and :meth:`close` may be called from any thread, the rest from the engine's."""

    def __init__(self, revision: int) -> None:
        self._durable = revision
        self._mutex = threading.RLock()  # a watch that the garbage collector ends may be anywhere in here
        self._places: dict[Journal, _Place] = {}
        self._changed: set[_Place] = set()  # what is in their journals may be more than what is durable
        self._closed = False

    @property
    def revision(self) -> int:
        """Commits up to here are shown."""
        return self._durable

    def durable(self, revision: int) -> None:
        """Show commits up to ``revision``."""
        if revision <= self._durable:
            return
        with self._mutex:
            self._durable = max(revision, self._durable)
            changed, self._changed = self._changed, set()
            for place in changed:
                place.wake()
                if place.journal.newest > revision:
                    self._changed.add(place)

    def close(self) -> None:
        """End every watch with ``Closed``."""
        self._closed = True
        with self._mutex:
            for place in list(self._places.values()):
                place.wake()

    async def watch(
        self, journal: Journal, from_revision: int, check: Callable[[], None]
    ) -> AsyncIterator[base.Commit]:
        """Commits after ``from_revision`` as they become durable; ``check`` raises if the engine has ended."""
        seen = from_revision
        place = self._enter(journal)
        try:
            while True:
                check()
                if self._closed:
                    raise base.Closed("the store was closed")
                due = journal.commits(seen, self._durable)
                if not due:
                    await self._wait(place, seen)
                for commit in due:
                    seen = commit.revision
                    yield commit
        finally:
            self._leave(place)

    async def _wait(self, place: _Place, seen: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._mutex:
            if self._closed or seen < place.journal.newest <= self._durable:
                return  # it came meanwhile
            place.waiters.add(waiter)
            if place.journal.newest > self._durable:
                self._changed.add(place)
        try:
            await waiter
        finally:
            place.waiters.discard(waiter)

    def _enter(self, journal: Journal) -> _Place:
        place = self._places.get(journal)
        if place is None:
            place = self._places[journal] = _Place(journal)

            def changed() -> None:
                with self._mutex:
                    self._changed.add(place)

            journal.on_change = changed
        place.count += 1
        return place

    def _leave(self, place: _Place) -> None:
        place.count -= 1
        if not place.count:
            place.journal.on_change = None
            with self._mutex:
                del self._places[place.journal]
                self._changed.discard(place)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
