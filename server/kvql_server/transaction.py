"""Transactions over any engine: a snapshot, what was read from it, what is to be written, and the commit that proves
both.

Optimistic and serializable: a transaction reads one snapshot, sees its own writes, and at commit asks the engine to
apply the writes only if nothing that it read has changed (keys by their revision, absent keys by their absence,
ranges by the absence of any change in them, so phantoms count). A statement outside BEGIN … COMMIT is a transaction
of one statement.

DRY RUN goes back to a mark of the write set when it is done; savepoints, when they come, are marks under a name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kvql import errors
from kvql.values import encoded_size
from kvql_server.engines import base
from kvql_server.engines.base import (
    Absent,
    Clear,
    Conflict,
    Delete,
    Engine,
    Entry,
    Guard,
    Order,
    Page,
    Put,
    RangeUnchanged,
    Snapshot,
    Unchanged,
    Write,
)

_ENTRY_BYTES: Final = 100
"""What a pair costs in the write set beside its value: a round figure for the limit."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A pair that this transaction has written and not committed: an ``Entry`` whose revision is still 0."""

    value: Any
    revision: int
    version: int
    created_at: int
    updated_at: int
    updated_by: str
    comment: str
    expires_at: int | None


class Mark(NamedTuple):
    """The write set of a transaction at one moment."""

    writes: dict[str, dict[str, Put | Delete]]
    cleared: set[str]
    write_count: int
    write_bytes: int


