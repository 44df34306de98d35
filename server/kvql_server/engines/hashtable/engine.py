"""The hash tables as an engine: what ``store`` does at once, made durable by ``log`` and ``checkpointer``."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Final
from zlib import crc32

import msgspec

from kvql_server.clock import Clock, SystemClock
from kvql_server.engines import base
from kvql_server.engines.base import Clear, CommitOutcome, Conflict, Put, RangeUnchanged
from kvql_server.engines.hashtable import heap, record
from kvql_server.engines.hashtable.checkpointer import Folder, Job
from kvql_server.engines.hashtable.entries import Meta
from kvql_server.engines.hashtable.files import Files, Lock, OsFiles, cannot_open
from kvql_server.engines.hashtable.growth import growth
from kvql_server.engines.hashtable.log import Log, SyncMode
from kvql_server.engines.hashtable.past import PastSnapshot
from kvql_server.engines.hashtable.recovery import Recovered, recover, remove_leftovers
from kvql_server.engines.hashtable.snapshots import TRIM_STEP, Snapshot
from kvql_server.engines.hashtable.store import Store, pair_bytes

_log: Final = logging.getLogger(__name__)

RESERVE_REVISIONS: Final = 1_000_000
RETRY_S: Final = 10.0
"""After a checkpoint that failed."""


class HashTableEngine:
    """:class:`base.Engine` on a folder; see the package's text. Made by :meth:`open`."""

    in_process = True

    def __init__(
        self, folder: Folder, lock: Lock, store: Store, log: Log, clock: Clock, mode: SyncMode, interval_s: float,
        max_bytes: int | None, recovered: Recovered,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._lock = lock
        self._store = store
        self._log = log
        self._clock = clock
        self._mode: SyncMode = mode
        self._interval = round(interval_s * 1_000_000)
        self._max_bytes = max_bytes
        self._bytes = _memory(store) if max_bytes is not None else 0
        self._reserved = 0
        self._job: Job | None = None
        self._last_checkpoint: int | None = None
        self._next_checkpoint = clock.now() + self._interval
        self._checkpointed = recovered.revision if not recovered.records else -1
        self._trimmed = store.trimmed  # the checkpoint holds history that ended since
        self._checkpoint_error: str | None = None
        self._broken: str | None = None
        self._whole = _Whole(self)
        self._closed = False
        self.warnings = recovered.warnings
        """What recovery had to put right, as sentences for the operator."""

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, clock: Clock | None = None, files: Files | None = None,
        sync: SyncMode = "always", checkpoint_interval_s: float = 300.0, max_bytes: int | None = None,
    ) -> HashTableEngine:  # fmt: skip
        """Open or make the store in ``folder``: lock, recover, sync, begin a new log segment.

        :class:`base.Locked`, :class:`base.Corrupted`, :class:`base.StoreFull`, :class:`base.EngineError`.
        """
        path = os.path.abspath(os.fspath(folder))
        clock = clock or SystemClock()
        files = files or OsFiles()
        try:
            files.make_folder(path)
            lock = files.lock(path)
        except OSError as e:
            raise cannot_open(path, e) from None
        collecting = gc.isenabled()
        gc.disable()
        try:
            return cls._recover(path, lock, clock, files, sync, checkpoint_interval_s, max_bytes)
        except OSError as e:
            lock.release()
            raise cannot_open(path, e) from None
        except BaseException:
            lock.release()
            raise
        finally:
            if collecting:
                gc.enable()

    @classmethod
    def _recover(
        cls, path: str, lock: Lock, clock: Clock, files: Files, sync: SyncMode, interval_s: float, max_bytes: int | None
    ) -> HashTableEngine:
        store = Store()
        state = recover(files, path, store)
        clock.advance_to(state.time)
        store.start(state.revision)
        folder = Folder(files, path, msgspec.structs.replace(state.manifest, epoch=state.manifest.epoch + 1))
        segment = folder.new_segment()
        remove_leftovers(files, [path for path in state.leftovers if path != segment.path])
        log = Log(segment, folder.manifest.epoch, state.crc, state.revision, sync, store.watchers.durable)
        heap.give_back()
        return cls(folder, lock, store, log, clock, sync, interval_s, max_bytes, state)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def failed(self) -> str | None:
        """Why the engine has stopped for good; whoever serves it should exit."""
        return self._log.failed or self._broken

    def snapshot(self, revision: int | None = None, time: int | None = None) -> Snapshot | PastSnapshot:
        if self._closed:
            self._check()
        return self._store.snapshot(revision, self._clock.now(), time)

    def keep_history(self, namespace: str, keep_us: int, bytes_max: int) -> None:
        with self._store.mutex:
            self._store.journal(namespace).keep(keep_us, bytes_max)

    def oldest(self, namespace: str) -> int:
        return self._store.journal_of(namespace).oldest(self._clock.now(), self._store.revision)

    def revision_at(self, namespace: str, time: int) -> int:
        self._check()
        return self._store.journal_of(namespace).revision_at(time, self._clock.now(), self._store.revision)

    @property
    def store_id(self) -> str:
        return self._folder.manifest.store

    @property
    def shown_revision(self) -> int:
        return self._store.watchers.revision

    def watch(self, namespace: str, from_revision: int) -> AsyncIterator[base.Commit]:
        return self._store.watchers.watch(self._store.journal(namespace), from_revision, self._check)

    async def compact(self, revision: int) -> None:
        self._check()
        with self._store.mutex:
            for journal in self._store.journals.values():
                journal.forget(revision - 1)
            self._store.readers.trim(2**31)

    # ── committing ────────────────────────────────────────────────────────────────────────────────────────────

    async def commit_many(self, transactions: Sequence[base.Transaction]) -> list[CommitOutcome]:
        self._check()
        store = self._store
        with store.mutex:
            now = self._clock.now()
            due = transactions[0].time if len(transactions) == 1 and transactions[0].time else now
            if store.wheel.earliest <= due:
                self._expire(due, transactions)
            payloads = record.encode_transactions(transactions)
            if self._max_bytes is not None:
                self._check_memory(chain.from_iterable(transaction.writes for transaction in transactions))
            size = sum(map(len, payloads)) + record.RECORD_EXTRA_BYTES * len(payloads)
            self._reserve(size, len(payloads))
            try:
                with self._whole:
                    return self._commit(transactions, payloads, now)
            finally:
                store.readers.trim(TRIM_STEP)

    async def commit_puts(self, run: base.PutRun) -> int | None:
        self._check()
        store = self._store
        with store.mutex:
            now = self._clock.now()
            if store.wheel.earliest <= now:
                self._expire(now)
            if not run.keys or not store.puttable(run):
                return None
            payloads = record.encode_puts(run)
            if self._max_bytes is not None:
                self._check_memory(map(Put, repeat(run.namespace), run.keys, run.values))
            size = sum(len(payload) + record.RECORD_EXTRA_BYTES for payload, _ in payloads)
            self._reserve(size, len(run.keys))
            first, log = store.revision + 1, self._log
            with self._whole:
                data, crc, revision = b"", log.crc, first
                for payload, size in payloads:
                    made, crc = record.frame(
                        record.PUTS, log.epoch, crc, revision, log.synced_revision, now, payload, size
                    )
                    data += made
                    revision += size
                store.apply_puts(run, Meta(now, run.user, run.comment), first)
                if self._max_bytes is not None:
                    self._bytes += sum(map(pair_bytes, run.keys, run.values))
                log.crc = crc
                log.append(data, store.revision)
                self._after_append()
            return first

    def _commit(self, transactions: Sequence[base.Transaction], payloads: list[bytes], now: int) -> list[CommitOutcome]:
        store, log = self._store, self._log
        revision, crc, durable = store.revision, log.crc, log.synced_revision
        # the inner loop of every load: 2,000 commits at a time, so what is the same for all of them is done once
        prefix, pack_rest, pack_crc = record.prefix(record.COMMIT, log.epoch), record.pack_rest, record.pack_crc
        prefix_crc, broken = crc32(prefix), store.broken
        apply = store.apply if self._max_bytes is None else self._apply_counted
        parts: list[bytes] = []
        outcomes: list[CommitOutcome] = []
        meta = Meta(now, "", "")
        for transaction, payload in zip(transactions, payloads, strict=True):
            guards = transaction.guards
            if guards:
                index = broken(guards)
                if index is not None:
                    outcomes.append(Conflict(guards[index], index))
                    continue
            if transaction.user != meta.user or transaction.comment != meta.comment:
                meta = Meta(now, transaction.user, transaction.comment)
            revision += 1
            rest = pack_rest(crc, revision, durable, now, len(payload))
            header_crc = crc32(rest, prefix_crc)
            crc = crc32(payload, header_crc)
            parts += (prefix, rest, pack_crc(header_crc), payload, pack_crc(crc))
            apply(transaction.writes, meta, revision)
            outcomes.append(revision)
        if parts:
            log.crc = crc
            log.append(b"".join(parts), revision)
            self._after_append()
        return outcomes

    def _after_append(self) -> None:
        if self._mode != "always":
            self._store.watchers.durable(self._store.revision)

    def _append(self, kind: int, payload: bytes, now: int) -> None:
        """One record of the store's own; space is reserved."""
        log = self._log
        data, log.crc = record.frame(kind, log.epoch, log.crc, self._store.revision, log.synced_revision, now, payload)
        log.append(data, self._store.revision)

    def _reserve(self, size: int, revisions: int) -> None:
        """Space on the disk, and where commits may leave before they are on the disk, revisions too."""
        try:
            if self._mode != "always" and self._store.revision + revisions > self._reserved:
                self._reserve_revisions(revisions)
            self._log.segment.reserve(size)
        except OSError as e:
            raise base.StoreFull(f"no space could be reserved for the log: {e.strerror or e}") from None

    def _reserve_revisions(self, revisions: int) -> None:
        until = self._store.revision + revisions + RESERVE_REVISIONS
        payload = record.encode_reserve(until)
        self._log.segment.reserve(record.RECORD_EXTRA_BYTES + len(payload))
        self._append(record.RESERVE, payload, self._clock.now())
        self._log.flush()
        self._reserved = until

    def _check_memory(self, writes: Iterable[base.Write]) -> None:
        """Refuse ``writes`` if all of them together are too much; what is carried out of them is counted then."""
        assert self._max_bytes is not None
        grown = sum(growth(self._store, writes))
        if grown > 0 and self._bytes + grown > self._max_bytes:
            raise base.StoreFull(
                f"the store holds about {self._bytes:,} bytes and may hold {self._max_bytes:,} (max_bytes); "
                "delete something, or raise the limit"
            )

    def _apply_counted(self, writes: Sequence[base.Write], meta: Meta, revision: int) -> None:
        self._bytes += sum(growth(self._store, writes))
        self._store.apply(writes, meta, revision)

    # ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────

    def _expire(self, now: int, transactions: Sequence[base.Transaction] = ()) -> None:
        """Carry out due expiry as commits of their own: a page of it, and all that ``transactions`` might meet."""
        everything = any(
            isinstance(part, RangeUnchanged | Clear) for t in transactions for part in (*t.guards, *t.writes)
        )
        self._expire_page(self._store.due(now), now)
        while everything and self._store.wheel.earliest <= now:
            self._expire_page(self._store.due(now), now)
        if transactions and self._store.wheel.earliest <= now:
            self._expire_page(self._touched(now, transactions), now)

    def _touched(self, now: int, transactions: Sequence[base.Transaction]) -> list[base.Delete]:
        keys = {(p.namespace, p.key) for t in transactions for p in (*t.guards, *t.writes)}  # type: ignore[union-attr]  # all name keys here
        due: list[base.Delete] = []
        for namespace, key in keys:
            table = self._store.tables.get(namespace)
            entry = table.entries.get(key) if table is not None else None
            if entry is not None and entry.expires_at is not None and entry.expires_at <= now:
                due.append(base.Delete(namespace, key))
        return due

    def _expire_page(self, due: list[base.Delete], now: int) -> None:
        if not due:
            return
        store = self._store
        (payload,) = record.encode_transactions([base.Transaction((), due)])
        try:
            self._reserve(len(payload) + record.RECORD_EXTRA_BYTES, 1)
        except base.StoreFull:
            for delete in due:  # still due, once there is space
                expires_at = store.tables[delete.namespace].entries[delete.key].expires_at
                store.wheel.add(delete.namespace, delete.key, expires_at)
            raise
        if self._max_bytes is not None:
            for delete in due:
                self._bytes -= pair_bytes(delete.key, store.tables[delete.namespace].entries[delete.key].value)
        with self._whole:
            store.apply(due, Meta(now, "", ""), store.revision + 1, expired=True)
            self._append(record.EXPIRY, payload, now)
            self._after_append()

    # ── durability ────────────────────────────────────────────────────────────────────────────────────────────

    async def synced(self, revision: int) -> None:
        if revision > self._log.synced_revision:
            await self._log.synced(revision)

    def sync(self, revision: int) -> None:
        self._log.sync(revision)

    def tick(self) -> None:
        """Upkeep, a few milliseconds at most; whoever drives the engine calls it often."""
        if self._closed or self.failed is not None:
            return
        now = self._clock.now()
        with self._store.mutex:
            if self._store.wheel.earliest <= now:
                self._expire_some(now)
            self._store.tidy(now)
        if self._mode == "always" and self._log.has_queued:
            self._log.poke()
        self._drive_checkpoint(now)

    def _drive_checkpoint(self, now: int) -> None:
        job = self._job
        if job is None:
            if now >= self._next_checkpoint and self._is_stale():
                self._job = Job(self._folder, self._log, self._store, gently=True)
                self._job.start()
        elif not job.busy:
            if job.error is not None or job.begun:
                self._end_checkpoint(job)
            else:
                self._begin(job)
                job.start()

    def expire_due(self) -> bool:
        store, now = self._store, self._clock.now()
        if store.wheel.earliest > now or self.failed is not None:  # then reads go on, and they do without
            return False
        with store.mutex:
            return self._expire_some(now) and store.wheel.earliest <= now

    def _expire_all(self, now: int) -> None:
        """What is due gets its commit before a checkpoint leaves it out; without space it stays for the next one."""
        while self._store.wheel.earliest <= now and self._expire_some(now):
            pass

    def _expire_some(self, now: int) -> bool:
        """Carry out a page of what is due; false if there is no space for it."""
        try:
            self._expire(now)
        except base.StoreFull as e:
            _log.warning("expired pairs cannot be removed yet: %s", e)
            return False
        return True

    def _begin(self, job: Job) -> None:
        with self._store.mutex:
            now = self._clock.now()
            self._expire_all(now)
            job.begin(self._store.newest(now), now)
            job.trimmed = self._store.trimmed
            if self._mode != "always":
                self._reserve_in_new_segment()

    def _reserve_in_new_segment(self) -> None:
        """The segment that holds the reservation may go with this checkpoint, so it is repeated in the new one."""
        payload = record.encode_reserve(max(self._reserved, self._store.revision))
        self._append(record.RESERVE, payload, self._clock.now())

    def _end_checkpoint(self, job: Job) -> None:
        with self._store.mutex:
            job.finish()
        self._job = None
        self._checkpoint_error = job.error
        now = self._clock.now()
        if job.error is None:
            self._store.forget_rings(job.revision)
            self._last_checkpoint = now
            self._next_checkpoint = now + self._interval
            self._checkpointed, self._trimmed = job.revision, job.trimmed
        else:
            self._next_checkpoint = now + min(self._interval, round(RETRY_S * 1_000_000))

    def _is_stale(self) -> bool:
        """Whether the checkpoint lacks something, or holds what should be gone."""
        return self._store.revision != self._checkpointed or self._store.trimmed != self._trimmed

    def checkpoint(self) -> None:
        """Write a checkpoint now, in this thread; :class:`base.EngineError` if it fails. Waits for one under way."""
        self._check()
        while self._job is not None:
            self._job.join()
            self._drive_checkpoint(self._clock.now())
        with self._store.mutex:
            self._expire_all(self._clock.now())
            if not self._is_stale():
                return
        job = Job(self._folder, self._log, self._store, gently=False)
        job.prepare()
        if job.error is None:
            self._begin(job)
            job.write()
        self._end_checkpoint(job)
        self._check()
        if job.error is not None:
            raise base.EngineError(f"the checkpoint failed: {job.error}")

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        store, log = self._store, self._log
        return {
            "engine": "hashtable",
            "folder": self._folder.path,
            "sync": self._mode,
            "revision": store.revision,
            "synced_revision": log.synced_revision,
            "pairs": store.pairs,
            "namespaces": len(store.tables),
            "open_snapshots": len(store.readers),
            "history": dict(store.history_figures(self._clock.now())),
            "memory_bytes": self._bytes if self._max_bytes is not None else None,
            "log_bytes": log.segment.end,
            "segments": len(self._folder.manifest.segments),
            "last_checkpoint": self._last_checkpoint,
            "checkpoint_running": self._job is not None,
            "checkpoint_error": self._checkpoint_error,
            "warnings": list(self.warnings),
            "failed": self.failed,
        }

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        """The same without an event loop."""
        if self._closed:
            return
        self._closed = True
        if self._job is not None:
            self._job.cancel()
            self._job.finish()
            self._job = None
        try:
            self._log.drain()  # the closing vouches for what was durable before it, so nothing may go with it
            final, _ = record.frame(
                record.CLOSED, self._log.epoch, self._log.crc, self._store.revision, self._log.synced_revision,
                self._clock.now(), b"",
            )  # fmt: skip
            self._log.close(final, self._store.revision)
        finally:
            self._store.watchers.close()
            self._lock.release()

    def _check(self) -> None:
        if self._closed:
            raise base.Closed("the store was closed")
        self._log.check()
        if self._broken is not None:
            raise base.OutcomeUnknown(self._broken)


class _Whole:
    """Around what happens whole or not at all: after an error in the middle of it tables and log may differ, and
    nothing more may be promised."""

    def __init__(self, engine: HashTableEngine) -> None:
        self._engine = engine

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._engine._broken = f"the store failed while it applied a commit ({kind.__name__}); open it again"


def _memory(store: Store) -> int:
    return sum(pair_bytes(k, e.value) for table in store.tables.values() for k, e in table.entries.items())
