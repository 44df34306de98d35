"""An engine that keeps pairs in memory only: for ``:memory:``, for tests, and as a second opinion on the hash tables.

It is written to be obviously right rather than fast: each key has the list of its states, (revision, entry or None), in
order; a snapshot reads the last state at or before its revision; states that no open snapshot can see, and no history
keeps, are dropped when the key is next written. Nothing outlives the process.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from kvql_server.clock import Clock, SystemClock
from kvql_server.engines import base
from kvql_server.engines.base import (
    Absent,
    Clear,
    Conflict,
    Gone,
    Guard,
    Order,
    Page,
    Put,
    RangeUnchanged,
    Unchanged,
    WholeEntry,
)
from kvql_server.engines.journal import Journal, Step
from kvql_server.engines.watchers import Watchers

PAGE_PAIRS: Final = 4096
TOMBSTONES_MAX: Final = 10_000
"""Deleted keys that are remembered in a namespace before those of them that no snapshot needs are forgotten."""


class _Meta(msgspec.Struct, frozen=True, gc=False):
    time: int
    user: str
    comment: str


States: TypeAlias = list[tuple[int, WholeEntry | Gone]]


class _Namespace:
    """The keys of a namespace and their states."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.states: dict[str, States] = {}
        self.tombstones = 0
        self.tombstones_max = TOMBSTONES_MAX
        self.forgotten = 0  # deletions up to this revision may have been forgotten
        self.changed = 0
        self._sorted: list[str] | None = []

    def current(self, key: str) -> WholeEntry | None:
        states = self.states.get(key)
        state = states[-1][1] if states else None
        return state if isinstance(state, WholeEntry) else None

    def at(self, key: str, revision: int, time: int) -> WholeEntry | None:
        """The live pair as a snapshot sees it."""
        for written, entry in reversed(self.states.get(key, ())):
            if written <= revision:
                if not isinstance(entry, WholeEntry):
                    return None
                return entry if entry.expires_at is None or entry.expires_at > time else None
        return None

    def set(self, key: str, revision: int, entry: WholeEntry | Gone, oldest_open: int) -> None:
        states = self.states.get(key)
        if states is None:
            states = self.states[key] = []
            self._sorted = None
        self.tombstones -= bool(states) and isinstance(states[-1][1], Gone)
        if states and states[-1][0] == revision:
            states.pop()  # written twice in one transaction: one change
        while len(states) > 1 and states[1][0] <= oldest_open:
            del states[0]
        if not (isinstance(entry, Gone) and states and isinstance(states[-1][1], Gone)):
            states.append((revision, entry))
        if len(states) == 2 and states[0][0] <= oldest_open and revision <= oldest_open:
            del states[0]
        self.tombstones += isinstance(states[-1][1], Gone)
        self.changed = revision

    def ordered(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self.states)
        return self._sorted

    def forget(self, oldest_open: int) -> None:
        """Drop deleted keys that no snapshot sees."""
        gone = [
            key
            for key, states in self.states.items()
            if isinstance(states[-1][1], Gone) and states[-1][0] <= oldest_open
        ]
        for key in gone:
            self.forgotten = max(self.forgotten, self.states.pop(key)[-1][0])
        self.tombstones -= len(gone)
        # those that history still needs are not looked at again with every commit
        self.tombstones_max = max(TOMBSTONES_MAX, 2 * self.tombstones)
        self._sorted = None


class MemorySnapshot:
    """:class:`base.Snapshot`."""

    def __init__(self, engine: MemoryEngine, revision: int, time: int, now: int) -> None:
        self._engine = engine
        self._now = now
        self._open = True
        self._was_newest = revision == engine.revision
        self.revision = revision
        self.time = time

    def _get(self, namespace: str, key: str) -> WholeEntry | None:
        space = self._space(namespace)
        return None if space is None else space.at(key, self.revision, self.time)

    def _space(self, namespace: str) -> _Namespace | None:
        space = self._engine.namespaces.get(namespace)
        if space is not None and not self._was_newest:
            oldest = space.journal.oldest(self._now, self._engine.revision)
            if self.revision < oldest:
                raise base.Compacted(f"revision {self.revision} of {namespace} has been compacted", oldest)
        return space

    async def get(self, namespace: str, key: str) -> WholeEntry | None:
        return self._get(namespace, key)

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[base.Entry | None]:
        return [self._get(namespace, key) for key in keys]

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        space = self._space(namespace)
        if space is None:
            return
        keys = [key for key in space.ordered() if key >= start and (end is None or key < end)]
        if order == "reverse":
            keys.reverse()
        for at in range(0, len(keys), PAGE_PAIRS):
            pairs = [(key, space.at(key, self.revision, self.time)) for key in keys[at : at + PAGE_PAIRS]]
            page = Page.of((key, entry) for key, entry in pairs if entry is not None)
            if len(page):
                yield page

    def kinds(self, namespace: str) -> frozenset[type] | None:
        return None

    async def count(self, namespace: str) -> int:
        total = 0
        async for page in self.scan(namespace, order="any"):
            total += len(page)
        return total

    async def history(self, namespace: str, start: str = "", end: str | None = None) -> AsyncIterator[Page]:
        space = self._engine.namespaces.get(namespace)
        if space is None:
            return
        oldest = space.journal.oldest(self._now, self._engine.revision)
        pairs: list[tuple[str, Any]] = []
        for key in space.ordered():
            if key < start or (end is not None and key >= end):
                continue
            states = space.states[key]
            ends = [written for written, _ in states[1:]] + [self._engine.revision + 1]
            for at, ((written, state), ended) in enumerate(zip(states, ends, strict=True)):
                # a removal that comes first came with its put in one commit
                shown = written > oldest and at > 0 if isinstance(state, Gone) else ended > oldest
                if written <= self.revision and shown:
                    pairs.append((key, state))
        yield Page.of(pairs)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._engine.release(self.revision)


