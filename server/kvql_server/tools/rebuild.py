"""A MANIFEST for a folder that has none that fits: which checkpoint and which segments make a store is read off the
files themselves.

Nothing is guessed. Every file tells its store and its place, every record the one before it, every revision the next;
a set of files is taken only if a start would accept it and no revision is missing in it. What the set cannot show is
whether something newer was lost along with MANIFEST.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint, record
from kvql_server.engines.hashtable.files import File, Reader
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
    names = [name for name in files.names(folder) if OURS.fullmatch(name) and not name.endswith(".tmp")]
    segments = [found for name in names if name.startswith("log-") and (found := _told(files, folder, name, _segment))]
    points = [
        found for name in names if name.startswith("checkpoint-") and (found := _told(files, folder, name, _point))
    ]
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


def _told(files: Reader, folder: str, name: str, read: Callable[[File, str], _Found | None]) -> _Found | None:
    """What a file says of itself; None if nothing, or if it has another's name. Of a newer release: an error."""
    path = os.path.join(folder, name)
    try:
        file = files.open(path)
    except OSError:
        return None
    try:
        found = read(file, path)
    except base.NewerFormat:
        raise
    except (base.Corrupted, OSError):
        return None
    finally:
        file.close()
    return found if found is not None and found.name == name else None


def _segment(file: File, path: str) -> _Found | None:
    header = record.decode_segment_header(file.read_at(record.SEGMENT_HEADER_BYTES, 0), path)
    if next(record.read_records(file, record.SEGMENT_HEADER_BYTES), None) is None:
        return None  # a segment without records need not be read
    return _Found(record.segment_name(header.number), header.store.hex(), header.epoch, header.number)


def _point(file: File, path: str) -> _Found | None:
    header, _ = checkpoint.read_header(file, path)
    return _Found(checkpoint.checkpoint_name(header.revision), header.store.hex(), header.epoch, header.revision)


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
