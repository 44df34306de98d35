"""A snapshot of the past: the newest state, and what undoes the changes since.

The steps after the revision are gathered once for each namespace that is read whole, and of a few keys or a range only
theirs; nothing is copied of what did not change. A pair in its first state is told by its entry's revision, so runs of
puts need no undoing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from kvql_server.engines import base
from kvql_server.engines.base import Order, Page
from kvql_server.engines.hashtable.snapshots import Snapshot
from kvql_server.engines.hashtable.table import ALWAYS
from kvql_server.engines.journal import Wanted, undo, within

if TYPE_CHECKING:
    from kvql_server.engines.hashtable.store import Store

_key: Final = itemgetter(0)
_FEW: Final = 64
"""Keys that are looked up without gathering what became of all others."""


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

    def _before(self, namespace: str, wanted: Wanted = None) -> dict[str, Any]:
        """What the keys that changed since were then, at least of those that are ``wanted``."""
        known = self._undo.get(namespace)
        if known is None:
            journal = self._store.journal_of(namespace)
            oldest = journal.oldest(self._now, self._store.revision)
            if self.revision < oldest:
                raise base.Compacted(
                    f"revision {self.revision} has been compacted: the history of namespace {namespace} begins at "
                    f"revision {oldest}", oldest,
                )  # fmt: skip
            known = undo(journal.records(self.revision, self.newest.revision), wanted)
            if wanted is None:
                self._undo[namespace] = known
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
        before = self._before(namespace, set(keys).__contains__ if len(keys) <= _FEW else None)
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
        before = self._before(namespace, within(start, end))
        gone = await self._gone(namespace, before, start, end)
        in_order = order in ("key", "reverse")
        reverse = order == "reverse"
        gone.sort(reverse=not reverse)  # taken from the end
        async for page in self.newest.scan(namespace, start, end, order if in_order else "any"):
            if not len(page):
                continue
            keys: Sequence[str] = page.keys
            states = list(map(before.get, keys, page.entries)) if before else page.entries
            live = self._which_live(states)
            if not all(live):
                keys, states = list(compress(keys, live)), list(compress(states, live))
            between: list[tuple[str, Any]] = []
            last = page.keys[-1]
            while in_order and gone and (gone[-1][0] > last if reverse else gone[-1][0] < last):
                between.append(gone.pop())
            if between:
                yield Page.of(sorted([*zip(keys, states, strict=True), *between], key=_key, reverse=reverse))
            else:
                yield Page(keys, states)
        yield Page.of(reversed(gone))

    async def _gone(self, namespace: str, before: dict[str, Any], start: str, end: str | None) -> list[tuple[str, Any]]:
        """Pairs of then whose keys are not there any more: all others are found where they are."""
        wanted = within(start, end)
        keys = [key for key in before if wanted is None or wanted(key)]
        now = await self.newest.get_many(namespace, keys)
        return [
            (key, before[key])
            for key, entry in zip(keys, now, strict=True)
            if entry is None and self._live(before[key]) is not None
        ]

    def _which_live(self, states: Sequence[Any]) -> list[bool]:
        """What ``_live`` says of each."""
        revision, time = self.revision, self.time
        if time == ALWAYS:
            return [state is not None and state.revision <= revision for state in states]
        return [
            state is not None and state.revision <= revision and (state.expires_at is None or state.expires_at > time)
            for state in states
        ]

    def kinds(self, namespace: str) -> frozenset[type] | None:
        """Those of today's values and of those that are undone."""
        undone = self._before(namespace).values()
        return self.newest.kinds(namespace) | {type(state.value) for state in undone if state is not None}

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
