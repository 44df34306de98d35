"""A whole folder, read and judged; nothing in it is changed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from itertools import pairwise

from kvql_server.engines import base
from kvql_server.engines.hashtable import manifest, record
from kvql_server.engines.hashtable.checkpoint import checkpoint_name
from kvql_server.engines.hashtable.files import SEE, Reader
from kvql_server.engines.hashtable.manifest import Manifest
from kvql_server.engines.hashtable.recovery import OURS
from kvql_server.tools.check_checkpoint import CheckpointCheck
from kvql_server.tools.check_log import LogCheck
from kvql_server.tools.findings import Effect, FileLine, Finding, count


class NoStore(Exception):
    """The folder holds no store."""


@dataclass
class Examination:
    """What a folder holds, and what is wrong with it."""

    folder: str
    names: list[str]
    manifest: Manifest | None = None
    manifest_size: int = 0
    checkpoint: CheckpointCheck | None = None
    log: LogCheck | None = None
    findings: list[Finding] = field(default_factory=list)
    newer: bool = False
    """Whether something is of a newer release, which alone may change it."""
    leftovers: list[str] = field(default_factory=list)
    """What an interrupted change left, and the next start removes."""

    @property
    def effect(self) -> Effect | None:
        """The worst that was found; None if the store is sound."""
        found = {finding.effect for finding in self.findings}
        return next((effect for effect in (Effect.REFUSED, Effect.UNSEEN, Effect.CUT) if effect in found), None)

    @property
    def only_the_log(self) -> bool:
        """Whether all damage is in the log, and of a kind that a start sees: places where its chain ends."""
        segments = set() if self.log is None else {segment.listed.file for segment in self.log.segments}
        return all(f.file in segments and f.effect is not Effect.UNSEEN for f in self.findings)

    @property
    def revision(self) -> int:
        """Of the newest commit that is whole and follows on."""
        if self.log is not None:
            return self.log.sequence.revision
        return 0 if self.checkpoint is None or self.checkpoint.header is None else self.checkpoint.header.revision

    def lines(self) -> list[FileLine]:
        """A line a file, in the order in which a start reads them."""
        lines: list[FileLine] = []
        if self.manifest is not None:
            found = self.manifest
            segments = count(len(found.segments), "segment")
            what = f"format {found.format}, store {found.store}, epoch {found.epoch}, {segments}"
            lines.append(FileLine(manifest.NAME, self.manifest_size, what))
        if self.checkpoint is not None:
            lines.append(self.checkpoint.line())
        if self.log is not None:
            lines += [segment.line() for segment in self.log.segments]
        return lines


def examine(files: Reader, folder: str, instead: Manifest | None = None) -> Examination:
    """Read everything; ``instead`` is used in the place of the folder's own MANIFEST.

    :class:`NoStore`; OSError if the folder itself cannot be read.
    """
    names = files.names(folder)
    done = Examination(folder, names)
    if manifest.NAME not in names and not any(OURS.fullmatch(name) and not name.endswith(".tmp") for name in names):
        raise NoStore(f"there is no store in {folder}")
    if instead is not None:
        done.manifest = instead
    else:
        _read_manifest(files, done)
    found = done.manifest
    if found is None:
        return done
    done.findings += _why_odd(found)
    start = 0
    if found.checkpoint is not None:
        done.checkpoint = _checkpoint(files, done, found, found.checkpoint)
        start = found.checkpoint.revision
    done.log = LogCheck(files, folder, found, start)
    done.findings += done.log.findings
    done.newer = done.log.newer or (done.checkpoint is not None and done.checkpoint.newer)
    _unlisted(files, done, found)
    return done


def _read_manifest(files: Reader, done: Examination) -> None:
    path = os.path.join(done.folder, manifest.NAME)
    try:
        file = files.open(path)
        try:
            done.manifest_size = file.size()
            done.manifest = manifest.decode(file.read_at(done.manifest_size, 0), path)
        finally:
            file.close()
        return
    except FileNotFoundError:
        reason = "it is missing, though other files of a store are there"
    except base.Corrupted as e:
        done.newer = isinstance(e, base.NewerFormat)
        reason = str(e).removeprefix(f"{path} ").removesuffix(f"; {SEE}")
    except OSError as e:
        reason = f"it cannot be read ({e.strerror})"
    done.findings.append(Finding(manifest.NAME, None, reason, Effect.REFUSED))


def _why_odd(found: Manifest) -> list[Finding]:
    """What a store never writes into its MANIFEST."""
    reasons: list[str] = []
    if not re.fullmatch(r"[0-9a-f]{16}", found.store):
        reasons.append(f"the store is called {found.store!r}")
    for segment in found.segments:
        if segment.file != record.segment_name(segment.number):
            reasons.append(f"segment {segment.number} is called {segment.file!r}")
        if segment.number >= found.next_number or segment.epoch > found.epoch:
            reasons.append(f"segment {segment.number} of epoch {segment.epoch} is still to come")
    for one, other in pairwise(found.segments):
        if other.number <= one.number or other.epoch < one.epoch:
            reasons.append(f"segment {other.number} comes after segment {one.number}")
    named = found.checkpoint
    if named is not None and named.file != checkpoint_name(named.revision):
        reasons.append(f"the checkpoint of revision {named.revision} is called {named.file!r}")
    return [Finding(manifest.NAME, None, reason, Effect.UNSEEN) for reason in reasons]


def _checkpoint(files: Reader, done: Examination, found: Manifest, named: manifest.Checkpoint) -> CheckpointCheck:
    check = CheckpointCheck(files, done.folder, named.file)
    if check.finding is not None:
        done.findings.append(check.finding)
    header = check.header
    if header is not None and (header.store.hex(), header.revision) != (found.store, named.revision):
        reason = (
            f"it belongs elsewhere: it is the checkpoint of revision {header.revision} of store {header.store.hex()}"
        )
        done.findings.append(Finding(named.file, 0, reason, Effect.REFUSED))
    return check


def _unlisted(files: Reader, done: Examination, found: Manifest) -> None:
    known = {segment.file for segment in found.segments} | ({found.checkpoint.file} if found.checkpoint else set())
    for name in done.names:
        match = OURS.fullmatch(name)
        if match is None or name in known:
            continue
        reason = None
        if match[1] is not None and int(match[1]) >= found.next_number:
            reason = _why_not_left_over(files, done.folder, name)
        if reason is None:
            done.leftovers.append(name)
        else:
            done.findings.append(Finding(name, None, reason, Effect.REFUSED))


def _why_not_left_over(files: Reader, folder: str, name: str) -> str | None:
    try:
        file = files.open(os.path.join(folder, name))
        try:
            holds = next(record.read_records(file, record.SEGMENT_HEADER_BYTES), None) is not None
        finally:
            file.close()
    except base.NewerFormat as e:
        return str(e)
    except OSError as e:
        return f"it cannot be read ({e.strerror})"
    return "it holds commits, but MANIFEST does not know it: MANIFEST may be an older copy" if holds else None
