"""Which files make up the store: a small file that is only ever replaced whole (``docs/format/folder.md``)."""

from __future__ import annotations

import os
from typing import Final
from zlib import crc32

import msgspec

from kvql_server.engines import base
from kvql_server.engines.hashtable.files import SEE, File, Files

FORMAT: Final = 1
NAME: Final = "MANIFEST"


class Segment(msgspec.Struct, frozen=True):
    """A log segment that recovery reads, in this order."""

    file: str
    number: int
    epoch: int


class Checkpoint(msgspec.Struct, frozen=True):
    """The checkpoint that recovery starts from; segments hold what came after its revision."""

    file: str
    revision: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    store: str
    """Sixteen hexadecimal digits, drawn when the store was made: files of another store are refused."""
    epoch: int = 0
    """Counts the openings of the store."""
    next_number: int = 1
    """For the next segment: numbers are never reused."""
    checkpoint: Checkpoint | None = None
    segments: tuple[Segment, ...] = ()


class _Format(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    return body + b"\n" + f"{crc32(body):08x}\n".encode()


def decode(data: bytes, path: str) -> Manifest:
    """:class:`base.Corrupted` naming the file, also for a newer format."""
    body, _, tail = data.rstrip(b"\n").rpartition(b"\n")
    if not body:
        raise base.Corrupted(f"{path} is empty or cut short; {SEE}")
    if tail != f"{crc32(body):08x}".encode():
        raise base.Corrupted(f"{path} is damaged: its checksum does not match; {SEE}")
    try:
        version = msgspec.json.decode(body, type=_Format).format
        if version > FORMAT:
            raise base.NewerFormat(
                f"{path} has format {version}, this release reads up to {FORMAT}; use a newer release"
            )
        return msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as e:
        raise base.Corrupted(f"{path} is damaged: {e}; {SEE}") from None


def write(files: Files, folder: str, manifest: Manifest) -> None:
    """Replace the manifest; durable when this returns."""
    path = os.path.join(folder, NAME)
    write_whole(files, path + ".tmp", encode(manifest))
    files.rename(path + ".tmp", path)
    files.sync_folder(folder)


def write_whole(files: Files, path: str, data: bytes) -> None:
    """A new file with these bytes, synced; its name is not."""
    write_start(files.create(path), path, data)


def write_start(file: File, path: str, data: bytes) -> None:
    """The first bytes of a file, which is synced and closed then."""
    try:
        if file.write_at(data, 0) != len(data):
            raise OSError(f"short write to {path}")
        file.sync()
    finally:
        file.close()
