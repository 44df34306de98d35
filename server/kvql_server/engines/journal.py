"""What happened in a namespace of late, in order of revision: for those who watch, for readers of the past, and for
guards of ranges.

A :class:`Step` takes one pair from a state to the next and keeps the older state alive. What is kept is bounded by time
and by bytes; the oldest goes first, whole commits at a time, and ``floor`` says how far it has gone. Undoing all steps
after a revision gives the namespace as it was then, so the tables themselves hold the newest state only.

A run of first puts is one record, whatever its length. First puts that were in the tables before this process began
are not recorded at all: the tables tell of them (``implied``), should a watcher ask.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from kvql.values import Json
from kvql_server.engines import base

STEP_BYTES: Final = 160
STATE_BYTES: Final = 80
VALUE_BYTES: Final = 40
PUT_BYTES: Final = 16
"""What a step with its key and revision, a state that it keeps, the value of that, and a pair of a run cost in memory,
beside the characters of keys and texts: measured (``make bench ROW=history``)."""
RING_BYTES: Final = 1 << 20
"""Kept for watchers, until the next checkpoint, even where no history is wanted."""
UNTOLD_US: Final = 2**62
UNTOLD_BYTES: Final = 2**62
COMPACT_RECORDS: Final = 4096
WATCH_CHANGES: Final = 1024
"""Changes that a watcher is handed at a time, about: what a slow one may keep alive."""

_revision: Final = attrgetter("revision")


class Meta(Protocol):
    """What the changes of a commit share."""

    @property
    def time(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def comment(self) -> str: ...


class Step(msgspec.Struct, frozen=True, gc=False):
    """One pair's change: see :class:`base.Change`."""

    revision: int
    meta: Any
    """A :class:`Meta`."""
    key: str
    entry: Any
    previous: Any
    expired: bool = False


class Puts(msgspec.Struct, frozen=True, gc=False):
    """Many commits, each the first put of one pair; ``revision`` is the last one's."""

    revision: int
    meta: Any
    keys: Sequence[str]
    entries: Sequence[Any]


class Sweep(msgspec.Struct, frozen=True):
    """All pairs of a namespace went at once, but for those in ``kept``, which have steps of their own. ``pairs`` gives
    (key, state) of them, ``holds`` whether there was one in [start, end); ``forget`` is called when the record goes."""

    revision: int
    meta: Any
    pairs: Callable[[], Iterator[tuple[str, Any]]]
    holds: Callable[[str, str | None], bool]
    kept: frozenset[str]
    bytes: int
    forget: Callable[[], None]

    def states(self) -> Iterator[tuple[str, Any]]:
        kept = self.kept
        return (pair for pair in self.pairs() if pair[0] not in kept)


Record: TypeAlias = Step | Puts | Sweep


def state_bytes(entry: Any) -> int:
    """About what keeping a state costs."""
    value = entry.value
    kind = type(value)
    if kind is str or kind is bytes:
        return STATE_BYTES + VALUE_BYTES + len(value)
    return STATE_BYTES + VALUE_BYTES + (len(value.text) if kind is Json else 0)


def _bytes_of(record: Record) -> int:
    if type(record) is Step:
        return STEP_BYTES if record.previous is None else STEP_BYTES + state_bytes(record.previous)
    if type(record) is Puts:
        return STEP_BYTES + PUT_BYTES * len(record.keys)
    assert type(record) is Sweep
    return record.bytes


