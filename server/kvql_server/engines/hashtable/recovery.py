"""From a folder to tables: the checkpoint that MANIFEST names, then the log. What a crash may have left is put right.

What a crash can do and what it cannot decides everything here. It can lose the end of the last segment, whole sectors
of the last write included, because nothing of that was confirmed; then the end is cut off. It cannot touch what was
synced; so damage before a record that was written when the damaged one was already durable is not a crash's, and the
store refuses to start rather than to guess (``docs/format/log.md``, "The end of the log").
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint, manifest, record
from kvql_server.engines.hashtable.entries import Meta
from kvql_server.engines.hashtable.files import SEE, File, Files, Reader
from kvql_server.engines.hashtable.manifest import Manifest, Segment
from kvql_server.engines.hashtable.store import Store

_log: Final = logging.getLogger(__name__)

OURS: Final = re.compile(r"log-([0-9]{8})\.kvl|checkpoint-[0-9]{16}\.kvc|(?:MANIFEST|checkpoint-[0-9]{16}\.kvc)\.tmp")
_LOST_BYTES: Final = 32
"""A write that a crash lost leaves zeros where it should be; a record's header has fewer in a row."""
_AGAIN_BYTES: Final = 1 << 20
_NONE_YET: Final = 1 << 63
_SECTOR_BYTES: Final = 512
"""What a disk writes whole, or a whole number of these."""


@dataclass
class Recovered:
    """Where the log goes on."""

    manifest: Manifest
    crc: int = 0
    revision: int = 0
    time: int = 0
    reserved: int = 0
    epoch: int = 0
    """Of the segment that was read last."""
    records: int = 0
    warnings: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    """Files that ``manifest`` does not name; they may go once it is the one on the disk."""
    scans: list[Scan] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scan:
    """What replaying one segment came to; ``crc_before`` is the chain's value at its start, and records up to ``sure``
    are called durable by later ones."""

    segment: Segment
    crc_before: int
    sure: int
    end: int
    commits: int
    size: int
    damaged: bool


def recover(files: Files, folder: str, store: Store) -> Recovered:
    """Fill ``store``; everything that was read is durable when this returns. Refusals are :class:`base.EngineError`."""
    state = load(files, folder, _read_manifest(files, folder), store)
    _cut_tails(files, folder, state)
    _sync_all(files, folder, state.scans)
    return state


def load(files: Reader, folder: str, found: Manifest, store: Store) -> Recovered:
    """The same, and nothing on the disk is changed: a refusal leaves everything as it is."""
    state = Recovered(found)
    names = files.names(folder)
    if found.checkpoint is not None:
        header = checkpoint.load(files, os.path.join(folder, found.checkpoint.file), store)
        if header.store.hex() != found.store or header.revision != found.checkpoint.revision:
            raise base.Corrupted(
                f"{found.checkpoint.file} in {folder} is not the checkpoint that MANIFEST names; {SEE}"
            )
        state.revision, state.time = header.revision, header.time
    for segment in found.segments:
        state.scans.append(_replay(files, folder, segment, state, store))
    _judge_tails(folder, state.scans)
    state.manifest = _drop_empty(state.scans, state)
    state.leftovers = _leftovers(files, folder, names, state.manifest)
    # revisions that were given out and lost must not come again
    state.revision = max(state.revision, state.reserved)
    return state


def _read_manifest(files: Files, folder: str) -> Manifest:
    names = files.names(folder)
    path = os.path.join(folder, manifest.NAME)
    if manifest.NAME not in names:
        orphan = next((name for name in names if OURS.fullmatch(name) and not name.endswith(".tmp")), None)
        if orphan is not None:
            raise base.Corrupted(f"{path} is missing, though {orphan} is there; {SEE}")
        new = Manifest(store=os.urandom(8).hex())
        manifest.write(files, folder, new)
        return new
    file = files.open(path)
    try:
        return manifest.decode(file.read_at(file.size(), 0), path)
    finally:
        file.close()


