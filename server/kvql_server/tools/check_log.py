"""Reading a log from its first segment to its last: every checksum, the chain, epochs, and what ``sequence`` knows.

A start stops at the first damage. This goes on behind it, from one whole record to the next, so that all of it is told
and ``repair`` can say what would be lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kvql_server.engines import base
from kvql_server.engines.hashtable import record
from kvql_server.engines.hashtable.files import SEE, File, Reader
from kvql_server.engines.hashtable.manifest import Manifest, Segment
from kvql_server.engines.hashtable.record import SEGMENT_HEADER_BYTES, Record
from kvql_server.engines.hashtable.recovery import not_a_crash
from kvql_server.tools.findings import Effect, FileLine, Finding, count, revisions
from kvql_server.tools.sequence import Sequence


@dataclass(slots=True)
class Tally:
    """How many records, and the revisions of the commits among them."""

    records: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, read: Record) -> None:
        self.records += 1
        if read.kind in record.COMMITS:
            self.first = read.revision if self.first is None else min(self.first, read.revision)
            self.last = read.last if self.last is None else max(self.last, read.last)


@dataclass(slots=True)
class SegmentCheck:
    """One segment. ``end`` is where what follows on from its beginning ends, ``size`` where the file does."""

    listed: Segment
    size: int = 0
    end: int = SEGMENT_HEADER_BYTES
    used: int = 0
    """Behind it there are only zeros."""
    readable: bool = False
    """It is there, it belongs here, and the disk gives it out."""
    header_damaged: bool = False
    damaged: bool = False
    """Something other than zeros is behind ``end``."""
    whole: Tally = field(default_factory=Tally)
    changes: int = 0
    first_previous: int | None = None

    def line(self) -> FileLine:
        found = f"{count(self.whole.records, 'record')}, {count(self.changes, 'change')}"
        return FileLine(self.listed.file, self.size, f"{found}, {revisions(self.whole.first, self.whole.last)}")


class LogCheck:
    """The log that ``found`` names, on top of a checkpoint of revision ``start`` (0 without one)."""

    def __init__(self, files: Reader, folder: str, found: Manifest, start: int) -> None:
        self.segments: list[SegmentCheck] = []
        self.findings: list[Finding] = []
        self.kept = -1
        """Index of the segment with the last record that follows on; -1 if there is none."""
        self.crc = 0
        """The closing CRC of that record."""
        self.good = Tally()
        self.lost: Tally | None = None
        """The whole records after the place where the chain ends; None if it does not end before the log does."""
        self.sequence = Sequence(start)
        """As far as the chain goes."""
        self.closed = False
        self.unreadable: str | None = None
        """A file that is there and that the system does not give out."""
        self.newer = False
        """Whether something is of a newer release."""
        self.behind = Sequence(start)
        """Of what is lost."""
        self._store = found.store
        self._checkpointed = found.checkpoint is not None
        self._pending: list[tuple[int, Finding]] = []  # damage since the last whole record, with its segment
        for listed in found.segments:
            self.segments.append(SegmentCheck(listed))
            self._segment(files, os.path.join(folder, listed.file))
        self.findings += [finding for _, finding in self._pending]

    def _damage(self, offset: int | None, reason: str, effect: Effect = Effect.REFUSED) -> None:
        number = len(self.segments) - 1
        self._pending.append((number, Finding(self.segments[number].listed.file, offset, reason, effect)))

    # ── a segment ─────────────────────────────────────────────────────────────────────────────────────────────

    def _segment(self, files: Reader, path: str) -> None:
        try:
            file = files.open(path)
        except FileNotFoundError:
            self._damage(None, "it is missing, though MANIFEST names it")
            return
        except OSError as e:
            self._refused_by_system(e)
            return
        check = self.segments[-1]
        try:
            check.size = file.size()
            check.readable = self._header(file, path, check)
            if check.readable:
                self._records(file, check)
        except base.NewerFormat as e:
            check.readable, self.newer = False, True
            self._damage(None, str(e).removeprefix(f"{path} "))
        except OSError as e:
            self._refused_by_system(e)
        finally:
            file.close()

    def _refused_by_system(self, error: OSError) -> None:
        self.segments[-1].readable = False
        self.unreadable = self.segments[-1].listed.file
        self._damage(None, f"it cannot be read ({error.strerror})")

    def _header(self, file: File, path: str, check: SegmentCheck) -> bool:
        """Whether the segment belongs here, as far as its header can tell."""
        listed = check.listed
        try:
            header = record.decode_segment_header(file.read_at(SEGMENT_HEADER_BYTES, 0), path)
        except base.NewerFormat:
            raise
        except base.Corrupted as e:
            check.header_damaged = True
            self._damage(0, str(e).removeprefix(f"{path} ").removesuffix(f"; {SEE}"))
            return True
        if (header.store.hex(), header.number, header.epoch) == (self._store, listed.number, listed.epoch):
            return True
        where = f"segment {header.number} of store {header.store.hex()}, epoch {header.epoch}"
        self._damage(0, f"it belongs elsewhere: it is {where}")
        return False

    def _records(self, file: File, check: SegmentCheck) -> None:
        offset = SEGMENT_HEADER_BYTES
        for end, read in record.read_records(file, offset):
            self._take(check, read, offset, end)
            offset = end
        rest = file.read_at(max(check.size - offset, 0), offset)
        if not rest.strip(b"\0"):
            return
        check.damaged = True
        check.used = offset + len(rest.rstrip(b"\0"))
        told = not_a_crash(rest, offset, check.listed.epoch, self.sequence.known(check.listed.epoch))
        reason = record.why_not(rest, 0, len(rest))
        if told is not None:
            reason += f", and the record at offset {offset + told} after it is whole"
        effect = Effect.CUT if told is None else Effect.REFUSED
        self._damage(offset, reason, effect)
        good = 0
        for start, read in _islands(rest, check.listed.epoch):
            if good and rest[good:start].strip(b"\0"):
                self._damage(offset + good, record.why_not(rest, good, len(rest) - good), effect)
            self._take(check, read, offset + start, offset + read.end)
            good = read.end
        if good and rest[good:].strip(b"\0"):
            self._damage(offset + good, record.why_not(rest, good, len(rest) - good), effect)

    # ── a whole record ────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, check: SegmentCheck, read: Record, offset: int, end: int) -> None:
        if check.first_previous is None:
            check.first_previous = read.previous
        check.whole.add(read)
        check.used = max(check.used, end)
        if self.lost is None and not self._follows(check, read, offset):
            self.lost = Tally()
            self.behind.lost()
        if self._pending:
            self.behind.lost()
            self._settle(offset)
        self._check(check, read, offset)
        if self.lost is not None:
            check.damaged = True
            self.lost.add(read)
            return
        self.kept, self.crc, check.end = len(self.segments) - 1, read.crc, end
        self.good.add(read)
        self.closed = read.kind == record.CLOSED

    def _check(self, check: SegmentCheck, read: Record, offset: int) -> None:
        sequence = self.sequence if self.lost is None else self.behind
        wrong = sequence.take(read)
        if read.kind in record.COMMITS:
            check.changes += sequence.changes
        if wrong is None:
            return
        effect = Effect.REFUSED if wrong.refused else Effect.UNSEEN
        self.findings.append(Finding(check.listed.file, offset, wrong.reason, effect))
        if wrong.refused and self.lost is None:
            self.lost = Tally()
            self.behind.lost()

    def _follows(self, check: SegmentCheck, read: Record, offset: int) -> bool:
        """Whether the record goes on where the last good one ended."""
        if read.epoch != check.listed.epoch:
            self._damage(offset, "the record is of another opening of the store")
            return False
        if self._pending and offset != SEGMENT_HEADER_BYTES:
            return False
        if self.good.records:
            if read.previous != self.crc and not self._pending:
                self._damage(offset, "the record does not follow the one before it")
            return read.previous == self.crc
        first = self._checkpointed or read.previous == 0
        if not first:
            reason = "the records before it are missing, and there is no checkpoint that holds them"
            self.findings.append(Finding(check.listed.file, offset, reason, Effect.UNSEEN))
        # what was before the first record nobody can say; by its revision nothing was
        return not self._pending or (first and read.revision <= self.sequence.revision + 1)

    def _settle(self, offset: int) -> None:
        """Something whole has come after what was damaged: at the beginning of a later segment, no crash did that."""
        here = len(self.segments) - 1
        for number, finding in self._pending:
            torn = finding.effect is Effect.CUT
            if torn and number < here and offset == SEGMENT_HEADER_BYTES:
                file = self.segments[here].listed.file
                reason = f"{finding.reason}, and {file} after it is whole"
                finding = replace(finding, reason=reason, effect=Effect.REFUSED)
            self.findings.append(finding)
        self._pending.clear()


def _islands(rest: bytes, epoch: int) -> Iterator[tuple[int, Record]]:
    """Whole records of this epoch somewhere behind damage, and where each starts."""
    at = rest.find(record.RECORD_MAGIC, 1)
    while at >= 0:
        read = record.read_record(rest, at)
        if read is not None and read.epoch == epoch:
            yield at, read
            at = rest.find(record.RECORD_MAGIC, read.end)
        else:
            at = rest.find(record.RECORD_MAGIC, at + 1)
