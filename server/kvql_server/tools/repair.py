"""What can be put right without guessing: a log that is cut off where its chain ends, a MANIFEST that the other files
vouch for, what an interrupted change left behind.

First a :class:`Plan`, which changes nothing and can be shown; then :func:`carry_out`. Every file that is changed or
removed is there afterwards as ``….before-repair``. A repair that is interrupted leaves a store that is no better than
before and no worse: it can be repaired again.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Final

import msgspec

from kvql_server.engines.hashtable import manifest, record
from kvql_server.engines.hashtable.files import Files, Reader
from kvql_server.engines.hashtable.manifest import Manifest, Segment
from kvql_server.tools.check_log import LogCheck, SegmentCheck
from kvql_server.tools.copying import copy_file
from kvql_server.tools.examine import Examination
from kvql_server.tools.findings import Effect, count, revisions
from kvql_server.tools.rebuild import rebuilt

UNKNOWN_REVISIONS: Final = 1_000_000
"""Left out where nobody can tell how many commits a lost file held: more than a segment has in practice."""


class Unrepairable(Exception):
    """Only a backup helps; the sentence says why."""


@dataclass
class Plan:
    """What a repair changes."""

    folder: str
    manifest: Manifest
    rewrite: bool = False
    """Whether MANIFEST is to be written."""
    headers: list[Segment] = field(default_factory=list)
    """Segments whose header is written anew."""
    cuts: list[tuple[str, int]] = field(default_factory=list)
    """Files and where they end from then on."""
    aside: list[str] = field(default_factory=list)
    """Files that get another name."""
    reservation: bytes = b""
    """A new segment, the last of ``manifest``, which keeps lost revisions from being used again."""
    said: list[str] = field(default_factory=list)
    """What will happen, in sentences."""

    @property
    def copied(self) -> list[str]:
        """Files that are changed where they are."""
        names = [*(segment.file for segment in self.headers), *(name for name, _ in self.cuts)]
        return sorted({*names, *([manifest.NAME] if self.rewrite else [])})

    @property
    def is_empty(self) -> bool:
        return not (self.rewrite or self.copied or self.aside)


def plan(files: Reader, done: Examination) -> Plan:
    """What would put ``done`` right; :class:`Unrepairable`."""
    if done.newer:
        raise Unrepairable(f"{done.folder} is of a newer release, or its headers are damaged; use that release")
    chosen, said = done, []
    if done.effect in (Effect.REFUSED, Effect.UNSEEN):
        found = rebuilt(files, done.folder, None if done.manifest is None else done.manifest.store)
        fits = done.manifest is not None and done.only_the_log
        if found is not None and (not fits or found.revision > done.revision):
            chosen = found
            said.append(_told_manifest(chosen))
        elif not fits:
            raise Unrepairable(_why_unrepairable(done))
    assert chosen.manifest is not None and chosen.log is not None
    if chosen.log.unreadable is not None:
        raise Unrepairable(
            f"{os.path.join(done.folder, chosen.log.unreadable)} cannot be read: the disk or the file's rights are at "
            "fault, and not what the store wrote; copy the folder to another disk, or restore it from a backup"
        )
    made = Plan(done.folder, chosen.manifest, rewrite=chosen is not done, said=said)
    if chosen.effect is not None:
        _cut(made, chosen)
    _tidy(made, done, chosen)
    return made


def _why_unrepairable(done: Examination) -> str:
    worst = next((f for f in done.findings if f.effect is not Effect.CUT), None)
    what = "the files do not make up one store" if worst is None or done.manifest is None else str(worst.file)
    return f"{done.folder} cannot be repaired without guessing ({what}); restore it from a backup"


def _told_manifest(chosen: Examination) -> str:
    assert chosen.manifest is not None
    point = chosen.manifest.checkpoint
    on = "no checkpoint" if point is None else point.file
    log = count(len(chosen.manifest.segments), "segment")
    return (
        f"MANIFEST is written anew from {on} and {log} of the log, which reach revision {chosen.revision}; "
        "whether files with newer commits were lost with it cannot be seen"
    )


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _cut(made: Plan, chosen: Examination) -> None:
    """Keep what follows on, drop the rest, and say what that is."""
    log = chosen.log
    assert log is not None
    last = log.kept if log.lost is not None else len(log.segments) - 1
    kept: list[Segment] = []
    unknown = 0  # so many revisions may have been in what nobody can read
    for number, check in enumerate(log.segments):
        name = check.listed.file
        if number >= log.kept:  # before that, the chain shows that nothing is missing
            unknown += _revisions_in(check)
        if number > last or not check.readable or (check.header_damaged and check.end == record.SEGMENT_HEADER_BYTES):
            if name in chosen.names:
                made.aside.append(name)
            made.said.append(_told_dropped(check, missed=number > log.kept))
            made.rewrite = True
            continue
        kept.append(check.listed)
        if check.header_damaged:
            made.headers.append(check.listed)
            made.said.append(f"{name}: its header is written anew; MANIFEST has all that stands in it")
        if check.damaged:
            made.cuts.append((name, check.end))
            made.said.append(f"{name}: cut off at offset {check.end}, which drops {check.used - check.end:,} bytes")
    made.manifest = msgspec.structs.replace(made.manifest, segments=tuple(kept))
    refused = any(finding.effect is Effect.REFUSED for finding in log.findings)
    if log.lost is not None:
        made.said.append(_told_lost(log, refused=refused))
    if refused and (log.lost is not None or unknown):
        _reserve(made, chosen, max(log.sequence.next_revision + unknown, log.behind.next_revision) - 1)


def _revisions_in(check: SegmentCheck) -> int:
    """At most so many commits are in what is lost of this segment."""
    if not check.readable or (check.header_damaged and not check.whole.records):
        return UNKNOWN_REVISIONS
    return -(-max(check.used - check.end, 0) // record.RECORD_EXTRA_BYTES)


def _told_dropped(check: SegmentCheck, *, missed: bool) -> str:
    name, whole = check.listed.file, check.whole
    if not missed:
        return f"{name}: taken out of MANIFEST; nothing that the store needs was in it"
    if not whole.records:
        return f"{name}: taken out of MANIFEST; what it held is lost, and nobody can tell how much"
    held = f"{count(whole.records, 'whole record')}, {revisions(whole.first, whole.last)}"
    return f"{name}: dropped whole ({held})"


def _told_lost(log: LogCheck, *, refused: bool) -> str:
    assert log.lost is not None
    why = "" if refused else "; as a crash left them, they were never confirmed"
    first = log.sequence.revision + 1
    until = log.lost.last
    if until is None or until < first:
        return f"dropped: {count(log.lost.records, 'whole record')} without commits{why}"
    return (
        f"dropped: {revisions(first, until)}; {count(log.lost.records, 'whole record')} with "
        f"{revisions(log.lost.first, log.lost.last)} can still be read in the copies{why}"
    )


def _reserve(made: Plan, chosen: Examination, until: int) -> None:
    """Revisions that were dropped must not come again with other commits: clients have seen them."""
    found, log = made.manifest, chosen.log
    assert log is not None
    epoch, number = found.epoch + 1, found.next_number
    while record.segment_name(number) in chosen.names:
        number += 1
    last = log.sequence.revision
    payload = record.encode_reserve(until)
    data, _ = record.frame(record.RESERVE, epoch, log.crc, last, last, log.sequence.time, payload)
    header = record.SegmentHeader(epoch, bytes.fromhex(found.store), number)
    made.reservation = record.encode_segment_header(header) + data
    listed = Segment(record.segment_name(number), number, epoch)
    made.manifest = msgspec.structs.replace(
        found, epoch=epoch, next_number=number + 1, segments=(*found.segments, listed)
    )
    made.rewrite = True
    made.said.append(f"the store goes on with revision {until + 1}, so that none of them is used again")


def _tidy(made: Plan, done: Examination, chosen: Examination) -> None:
    named = {segment.file for segment in made.manifest.segments}
    if made.manifest.checkpoint is not None:
        named.add(made.manifest.checkpoint.file)
    unlisted = {*done.leftovers, *chosen.leftovers, *(f.file for f in done.findings if f.file in done.names)}
    known = {*named, *made.aside, manifest.NAME}
    for name in sorted(unlisted - known):
        made.aside.append(name)
        made.said.append(f"{name}: set aside, the store does not need it")


# ── carrying it out ───────────────────────────────────────────────────────────────────────────────────────────────


def carry_out(files: Files, made: Plan) -> list[str]:
    """Do it, durably; the names of the copies."""
    folder = made.folder
    copies = _copy_all(files, made)
    # the reservation first: interrupted behind it, the rest is still damaged, and the next repair finds it
    if made.reservation:
        manifest.write_whole(files, os.path.join(folder, made.manifest.segments[-1].file), made.reservation)
        files.sync_folder(folder)
    if made.rewrite:
        manifest.write(files, folder, made.manifest)
    store = bytes.fromhex(made.manifest.store)
    for segment in made.headers:
        path = os.path.join(folder, segment.file)
        header = record.SegmentHeader(segment.epoch, store, segment.number)
        manifest.write_start(files.open(path), path, record.encode_segment_header(header))
    for name, end in made.cuts:
        _truncate(files, os.path.join(folder, name), end)
    for name in made.aside:
        with contextlib.suppress(FileNotFoundError):  # MANIFEST.tmp has become MANIFEST
            files.remove(os.path.join(folder, name))
    files.sync_folder(folder)
    return copies


def _copy_all(files: Files, made: Plan) -> list[str]:
    """Before anything is changed, a copy of all that will be, on the disk with its name."""
    taken = set(files.names(made.folder))
    copies: list[str] = []
    for name in dict.fromkeys((*made.copied, *made.aside)):
        if name in taken:
            copy = _free(name, taken)
            taken.add(copy)
            copy_file(files, os.path.join(made.folder, name), os.path.join(made.folder, copy))
            copies.append(copy)
    files.sync_folder(made.folder)
    return copies


def _free(name: str, taken: set[str]) -> str:
    copy, number = f"{name}.before-repair", 1
    while copy in taken:
        number += 1
        copy = f"{name}.before-repair-{number}"
    return copy


def _truncate(files: Files, path: str, end: int) -> None:
    file = files.open(path)
    try:
        file.truncate(end)
        file.sync()
    finally:
        file.close()