class MemoryEngine:
    """:class:`base.Engine` without files."""

    in_process = True

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self.namespaces: dict[str, _Namespace] = {}
        self._revision = 0
        self._open: dict[int, int] = {}  # revision -> open snapshots of it
        self._expiry: list[tuple[int, str, str]] = []  # heap of (expires_at, namespace, key)
        self._journals: dict[str, Journal] = {}
        self._watchers = Watchers(0)
        self.store_id = os.urandom(8).hex()
        self._closed = False

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def revision(self) -> int:
        """The newest one."""
        return self._revision

    def snapshot(self, revision: int | None = None, time: int | None = None) -> MemorySnapshot:
        self._check()
        now = self._clock.now()
        past = revision is not None and revision < self._revision
        revision = self._revision if revision is None else revision
        if revision > self._revision:
            raise base.Compacted(f"revision {revision} is in the future; the newest one is {self._revision}")
        self._open[revision] = self._open.get(revision, 0) + 1
        time = time if time is not None else -(2**63) if past else now
        return MemorySnapshot(self, revision, time, now)

    def _journal(self, namespace: str) -> Journal:
        journal = self._journals.get(namespace)
        if journal is None:
            journal = self._journals[namespace] = Journal(namespace)
            if namespace == base.SYSTEM_NAMESPACE:
                journal.keep(0, 0)
        return journal

    def keep_history(self, namespace: str, keep_us: int, bytes_max: int) -> None:
        self._journal(namespace).keep(keep_us, bytes_max)

    def oldest(self, namespace: str) -> int:
        return self._journal(namespace).oldest(self._clock.now(), self._revision)

    def revision_at(self, namespace: str, time: int) -> int:
        self._check()
        return self._journal(namespace).revision_at(time, self._clock.now(), self._revision)

    def release(self, revision: int) -> None:
        """One snapshot of ``revision`` is closed."""
        self._open[revision] -= 1
        if not self._open[revision]:
            del self._open[revision]

    def _oldest_open(self) -> int:
        return min(self._open, default=self._revision)

    # ── committing ────────────────────────────────────────────────────────────────────────────────────────────

    async def commit_puts(self, run: base.PutRun) -> int | None:
        return None

    async def commit_many(self, transactions: Sequence[base.Transaction]) -> list[base.CommitOutcome]:
        self._check()
        now = self._clock.now()
        self._expire(transactions[0].time if len(transactions) == 1 and transactions[0].time else now)
        outcomes: list[base.CommitOutcome] = []
        for transaction in transactions:
            broken = next((i for i, guard in enumerate(transaction.guards) if not self._holds(guard)), None)
            if broken is not None:
                outcomes.append(Conflict(transaction.guards[broken], broken))
                continue
            meta = _Meta(now, transaction.user, transaction.comment)
            self._apply(transaction.writes, meta, expired=False)
            outcomes.append(self._revision)
        self._watchers.durable(self._revision)
        return outcomes

    def _holds(self, guard: Guard) -> bool:
        space = self.namespaces.get(guard.namespace)
        if isinstance(guard, Unchanged):
            entry = space.current(guard.key) if space else None
            return entry is not None and entry.revision == guard.revision
        if space is None:
            return True
        if isinstance(guard, Absent):
            if space.current(guard.key) is not None:
                return False
            states = space.states.get(guard.key)
            removed = states[-1][0] if states else space.forgotten
            return not guard.since or removed <= guard.since
        return self._range_holds(space, guard)

    def _range_holds(self, space: _Namespace, guard: RangeUnchanged) -> bool:
        if space.changed <= guard.revision:
            return True
        if space.forgotten > guard.revision:
            return False
        return not any(
            states[-1][0] > guard.revision and key >= guard.start and (guard.end is None or key < guard.end)
            for key, states in space.states.items()
        )

    def _apply(self, writes: Sequence[base.Write], meta: _Meta, *, expired: bool) -> None:
        self._revision += 1
        before: dict[tuple[str, str], WholeEntry | None] = {}
        for write in writes:
            space = self.namespaces.get(write.namespace)
            if space is None:
                space = self.namespaces[write.namespace] = _Namespace(self._journal(write.namespace))
            gone = Gone(self._revision, meta.time, meta.user, meta.comment, expired)
            if isinstance(write, Clear):
                live = [key for key, states in space.states.items() if isinstance(states[-1][1], WholeEntry)]
                for key in live:
                    self._set(space, write.namespace, key, gone, before)
            elif isinstance(write, Put):
                self._set(space, write.namespace, write.key, self._entry(space, write, meta), before)
            elif space.current(write.key) is not None:
                self._set(space, write.namespace, write.key, gone, before)
        oldest_open = self._oldest_open()
        for space in {id(s): s for s in (self.namespaces[namespace] for namespace, _ in before)}.values():
            if space.tombstones > space.tombstones_max:
                space.forget(min(oldest_open, space.journal.oldest(meta.time, self._revision)))
        for (namespace, key), previous in before.items():
            entry = self.namespaces[namespace].current(key)
            if entry is not None or previous is not None:
                self._journals[namespace].add(Step(self._revision, meta, key, entry, previous, expired))

    def _entry(self, space: _Namespace, put: Put, meta: _Meta) -> WholeEntry:
        old = space.current(put.key)
        same = old is not None and old.revision == self._revision  # written twice in one transaction: one change
        version = 1 if old is None else old.version if same else old.version + 1
        if put.expires_at is not None:
            heapq.heappush(self._expiry, (put.expires_at, put.namespace, put.key))
        created_at = meta.time if old is None else old.created_at
        return WholeEntry(
            put.value, self._revision, version, created_at, meta.time, meta.user, meta.comment, put.expires_at
        )

    def _set(
        self,
        space: _Namespace,
        namespace: str,
        key: str,
        entry: WholeEntry | Gone,
        before: dict[tuple[str, str], WholeEntry | None],
    ) -> None:
        before.setdefault((namespace, key), space.current(key))
        oldest = space.journal.oldest(self._clock.now(), self._revision)
        space.set(key, self._revision, entry, min(self._oldest_open(), oldest))

    # ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Carry out due expiry."""
        if not self._closed:
            self._expire(self._clock.now())

    def expire_due(self) -> bool:
        self._expire(self._clock.now())
        return False

    def _expire(self, now: int) -> None:
        gone: list[base.Delete] = []
        while self._expiry and self._expiry[0][0] <= now:
            expires_at, namespace, key = heapq.heappop(self._expiry)
            entry = self.namespaces[namespace].current(key)
            if entry is not None and entry.expires_at == expires_at:  # else it was put again since
                gone.append(base.Delete(namespace, key))
        if gone:
            self._apply(list(dict.fromkeys(gone)), _Meta(now, "", ""), expired=True)
            self._watchers.durable(self._revision)

    # ── the rest of the contract ──────────────────────────────────────────────────────────────────────────────

    async def synced(self, revision: int) -> None:
        self._check()

    def sync(self, revision: int) -> None:
        self._check()

    @property
    def shown_revision(self) -> int:
        return self._watchers.revision

    def watch(self, namespace: str, from_revision: int) -> AsyncIterator[base.Commit]:
        return self._watchers.watch(self._journal(namespace), from_revision, self._check)

    async def compact(self, revision: int) -> None:
        self._check()
        oldest_open = min(self._oldest_open(), revision)
        for space in self.namespaces.values():
            space.journal.forget(revision - 1)
            space.forget(oldest_open)

    def status(self) -> dict[str, Any]:
        live = sum(len(space.states) - space.tombstones for space in self.namespaces.values())
        return {
            "engine": "memory",
            "revision": self._revision,
            "synced_revision": self._revision,
            "pairs": live,
            "open_snapshots": sum(self._open.values()),
            "history": {
                name: journal.figures(self._clock.now(), self._revision)
                for name, journal in self._journals.items()
                if journal.keep_us and name != base.SYSTEM_NAMESPACE
            },
            "failed": None,
        }

    @property
    def failed(self) -> str | None:
        """Why the engine has stopped: never, here."""
        return None

    async def close(self) -> None:
        self._closed = True
        self._watchers.close()

    def _check(self) -> None:
        if self._closed:
            raise base.Closed("the store was closed")