class SharedSnapshot:
    """A snapshot that closes when the last one that holds it lets go (a transaction, and rows still being read)."""

    __slots__ = ("_holders", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._holders = 1

    def hold(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self.snapshot.close()


class Transaction:
    """One unit of work of one user. Not for use by two statements at once.

    ``tracked`` false: nothing is remembered of what was read, because nothing will be written.
    """

    __slots__ = (
        "_bytes", "_cleared", "_closed", "_count", "_engine", "_ranges", "_reads", "_shared", "_snapshot", "_tracked",
        "_writes", "bytes_max", "comment", "failed", "failure", "idempotency_key", "last_used_s", "read_only",
        "revision", "time", "user", "writes_max",
    )  # fmt: skip

    def __init__(self, engine: Engine, user: str, *, tracked: bool = True, read_only: bool = False) -> None:
        self._engine = engine
        self._snapshot = engine.snapshot()
        self._shared: SharedSnapshot | None = None
        self._tracked = tracked
        self._reads: dict[tuple[str, str], int] = {}
        self._ranges: set[tuple[str, str, str | None]] = set()
        self._writes: dict[str, dict[str, Put | Delete]] = {}
        self._cleared: set[str] = set()
        self._count = 0
        self._bytes = 0
        self.user = user
        self.comment = ""
        self.idempotency_key = b""
        self.revision = self._snapshot.revision
        self.time = self._snapshot.time
        self.read_only = read_only
        self.failed = False
        self.writes_max = 2**62
        self.bytes_max = 2**62
        self.last_used_s = 0.0
        self.failure = ""
        """Why only ROLLBACK is accepted, where that is not an earlier statement's error."""
        self._closed = False

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, namespace: str, key: str) -> Entry | None:
        """The pair as this transaction sees it; remembered as read."""
        if self._writes or self._cleared:
            found, entry = await self._own(namespace, key)
            if found:
                return entry
        read = await self._snapshot.get(namespace, key)
        if self._tracked:
            self._reads[namespace, key] = 0 if read is None else read.revision
        return read

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """In the order of ``keys``."""
        if self._writes or self._cleared:
            return [await self.get(namespace, key) for key in keys]
        out = await self._snapshot.get_many(namespace, keys)
        if self._tracked:
            for key, entry in zip(keys, out, strict=True):
                self._reads[namespace, key] = 0 if entry is None else entry.revision
        return out

    async def _own(self, namespace: str, key: str) -> tuple[bool, Entry | None]:
        """Whether this transaction has decided about the key, and what it would be."""
        write = self._writes.get(namespace, {}).get(key)
        if write is None:
            return namespace in self._cleared, None
        return True, await self._pending(write) if isinstance(write, Put) else None

    async def _pending(self, put: Put) -> Pending:
        before = None if put.namespace in self._cleared else await self._snapshot.get(put.namespace, put.key)
        return Pending(
            put.value, 0, 1 if before is None else before.version + 1,
            self.time if before is None else before.created_at, self.time, self.user, self.comment, put.expires_at,
        )  # fmt: skip

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        """Pages of the live pairs of [start, end), own writes included as they are now; the range is remembered as
        read."""
        self._saw_range(namespace, start, end)
        own = self._own_range(namespace, start, end)
        pending = {key: await self._pending(write) for key, write in own.items() if isinstance(write, Put)}
        if namespace in self._cleared:
            if pending:
                yield Page.of(sorted(pending.items(), reverse=order == "reverse"))
            return
        if own and order == "entries":
            order = "any"
        pages = self._snapshot.scan(namespace, start, end, order)
        if not own:
            async for page in pages:
                yield page
            return
        async for page in _merge(pages, own, pending, order):
            yield page

    async def count(self, namespace: str) -> int:
        """Live pairs of the namespace, own writes included."""
        self._saw_range(namespace, "", None)
        own = self._writes.get(namespace, {})
        puts = sum(isinstance(write, Put) for write in own.values())
        if namespace in self._cleared:
            return puts
        total = await self._snapshot.count(namespace)
        if own:
            before = await self._snapshot.get_many(namespace, list(own))
            total += puts - sum(entry is not None for entry in before)
        return total

    def kinds(self, namespace: str) -> frozenset[type] | None:
        """See ``Snapshot.kinds``."""
        return None if namespace in self._writes else self._snapshot.kinds(namespace)

    def _saw_range(self, namespace: str, start: str, end: str | None) -> None:
        if self._tracked:
            self._ranges.add((namespace, start, end))

    def _own_range(self, namespace: str, start: str, end: str | None) -> dict[str, Put | Delete]:
        own = self._writes.get(namespace, {})
        return {key: write for key, write in own.items() if key >= start and (end is None or key < end)}

    def share(self) -> SharedSnapshot:
        """Keep the snapshot open beyond this transaction, for rows that are still to be read; ``release`` it."""
        if self._shared is None:
            self._shared = SharedSnapshot(self._snapshot)
        self._shared.hold()
        return self._shared

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, namespace: str, key: str, value: Any, expires_at: int | None) -> None:
        self._write(Put(namespace, key, value, expires_at), encoded_size(value))

    def delete(self, namespace: str, key: str) -> None:
        self._write(Delete(namespace, key), 0)

    def clear(self, namespace: str) -> None:
        """Remove every pair of the namespace, those written before included."""
        self._check_writable()
        self._writes.pop(namespace, None)
        self._cleared.add(namespace)

    def _write(self, write: Put | Delete, size: int) -> None:
        self._check_writable()
        self._count += 1
        self._bytes += size + _ENTRY_BYTES + len(write.key)
        if self._count > self.writes_max:
            raise errors.error(errors.LIMIT, f"a transaction has at most {self.writes_max:,} writes")
        if self._bytes > self.bytes_max:
            raise errors.error(errors.LIMIT, f"the writes of a transaction have at most {self.bytes_max:,} bytes")
        self._writes.setdefault(write.namespace, {})[write.key] = write

    def _check_writable(self) -> None:
        if self.read_only:
            raise errors.error(errors.READ_ONLY, "cannot write in a read-only transaction")

    @property
    def has_writes(self) -> bool:
        return bool(self._writes or self._cleared)

    # ── going back ────────────────────────────────────────────────────────────────────────────────────────────

    def mark(self) -> Mark:
        """What is written so far, to come back to; what was read stays read."""
        return Mark({ns: dict(own) for ns, own in self._writes.items()}, set(self._cleared), self._count, self._bytes)

    def back_to(self, mark: Mark) -> None:
        """Undo what was written since ``mark``, which is used up."""
        self._writes, self._cleared, self._count, self._bytes = mark

    async def changes(self, namespace: str, mark: Mark) -> list[tuple[str, Entry | None, Entry | None]]:
        """What was written since ``mark``: (key, entry before, entry now), in the order of the keys."""
        before = mark.writes.get(namespace, {})
        now = self._writes.get(namespace, {})
        if namespace in self._cleared and namespace not in mark.cleared:
            keys = {key async for page in self._snapshot.scan(namespace) for key in page.keys}
            keys |= before.keys() | now.keys()
        else:
            keys = {key for key, write in now.items() if before.get(key) is not write}
        out: list[tuple[str, Entry | None, Entry | None]] = []
        for key in sorted(keys):
            entry = await self._own(namespace, key)
            current = entry[1] if entry[0] else await self._snapshot.get(namespace, key)
            kept = self._writes, self._cleared
            self._writes, self._cleared = mark.writes, mark.cleared
            found, previous = await self._own(namespace, key)
            self._writes, self._cleared = kept
            old = previous if found else await self._snapshot.get(namespace, key)
            if old is not None or current is not None:
                out.append((key, old, current))
        return out

    # ── ending ────────────────────────────────────────────────────────────────────────────────────────────────

    async def commit(self) -> base.CommitOutcome:
        """The revision (of the snapshot, if nothing was written), or the guard that did not hold: nothing is applied
        then."""
        if not self.has_writes:
            return self.revision
        outcomes = await self._engine.commit_many(
            [base.Transaction(self._guards(), self._all_writes(), self.user, self.comment, self.idempotency_key)]
        )
        return outcomes[0]

    def _guards(self) -> list[Guard]:
        guards: list[Guard] = [
            Unchanged(namespace, key, revision) if revision else Absent(namespace, key, self.revision)
            for (namespace, key), revision in self._reads.items()
        ]
        guards += [RangeUnchanged(namespace, start, end, self.revision) for namespace, start, end in self._ranges]
        return guards

    def _all_writes(self) -> list[Write]:
        writes: list[Write] = [Clear(namespace) for namespace in self._cleared]
        for own in self._writes.values():
            writes += own.values()
        return writes

    def abandon(self, why: str) -> None:
        """Roll back from outside: the next statement is told ``why``, and only ROLLBACK is accepted."""
        self.failed = True
        self.failure = why
        self._writes.clear()
        self._cleared.clear()
        self.close()

    def close(self) -> None:
        """Let go of the snapshot. Without ``commit`` nothing happened. Repeatable."""
        if self._closed:
            return
        self._closed = True
        if self._shared is not None:
            self._shared.release()
        else:
            self._snapshot.close()


