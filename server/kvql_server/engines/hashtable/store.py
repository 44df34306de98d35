"""The state in memory: all tables, the sequence of revisions, open snapshots, what is due to expire, the journals of
what happened.

Everything here is immediate and knows no files; recovery replays into it, the engine adds durability to it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, TypeAlias

from kvql.values import Json, encoded_size
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Clear, Guard, Put, RangeUnchanged, Unchanged
from kvql_server.engines.hashtable.entries import ChangedEntry, Entry, Meta, Tombstone, part
from kvql_server.engines.hashtable.expiry import ExpiryWheel
from kvql_server.engines.hashtable.past import PastSnapshot
from kvql_server.engines.hashtable.snapshots import TRIM_STEP, Readers, Snapshot
from kvql_server.engines.hashtable.table import ALWAYS, Table
from kvql_server.engines.journal import ChangedKeys, Journal, Puts, Step, Sweep
from kvql_server.engines.watchers import Watchers

EXPIRE_STEP: Final = 4096
"""Pairs that expire in one commit at most."""
CRUMBLE_STEP: Final = 20_000
JOURNAL_STEP: Final = 4096
TIDY_STEPS: Final = 4
"""Chunks of keys that are put in order at a time, a millisecond each."""
PAIR_BYTES: Final = 200
"""What a pair costs in memory beside the text of its key and value: a round figure for ``max_bytes``."""

SWEEP_PAIRS: Final = 65_536
"""TRUNCATE of more pairs is one record in the journal, and keeps the whole table."""

_Changed: TypeAlias = dict[tuple[str, int], ChangedKeys | None]
"""What changed in a namespace after a revision, for the guards of one transaction; None where one has asked by now."""


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
        self.unknown: tuple[int, int | None] = (0, None)
        """The revision and the time up to which nobody knows what happened in namespaces without a journal: of a
        checkpoint that had no journals. Otherwise nothing did."""
        self.readers = Readers(self._discard_table)
        self.wheel = ExpiryWheel()
        self.journals: dict[str, Journal] = {}
        self.watchers = Watchers(0)
        self._rubble: list[Table] = []
        self.unsettled = True
        """Until the first ``tidy``, how much history is wanted may still have to be said."""
        self.keep_rubble = False
        """Whether somebody may still read the tables that nobody needs."""

    # ── guards ────────────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, guards: Sequence[Guard]) -> int | None:
        """The index of the first guard that does not hold."""
        tables = self.tables
        changed: _Changed = {}
        for index, guard in enumerate(guards):
            table = tables.get(guard.namespace)
            if type(guard) is Absent:
                entry = table.entries.get(guard.key) if table is not None else None
                if entry is not None and type(entry) is not Tombstone:
                    return index
                since = guard.since
                if since and (table is None or table.changed > since) and self._came_and_went(table, guard, changed):
                    return index
            elif type(guard) is Unchanged:
                entry = table.entries.get(guard.key) if table is not None else None
                if entry is None or entry.revision != guard.revision or type(entry) is Tombstone:
                    return index
            elif isinstance(guard, RangeUnchanged) and not self._range_holds(table, guard, changed):
                return index
        return None

    def _came_and_went(self, table: Table | None, guard: Absent, changed: _Changed) -> bool:
        """Whether a key that is absent may have been there after ``guard.since``; ``changed`` is what was asked for
        before."""
        since = guard.since
        if table is None:
            return self.opened > since
        removed = table.removed.get(guard.key)
        if removed is not None:
            return removed > since
        if table.forgotten <= since:
            return False
        if not self._is_told(table.journal, since):
            return True
        keys = changed.get((guard.namespace, since))
        if keys is None:
            keys = changed[guard.namespace, since] = table.journal.changed_keys(since)
        return guard.key in keys

    def _is_told(self, journal: Journal, after: int) -> bool:
        """Whether the journal has all that happened after ``after``; first puts from before the opening it has not."""
        return after >= journal.floor and after >= self.opened

    def _range_holds(self, table: Table | None, guard: RangeUnchanged, changed: _Changed) -> bool:
        since = guard.revision
        if table is None:
            return since >= self.opened
        if table.changed <= since:
            return True
        is_told = self._is_told(table.journal, since)
        if not is_told and (table.born > since or table.forgotten > since):
            return False
        place = guard.namespace, since
        keys = changed.get(place)
        if keys is None:
            if is_told and place not in changed:  # to sort them all is for who asks again
                changed[place] = None
                return not table.journal.changed(since, guard.start, guard.end)
            keys = changed[place] = table.journal.changed_keys(since) if is_told else _changed_keys(table, since)
        return not keys.within(guard.start, guard.end)

    # ── writes ────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, writes: Sequence[base.Write], meta: Meta, revision: int, *, expired: bool = False) -> None:
        """Carry out a commit; ``revision`` is greater than all before."""
        if len(writes) == 1 and type(writes[0]) is Put:
            write = writes[0]
            table = self.tables.get(write.namespace) or self.table(write.namespace)
            key = write.key
            new, old = self.put(table, key, write.value, write.expires_at, meta, revision)
            table.journal.add(Step(revision, meta, key, new, old))
        else:
            self._apply_many(writes, meta, revision, expired=expired)
        self.revision = revision

    def puttable(self, run: base.PutRun) -> bool:
        """Whether no key of the run is in its table, nor there twice."""
        table = self.tables.get(run.namespace)
        if table is not None and not table.entries.keys().isdisjoint(run.keys):
            return False
        return len(set(run.keys)) == len(run.keys)

    def keeps_removed(self, namespace: str) -> bool:
        """Whether the namespace's table holds anything of keys that are gone."""
        table = self.tables.get(namespace)
        return table is not None and table.tombstones > 0

    def apply_puts(self, run: base.PutRun, meta: Meta, first: int) -> bool:
        """Carry out a run that is ``puttable``, as commits from the revision ``first`` on.

        False: it was not, and the table is spoilt; cheaper to find out afterwards for whoever can do without it then.
        """
        last = first + len(run.keys) - 1
        table = self.tables.get(run.namespace) or self.table(run.namespace)
        entries = list(map(Entry, run.values, range(first, last + 1), repeat(meta)))
        whole = len(table.entries) + len(run.keys)
        table.entries.update(dict(zip(run.keys, entries, strict=True)))  # a dict is merged without a tuple a pair
        table.order.add_many(run.keys)
        table.kinds.update(map(type, run.values))
        table.changed = self.revision = last
        table.journal.add(Puts(last, meta, run.keys, entries))
        return len(table.entries) == whole

    def _apply_many(self, writes: Sequence[base.Write], meta: Meta, revision: int, *, expired: bool) -> None:
        """Several writes; those to the same key are one step, from the first state to the last."""
        before: dict[tuple[str, str], Entry | None] = {}
        swept: dict[str, Table] = {}
        for write in writes:
            namespace = write.namespace
            if isinstance(write, Clear):
                self._clear(namespace, revision, before, swept)
                continue
            table = self.tables.get(namespace)
            if table is None:
                table = self.table(namespace)
            if type(write) is Put:
                _, old = self.put(table, write.key, write.value, write.expires_at, meta, revision)
            else:
                assert isinstance(write, base.Delete)
                old = self.remove(table, write.key, meta, revision)
                if old is None:
                    continue
            before.setdefault((namespace, write.key), old)
        kept: dict[str, set[str]] = {namespace: set() for namespace in swept}
        for (namespace, key), previous in before.items():
            table = self.tables[namespace]
            entry = table.entries.get(key)
            if type(entry) is Tombstone:
                entry = None
            if namespace in swept:
                kept[namespace].add(key)
                previous = previous or swept[namespace].entry_before(key, revision)
            if entry is not None or previous is not None:
                table.journal.add(Step(revision, meta, key, entry, previous, expired))
        for namespace, old_table in swept.items():
            self._record_sweep(old_table, meta, revision, frozenset(kept[namespace]))

    def _record_sweep(self, old: Table, meta: Meta, revision: int, kept: frozenset[str]) -> None:
        size = sum(map(pair_bytes, old.entries, (entry.value for entry in old.entries.values())))
        old.holders += 1
        self.tables[old.name].journal.add(
            Sweep(revision, meta, old.live_pairs, old.holds, kept, size, partial(self._release_table, old))
        )

    def table(self, namespace: str) -> Table:
        """The namespace's table, made if there is none."""
        table = self.tables.get(namespace)
        if table is None:
            table = self.tables[namespace] = Table(namespace, 0, self.journal(namespace))
            table.changed = table.forgotten = self.opened
        return table

    def journal(self, namespace: str) -> Journal:
        """The namespace's journal, made if there is none."""
        journal = self.journals.get(namespace)
        if journal is None:
            journal = self.journals[namespace] = self.journal_of(namespace)
            if namespace == base.SYSTEM_NAMESPACE:
                journal.keep(0, 0)
            elif self.unsettled:
                journal.keep_all()
        return journal

    def journal_of(self, namespace: str) -> Journal:
        """The namespace's journal; one of its own, that tells of nothing, where nothing has happened yet."""
        journal = self.journals.get(namespace)
        return Journal(namespace, *self.unknown) if journal is None else journal

    def first_puts(self, namespace: str, after: int, until: int) -> Iterator[tuple[str, Entry]]:
        """Keys and states of pairs in their first state, and of such that were in it until something that the journal
        has, in no order: those whose revision is after ``after`` and not after ``until``."""
        table = self.tables.get(namespace)
        found: list[Iterable[tuple[str, Entry | None]]] = [] if table is None else [table.entries.items()]
        for record in self.journals[namespace].records(after, self.revision):
            if type(record) is Step:
                found.append(((record.key, record.previous),))
            elif type(record) is Sweep:
                found.append(record.states())
        return (
            (key, entry)
            for key, entry in chain.from_iterable(found)
            if type(entry) is Entry and after < entry.revision <= until
        )

    def put(
        self, table: Table, key: str, value: Any, expires_at: int | None, meta: Meta, revision: int
    ) -> tuple[Entry, Entry | None]:
        """The new state, and the one before if the pair was there."""
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
            # to the end: a scan then meets entries in the order in which they were made, which is nearly that in which
            # they lie in memory, and one that jumps about takes three to five times as long (bench/HISTORY.md)
            del entries[key]
        entries[key] = new
        table.kinds.add(type(value))
        table.changed = revision
        if expires_at is not None:
            table.expiring += 1
            self.wheel.add(table.name, key, expires_at)
        return new, live

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
            if previous is not None and self.readers.oldest >= old.revision:
                # nobody needs it, and the journal may keep ``old``, which must not keep more
                part(old)
                return None
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

    def _clear(
        self, namespace: str, revision: int, before: dict[tuple[str, str], Entry | None], swept: dict[str, Table]
    ) -> None:
        """A new table; what was in the old one goes into ``before``, or the whole old one into ``swept``."""
        old = self.tables.get(namespace)
        if old is None or not old.live:
            return
        sweep = old.live > SWEEP_PAIRS and old.born < revision  # of a table that this commit made, ``before`` tells
        if not sweep:
            for key, entry in old.live_pairs():
                before.setdefault((namespace, key), entry)
        else:
            swept[namespace] = old
        old.replaced = True
        seen = self.readers.newest >= old.born
        # nobody may see this one, and yet somebody the one before it
        older = old if seen else old.older
        new = self.tables[namespace] = Table(namespace, revision, old.journal, older)
        old.holders = 1
        if older is not None:
            self.readers.keep(revision, new, None)
        if not seen:
            old.older = None
            if sweep:
                old.holders = 0  # until it is recorded
            else:
                self._release_table(old)

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
        self.watchers.durable(revision)
        for table in self.tables.values():
            table.changed = table.forgotten = revision
            table.removed.clear()

    @property
    def trimmed(self) -> int:
        """How often history was forgotten, in the namespaces that keep any."""
        return sum(journal.trimmed for journal in self.journals.values() if journal.keep_us)

    def forget_rings(self, revision: int) -> None:
        """A checkpoint of ``revision`` is there: what no history is kept of leaves memory too."""
        for journal in self.journals.values():
            if not journal.keep_us:
                journal.forget(revision)

    def history_figures(self, now: int) -> Iterator[tuple[str, dict[str, int | None]]]:
        """For operators: what the history of each namespace costs, and how far it reaches back."""
        for name, journal in self.journals.items():
            if name != base.SYSTEM_NAMESPACE and journal.keep_us:
                yield name, journal.figures(now, self.revision)

    def newest(self, now: int) -> Snapshot:
        """A snapshot of the newest state, as at ``now``."""
        self.readers.open(self.revision)
        return Snapshot(self, self.revision, now)

    def snapshot(self, revision: int | None, now: int, time: int | None = None) -> Snapshot | PastSnapshot:
        """The newest state, as at ``now``; or an earlier one, as at ``time``."""
        newest = self.revision
        if revision is None or revision == newest:
            return self.newest(now if time is None else time)
        if revision > newest:
            raise base.Compacted(f"revision {revision} is in the future; the newest one is {newest}", newest)
        return PastSnapshot(self, self.newest(ALWAYS if time is None else time), revision, now)

    def _discard_table(self, table: Table) -> None:
        """No reader needs ``table`` nor those before it any more."""
        discarded: Table | None = table
        while discarded is not None:
            older, discarded.older = discarded.older, None
            self._release_table(discarded)
            discarded = older

    def _release_table(self, table: Table) -> None:
        """One of those who hold an old table lets go."""
        table.holders -= 1
        if table.holders <= 0:
            self._rubble.append(table)

    def tidy(self, now: int) -> None:
        """A few milliseconds of upkeep: old states, tables that nobody reads, the order of keys."""
        self.readers.trim(16 * TRIM_STEP)
        if self.unsettled:
            self.unsettled = False
            for journal in self.journals.values():
                journal.settle()
        for journal in self.journals.values():
            journal.trim(now, JOURNAL_STEP)
        if self._rubble and not self.keep_rubble and not self._rubble[-1].crumble(CRUMBLE_STEP):
            self._rubble.pop()
        for table in self.tables.values():
            if table.order.tidy(table.live):
                for _ in range(TIDY_STEPS - 1):
                    table.order.tidy(table.live)
                break

    @property
    def pairs(self) -> int:
        return sum(table.live for table in self.tables.values())


def _changed_keys(table: Table, since: int) -> ChangedKeys:
    """The same without the journal: all keys are gone through."""
    keys = {key for key, entry in table.entries.items() if entry.revision > since}
    keys.update(key for key, revision in table.removed.items() if revision > since)
    return ChangedKeys(keys)
