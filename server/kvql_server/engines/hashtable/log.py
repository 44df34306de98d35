"""The log: commits wait in a queue, and one write and one fdatasync take all of them to the disk (group commit).

The engine's thread appends; a thread of the log's own, or whoever calls :meth:`Log.flush`, writes. A write or a sync
that fails is the end: what is on the disk is unknown then, and a second try might be told that all is well when it is
not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Literal, NamedTuple, TypeAlias

from kvql_server.engines import base
from kvql_server.engines.hashtable.files import File

_log: Final = logging.getLogger(__name__)

SyncMode: TypeAlias = Literal["always", "interval", "checkpoint"]

ALLOCATE_MIN: Final = 1 << 20
ALLOCATE_MAX: Final = 1 << 24
"""Space on the disk is taken in steps: a write into it cannot find the disk full, and its sync is faster."""
INTERVAL_S: Final = 1.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Segment:
    """An open segment. ``end`` is where the next record goes, ``allocated`` how far there is space."""

    __slots__ = ("allocated", "end", "file", "number", "path")

    def __init__(self, file: File, path: str, number: int, end: int) -> None:
        self.file = file
        self.path = path
        self.number = number
        self.end = end
        self.allocated = end

    def reserve(self, length: int) -> None:
        """Make sure of space for ``length`` more bytes; :class:`base.StoreFull`."""
        if self.end + length <= self.allocated:
            return
        step = min(max(ALLOCATE_MIN, self.end), ALLOCATE_MAX)
        want = max(length, step)
        try:
            self.file.allocate(self.end, want)
        except OSError as e:
            if e.errno not in _FULL:
                raise
            if want > length + ALLOCATE_MIN // 16:
                # less than the usual step may still be there
                try:
                    self.file.allocate(self.end, length)
                except OSError as again:
                    raise _full(self.path, again) from None
                want = length
            else:
                raise _full(self.path, e) from None
        self.allocated = self.end + want


def _full(path: str, error: OSError) -> base.StoreFull:
    folder = os.path.dirname(path)
    return base.StoreFull(f"no space left for the log in {folder} ({error.strerror}); free some space, reads go on")


class _Batch(NamedTuple):
    segment: Segment
    offset: int
    data: bytes
    revision: int


class _Waiter(NamedTuple):
    revision: int
    future: asyncio.Future[None]


class Log:
    """``on_synced(revision)`` is called from whichever thread has synced."""

    def __init__(
        self, segment: Segment, epoch: int, crc: int, revision: int, mode: SyncMode, on_synced: Callable[[int], None]
    ) -> None:
        self.segment = segment
        self.epoch = epoch
        self.crc = crc
        self.synced_revision = revision
        self.failed: str | None = None
        self._mode: SyncMode = mode
        self._on_synced = on_synced
        self._queue: list[_Batch] = []
        self._queue_lock = threading.Lock()
        self._io_lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._unsynced: set[Segment] = set()
        self._written_revision = revision
        self._thread = threading.Thread(target=self._run, name="kvql-log", daemon=True)
        self._started = False

    # ── the engine's side ─────────────────────────────────────────────────────────────────────────────────────

    def append(self, data: bytes, revision: int) -> None:
        """Queue records that end with ``revision``; space was reserved."""
        segment = self.segment
        with self._queue_lock:
            self._queue.append(_Batch(segment, segment.end, data, revision))
            segment.end += len(data)
        if self._mode != "always" and not self._started:
            self._start()

    def rotate(self, segment: Segment) -> None:
        """What is appended from now on goes to ``segment``."""
        with self._queue_lock:
            self.segment = segment

    async def synced(self, revision: int) -> None:
        """Wait until commits up to ``revision`` are on the disk."""
        self.check()
        if self._mode != "always" or revision <= self.synced_revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._queue_lock:
            self.check()  # a failure that came meanwhile has told all who waited, and nobody will tell this one
            self._waiters.append(_Waiter(revision, future))
        self.poke()
        await future

    def sync(self, revision: int) -> None:
        """The same, blocking: this thread does the work, or waits for the one that is at it."""
        self.check()
        if self._mode == "always" and revision > self.synced_revision:
            self.flush()

    def poke(self) -> None:
        """Let the log's thread do what is queued."""
        if not self._started:
            self._start()
        self._wake.put(True)

    @property
    def has_queued(self) -> bool:
        return bool(self._queue)

    def check(self) -> None:
        if self.failed is not None:
            raise base.OutcomeUnknown(self.failed)

    # ── the writing side ──────────────────────────────────────────────────────────────────────────────────────

    def flush(self, *, sync: bool = True) -> None:
        """Write and sync what is queued; :class:`base.OutcomeUnknown` if that fails now or failed before."""
        with self._io_lock:
            self.check()
            with self._queue_lock:
                batches, self._queue = self._queue, []
            try:
                self._write(batches)
                if batches:
                    self._written_revision = batches[-1].revision
                if sync:
                    self._sync()
            except BaseException as e:
                # whatever it was, the batches are off the queue, and what is written after a gap is lost
                self._fail(e)
                if not isinstance(e, Exception):
                    raise
                raise base.OutcomeUnknown(self.failed) from None
            revision = self._written_revision if sync else self.synced_revision
            self.synced_revision = revision
        self._on_synced(revision)
        self._release(revision)

    def _write(self, batches: list[_Batch]) -> None:
        at = 0
        while at < len(batches):
            segment, offset, _, _ = batches[at]
            end = at
            while end < len(batches) and batches[end].segment is segment:
                end += 1
            if self._unsynced and segment not in self._unsynced:
                # an older segment is whole before the next one begins: damage in it is never a crash's
                self._sync()
            data = b"".join([batch.data for batch in batches[at:end]])
            self._unsynced.add(segment)
            written = segment.file.write_at(data, offset)
            if written != len(data):
                raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes")
            at = end

    def _sync(self) -> None:
        for segment in self._unsynced:
            segment.file.sync()
        self._unsynced.clear()

    def _fail(self, error: BaseException) -> None:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        # an interrupt goes on to whoever sent it; what nobody foresaw ends here
        unforeseen = error if isinstance(error, Exception) and not isinstance(error, OSError) else None
        self.failed = (
            f"writing the log {self.segment.path} failed ({why}): commits that were not confirmed "
            "may or may not survive; no more is written until the store is opened again"
        )
        _log.critical("%s", self.failed, exc_info=unforeseen)
        with self._queue_lock:
            waiters, self._waiters = self._waiters, []
            self._queue.clear()
        for waiter in waiters:
            _call(waiter.future, _refuse, waiter.future, self.failed)

    def _release(self, revision: int) -> None:
        with self._queue_lock:
            done = [waiter for waiter in self._waiters if waiter.revision <= revision]
            if done:
                self._waiters = [waiter for waiter in self._waiters if waiter.revision > revision]
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for waiter in done:
            by_loop.setdefault(waiter.future.get_loop(), []).append(waiter.future)
        for futures in by_loop.values():
            _call(futures[0], _accept, futures)

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        self._started = True
        self._thread.start()

    def _run(self) -> None:
        timeout = None if self._mode == "always" else INTERVAL_S
        while True:
            go_on = True
            with contextlib.suppress(Empty):
                go_on = self._wake.get(timeout=timeout)
                while go_on and not self._wake.empty():
                    go_on = self._wake.get()
            if not go_on:
                return
            if not self._queue and not self._waiters and not self._unsynced:
                continue
            try:
                self.flush(sync=self._mode != "checkpoint")
            except base.OutcomeUnknown:
                return

    def stop(self) -> None:
        """End the thread; what is queued stays so. For :meth:`close` and for tests that drop a store."""
        if self._started:
            self._wake.put(False)
            self._thread.join()

    def drain(self) -> None:
        """End the thread, and write and sync what is left, unless the log has failed."""
        self.stop()
        if self.failed is None:
            self.flush()

    def close(self, final: bytes, revision: int) -> None:
        """After :meth:`drain`: write ``final`` behind the rest, sync, give unused space back."""
        if self.failed is None:
            with contextlib.suppress(base.StoreFull):
                self.segment.reserve(len(final))
                self.append_final(final, revision)
            self.flush()
            with contextlib.suppress(OSError):  # zeros at the end do no harm
                self.segment.file.truncate(self.segment.end)
        self.segment.file.close()

    def append_final(self, final: bytes, revision: int) -> None:
        """Queue the last record without waking the thread, which has ended."""
        with self._queue_lock:
            self._queue.append(_Batch(self.segment, self.segment.end, final, revision))
            self.segment.end += len(final)


def _call(future: asyncio.Future[None], callback: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
        future.get_loop().call_soon_threadsafe(callback, *arguments)


def _accept(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _refuse(future: asyncio.Future[None], message: str) -> None:
    if not future.done():
        future.set_exception(base.OutcomeUnknown(message))
