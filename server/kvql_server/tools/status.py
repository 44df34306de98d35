"""What the files of a store tell by themselves, read without opening the store, while it is in use or not."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint, manifest, record
from kvql_server.engines.hashtable.files import SEE, Reader, lock_holder
from kvql_server.engines.hashtable.manifest import Manifest
from kvql_server.tools.examine import NoStore

AGAIN: Final = 20
AGAIN_S: Final = 0.02


def figures(reader: Reader, folder: str, now: float) -> dict[str, Any]:
    """Names and figures in the order in which they are shown; ``now`` in seconds since 1970.

    :class:`NoStore`, :class:`base.Corrupted`; OSError if something cannot be read.
    """
    for again in range(AGAIN):
        if manifest.NAME not in reader.names(folder):
            raise NoStore(f"there is no store in {folder}")
        found = _manifest(reader, folder)
        try:
            return {**_state(folder), **_store(folder, found), **_log(reader, folder, found),
                    **_checkpoint(reader, folder, found, now)}  # fmt: skip
        except FileNotFoundError as e:
            # a checkpoint may have removed it meanwhile
            missing = e.filename
        if again + 1 < AGAIN:
            time.sleep(AGAIN_S)
    raise base.Corrupted(f"{missing} is missing, though MANIFEST names it; {SEE}")


def _manifest(reader: Reader, folder: str) -> Manifest:
    path = os.path.join(folder, manifest.NAME)
    file = reader.open(path)
    try:
        return manifest.decode(file.read_at(file.size(), 0), path)
    finally:
        file.close()


def _state(folder: str) -> dict[str, Any]:
    holder = lock_holder(folder)
    if not holder.held:
        return {"state": "stopped", "process": None, "url": None}
    return {"state": "running", "process": holder.process, "url": holder.url}


def _store(folder: str, found: Manifest) -> dict[str, Any]:
    return {"folder": folder, "format": found.format, "store": found.store, "epoch": found.epoch}


def _log(reader: Reader, folder: str, found: Manifest) -> dict[str, Any]:
    revision = 0 if found.checkpoint is None else found.checkpoint.revision
    closed = not found.segments
    size = used = records = 0
    for segment in found.segments:
        file = reader.open(os.path.join(folder, segment.file))
        try:
            size += file.size()
            end = record.SEGMENT_HEADER_BYTES
            for offset, read in record.read_records(file, end):
                end = offset
                records += 1
                closed = read.kind == record.CLOSED
                if read.kind in record.COMMITS or closed:
                    revision = max(revision, read.last)
            used += end
        finally:
            file.close()
    return {
        "revision": revision, "closed": closed, "segments": len(found.segments), "records": records,
        "log_bytes": used, "log_bytes_allocated": size,
    }  # fmt: skip


def _checkpoint(reader: Reader, folder: str, found: Manifest, now: float) -> dict[str, Any]:
    if found.checkpoint is None:
        return {"checkpoint": None}
    path = os.path.join(folder, found.checkpoint.file)
    file = reader.open(path)
    try:
        header, _ = checkpoint.read_header(file, path)
        return {
            "checkpoint": found.checkpoint.file,
            "checkpoint_revision": header.revision,
            "checkpoint_bytes": file.size(),
            "checkpoint_pairs": checkpoint.read_pairs(file),
            "checkpoint_time": header.time,
            "checkpoint_age_s": max(0, round(now - header.time / 1_000_000)),
            "history": checkpoint.read_history(file),
        }
    finally:
        file.close()
