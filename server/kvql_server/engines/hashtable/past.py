"""A snapshot of the past: the newest state, and what undoes the changes since.

The steps after the revision are gathered once for each namespace that is read; nothing is copied of what did not
change. A pair in its first state is told by its entry's revision, so runs of puts need no undoing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from kvql_server.engines import base
from kvql_server.engines.base import Order, Page
from kvql_server.engines.hashtable.snapshots import Snapshot
from kvql_server.engines.journal import undo

if TYPE_CHECKING:
    from kvql_server.engines.hashtable.store import Store


class PastSnapshot:
    """:class:`base.Snapshot` of ``revision``; ``newest`` is the snapshot that it is undone from, and closed with it."""

    __slots__ = ("_now", "_store", "_undo", "newest", "revision", "time")

    def __init__(self, store: Store, newest: Snapshot, revision: int, now: int) -> None:
        self._store = store
        self._now = now
        self._undo: dict[str, dict[str, Any]] = {}
        self.newest = newest
        self.revision = revision
        self.time = newest.time

    def _before(self, namespace: str) -> dict[str, Any]:
        """What the keys that changed since were then."""
        known = self._undo.get(namespace)
        if known is None:
            records = []
            journal = self._store.journals.get(namespace)
            if journal is not None:
                oldest = journal.oldest(self._now, self._store.revision)
                if self.revision < oldest:
                    raise base.Compacted(
                        f"revision {self.revision} has been compacted: the history of namespace {namespace} begins at "
                        f"revision {oldest}", oldest,
                    )  # fmt: skip
                records = journal.records(self.revision, self.newest.revision)
            known = self._undo[namespace] = undo(records)
        return known

    def _live(self, state: Any) -> base.Entry | None:
        if state is None or state.revision > self.revision:
            return None  # its first put came later, and needs no step of its own
        if state.expires_at is not None and state.expires_at <= self.time:
            return None
        entry: base.Entry = state
        return entry

    async def get(self, namespace: str, key: str) -> base.Entry | None:
        return (await self.get_many(namespace, [key]))[0]

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[base.Entry | None]:
        before = self._before(namespace)
        entries = await self.newest.get_many(namespace, keys)
        for at, key in enumerate(keys):
            if key in before:
                entries[at] = self._live(before[key])
            else:
                entry = entries[at]
                if entry is not None and entry.revision > self.revision:
                    entries[at] = None
        return entries

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        before = self._before(namespace)
        gone = [
            (key, state)
            for key, state in before.items()
            if key >= start and (end is None or key < end) and self._live(state) is not None
        ]
        in_order = order in ("key", "reverse")
        if in_order:
            gone.sort(reverse=order == "key")  # taken from the end
        async for page in self.newest.scan(namespace, start, end, order if in_order else "any"):
            pairs: list[tuple[str, Any]] = []
            for key, entry in page:
                while in_order and gone and (gone[-1][0] > key if order == "reverse" else gone[-1][0] < key):
                    pairs.append(gone.pop())
                if key not in before and entry.revision <= self.revision:
                    pairs.append((key, entry))
            yield Page.of(pairs)
        yield Page.of(reversed(gone))

    def kinds(self, namespace: str) -> frozenset[type] | None:
        return None

    async def count(self, namespace: str) -> int:
        total = 0
        async for page in self.scan(namespace, order="any"):
            total += len(page)
        return total

    async def history(self, namespace: str, start: str = "", end: str | None = None) -> AsyncIterator[Page]:
        async for page in self.newest.history(namespace, start, end):
            yield Page.of(pair for pair in page if pair[1].revision <= self.revision)

    def close(self) -> None:
        self.newest.close()