class Journal:
    """Of one namespace. Used by the engine's thread only."""

    __slots__ = (
        "_limit", "_records", "_start", "bytes", "floor", "floor_time", "implied", "implied_until", "keep_us",
        "namespace", "newest", "on_change", "trimmed",
    )  # fmt: skip

    def __init__(self, namespace: str, floor: int = 0, floor_time: int | None = None) -> None:
        self.namespace = namespace
        self.floor = floor
        """All that happened after this revision is here."""
        self.floor_time = floor_time
        """The time up to which changes may be missing; None: nothing happened before the first one here."""
        self.keep_us = base.HISTORY_US
        self.bytes = 0
        self.newest = floor
        """The revision of the last change."""
        self.implied: Callable[[int, int], Iterable[tuple[str, Any]]] | None = None
        self.implied_until = 0
        """First puts up to this revision are not here: ``implied(after, until)`` finds (key, state), in no order."""
        self.on_change: Callable[[], None] | None = None
        """Called after every change while somebody watches."""
        self.trimmed = 0
        """How often something was forgotten."""
        self._records: list[Record] = []
        self._start = 0  # of what is left in ``_records``; those before it are cut off in portions
        self._limit = base.HISTORY_BYTES

    def figures(self, now: int, revision: int) -> dict[str, int | None]:
        """For operators: what this costs, and how far it reaches back; a run or a sweep counts as one change."""
        oldest = self.oldest(now, revision)
        return {
            "changes": len(self._records) - self._start, "bytes": self.bytes, "oldest_revision": oldest,
            "oldest_time": self.floor_time,
        }  # fmt: skip

    # ── adding ────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, record: Record) -> None:
        """What happened next."""
        self._records.append(record)
        self.newest = record.revision
        self.bytes += _bytes_of(record)
        if self.bytes > self._limit:
            self._trim_bytes()
        if self.on_change is not None:
            self.on_change()

    def keep(self, keep_us: int, bytes_max: int) -> None:
        """How long and how much; less than ``RING_BYTES`` is never too much."""
        self.keep_us = keep_us if bytes_max else 0
        self._limit = max(bytes_max, RING_BYTES) if self.keep_us else RING_BYTES
        self._trim_bytes()

    def keep_all(self) -> None:
        """Recovery does not know yet how much is wanted: nothing goes before :meth:`keep` or :meth:`settle`."""
        self.keep_us, self._limit = UNTOLD_US, UNTOLD_BYTES

    def settle(self) -> None:
        """Who was to say how much is wanted has had the time: the defaults hold for this one."""
        if self._limit == UNTOLD_BYTES:
            self.keep(base.HISTORY_US, base.HISTORY_BYTES)

    def load(self, floor: int, floor_time: int | None, steps: Iterable[Step]) -> None:
        """What was known when the store was last written, before anything else is added."""
        self.floor, self.floor_time = floor, floor_time
        for step in steps:
            self.add(step)

    # ── forgetting ────────────────────────────────────────────────────────────────────────────────────────────

    def trim(self, now: int, limit: int = 2**62) -> None:
        """Forget at most ``limit`` records whose time is over."""
        if self.keep_us == 0:
            return  # what is there is the watchers', until the checkpoint
        before = now - self.keep_us
        records = self._records
        while self._start < len(records) and records[self._start].meta.time <= before and limit > 0:
            limit -= self._drop_commit()

    def forget(self, revision: int) -> None:
        """Forget what happened up to ``revision``."""
        records = self._records
        while self._start < len(records) and records[self._start].revision <= revision:
            self._drop_commit()

    def _trim_bytes(self) -> None:
        records = self._records
        while self.bytes > self._limit and self._start < len(records):
            if records[self._start].revision == self.newest:
                return  # the last commit stays: who watches must be able to see it
            self._drop_commit()

    def _drop_commit(self) -> int:
        """The oldest commit goes; how many records that were."""
        records, start = self._records, self._start
        first = records[start]
        revision, at = first.revision, start
        while at < len(records) and records[at].revision == revision:
            record = records[at]
            self.bytes -= _bytes_of(record)
            if type(record) is Sweep:
                record.forget()
            records[at] = _NOTHING
            at += 1
        self._start = at
        self.floor, self.floor_time = revision, first.meta.time
        self.trimmed += 1
        if revision >= self.implied_until:
            self.implied = None
        if at >= COMPACT_RECORDS and at * 2 >= len(records):
            del records[:at]
            self._start = 0
        return at - start

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def oldest(self, now: int, revision: int) -> int:
        """The oldest revision that can be read, ``revision`` being the store's newest."""
        if self.keep_us == 0:
            return revision
        self.trim(now)
        return self.floor

    def revision_at(self, time: int, now: int, revision: int) -> int:
        """The revision of the last change at or before ``time``, or one before the first; :class:`base.Compacted`."""
        oldest = self.oldest(now, revision)
        if self.keep_us:
            if self.floor_time is None or time >= self.floor_time:
                at = bisect_right(self._records, time, lo=self._start, key=lambda record: record.meta.time)
                last = self._records[at - 1].revision if at > self._start else self.floor
                return max(last, self._last_implied(last, time))
        elif time >= now:
            return revision
        raise base.Compacted(
            f"the state at that time has been compacted: the history of namespace {self.namespace} begins at "
            f"revision {oldest}", oldest,
        )  # fmt: skip

    def _last_implied(self, after: int, time: int) -> int:
        """The revision of the last first put after ``after``, and not after ``time``, that is not here; 0 for none."""
        if self.implied is None or after >= self.implied_until:
            return 0
        found = self.implied(after, self.implied_until)
        return max((state.revision for _, state in found if state.meta.time <= time), default=0)

    def records(self, after: int, until: int) -> list[Record]:
        """Those with a change after ``after`` and none after ``until``, oldest first; a run is not cut."""
        records = self._records
        first = bisect_right(records, after, lo=self._start, key=_revision)
        last = len(records) if self.newest <= until else bisect_right(records, until, lo=first, key=_revision)
        return records[first:last]

    def changed(self, after: int, start: str, end: str | None) -> bool:
        """Whether a key of [start, end) changed after ``after``, which is not before the floor."""
        for record in reversed(self.records(after, self.newest)):
            if type(record) is Step:
                if record.key >= start and (end is None or record.key < end):
                    return True
            elif type(record) is Puts:
                if any(key >= start and (end is None or key < end) for key in _keys_after(record, after)):
                    return True
            elif type(record) is Sweep and record.holds(start, end):
                return True
        return False

    def changed_keys(self, after: int) -> ChangedKeys:
        """Those that changed after ``after``, which is not before the floor: to ask for many keys or ranges."""
        keys: set[str] = set()
        sweeps: list[Sweep] = []
        for record in self.records(after, self.newest):
            if type(record) is Step:
                keys.add(record.key)
            elif type(record) is Puts:
                keys.update(_keys_after(record, after))
            elif type(record) is Sweep:
                sweeps.append(record)
        return ChangedKeys(keys, sweeps)

    def commits(self, after: int, until: int) -> list[base.Commit]:
        """The next commits after ``after`` and up to ``until``, oldest first, in portions; none is cut.

        :class:`base.Compacted` if some of them are gone.
        """
        self.check_kept(after)
        if self.implied is not None and after < self.implied_until:
            self._recall()
        records = self._records
        at = bisect_right(records, after, lo=self._start, key=_revision)
        out: list[base.Commit] = []
        count = 0
        while at < len(records) and count < WATCH_CHANGES:
            record = records[at]
            if type(record) is Puts:
                fresh = _puts(record, after, until)
                out += fresh
                count += len(fresh)
                if record.revision > until:
                    break
                at += 1
                continue
            if record.revision > until:
                break
            last = at + 1
            while last < len(records) and records[last].revision == record.revision:
                last += 1
            meta = record.meta
            changes = _Changes(self, records[at:last])
            out.append(base.Commit(record.revision, meta.time, meta.user, meta.comment, changes))
            count += last - at
            at = last
        return out

    def check_kept(self, after: int) -> None:
        """:class:`base.Compacted` if something of what happened after ``after`` is gone."""
        if after < self.floor:
            raise base.Compacted(
                f"revision {after} has been compacted: the history of namespace {self.namespace} begins at revision "
                f"{self.floor}", self.floor,
            )  # fmt: skip

    def _recall(self) -> None:
        """Put the first puts in their places that the tables tell of."""
        assert self.implied is not None
        here = self._records[self._start :]
        known = {(record.revision, record.key) for record in here if type(record) is Step}
        steps = [
            Step(state.revision, state.meta, key, state, None)
            for key, state in self.implied(self.floor, self.implied_until)
            if (state.revision, key) not in known
        ]
        self.implied = None
        self._records = sorted(here + steps, key=_revision)  # type: ignore[operator]  # steps are records
        self._start = 0
        self.bytes += STEP_BYTES * len(steps)