# ── replaying ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _replay(files: Reader, folder: str, segment: Segment, state: Recovered, store: Store) -> Scan:
    path = os.path.join(folder, segment.file)
    try:
        file = files.open(path)
    except FileNotFoundError:
        raise base.Corrupted(f"{path} is missing, though MANIFEST names it; {SEE}") from None
    try:
        data = file.read_at(file.size(), 0)
    finally:
        file.close()
    header = record.decode_segment_header(data, path)
    if (header.store.hex(), header.number, header.epoch) != (state.manifest.store, segment.number, segment.epoch):
        raise base.Corrupted(
            f"{path} belongs elsewhere: it is segment {header.number} of store {header.store.hex()}; {SEE}"
        )
    if segment.epoch != state.epoch:
        # an opening goes on behind what may have been given out before it, and calls that durable
        state.epoch, state.revision = segment.epoch, max(state.revision, state.reserved)
    crc_before, commits, offset = state.crc, 0, record.SEGMENT_HEADER_BYTES
    first, vouched = not state.records, _Vouched(offset)
    while True:
        try:
            read = record.read_record(data, offset)
        except base.NewerFormat as e:
            raise base.NewerFormat(f"{path}: {e}") from None
        if read is None:
            break
        if read.epoch != segment.epoch or (read.previous != state.crc and not first):
            raise _out_of_order(folder, path, offset, state.scans if offset == record.SEGMENT_HEADER_BYTES else [])
        if first:
            # nothing before it that could vouch for it, but its revision tells whether something is missing
            expected = state.revision + (read.kind in record.COMMITS)
            if read.revision > expected:
                _judge_tails(folder, state.scans, segment.file)
                raise base.Corrupted(
                    f"{path} is damaged at offset {offset}: revision {read.revision} comes where revision {expected} "
                    f"was expected, so records before it are missing; {SEE}"
                )
            crc_before, first = read.previous, False
        vouched.take(read)
        commits += _carry_out(read, state, store, path, offset)
        state.crc = read.crc
        state.records += 1
        offset = read.end
    damaged = bool(data[offset:].strip(b"\0"))
    if damaged:
        at = not_a_crash(data[offset:], offset, segment.epoch, state.revision)
        if at is not None:
            raise base.Corrupted(
                f"{path} is damaged at offset {offset}, and the record at offset {offset + at} after it is whole: this "
                f"is not the trace of a crash; {SEE}"
            )
    return Scan(segment, crc_before, vouched.sure, offset, commits, len(data), damaged)


class _Vouched:
    """How far a segment is on the disk, as its own records tell; rather too little, so that nothing is to be kept for
    each of them."""

    __slots__ = ("_early", "_early_end", "_last", "_last_end", "sure")

    def __init__(self, start: int) -> None:
        # the last commit, and one before it that is asked for until it is vouched for
        self._last = self._early = _NONE_YET
        self._last_end = self._early_end = self.sure = start

    def take(self, read: record.Record) -> None:
        """The next record."""
        durable = read.durable
        if durable >= self._last:
            self.sure = self._last_end
        elif durable >= self._early:
            self.sure = self._early_end
        if read.kind in record.COMMITS:
            self._last, self._last_end = read.last, read.end
            if self.sure >= self._early_end:
                self._early, self._early_end = self._last, self._last_end


def _out_of_order(folder: str, path: str, offset: int, before: list[Scan]) -> base.Corrupted:
    """A record that is whole names another predecessor; where it is a segment's first, something in ``before`` is to
    blame."""
    _judge_tails(folder, before, os.path.basename(path))
    last = next((scan for scan in reversed(before) if scan.end > record.SEGMENT_HEADER_BYTES), None)
    if last is not None:
        return base.Corrupted(
            f"{path} does not follow {last.segment.file}, which ends at offset {last.end}: what was between them is "
            f"missing; {SEE}"
        )
    return base.Corrupted(f"{path} is damaged at offset {offset}: the record does not follow the one before it; {SEE}")


def _carry_out(read: record.Record, state: Recovered, store: Store, path: str, offset: int) -> int:
    """Apply a record; 1 if the segment must be kept for it."""
    state.time = max(state.time, read.time)
    try:
        if read.kind == record.RESERVE:
            state.reserved = record.decode_reserve(read.payload)
            return 1
        if read.kind == record.CLOSED:
            # where nothing was committed, it alone tells of revisions that were given out earlier and lost
            state.revision = max(state.revision, read.revision)
            state.reserved = 0
            return 0
        if read.kind not in record.KINDS:
            raise ValueError(f"there is no record of kind {read.kind}")
        if read.revision <= state.revision:
            return 1  # the checkpoint has it
        if read.kind == record.PUTS:
            return _carry_out_run(read, state, store)
        payload = record.decode_payload(read.payload)
    except ValueError as e:
        raise base.Corrupted(f"{path} is damaged at offset {offset}: {e}; {SEE}") from None
    meta = Meta(read.time, payload.user, payload.comment)
    store.apply(payload.writes, meta, read.revision, expired=read.kind == record.EXPIRY)
    state.revision = read.revision
    return 1


def _carry_out_run(read: record.Record, state: Recovered, store: Store) -> int:
    run = record.decode_puts(read.payload)
    if len(run.keys) != read.size:
        raise ValueError(f"a run of {read.size} puts holds {len(run.keys)}")
    meta = Meta(read.time, run.user, run.comment)
    if not store.keeps_removed(run.namespace):
        if not store.apply_puts(run, meta, read.revision):
            raise ValueError("a run of puts names a key twice, or one that is there")
    else:  # more may be kept of keys that are gone than when the run was made
        record.check_distinct(run)
        for revision, (key, value) in enumerate(zip(run.keys, run.values, strict=True), read.revision):
            store.apply((base.Put(run.namespace, key, value),), meta, revision)
    state.revision = read.last
    return 1


# ── the end of the log ────────────────────────────────────────────────────────────────────────────────────────────


