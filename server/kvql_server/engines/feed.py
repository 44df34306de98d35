"""The latest commits of an engine, for those who watch: a ring that is bounded by the changes in it.

An engine adds every commit as it applies it, and says how far they are durable; watchers see no further than that.
A watcher that falls out of the ring, or asks for what was never in it, gets ``Compacted``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec

from kvql_server.engines import base

CHANGES_MAX: Final = 65_536


class Meta(Protocol):
    """What the pairs of a commit share."""

    @property
    def time(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def comment(self) -> str: ...


class Item(msgspec.Struct, frozen=True, gc=False):
    """A commit in the ring. ``changes`` are (namespace, key, entry or None, previous or None, expired)."""

    revision: int
    meta: Any
    """A :class:`Meta`."""
    changes: tuple[tuple[str, str, Any, Any, bool], ...]


class Run(msgspec.Struct, frozen=True, gc=False):
    """Many commits in the ring, each the first put of one pair; ``revision`` is the last one's."""

    revision: int
    meta: Any
    namespace: str
    keys: Sequence[str]
    entries: Sequence[Any]

    def items(self, revision: int) -> Iterator[Item]:
        """Those after ``revision``, newest first."""
        count = min(len(self.keys), self.revision - revision)
        for back in range(1, count + 1):
            change = (self.namespace, self.keys[-back], self.entries[-back], None, False)
            yield Item(self.revision - back + 1, self.meta, (change,))


class Feed:
    """Used by the engine's thread only, but for :meth:`durable` and :meth:`close`, which any thread may call."""

    def __init__(self, revision: int) -> None:
        self._items: deque[Item | Run] = deque()
        self._changes = 0
        self._changes_max = CHANGES_MAX
        self._floor = revision  # commits up to this revision are not in the ring
        self._durable = revision
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def floor(self) -> int:
        """Every commit after this revision is in the ring."""
        return self._floor

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._changes += len(item.changes)
        if self._changes > self._changes_max:
            self._trim()

    def add_run(self, run: Run) -> None:
        self._items.append(run)
        self._changes += len(run.keys)
        self._trim()

    def _trim(self) -> None:
        while self._changes > self._changes_max:
            oldest = self._items.popleft()
            self._changes -= len(oldest.keys) if isinstance(oldest, Run) else len(oldest.changes)
            self._floor = oldest.revision

    def after(self, revision: int) -> Iterable[Item]:
        """The commits after ``revision``, newest first; all of them only if ``revision`` is not below the floor."""
        for item in reversed(self._items):
            if item.revision <= revision:
                return
            if isinstance(item, Run):
                yield from item.items(revision)
            else:
                yield item

    def skip(self, revision: int) -> None:
        """Commits up to ``revision`` were not recorded here (recovery, or more changes than the ring holds)."""
        self._items.clear()
        self._changes = 0
        self._floor = revision

    def durable(self, revision: int) -> None:
        """Show commits up to ``revision`` to the watchers."""
        if revision > self._durable:
            self._durable = revision
            self._wake()

    def close(self) -> None:
        """End every watch with ``Closed``."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            with contextlib.suppress(RuntimeError):  # its event loop has ended, and nobody waits any more
                waiter.get_loop().call_soon_threadsafe(_finish, waiter)

    async def watch(self, from_revision: int, check: Callable[[], None]) -> AsyncIterator[base.Commit]:
        """Commits after ``from_revision`` as they become durable; ``check`` raises if the engine has ended."""
        seen = from_revision
        while True:
            # the waiter first: what becomes durable after the look wakes it
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                check()
                if self._closed:
                    raise base.Closed("the store was closed")
                if seen < self._floor:
                    raise base.Compacted(f"revision {seen} has been compacted; the oldest one kept is {self._floor}")
                due = [item for item in self.after(seen) if item.revision <= self._durable]
                if not due:
                    await waiter
            finally:
                self._waiters.discard(waiter)
            for item in reversed(due):
                seen = item.revision
                yield _commit(item)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _commit(item: Item) -> base.Commit:
    changes = [base.Change(*change) for change in item.changes]
    return base.Commit(item.revision, item.meta.time, item.meta.user, item.meta.comment, changes)
