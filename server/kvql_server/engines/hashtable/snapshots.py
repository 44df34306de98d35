"""Snapshots: a revision and a moment, and who still needs which old state.

A write keeps the state that it replaces only if an open snapshot sees it; when the oldest snapshot closes, the states
that were kept for it are found in the order in which they were superseded, and dropped in small portions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

from kvql_server.engines import base
from kvql_server.engines.base import Order, Page
from kvql_server.engines.hashtable.entries import Entry, Tombstone, part, visible
from kvql_server.engines.hashtable.history import history
from kvql_server.engines.hashtable.table import REVISION_MAX, Table, seen

if TYPE_CHECKING:
    from kvql_server.engines.hashtable.store import Store

PAGE_PAIRS: Final = 4096
FIRST_PAGE_PAIRS: Final = 256
"""So that the first rows of a prefix come without waiting for many."""
NONE_OPEN: Final = -1
TRIM_STEP: Final = 512


class Snapshot:
    """:class:`base.Snapshot`; reads of the newest state cost a look-up."""

    __slots__ = ("_open", "_store", "revision", "time")

    def __init__(self, store: Store, revision: int, time: int) -> None:
        self._store = store
        self._open = True
        self.revision = revision
        self.time = time

    def table(self, namespace: str) -> Table | None:
        table = self._store.tables.get(namespace)
        return table if table is None or table.born <= self.revision else table.at(self.revision)

    async def get(self, namespace: str, key: str) -> Entry | None:
        table = self._store.tables.get(namespace)
        if table is None:
            return None
        if table.born > self.revision:
            table = table.at(self.revision)
            if table is None:
                return None
        entry = table.entries.get(key)
        if entry is None or (type(entry) is Entry and entry.revision <= self.revision):
            return entry
        return visible(entry, self.revision, self.time)

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[base.Entry | None]:
        table = self.table(namespace)
        if table is None:
            return [None] * len(keys)
        entries = list(map(table.entries.get, keys))
        if table.is_plain(self.revision):
            return entries  # type: ignore[return-value]  # plain: no tombstones
        return [visible(entry, self.revision, self.time) for entry in entries]

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        table = self.table(namespace)
        if table is None:
            return
        if order == "any" or order == "entries":
            async for page in self._scan_any(table, with_keys=order == "any"):
                yield page
            return
        limit = FIRST_PAGE_PAIRS
        lower, upper = start, end
        while True:
            with self._store.mutex:
                page, following = table.page(lower, upper, order, limit, self.revision, self.time)
            if len(page):
                yield page
            if following is None:
                return
            if order == "reverse":
                upper = following
            else:
                lower = following
            limit = PAGE_PAIRS

    async def _scan_any(self, table: Table, *, with_keys: bool) -> AsyncIterator[Page]:
        # copies of pointers, 10 ms a million, and whoever writes meanwhile disturbs nothing
        with self._store.mutex:
            entries = list(table.entries.values())
            keys = list(table.entries) if with_keys else []
            plain = table.is_plain(self.revision)
        for at in range(0, len(entries), PAGE_PAIRS):
            page = Page(keys[at : at + PAGE_PAIRS], entries[at : at + PAGE_PAIRS])
            if not plain:
                page = seen(page, self.revision, self.time)
            if len(page):
                yield page

    def kinds(self, namespace: str) -> frozenset[type]:
        table = self.table(namespace)
        return frozenset() if table is None else frozenset(table.kinds)

    async def count(self, namespace: str) -> int:
        table = self.table(namespace)
        if table is None:
            return 0
        if table.changed <= self.revision and self._store.wheel.earliest > self.time:
            return table.live  # nothing of it is over yet
        return table.count(self.revision, self.time)

    async def history(self, namespace: str, start: str = "", end: str | None = None) -> AsyncIterator[Page]:
        async for page in history(self._store, self, namespace, start, end):
            yield page

    def close(self) -> None:
        if self._open:
            self._open = False
            self._store.readers.release(self.revision)


class Readers:
    """Which snapshots are open, and what is kept for them."""

    __slots__ = ("_counts", "_discard_table", "_superseded", "newest", "oldest")

    def __init__(self, discard_table: Callable[[Table], None]) -> None:
        self._counts: dict[int, int] = {}  # revision -> open snapshots of it; in ascending order of revision
        self._superseded: deque[tuple[int, Table, str | None]] = deque()
        self._discard_table = discard_table
        self.newest = NONE_OPEN
        """The newest revision with an open snapshot."""
        self.oldest = REVISION_MAX
        """The oldest one; beyond every revision if none is open."""

    def __len__(self) -> int:
        return sum(self._counts.values())

    def open(self, revision: int) -> None:
        self._counts[revision] = self._counts.get(revision, 0) + 1
        if revision > self.newest:
            self.newest = revision
            if self.oldest > revision:
                self.oldest = revision

    def release(self, revision: int) -> None:
        count = self._counts[revision] - 1
        if count:
            self._counts[revision] = count
            return
        del self._counts[revision]
        if revision == self.newest:
            self.newest = next(reversed(self._counts), NONE_OPEN)
        if revision == self.oldest:
            self.oldest = next(iter(self._counts), REVISION_MAX)
            if self._superseded:
                self.trim(TRIM_STEP)

    def keep(self, revision: int, table: Table, key: str | None) -> None:
        """At ``revision`` a state was superseded that an open snapshot sees (``key`` None: the whole older table)."""
        self._superseded.append((revision, table, key))

    def trim(self, limit: int) -> bool:
        """Drop at most ``limit`` states that nobody needs any more; true if there may be more."""
        oldest, queue = self.oldest, self._superseded
        while queue and queue[0][0] <= oldest and limit > 0:
            _, table, key = queue.popleft()
            limit -= 1
            if key is not None:
                _trim_key(table, key, oldest)
            elif table.older is not None:
                self._discard_table(table.older)
                table.older = None
        return bool(queue) and queue[0][0] <= oldest


def _trim_key(table: Table, key: str, oldest: int) -> None:
    newest = entry = table.entries.get(key)
    while entry is not None and entry.revision > oldest:
        entry = entry.previous
    if entry is None:
        return
    part(entry)
    if entry is newest and type(entry) is Tombstone and not table.replaced:
        del table.entries[key]
        table.tombstones -= 1
        table.order.discard()
