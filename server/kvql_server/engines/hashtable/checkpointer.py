"""Writing a checkpoint while the store is in use, in four steps, two of them in a thread.

prepare (thread): a new log segment, known to MANIFEST; begin (engine's thread): from here on commits go to it, and a
snapshot is taken; write (thread): the checkpoint beside the live files, synced, read back, renamed, and only then
named by MANIFEST, and only then are old files removed; finish (engine's thread): the snapshot is closed.

Whatever fails, the old checkpoint and all segments are still there, and the next attempt starts from them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint, checkpoint_history, manifest, record
from kvql_server.engines.hashtable.files import Files
from kvql_server.engines.hashtable.log import ALLOCATE_MIN, Log, Segment
from kvql_server.engines.hashtable.manifest import Manifest
from kvql_server.engines.hashtable.snapshots import Snapshot
from kvql_server.engines.hashtable.store import Store
from kvql_server.engines.hashtable.table import ALWAYS

_log: Final = logging.getLogger(__name__)

PAGE_PAIRS: Final = 1024
"""Read under the store's mutex at a time: about a millisecond."""


class Folder:
    """The store's folder as MANIFEST has it. Changed by opening, and by one checkpoint at a time."""

    def __init__(self, files: Files, path: str, found: Manifest) -> None:
        self.files = files
        self.path = path
        self.manifest = found

    def new_segment(self) -> Segment:
        """An empty segment that MANIFEST knows; durable."""
        found = self.manifest
        name = record.segment_name(found.next_number)
        path = os.path.join(self.path, name)
        header = record.SegmentHeader(found.epoch, bytes.fromhex(found.store), found.next_number)
        file = self.files.create(path)
        try:
            data = record.encode_segment_header(header)
            if file.write_at(data, 0) != len(data):
                raise OSError(f"short write to {path}")
            segment = Segment(file, path, found.next_number, len(data))
            segment.reserve(ALLOCATE_MIN)
            file.sync()
            self.files.sync_folder(self.path)
            listed = manifest.Segment(name, found.next_number, found.epoch)
            self.write(
                msgspec.structs.replace(found, next_number=found.next_number + 1, segments=(*found.segments, listed))
            )
        except BaseException:
            file.close()
            raise
        return segment

    def write(self, new: Manifest) -> None:
        manifest.write(self.files, self.path, new)
        self.manifest = new