async def _merge(
    pages: AsyncIterator[Page], own: dict[str, Put | Delete], pending: dict[str, Pending], order: Order
) -> AsyncIterator[Page]:
    """The engine's pages without the keys that the transaction decides about, and its own pairs at their places."""
    waiting: list[tuple[str, Entry]] = sorted(pending.items(), reverse=order != "reverse")  # popped from the end
    async for page in pages:
        merged: list[tuple[str, Entry]] = []
        for item in page:
            key = item[0]
            if order != "any":
                while waiting and (waiting[-1][0] > key if order == "reverse" else waiting[-1][0] < key):
                    merged.append(waiting.pop())
            if key not in own:
                merged.append(item)
        if merged:
            yield Page.of(merged)
    if waiting:
        yield Page.of(waiting[::-1])


def conflict_error(conflict: Conflict) -> errors.Error:
    """40001 for people: what was in the way, as far as the user may know it."""
    guard = conflict.guard
    if guard.namespace == base.SYSTEM_NAMESPACE:
        what = "a namespace or a user changed"
    elif isinstance(guard, RangeUnchanged):
        what = f"pairs of namespace {guard.namespace} changed"
    else:
        what = f"key {guard.key!r} of namespace {guard.namespace} changed"
    return errors.error(
        errors.CONFLICT,
        f"could not serialize access: {what} meanwhile",
        hint="nothing was applied; run the transaction again",
    )