def not_a_crash(data: bytes, offset: int, epoch: int, revision: int) -> int | None:
    """``data``, from ``offset`` of a segment on, are damaged from their first byte on, and ``revision`` was the last
    before them: where in them a whole record shows that no crash did it."""
    at = data.find(record.RECORD_MAGIC, 1)
    lost = None
    while at >= 0:
        read = record.read_record(data, at)
        if read is not None and read.epoch == epoch:
            lost = _is_lost(data[:at], offset) if lost is None else lost
            if read.durable > revision or not lost:
                return at
            at = read.end - 1
        at = data.find(record.RECORD_MAGIC, at + 1)
    return None


def _is_lost(gap: bytes, offset: int) -> bool:
    """Whether sectors that never arrived explain the bytes between two whole records."""
    # a write that begins shortly before the end of a sector leaves only a few bytes there
    begun = _SECTOR_BYTES - offset % _SECTOR_BYTES
    return bytes(_LOST_BYTES) in gap or (begun <= len(gap) and not any(gap[:begun]))


def _judge_tails(folder: str, scans: list[Scan], whole: str | None = None) -> None:
    """:class:`base.Corrupted` if a damaged end is not the end of the log: if ``whole``, or a segment with records, is
    after it."""
    for scan in reversed(scans):
        if scan.damaged and whole is not None:
            path = os.path.join(folder, scan.segment.file)
            raise base.Corrupted(
                f"{path} is damaged at offset {scan.end}, and {whole} after it is whole: this is not the trace of a "
                f"crash; {SEE}"
            )
        if scan.end > record.SEGMENT_HEADER_BYTES:
            whole = scan.segment.file


def _cut_tails(files: Files, folder: str, state: Recovered) -> None:
    """Cut a damaged end off, and keep a copy."""
    for scan in state.scans:
        if not scan.damaged:
            continue
        path = os.path.join(folder, scan.segment.file)
        file = files.open(path)
        try:
            manifest.write_whole(files, path + ".broken", file.read_at(scan.size, 0))
            files.sync_folder(folder)
            file.truncate(scan.end)
            file.sync()
        finally:
            file.close()
        warning = (
            f"the end of {path} was damaged, as a crash leaves it: cut off at offset {scan.end} "
            f"({scan.size - scan.end} bytes); a copy is in {path}.broken"
        )
        _log.warning("%s", warning)
        state.warnings.append(warning)


def _sync_all(files: Files, folder: str, scans: list[Scan]) -> None:
    """What was read may still be on its way to the disk if only the process died; nobody may see it before it is
    there.

    After a sync that failed it may not even be on its way: the system keeps it in memory and calls it written. So the
    end of the log that nothing vouches for is written again, as it was read; before it there is nothing like that,
    because a segment is begun only when the one before it is synced.
    """
    last = next((scan for scan in reversed(scans) if scan.end > record.SEGMENT_HEADER_BYTES), None)
    for scan in scans:
        file = files.open(os.path.join(folder, scan.segment.file))
        try:
            if not scan.damaged and scan.size > scan.end:
                file.truncate(scan.end)
            if scan is last:
                _write_again(file, scan)
            file.sync()
        finally:
            file.close()
    files.sync_folder(folder)


def _write_again(file: File, scan: Scan) -> None:
    for at in range(scan.sure, scan.end, _AGAIN_BYTES):
        data = file.read_at(min(_AGAIN_BYTES, scan.end - at), at)
        if file.write_at(data, at) != len(data):
            raise OSError(f"short write to {scan.segment.file}")


def _drop_empty(scans: list[Scan], state: Recovered) -> Manifest:
    """Segments at the end that hold nothing need not be read again; the chain goes on from before them."""
    kept = list(scans)
    while kept and not kept[-1].commits:
        state.crc = kept.pop().crc_before
    return msgspec.structs.replace(state.manifest, segments=tuple(scan.segment for scan in kept))


def _leftovers(files: Reader, folder: str, names: list[str], found: Manifest) -> list[str]:
    """What an interrupted change left behind; files of others are never touched."""
    known = {segment.file for segment in found.segments}
    if found.checkpoint is not None:
        known.add(found.checkpoint.file)
    out: list[str] = []
    for name in names:
        match = OURS.fullmatch(name)
        if match is None or name in known:
            continue
        path = os.path.join(folder, name)
        if match[1] is not None and int(match[1]) >= found.next_number and _has_records(files, path):
            raise base.Corrupted(
                f"{path} holds commits, but MANIFEST does not know it: MANIFEST may be an older copy; {SEE}"
            )
        out.append(path)
    return out


def remove_leftovers(files: Files, paths: list[str]) -> None:
    """Remove files that no manifest names any more."""
    for path in paths:
        _log.info("removing %s, which an interrupted change left behind", path)
        with contextlib.suppress(FileNotFoundError):
            files.remove(path)


def _has_records(files: Reader, path: str) -> bool:
    file = files.open(path)
    try:
        return record.read_record(file.read_at(file.size(), 0), record.SEGMENT_HEADER_BYTES) is not None
    finally:
        file.close()
