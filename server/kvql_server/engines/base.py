"""The contract between the executor and an engine, small enough to hold in the head.

An engine keeps pairs under (namespace, key), hands out snapshots, and commits transactions that hold only if their
guards do. It knows nothing of users' rights, of rules for keys, or of the language. PUT is ``Absent(k)`` + ``Put``;
UPDATE is ``Unchanged(k, r)`` + ``Put``, repeated on ``Conflict``; a transaction is its reads as guards and its writes
as writes. That is also etcd's Txn, so one executor runs on every engine.

Revisions: every commit has its own, from one sequence for the whole store, never reused. Expiry is a commit too.

Durability: ``commit_many`` applies at once, so that batches and hot keys pipeline; a commit, and whatever was read
from a snapshot that includes it, may leave the process only after ``await synced(revision)`` (or ``sync`` where there
is no event loop). This is the caller's one duty.

The contract is async because a distributed engine must wait. An engine whose ``in_process`` is true never suspends
except in ``synced`` and ``watch``, so its coroutines can be stepped without an event loop.

All methods are called from one thread at a time; ``sync`` and ``synced`` may block or wait while others go on. Times
are whole microseconds since 1970 UTC. Keys order by their UTF-8 bytes, which is the order of code points, which is
the order of Python's str.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import msgspec

from kvql.values import Value

HISTORY_US = 3_600_000_000
"""How long history is kept unless the namespace says otherwise: an hour."""
HISTORY_BYTES = 64 << 20
"""How much of it at most."""

SYSTEM_NAMESPACE = "$system"
"""Users, namespaces, grants, signing keys: pairs like all others, in a namespace that no user can name."""


class Entry(Protocol):
    """A pair as a snapshot shows it. Immutable."""

    @property
    def value(self) -> Value: ...
    @property
    def revision(self) -> int:
        """Of the commit that wrote this state of the pair."""

    @property
    def version(self) -> int:
        """Changes of this key since it was created: 1 for a new one. Starts anew after delete and put."""

    @property
    def created_at(self) -> int: ...
    @property
    def updated_at(self) -> int: ...
    @property
    def updated_by(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def expires_at(self) -> int | None:
        """The pair is absent for every reader whose time is at or after this."""


class WholeEntry(msgspec.Struct, frozen=True, gc=False):
    """An :class:`Entry` with a field for everything: where memory matters, most of it follows from the commit."""

    value: Value
    revision: int
    version: int
    created_at: int
    updated_at: int
    updated_by: str
    comment: str
    expires_at: int | None


# ── what a transaction is made of ─────────────────────────────────────────────────────────────────────────────────


class Unchanged(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The key is present, not expired, and its entry still has this revision."""

    namespace: str
    key: str
    revision: int


class Absent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The key is absent or expired when the commit happens, and (``since`` > 0) did not come and go after ``since``."""

    namespace: str
    key: str
    since: int = 0


class RangeUnchanged(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """No key in [start, end) was put, deleted or expired after ``revision``; ``end`` None is the namespace's end."""

    namespace: str
    start: str
    end: str | None
    revision: int


Guard: TypeAlias = Unchanged | Absent | RangeUnchanged