_NOTHING: Final = Puts(0, None, (), ())
"""Stands where a forgotten record stood, until the list is cut."""


def _keys_after(run: Puts, after: int) -> Sequence[str]:
    """Those of its keys whose puts came after ``after``."""
    return run.keys[max(0, len(run.keys) - (run.revision - after)) :]


class ChangedKeys:
    """Keys that changed after a revision; those of a sweep are looked up where they were."""

    __slots__ = ("_keys", "_sorted", "_sweeps")

    def __init__(self, keys: set[str], sweeps: Sequence[Sweep] = ()) -> None:
        self._keys = keys
        self._sorted: list[str] | None = None
        self._sweeps = sweeps

    def __contains__(self, key: str) -> bool:
        return key in self._keys or any(sweep.holds(key, key + "\0") for sweep in self._sweeps)

    def within(self, start: str, end: str | None) -> bool:
        """Whether one of them is in [start, end)."""
        if self._sorted is None:
            self._sorted = sorted(self._keys)
        at = bisect_left(self._sorted, start)
        if at < len(self._sorted) and (end is None or self._sorted[at] < end):
            return True
        return any(sweep.holds(start, end) for sweep in self._sweeps)


def _puts(run: Puts, after: int, until: int) -> list[base.Commit]:
    first = run.revision - len(run.keys) + 1
    meta = run.meta
    return [
        base.Commit(
            revision, meta.time, meta.user, meta.comment,
            (base.Change(run.keys[revision - first], run.entries[revision - first], None),),
        )
        for revision in range(max(first, after + 1), min(run.revision, until) + 1)
    ]  # fmt: skip


