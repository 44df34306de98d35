"""The state in memory: all tables, the sequence of revisions, open snapshots, what is due to expire, the latest
commits.

Everything here is immediate and knows no files; recovery replays into it, the engine adds durability to it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

from kvql.values import Json, encoded_size
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Clear, Guard, Put, RangeUnchanged, Unchanged
from kvql_server.engines.feed import CHANGES_MAX, Feed, Item, Run
from kvql_server.engines.hashtable.entries import ChangedEntry, Entry, Meta, Tombstone
from kvql_server.engines.hashtable.expiry import ExpiryWheel
from kvql_server.engines.hashtable.snapshots import TRIM_STEP, Readers, Snapshot
from kvql_server.engines.hashtable.table import Table

EXPIRE_STEP: Final = 4096
"""Pairs that expire in one commit at most."""
CRUMBLE_STEP: Final = 20_000
TIDY_STEPS: Final = 4
"""Chunks of keys that are put in order at a time, a millisecond each."""
PAIR_BYTES: Final = 200
"""What a pair costs in memory beside the text of its key and value: a round figure for ``max_bytes``."""

Change = tuple[str, str, Any, Any, bool]


def pair_bytes(key: str, value: Any) -> int:
    """About what the pair costs in memory."""
    kind = type(value)
    size = len(value) if kind is str or kind is bytes else len(value.text) if kind is Json else encoded_size(value)
    return PAIR_BYTES + len(key) + size


class Store:
    """All methods run under ``mutex`` or in the engine's thread; the checkpoint's thread takes ``mutex`` to read
    pages."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.tables: dict[str, Table] = {}
        self.revision = 0
        self.opened = 0
        """The revision at which this process took over: nothing is known of removals before it."""
        self.readers = Readers(self._discard_table)
        self.wheel = ExpiryWheel()
        self.feed = Feed(0)
        self._rubble: list[Table] = []

    # ── guards ────────────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, guards: Sequence[Guard]) -> int | None:
        """The index of the first guard that does not hold."""
        tables = self.tables
        for index, guard in enumerate(guards):
            table = tables.get(guard.namespace)
            kind = type(guard)
            if kind is Absent:
                entry = table.entries.get(guard.key) if table is not None else None  # type: ignore[union-attr]  # kind says which guard
                if entry is not None and type(entry) is not Tombstone:
                    return index
                if guard.since and self._removed(table, guard.key) > guard.since:  # type: ignore[union-attr]  # kind says which guard
                    return index
            elif kind is Unchanged:
                entry = table.entries.get(guard.key) if table is not None else None  # type: ignore[union-attr]  # kind says which guard
                if entry is None or entry.revision != guard.revision or type(entry) is Tombstone:  # type: ignore[union-attr]  # kind says which guard
                    return index
            elif isinstance(guard, RangeUnchanged) and not self._range_holds(table, guard):
                return index
        return None

    def _removed(self, table: Table | None, key: str) -> int:
        """The revision at which the key last went, or one that is certainly not before it."""
        return self.opened if table is None else table.removed.get(key, table.forgotten)

    def _range_holds(self, table: Table | None, guard: RangeUnchanged) -> bool:
        if table is None:
            return guard.revision >= self.opened
        if table.changed <= guard.revision:
            return True
        if table.born > guard.revision or table.forgotten > guard.revision:
            return False
        start, end = guard.start, guard.end
        if guard.revision >= self.feed.floor:
            return not any(
                namespace == guard.namespace and key >= start and (end is None or key < end)
                for item in self.feed.after(guard.revision)
                for namespace, key, _, _, _ in item.changes
            )
        written = any(
            entry.revision > guard.revision and key >= start and (end is None or key < end)
            for key, entry in table.entries.items()
        )
        return not written and not any(
            revision > guard.revision and key >= start and (end is None or key < end)
            for key, revision in table.removed.items()
        )

    # ── writes ────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, writes: Sequence[base.Write], meta: Meta, revision: int, *, expired: bool = False) -> None:
        """Carry out a commit; ``revision`` is greater than all before."""
        changes: tuple[Change, ...]
        if len(writes) == 1 and type(writes[0]) is Put:
            write = writes[0]
            table = self.tables.get(write.namespace) or self.table(write.namespace)
            changes = (self.put(table, write.key, write.value, write.expires_at, meta, revision),)
        else:
            changes = self._apply_many(writes, meta, revision, expired=expired)
        self.revision = revision
        if len(changes) > CHANGES_MAX:
            self.feed.skip(revision)
        else:
            self.feed.add(Item(revision, meta, changes))

    def puttable(self, run: base.PutRun) -> bool:
        """Whether no key of the run is in its table, nor there twice."""
        table = self.tables.get(run.namespace)
        if table is not None and any(map(table.entries.__contains__, run.keys)):
            return False
        return len(set(run.keys)) == len(run.keys)

    def apply_puts(self, run: base.PutRun, meta: Meta) -> None:
        """Carry out a run that is ``puttable``, as the commits that follow the newest."""
        first, last = self.revision + 1, self.revision + len(run.keys)
        table = self.tables.get(run.namespace) or self.table(run.namespace)
        entries = list(map(Entry, run.values, range(first, last + 1), repeat(meta)))
        table.entries.update(zip(run.keys, entries, strict=True))
        table.order.add_many(run.keys)
        table.kinds.update(map(type, run.values))
        table.changed = self.revision = last
        self.feed.add_run(Run(last, meta, table.name, run.keys, entries))

    def _apply_many(
        self, writes: Sequence[base.Write], meta: Meta, revision: int, *, expired: bool
    ) -> tuple[Change, ...]:
        """Several writes; of those to the same key the watchers see one change, from the first state to the last."""
        merged: dict[tuple[str, str], Change] = {}
        for write in writes:
            if isinstance(write, Clear):
                changes = self._clear(write.namespace, revision)
            else:
                change = self._write(write, meta, revision, expired=expired)
                changes = [] if change is None else [change]
            for new in changes:
                place = new[0], new[1]
                before = merged.get(place)
                merged[place] = new if before is None else (new[0], new[1], new[2], before[3], expired)
        return tuple(merged.values())

    def _write(self, write: base.Write, meta: Meta, revision: int, *, expired: bool) -> Change | None:
        table = self.tables.get(write.namespace)
        if table is None:
            table = self.table(write.namespace)
        if type(write) is Put:
            return self.put(table, write.key, write.value, write.expires_at, meta, revision)
        assert isinstance(write, base.Delete)
        old = self.remove(table, write.key, meta, revision)
        return None if old is None else (write.namespace, write.key, None, old, expired)

    def table(self, namespace: str) -> Table:
        """The namespace's table, made if there is none."""
        table = self.tables.get(namespace)
        if table is None:
            table = self.tables[namespace] = Table(namespace, 0)
            table.changed = table.forgotten = self.opened
        return table

    def put(self, table: Table, key: str, value: Any, expires_at: int | None, meta: Meta, revision: int) -> Change:
        entries = table.entries
        old = entries.get(key)
        if old is None:
            table.order.add(key)
            new: Entry
            if expires_at is None:
                new = Entry(value, revision, meta)
            else:
                new = ChangedEntry(value, revision, meta, 1, meta.time, expires_at, None)
            live = None
        else:
            new = self._successor(table, key, old, value, expires_at, meta, revision)
            live = None if type(old) is Tombstone else old
        entries[key] = new
        table.kinds.add(type(value))
        table.changed = revision
        if expires_at is not None:
            table.expiring += 1
            self.wheel.add(table.name, key, expires_at)
        return (table.name, key, new, live, False)

    def _successor(
        self, table: Table, key: str, old: Entry, value: Any, expires_at: int | None, meta: Meta, revision: int
    ) -> Entry:
        previous = self._chain(table, key, old, revision)
        if type(old) is Tombstone:
            table.tombstones -= 1
            version, created_at = 1, meta.time
        else:
            version = old.version if old.revision == revision else old.version + 1
            created_at = old.created_at
            self._forget_expiry(table, key, old)
        return ChangedEntry(value, revision, meta, version, created_at, expires_at, previous)

    def _chain(self, table: Table, key: str, old: Entry, revision: int) -> Entry | None:
        """What stays reachable behind the state that replaces ``old``."""
        if self.readers.newest < old.revision or old.revision == revision:
            previous: Entry | None = old.previous
            return previous
        self.readers.keep(revision, table, key)
        return old

    def _forget_expiry(self, table: Table, key: str, old: Entry) -> None:
        if old.expires_at is not None:
            table.expiring -= 1
            self.wheel.discard(table.name, key, old.expires_at)

    def remove(self, table: Table, key: str, meta: Meta, revision: int) -> Entry | None:
        """The entry that is gone now, None if there was none."""
        old = table.entries.get(key)
        if old is None or type(old) is Tombstone:
            return None
        self._forget_expiry(table, key, old)
        previous = self._chain(table, key, old, revision)
        if previous is None:
            del table.entries[key]
            table.order.discard()
        else:
            table.entries[key] = Tombstone(None, revision, meta, previous)
            table.tombstones += 1
        table.changed = revision
        table.remember_removal(key, revision, self.readers.oldest)
        return old

    def _clear(self, namespace: str, revision: int) -> list[Change]:
        old = self.tables.get(namespace)
        if old is None or not old.live:
            return []
        gone: list[Change] = []
        if old.live <= CHANGES_MAX:
            gone = [(namespace, k, None, e, False) for k, e in old.entries.items() if type(e) is not Tombstone]
        else:
            self.feed.skip(revision)
        seen = self.readers.newest >= old.born
        new = self.tables[namespace] = Table(namespace, revision, old if seen else None)
        if seen:
            self.readers.keep(revision, new, None)
        else:
            self._discard_table(old)
        return gone

    # ── upkeep ────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: int, limit: int = EXPIRE_STEP) -> list[base.Delete]:
        """Removals of pairs that are due to expire, at most ``limit``; they are for the caller to commit."""
        due: list[base.Delete] = []
        for namespace, key, expires_at in self.wheel.take_due(now, limit):
            table = self.tables.get(namespace)
            entry = table.entries.get(key) if table is not None else None
            if entry is not None and entry.expires_at == expires_at:
                due.append(base.Delete(namespace, key))
        return due

    def start(self, revision: int) -> None:
        """Recovery is over: what is in the tables is all that is known, and ``revision`` the last one used."""
        self.revision = self.opened = revision
        self.feed.skip(revision)
        for table in self.tables.values():
            table.changed = table.forgotten = revision
            table.removed.clear()

    def snapshot(self, revision: int | None, now: int) -> Snapshot:
        if revision is None or revision == self.revision:
            revision = self.revision
        elif revision > self.revision:
            raise base.Compacted(f"revision {revision} is in the future; the newest one is {self.revision}")
        elif not self.readers.is_open(revision):
            raise base.Compacted(f"revision {revision} has been compacted")
        self.readers.open(revision)
        return Snapshot(self, revision, now)

    def _discard_table(self, table: Table) -> None:
        while table.older is not None:
            self._rubble.append(table.older)
            table.older = table.older.older
        self._rubble.append(table)

    def tidy(self) -> None:
        """A few milliseconds of upkeep: old states, tables that nobody reads, the order of keys."""
        self.readers.trim(16 * TRIM_STEP)
        if self._rubble and not self._rubble[-1].crumble(CRUMBLE_STEP):
            self._rubble.pop()
        for table in self.tables.values():
            if table.order.tidy(table.live):
                for _ in range(TIDY_STEPS - 1):
                    table.order.tidy(table.live)
                break

    @property
    def pairs(self) -> int:
        return sum(table.live for table in self.tables.values())
