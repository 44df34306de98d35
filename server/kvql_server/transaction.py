"""Transactions over any engine: a snapshot, what was read from it, what is to be written, and the commit that proves
both.

Optimistic and serializable: a transaction reads one snapshot, sees its own writes, and at commit asks the engine to
apply the writes only if nothing that it read has changed (keys by their revision, absent keys by their absence,
ranges by the absence of any change in them, so phantoms count). A statement outside BEGIN … COMMIT is a transaction
of one statement.

What is to be written, and how a transaction goes back to a savepoint, is ``write_set``'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeGuard

from kvql import errors
from kvql.values import encoded_size
from kvql_server.engines import base
from kvql_server.engines.base import (
    Absent,
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
    WholeEntry,
)
from kvql_server.write_set import Mark, PutAnew, WriteSet


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
        "_closed", "_engine", "_ranges", "_reads", "_shared", "_snapshot", "_tracked", "failed", "failure",
        "idempotency_key", "last_used_s", "read_only", "revision", "time", "user", "writes",
    )  # fmt: skip

    def __init__(self, engine: Engine, user: str, *, tracked: bool = True, read_only: bool = False) -> None:
        self._engine = engine
        self._snapshot = engine.snapshot()
        self._shared: SharedSnapshot | None = None
        self._tracked = tracked
        self._reads: dict[tuple[str, str], int] = {}
        self._ranges: set[tuple[str, str, str | None]] = set()
        self.writes = WriteSet()
        self.user = user
        self.idempotency_key = b""
        self.revision = self._snapshot.revision
        self.time = self._snapshot.time
        self.read_only = read_only
        self.failed = False
        self.last_used_s = 0.0
        self.failure = ""
        """Why only ROLLBACK is accepted, and no ROLLBACK TO, where that is not an earlier statement's error."""
        self._closed = False

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, namespace: str, key: str) -> Entry | None:
        """The pair as this transaction sees it; remembered as read."""
        if self.writes:
            found, entry = await self._own(namespace, key)
            if found:
                return entry
        read = await self._snapshot.get(namespace, key)
        if self._tracked:
            self._reads[namespace, key] = 0 if read is None else read.revision
        return read

    async def get_newest(self, namespace: str, key: str) -> Entry | None:
        """The pair as it is now, whatever it was when this transaction began; remembered as read so."""
        newest = self._engine.snapshot()
        try:
            read = await newest.get(namespace, key)
        finally:
            newest.close()
        if self._tracked:
            self._reads[namespace, key] = 0 if read is None else read.revision
        return read

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """In the order of ``keys``."""
        if self.writes:
            return [await self.get(namespace, key) for key in keys]
        out = await self._snapshot.get_many(namespace, keys)
        if self._tracked:
            for key, entry in zip(keys, out, strict=True):
                self._reads[namespace, key] = 0 if entry is None else entry.revision
        return out

    async def _own(self, namespace: str, key: str) -> tuple[bool, Entry | None]:
        """Whether this transaction has decided about the key, and what it would be."""
        write = self.writes.of(namespace).get(key)
        if write is None:
            return namespace in self.writes.cleared, None
        return True, await self._pending(write, namespace in self.writes.cleared) if self._lives(write) else None

    def _lives(self, write: Put | Delete) -> TypeGuard[Put]:
        """Whether readers of this transaction see a pair that it has written: expiry is at once for them too."""
        return isinstance(write, Put) and (write.expires_at is None or write.expires_at > self.time)

    async def written(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """Pairs as this transaction has put them, also those that are over already; None for what it has not put."""
        own = self.writes.of(namespace)
        found, cleared = [own.get(key) for key in keys], namespace in self.writes.cleared
        return [await self._pending(write, cleared) if isinstance(write, Put) else None for write in found]

    async def _pending(self, put: Put, cleared: bool) -> WholeEntry:
        """A pair that is written and not committed: its revision is still 0."""
        anew = cleared or isinstance(put, PutAnew)
        before = None if anew else await self._snapshot.get(put.namespace, put.key)
        return WholeEntry(
            put.value, 0, 1 if before is None else before.version + 1,
            self.time if before is None else before.created_at, self.time, self.user, self.writes.comment,
            put.expires_at,
        )  # fmt: skip

    def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        """Pages of the live pairs of [start, end), own writes included as they are now; the range is remembered as
        read."""
        self.guard(namespace, start, end)
        return self.look(namespace, start, end, order)

    async def look(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        """The same, for what decides nothing: it is not remembered as read, and no change of it is a conflict."""
        own = self._own_range(namespace, start, end)
        cleared = namespace in self.writes.cleared
        pending = {key: await self._pending(write, cleared) for key, write in own.items() if self._lives(write)}
        if cleared:
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
        self.guard(namespace, "", None)
        own = self.writes.of(namespace)
        puts = sum(map(self._lives, own.values()))
        if namespace in self.writes.cleared:
            return puts
        total = await self._snapshot.count(namespace)
        if own:
            before = await self._snapshot.get_many(namespace, list(own))
            total += puts - sum(entry is not None for entry in before)
        return total

    def kinds(self, namespace: str) -> frozenset[type] | None:
        """See ``Snapshot.kinds``."""
        return None if namespace in self.writes.writes else self._snapshot.kinds(namespace)

    def guard(self, namespace: str, start: str = "", end: str | None = None) -> None:
        """Commit only if nobody else changed anything in [start, end) of the namespace."""
        if self._tracked:
            self._ranges.add((namespace, start, end))

    def _own_range(self, namespace: str, start: str, end: str | None) -> dict[str, Put | Delete]:
        own = self.writes.of(namespace)
        return {key: write for key, write in own.items() if key >= start and (end is None or key < end)}

    def share(self) -> SharedSnapshot:
        """Keep the snapshot open beyond this transaction, for rows that are still to be read; ``release`` it."""
        if self._shared is None:
            self._shared = SharedSnapshot(self._snapshot)
        self._shared.hold()
        return self._shared

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, namespace: str, key: str, value: Any, expires_at: int | None) -> None:
        self._check_writable()
        own = self.writes.of(namespace).get(key)
        anew = own is not None and (isinstance(own, PutAnew) or not self._lives(own))
        self.writes.add((PutAnew if anew else Put)(namespace, key, value, expires_at), encoded_size(value))

    def delete(self, namespace: str, key: str) -> None:
        self._check_writable()
        self.writes.add(Delete(namespace, key), 0)

    def clear(self, namespace: str) -> None:
        """Remove every pair of the namespace, those written before included."""
        self._check_writable()
        self.writes.clear(namespace)

    def _check_writable(self) -> None:
        if self.read_only:
            raise errors.error(errors.READ_ONLY, "cannot write in a read-only transaction")

    async def changes(
        self, namespace: str, mark: Mark, breathe: Callable[[], Awaitable[None]]
    ) -> list[tuple[str, Entry | None, Entry | None]]:
        """What was written since ``mark``: (key, entry before, entry now), in the order of the keys. ``breathe`` is
        awaited again and again."""
        now, cleared = self.writes.of(namespace), namespace in self.writes.cleared
        before = self.writes.before(namespace, mark)
        keys = set(before.replaced)
        if before.own is not now:
            keys |= before.own.keys() | now.keys()
        if cleared and not before.cleared:
            async for page in self._snapshot.scan(namespace):
                keys.update(page.keys)
                await breathe()
        out: list[tuple[str, Entry | None, Entry | None]] = []
        for key in sorted(keys):
            await breathe()
            earlier = before.write(key)
            over = isinstance(earlier, Put) and not self._lives(earlier)
            old = None if over else await self._entry(namespace, key, earlier, before.cleared)
            current = await self._entry(namespace, key, now.get(key), cleared)
            if old is not None or current is not None:
                out.append((key, old, current))
        return out

    async def _entry(self, namespace: str, key: str, write: Put | Delete | None, cleared: bool) -> Entry | None:
        """The pair where ``write`` is what this transaction has decided about it."""
        if write is None:
            return None if cleared else await self._snapshot.get(namespace, key)
        return await self._pending(write, cleared) if isinstance(write, Put) else None

    # ── ending ────────────────────────────────────────────────────────────────────────────────────────────────

    async def commit(self, *, at_once: bool = False) -> base.CommitOutcome:
        """The revision (of the snapshot, if nothing was written), or the guard that did not hold: nothing is applied
        then. ``at_once``: nobody had a turn since the snapshot. Nothing can be read any more in either case."""
        if not self.writes:
            return self.revision
        transaction = base.Transaction(
            self._guards(), self.writes.all(), self.user, self.writes.comment, self.idempotency_key,
            self.time if at_once else 0,
        )  # fmt: skip
        self.close()  # or the engine would keep every state that this commit replaces, for nobody
        return (await self._engine.commit_many([transaction]))[0]

    @property
    def reads_ranges(self) -> bool:
        """Whether COMMIT will have to prove more than the keys that were read one by one."""
        return bool(self._ranges)

    def _guards(self) -> list[Guard]:
        guards: list[Guard] = [
            Unchanged(namespace, key, revision) if revision else Absent(namespace, key, self.revision)
            for (namespace, key), revision in self._reads.items()
        ]
        guards += [RangeUnchanged(namespace, start, end, self.revision) for namespace, start, end in self._ranges]
        return guards

    def abandon(self, why: str) -> None:
        """Roll back from outside: the next statement is told ``why``, and only ROLLBACK is accepted."""
        self.failed = True
        self.failure = why
        self.writes.forget_all()
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
    pages: AsyncIterator[Page], own: dict[str, Put | Delete], pending: dict[str, WholeEntry], order: Order
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
