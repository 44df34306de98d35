"""Copying a file piece by piece, synced at the end."""

from __future__ import annotations

from typing import Final

from kvql_server.engines.hashtable.files import File, Files

PIECE_BYTES: Final = 4 << 20


def copy_file(files: Files, path: str, to: str) -> None:
    """A new file with the bytes of another; its name is not durable yet."""
    source = files.open(path)
    try:
        target = files.create(to)
        try:
            copy_bytes(source, target, 0, source.size())
            target.sync()
        finally:
            target.close()
    finally:
        source.close()


def copy_bytes(source: File, target: File, start: int, end: int) -> None:
    """Copy [start, end) to the same place."""
    while start < end:
        piece = source.read_at(min(PIECE_BYTES, end - start), start)
        if not piece:
            raise OSError("the file became shorter while it was copied")
        write_all(target, piece, start)
        start += len(piece)


def write_all(target: File, data: bytes, offset: int) -> None:
    """OSError for a short write."""
    written = target.write_at(data, offset)
    if written != len(data):
        raise OSError(f"short write: {written} of {len(data)} bytes")