class Job:
    """One checkpoint on its way. ``error`` tells why it failed."""

    def __init__(self, folder: Folder, log: Log, store: Store, *, gently: bool) -> None:
        self._folder = folder
        self._log = log
        self._store = store
        self._gently = gently
        self._new: Segment | None = None
        self._old: Segment | None = None
        self._snapshot: Snapshot | None = None
        self._thread: threading.Thread | None = None
        self._kept: list[checkpoint_history.Kept] = []
        self._cancelled = False
        self.error: str | None = None
        self.trimmed = 0
        """How often history had been forgotten when it began: what the file lacks of it."""
        self.pairs = 0
        self.bytes = 0

    # ── the thread's steps ────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        self._attempt(self._prepare)

    def write(self) -> None:
        self._attempt(self._write)

    def _attempt(self, step: Callable[[], None]) -> None:
        """A thread ends here: whatever stopped the step would be seen by nobody, and the step count as done."""
        try:
            step()
        except Exception as e:  # noqa: BLE001 - see above; it is logged, and told by status
            self._failed(e)

    def _prepare(self) -> None:
        self._new = self._folder.new_segment()

    def _failed(self, error: Exception) -> None:
        self.error = str(error) or type(error).__name__
        expected = isinstance(error, OSError | base.EngineError)
        _log.error(
            "a checkpoint of %s failed, the log goes on and keeps everything: %s", self._folder.path, self.error,
            exc_info=None if expected else error,
        )  # fmt: skip

    def _write(self) -> None:
        assert self._snapshot is not None and self._new is not None and self._old is not None
        self._log.flush()
        with contextlib.suppress(OSError):  # zeros at the end do no harm
            self._old.file.truncate(self._old.end)
        self._old.file.close()
        folder, files = self._folder, self._folder.files
        revision = self._snapshot.revision
        path = checkpoint.path_of(folder.path, revision)
        beside = path + ".tmp"
        try:
            self._write_file(beside)
            length = checkpoint.verify(files, beside)
            if length != self.bytes:
                raise base.Corrupted(f"{beside} has {length} bytes instead of {self.bytes}")
            # over the live one where only history ended since: it holds the same pairs, and must outlive a failure
            files.rename(beside, path)
            files.sync_folder(folder.path)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(beside)
            raise
        before = folder.manifest
        kept = tuple(segment for segment in before.segments if segment.number >= self._new.number)
        named = manifest.Checkpoint(os.path.basename(path), revision)
        # if this fails, the new file stays: the manifest on the disk may name it already
        folder.write(msgspec.structs.replace(before, checkpoint=named, segments=kept))
        gone = [segment.file for segment in before.segments if segment not in kept]
        if before.checkpoint is not None and before.checkpoint.file != named.file:
            gone.append(before.checkpoint.file)
        for name in gone:
            with contextlib.suppress(FileNotFoundError):
                files.remove(os.path.join(folder.path, name))
        files.sync_folder(folder.path)

    def _write_file(self, path: str) -> None:
        assert self._snapshot is not None
        snapshot, store = self._snapshot, self._store
        found = self._folder.manifest
        file = self._folder.files.create(path)
        try:
            header = checkpoint.Header(found.epoch, bytes.fromhex(found.store), snapshot.revision, snapshot.time)
            writer = checkpoint.Writer(file, header)
            with store.mutex:
                namespaces = sorted(store.tables)
            for namespace in namespaces:
                self._write_namespace(writer, namespace)
            self._write_history(writer)
            self.bytes = writer.finish()
            self.pairs = writer.pairs
        finally:
            file.close()

    def _write_namespace(self, writer: checkpoint.Writer, namespace: str) -> None:
        assert self._snapshot is not None
        table = self._snapshot.table(namespace)
        start: str | None = ""
        gathered: checkpoint.Pairs = []
        while table is not None and start is not None:
            if self._cancelled:
                raise base.Closed("the store was closed meanwhile")
            began = time.perf_counter()
            with self._store.mutex:
                # a pair is in the checkpoint until its expiry is a commit, even if its time has come meanwhile
                page, start = table.page(start, None, "key", PAGE_PAIRS, self._snapshot.revision, ALWAYS)
            gathered += page
            if len(gathered) >= checkpoint.BLOCK_PAIRS:
                writer.add(namespace, gathered)
                gathered = []
            if self._gently:
                # as long as the page took: whoever serves requests gets at least half of the interpreter
                time.sleep(min(time.perf_counter() - began, 0.01))
        if gathered:
            writer.add(namespace, gathered)

    def _write_history(self, writer: checkpoint.Writer) -> None:
        for kept in self._kept:
            for payload, steps in checkpoint_history.step_blocks(kept):
                if self._cancelled:
                    raise base.Closed("the store was closed meanwhile")
                began = time.perf_counter()
                writer.add_payload(checkpoint.HISTORY, payload, steps)
                if self._gently:
                    time.sleep(min(time.perf_counter() - began, 0.01))
        writer.add_payload(checkpoint.JOURNALS, checkpoint_history.journals_payload(self._kept), len(self._kept))

    # ── the engine's steps ────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Go on with the next step in a thread."""
        step = self.write if self._snapshot is not None else self.prepare
        self._thread = threading.Thread(target=step, name="kvql-checkpoint", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def begun(self) -> bool:
        return self._snapshot is not None

    def begin(self, snapshot: Snapshot, now: int) -> None:
        """From this revision on, commits go to the new segment."""
        assert self._new is not None
        self._snapshot = snapshot
        self._kept = checkpoint_history.keep(list(self._store.journals.values()), now, snapshot.revision)
        self._store.keep_rubble = True
        self._old = self._log.segment
        self._log.rotate(self._new)

    def finish(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._store.keep_rubble = False
        elif self._new is not None:
            self._new.file.close()  # never begun: the segment stays empty, and the next opening drops it

    def join(self) -> None:
        """Wait for the step that is under way."""
        if self._thread is not None:
            self._thread.join()

    @property
    def revision(self) -> int:
        assert self._snapshot is not None
        return self._snapshot.revision

    def cancel(self) -> None:
        """Give up as soon as possible, and wait for that."""
        self._cancelled = True
        self.join()