class _Changes:
    """The changes of a commit; those of a sweep are made as they are asked for, if the journal still has it then."""

    __slots__ = ("_journal", "_records")

    def __init__(self, journal: Journal, records: Sequence[Record]) -> None:
        self._journal = journal
        self._records = records

    def __iter__(self) -> Iterator[base.Change]:
        for record in self._records:
            if type(record) is Step:
                yield base.Change(record.key, record.entry, record.previous, record.expired)
            elif type(record) is Sweep:
                self._journal.check_kept(record.revision - 1)
                for key, state in record.states():
                    yield base.Change(key, None, state)


# ── undoing ───────────────────────────────────────────────────────────────────────────────────────────────────────


Wanted: TypeAlias = Callable[[str], bool] | None
"""Of which keys to tell; None: of all."""


def within(start: str, end: str | None) -> Wanted:
    """The keys of [start, end)."""
    if end is None:
        return None if not start else start.__le__
    return lambda key: start <= key < end


def undo(records: Sequence[Record], wanted: Wanted = None) -> dict[str, Any]:
    """What the keys that ``records`` changed were before: a state, or None. First puts of runs are left out: their
    entries' revisions tell."""
    before: dict[str, Any] = {}
    for record in reversed(records):
        if type(record) is Step:
            if wanted is None or wanted(record.key):
                before[record.key] = record.previous
        elif type(record) is Sweep:
            before.update(pair for pair in record.states() if wanted is None or wanted(pair[0]))
    return before


def past_states(records: Sequence[Record], wanted: Wanted = None) -> dict[str, list[Any]]:
    """By key, the states that ended in ``records`` and the removals, oldest first: all that is known but what is
    there now."""
    out: dict[str, list[Any]] = {}
    for record in records:
        if type(record) is Step:
            if wanted is not None and not wanted(record.key):
                continue
            meta = record.meta
            if record.previous is not None:
                out.setdefault(record.key, []).append(record.previous)
            if record.entry is None:
                out.setdefault(record.key, []).append(
                    base.Gone(record.revision, meta.time, meta.user, meta.comment, record.expired)
                )
        elif type(record) is Sweep:
            meta = record.meta
            gone = base.Gone(record.revision, meta.time, meta.user, meta.comment, False)
            for key, state in record.states():
                if wanted is None or wanted(key):
                    out.setdefault(key, []).extend((state, gone))
    return out