class Put(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Write the pair whole. ``expires_at`` None: it does not expire."""

    namespace: str
    key: str
    value: Any
    expires_at: int | None = None


class Delete(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Remove the pair; of one that is absent, nothing happens."""

    namespace: str
    key: str


class Clear(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Remove every pair of the namespace."""

    namespace: str


Write: TypeAlias = Put | Delete | Clear


class Transaction(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All or nothing. Guards are checked before any write; a later write to the same key wins."""

    guards: Sequence[Guard]
    writes: Sequence[Write]
    user: str = ""
    comment: str = ""
    idempotency_key: bytes = b""
    time: int = 0
    """Of the snapshot that it read, if nothing happened since and it is committed alone: what is due later expires
    after it, as if the commit had taken no time. 0: all that is due now expires before."""


class PutRun(msgspec.Struct, frozen=True, gc=False):
    """So many commits, each the put of one new pair that does not expire: what a load is made of."""

    namespace: str
    keys: Sequence[str]
    values: Sequence[Any]
    user: str = ""
    comment: str = ""


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """Why a transaction was not carried out: the first guard that did not hold."""

    guard: Guard
    index: int


CommitOutcome: TypeAlias = int | Conflict
"""The revision, or why not."""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """The state of a pair that is no more, as history tells it: an :class:`Entry` that says when, by whom and why it
    went. No snapshot shows it to ``get`` or ``scan``."""

    revision: int
    time: int
    user: str
    comment: str
    expired: bool

    value: ClassVar[Any] = None
    version: ClassVar[int] = 0
    expires_at: ClassVar[int | None] = None

    @property
    def created_at(self) -> int:
        return self.time

    @property
    def updated_at(self) -> int:
        return self.time

    @property
    def updated_by(self) -> str:
        return self.user


class Change(msgspec.Struct, frozen=True, gc=False):
    """One pair's change in a commit; ``entry`` None: it is gone, because it expired if ``expired``; ``previous`` None:
    it was not there."""

    key: str
    entry: Any
    previous: Any
    expired: bool = False


class Commit(msgspec.Struct, frozen=True, gc=False):
    """What ``watch`` yields: one revision and all that it changed in the namespace, in no order. ``changes`` may be
    read once, and at once: :class:`Compacted` for one who comes to it when it is gone."""

    revision: int
    time: int
    user: str
    comment: str
    changes: Iterable[Change]


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────


class EngineError(Exception):
    """The base of what an engine may raise; the message is an operator's sentence (what, where, what to do)."""


class StoreFull(EngineError):
    """The disk, or the memory that settings allow, is full; nothing was written, reads go on (53100)."""


class OutcomeUnknown(EngineError):
    """A log write failed half way: commits since the last sync may or may not survive; the engine stopped (40003)."""


class Corrupted(EngineError):
    """The files are damaged; names file and offset (XX001)."""


class NewerFormat(Corrupted):
    """The files are of a newer release, and not damaged; names what it is and both formats."""


class Unusable(EngineError):
    """The system refuses the folder: rights, a read-only file system."""


class DiskFailed(EngineError):
    """A file of the store could not be read, written or synced while it was opened; nothing is known of its content."""


class Locked(EngineError):
    """Another process has the folder."""


class Compacted(EngineError):
    """The revision or the time asked for is older than what is kept; ``oldest`` is the oldest revision that is."""

    def __init__(self, message: str, oldest: int = 0) -> None:
        super().__init__(message)
        self.oldest = oldest


class Closed(EngineError):
    """The engine was closed."""


# ── the engine ────────────────────────────────────────────────────────────────────────────────────────────────────

Order: TypeAlias = Literal["key", "reverse", "any", "entries"]


class Page:
    """Some pairs of a scan, in its order, column by column: most conditions look at entries only, and a million
    tuples cost more than the comparison. Iterating gives (key, entry)."""

    __slots__ = ("entries", "keys")

    def __init__(self, keys: Sequence[str], entries: Sequence[Any]) -> None:
        self.keys = keys
        self.entries = entries

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Any]]) -> Page:
        columns = list(zip(*pairs, strict=True))
        return cls(columns[0], columns[1]) if columns else cls((), ())

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return zip(self.keys, self.entries, strict=True)


