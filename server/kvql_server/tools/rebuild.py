"""A MANIFEST for a folder that has none that fits: which checkpoint and which segments make a store is read off the
files themselves.

Nothing is guessed. Every file tells its store and its place, every record the one before it, every revision the next;
a set of files is taken only if a start would accept it and no revision is missing in it. What the set cannot show is
whether something newer was lost along with MANIFEST.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint, record
from kvql_server.engines.hashtable.files import Reader
from kvql_server.engines.hashtable.manifest import Checkpoint, Manifest, Segment
from kvql_server.engines.hashtable.recovery import OURS
from kvql_server.tools.examine import Examination, examine
from kvql_server.tools.findings import Effect


class _Found(NamedTuple):
    """A file that tells by its header where it belongs."""

    name: str
    store: str
    epoch: int
    place: int
    """Number of a segment, revision of a checkpoint."""


def rebuilt(files: Reader, folder: str, store: str | None = None) -> Examination | None:
    """The folder with the MANIFEST that fits it, or None; ``store`` if it is known whose files count.

    If none fits, the one that loses least when the log is cut off where its chain ends.
    """
    names = files.names(folder)
    segments = [found for name in names if name.startswith("log-") and (found := _segment(files, folder, name))]
    points = [found for name in names if name.startswith("checkpoint-") and (found := _point(files, folder, name))]
    stores = {found.store for found in (*segments, *points)}
    if store is None and len(stores) == 1:
        (store,) = stores
    if store is None or store not in stores:
        return None
    segments = [found for found in segments if found.store == store]
    points = sorted((found for found in points if found.store == store), key=lambda found: -found.place)
    fallback: Examination | None = None
    for candidate in _candidates(files, folder, store, segments, points):
        done = examine(files, folder, candidate)
        if done.effect in (None, Effect.CUT):
            return done
        if done.only_the_log and (fallback is None or done.revision > fallback.revision):
            fallback = done
    return fallback


def _segment(files: Reader, folder: str, name: str) -> _Found | None:
    if not OURS.fullmatch(name):
        return None
    path = os.path.join(folder, name)
    try:
        file = files.open(path)
    except OSError:
        return None
    try:
        header = record.decode_segment_header(file.read_at(record.SEGMENT_HEADER_BYTES, 0), path)
        holds = next(record.read_records(file, record.SEGMENT_HEADER_BYTES), None) is not None
    except base.NewerFormat:
        raise
    except (base.Corrupted, OSError):
        return None
    finally:
        file.close()
    if name != record.segment_name(header.number) or not holds:
        return None  # a segment without records need not be read
    return _Found(name, header.store.hex(), header.epoch, header.number)


def _point(files: Reader, folder: str, name: str) -> _Found | None:
    if not OURS.fullmatch(name) or name.endswith(".tmp"):
        return None
    path = os.path.join(folder, name)
    try:
        file = files.open(path)
    except OSError:
        return None
    try:
        header, _ = checkpoint.read_header(file, path)
    except base.NewerFormat:
        raise
    except (base.Corrupted, OSError):
        return None
    finally:
        file.close()
    if name != checkpoint.checkpoint_name(header.revision):
        return None
    return _Found(name, header.store.hex(), header.epoch, header.revision)


def _candidates(
    files: Reader, folder: str, store: str, segments: list[_Found], points: list[_Found]
) -> Iterator[Manifest]:
    """From the newest checkpoint and all segments to fewer: old ones may have outlived their removal."""
    segments = sorted(segments, key=lambda found: found.place)
    numbers = [int(match[1]) for name in files.names(folder) if (match := re.match(r"log-([0-9]{8})\.kvl", name))]
    epoch = max(found.epoch for found in (*segments, *points))
    for point in (*points, None):
        for first in range(len(segments) + 1):
            if first == len(segments) and (point is None or segments):
                break  # a checkpoint stands alone only where there is no log
            yield Manifest(
                store=store,
                epoch=epoch,
                next_number=max(numbers, default=0) + 1,
                checkpoint=None if point is None else Checkpoint(point.name, point.place),
                segments=tuple(Segment(found.name, found.place, found.epoch) for found in segments[first:]),
            )
