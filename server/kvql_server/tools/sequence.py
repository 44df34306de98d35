"""What records must be to each other, beyond their checksums: revisions without gaps, times that never run backwards,
payloads that a store writes."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kvql_server.engines.base import Put, Write
from kvql_server.engines.hashtable import record
from kvql_server.engines.hashtable.record import Record
from kvql_server.tools.values import why_no_writes


class Wrong(NamedTuple):
    """Why a record cannot be what a store wrote, though its checksums match."""

    reason: str
    refused: bool
    """Whether a start would see it."""


class Sequence:
    """The revisions that a log tells of, record by record; ``start`` is the checkpoint's, 0 without one."""

    def __init__(self, start: int) -> None:
        self.revision = start
        """As a start has it: of the checkpoint, the last commit, the last closing."""
        self.reserved = 0
        self.time = 0
        self.changes = 0
        """Of the last commit."""
        self._start = start
        self._opened_at = 0  # what the epoch that is being read began behind
        self._last: int | None = None  # the last revision that the log itself tells of
        self._time: int | None = None
        self._epoch: int | None = None
        self._first = True

    @property
    def next_revision(self) -> int:
        """Of the first commit after the next opening."""
        return max(self.revision, self.reserved) + 1

    def known(self, epoch: int) -> int:
        """What a record of this epoch, coming next, may call durable."""
        return max(self.revision, self._opened_at if epoch == self._epoch else self.reserved)

    def lost(self) -> None:
        """Records are missing here: what comes next may have any revision."""
        self._last = self._time = self._epoch = None
        self._start = 2**63
        self._first = False

    def take(self, read: Record) -> Wrong | None:
        """Go on with the next record; what is wrong with it. One that a start refuses changes nothing."""
        if read.epoch != self._epoch:
            self._opened_at = self.known(read.epoch)
            if self.reserved and self._epoch is not None:
                # revisions that may have been given out before this opening are left out
                self._last = max(self._last or self._start, self.reserved)
            self._epoch = read.epoch
        wrong = self._why(read)
        self._first = False
        if wrong is not None and wrong.refused:
            return wrong
        self.time = max(self.time, read.time)
        if read.kind in record.COMMITS:
            self._last = read.last
            self._time = read.time
            self.revision = max(self.revision, read.last)
        elif read.kind == record.CLOSED:
            self._last = max(self._last or 0, read.revision)
            self.revision = max(self.revision, read.revision)
            self.reserved = 0
        return wrong

    def _why(self, read: Record) -> Wrong | None:
        if self._first and read.kind not in record.COMMITS and read.revision > self._start:
            return Wrong(f"revision {read.revision} comes, {self._start} was expected", True)
        match read.kind:
            case record.COMMIT | record.EXPIRY | record.PUTS:
                return self._commit(read)
            case record.RESERVE:
                try:
                    self.reserved = record.decode_reserve(read.payload)
                except (ValueError, msgspec.DecodeError) as e:
                    return Wrong(f"the reservation cannot be read: {e}", True)
                return None
            case record.CLOSED:
                if read.payload:
                    return Wrong("a closing holds something", False)
                return None
            case kind:
                return Wrong(f"there is no record of kind {kind}", True)

    def _commit(self, read: Record) -> Wrong | None:
        try:
            user, comment, writes = _contents(read)
        except ValueError as e:
            return Wrong(str(e), read.revision > self.revision)
        self.changes = len(writes)
        why = why_no_writes(writes)
        if why is not None or type(user) is not str or type(comment) is not str:
            return Wrong(why or "user or comment is not text", False)
        if self._last is None:
            if read.revision > self._start + 1:
                # a start looks at the very first record only
                refused = self._first
                return Wrong(f"revision {read.revision} comes, {self._start + 1} was expected", refused)
        elif read.revision != self._last + 1:
            return Wrong(f"revision {read.revision} comes, {self._last + 1} was expected", False)
        if self._time is not None and read.time < self._time:
            return Wrong("its time is before that of the commit before it", False)
        if read.durable >= read.revision:
            return Wrong("it calls itself durable before it was written", False)
        return None


def _contents(read: Record) -> tuple[str, str, list[Write]]:
    """User, comment and writes of a commit, or of a run of them; ``ValueError`` if they cannot be read."""
    if read.kind != record.PUTS:
        payload = record.decode_payload(read.payload)
        return payload.user, payload.comment, list(payload.writes)
    run = record.decode_puts(read.payload)
    record.check_distinct(run)
    if len(run.keys) != read.size:
        raise ValueError(f"a run of {read.size} puts holds {len(run.keys)}")
    puts: list[Write] = [Put(run.namespace, key, value) for key, value in zip(run.keys, run.values, strict=True)]
    return run.user, run.comment, puts