class Snapshot(Protocol):
    """The store as it was at ``revision``, at the moment ``time``. Close it: open ones keep old versions alive.

    Reading a namespace whose history does not reach back to ``revision`` raises ``Compacted``. A page may be empty.
    """

    @property
    def revision(self) -> int: ...
    @property
    def time(self) -> int: ...

    async def get(self, namespace: str, key: str) -> Entry | None: ...

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """In the order of ``keys``."""

    def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        """The live pairs of [start, end) in pages of at most 4,096, so that others get their turn between pages.

        ``any`` is the order that costs least; it allows no start and end. ``entries`` is the same for readers who do
        not ask for keys: the engine may leave them out (``Page.keys`` is then empty).
        """

    def kinds(self, namespace: str) -> frozenset[type] | None:
        """Python types of which every value of the namespace is one (a superset will do); None if that is not known."""

    async def count(self, namespace: str) -> int:
        """Live pairs of the namespace, without reading them if nothing in it expires."""

    def history(self, namespace: str, start: str = "", end: str | None = None) -> AsyncIterator[Page]:
        """Every state up to ``revision`` that is known of the pairs of [start, end), in order of key, then revision: as
        entries, removals as :class:`Gone`. What ended before the history kept (``oldest``) is not among them."""

    def close(self) -> None: ...


class Engine(Protocol):
    """See the module's text for the rules that hold for all of it."""

    in_process: bool

    @property
    def store_id(self) -> str:
        """Drawn when the store was made; a copy has another. Revisions of different stores do not compare."""

    @property
    def failed(self) -> str | None:
        """Why it has stopped for good, as an operator's sentence: nothing is written any more, and whoever serves it
        should end. None: it has not."""

    @property
    def shown_revision(self) -> int:
        """What is durable up to here, and no more, is shown to those who watch."""

    def snapshot(self, revision: int | None = None, time: int | None = None) -> Snapshot:
        """The newest state, or the state at an earlier revision: see ``Snapshot`` for what is gone of it. ``Compacted``
        for a revision in the future. ``time``: what was due to expire then is not shown; None: now, and in the past
        what had expired by a commit."""

    def keep_history(self, namespace: str, keep_us: int, bytes_max: int) -> None:
        """From now on, keep what is replaced or removed in the namespace for so long, and no more of it than about so
        many bytes. To be said again after every opening, before the first ``tick``; for others ``HISTORY_US`` and
        ``HISTORY_BYTES`` hold. With 0 there is no past to read; watching works all the same."""

    def oldest(self, namespace: str) -> int:
        """The oldest revision that a snapshot can show of the namespace; the newest one if no history is kept."""

    def revision_at(self, namespace: str, time: int) -> int:
        """The revision of the namespace's last change at or before ``time``, or one before its first; ``Compacted`` if
        that is not known."""

    async def commit_many(self, transactions: Sequence[Transaction]) -> list[CommitOutcome]:
        """Carry out each in turn, each seeing those before it, with fates of their own; see ``synced``.

        :class:`StoreFull` before anything of the call is applied, or :class:`OutcomeUnknown`.
        """

    async def commit_puts(self, run: PutRun) -> int | None:
        """The revision of the first commit of ``run``, the others following one by one; the same as ``commit_many``.

        None if a key is there or stands twice, or if the engine has no quick way: nothing has happened then.
        """

    def expire_due(self) -> bool:
        """Carry out now some thousand of the expiries that are due, and say whether there are more. Where there are
        none, none comes between a snapshot that is taken now and its commit; engines that are not in process need
        not."""

    async def synced(self, revision: int) -> None:
        """Wait until every commit up to ``revision`` is as durable as the settings promise."""

    def sync(self, revision: int) -> None:
        """The same, blocking the calling thread."""

    def watch(self, namespace: str, from_revision: int) -> AsyncIterator[Commit]:
        """Every commit after ``from_revision`` that changed the namespace, in order, without gaps, durable ones only;
        ``Compacted`` for one who asks for what is gone, or reads so slowly that it went. Holds nothing back: the
        watcher's place is a revision."""

    async def compact(self, revision: int) -> None:
        """Forget all history before ``revision``."""

    def status(self) -> dict[str, Any]:
        """Figures for operators: revision, synced_revision, pairs, open_snapshots, log_bytes, last_checkpoint, …"""

    async def close(self) -> None:
        """Sync, stop background work, release the folder. Repeatable."""
