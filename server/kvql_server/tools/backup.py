"""A copy of a store that may be in use: a committed prefix, a store of its own.

It needs no lock and no word with the process that writes. MANIFEST is only ever replaced whole, names of files are not
used twice, files only grow, and an open file stays readable when it is removed: so what one MANIFEST names, all of it
open, is a store whatever happens meanwhile; if a checkpoint removed a file before it could be opened, the next MANIFEST
is read. Segments are copied newest first, because nothing is written to a segment before all of the one before is on
the disk: an older segment then holds at least what the newer one goes on from.

The copy ends with the last whole record, after its file was synced, so it never holds what a power loss could still
take from the store itself. It gets a name of its own: from here on the two go separate ways, and a file of one must not
be taken for a file of the other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from kvql_server.engines.hashtable import checkpoint, manifest, record
from kvql_server.engines.hashtable.files import File, Files, Reader
from kvql_server.engines.hashtable.manifest import Manifest, Segment
from kvql_server.engines.hashtable.record import SEGMENT_HEADER_BYTES
from kvql_server.engines.hashtable.recovery import not_a_crash
from kvql_server.tools.copying import copy_bytes, write_all
from kvql_server.tools.examine import Examination, NoStore, examine
from kvql_server.tools.sequence import Sequence

OPEN_AGAIN: Final = 100
OPEN_AGAIN_S: Final = 0.02
SETTLE_S: Final = 0.2
"""A write that is under way is seen in parts; after this long it is whole, or it is not a write that is under way."""
SETTLE_AGAIN: Final = 5


class NoBackup(Exception):
    """There is no copy; the sentence says why, ``damaged`` whether the store itself is at fault."""

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made, read back and found sound."""

    folder: str
    store: str
    revision: int
    size: int
    left_out: int
    """Bytes at the end of the log that were no whole record: a crash's."""


class _Source:
    """What one MANIFEST names, all of it open."""

    def __init__(self, found: Manifest, opened: dict[str, File]) -> None:
        self.manifest = found
        self.opened = opened

    def close(self) -> None:
        for file in self.opened.values():
            file.close()


def back_up(reader: Reader, files: Files, folder: str, to: str) -> Backup:
    """Copy the store in ``folder`` to ``to``, which is absent or an empty folder.

    ``to`` appears at once and whole, by renaming; after :class:`NoBackup` nothing is left. ``reader`` reads the store
    and cannot change it, ``files`` writes.
    """
    folder, to = os.path.abspath(folder), os.path.abspath(to)
    half = f"{to}.tmp"
    if os.path.lexists(to) and (os.path.islink(to) or not os.path.isdir(to) or os.listdir(to)):
        raise NoBackup(f"{to} is there and not an empty folder; name another place")
    source = _open_all(reader, folder)
    made = False
    try:
        with _undisturbed():
            _make_folder(half)
            made = True
        left_out = _write(files, folder, source, half)
        done = _examined(reader, half)
        _name(files, half, to)
    except OSError as e:
        raise NoBackup(f"the backup to {to} failed, and nothing of it is left: {e.strerror or e}") from None
    finally:
        if made:
            shutil.rmtree(half, ignore_errors=True)
        source.close()
    size = sum(line.size for line in done.lines())
    assert done.manifest is not None
    return Backup(to, done.manifest.store, done.revision, size, left_out)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What a signal ends before or after, and not in the middle."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_folder(half: str) -> None:
    try:
        os.mkdir(half, 0o700)
    except FileExistsError:
        raise NoBackup(f"{half} is there: another backup is being written, or one was interrupted; remove it") from None
    except OSError as e:
        raise NoBackup(f"cannot make the folder {half}: {e.strerror}") from None


def _name(files: Files, half: str, to: str) -> None:
    os.rename(half, to)
    try:
        files.sync_folder(os.path.dirname(to))
    except OSError:
        shutil.rmtree(to, ignore_errors=True)
        raise


def _open_all(reader: Reader, folder: str) -> _Source:
    for _ in range(OPEN_AGAIN):
        found = _manifest(reader, folder)
        names = [segment.file for segment in found.segments]
        if found.checkpoint is not None:
            names.append(found.checkpoint.file)
        source = _Source(found, {})
        try:
            for name in names:
                source.opened[name] = reader.open(os.path.join(folder, name))
            return source
        except FileNotFoundError as e:
            source.close()
            missing = e.filename
        except OSError as e:
            source.close()
            raise NoBackup(f"cannot read {e.filename}: {e.strerror}") from None
        time.sleep(OPEN_AGAIN_S)
    raise NoBackup(f"{missing} is missing, though MANIFEST names it; see kvql-server verify", damaged=True)


def _manifest(reader: Reader, folder: str) -> Manifest:
    path = os.path.join(folder, manifest.NAME)
    try:
        file = reader.open(path)
    except FileNotFoundError:
        raise NoStore(f"there is no store in {folder}") from None
    except OSError as e:
        raise NoBackup(f"cannot read {path}: {e.strerror}") from None
    try:
        return manifest.decode(file.read_at(file.size(), 0), path)
    finally:
        file.close()


# ── writing the copy ──────────────────────────────────────────────────────────────────────────────────────────────


def _write(files: Files, folder: str, source: _Source, half: str) -> int:
    """Everything but the name; how many bytes at the end of the log were left out."""
    found = msgspec.structs.replace(source.manifest, store=os.urandom(8).hex())
    left_out = 0
    for listed in reversed(found.segments):
        path = os.path.join(folder, listed.file)
        end, rest = _good_end(source, listed, path)
        left_out += rest
        _copy_segment(files, source.opened[listed.file], os.path.join(half, listed.file), listed, found.store, end)
    if found.checkpoint is not None:
        name = found.checkpoint.file
        _copy_checkpoint(files, source.opened[name], os.path.join(folder, name), os.path.join(half, name), found.store)
    manifest.write(files, half, found)
    return left_out


def _good_end(source: _Source, listed: Segment, path: str) -> tuple[int, int]:
    """Where the last whole record ends, durably, and how many bytes behind it are neither a record nor zeros."""
    file, store = source.opened[listed.file], source.manifest.store
    header = record.decode_segment_header(file.read_at(SEGMENT_HEADER_BYTES, 0), path)
    if (header.store.hex(), header.number, header.epoch) != (store, listed.number, listed.epoch):
        raise NoBackup(f"{path} is of another store; see kvql-server verify", damaged=True)
    end, left_out = _settled_end(source, listed, path)
    file.sync()
    return end, left_out


def _settled_end(source: _Source, listed: Segment, path: str) -> tuple[int, int]:
    file = source.opened[listed.file]
    end, before = SEGMENT_HEADER_BYTES, b""
    for look in range(SETTLE_AGAIN):
        began = end
        for offset, _ in record.read_records(file, end):
            end = offset
        rest = file.read_at(max(file.size() - end, 0), end).rstrip(b"\0")
        if not rest or (look and end > began):
            return end, 0  # nothing, or a write that was under way and has gone on
        if look and not_a_crash(rest, end, listed.epoch, _known(source, listed)) is not None:
            raise NoBackup(
                f"{path} is damaged at offset {end}, with whole records after it; see kvql-server verify", damaged=True
            )
        if rest == before:
            break
        before = rest
        time.sleep(SETTLE_S)
    return end, len(rest)


def _known(source: _Source, listed: Segment) -> int:
    """What a record behind the whole ones of a segment may call durable; found by reading all that comes before."""
    point = source.manifest.checkpoint
    sequence = Sequence(0 if point is None else point.revision)
    for segment in source.manifest.segments:
        for _, read in record.read_records(source.opened[segment.file], SEGMENT_HEADER_BYTES):
            sequence.take(read)
        if segment == listed:
            break
    return sequence.known(listed.epoch)


def _copy_segment(files: Files, file: File, to: str, listed: Segment, store: str, end: int) -> None:
    copy = files.create(to)
    try:
        header = record.SegmentHeader(listed.epoch, bytes.fromhex(store), listed.number)
        write_all(copy, record.encode_segment_header(header), 0)
        copy_bytes(file, copy, SEGMENT_HEADER_BYTES, end)
        copy.sync()
    finally:
        copy.close()


def _copy_checkpoint(files: Files, file: File, path: str, to: str, store: str) -> None:
    """The checksums are begun with the header, which names the store: so they are made anew, the old ones checked."""
    header, crc = checkpoint.read_header(file, path)
    copy = files.create(to)
    try:
        writer = checkpoint.Writer(copy, header._replace(store=bytes.fromhex(store)))
        for block in checkpoint.read_blocks(file, path, crc):
            writer.add_payload(block.kind, block.payload, block.members)
        writer.finish()
    finally:
        copy.close()


def _examined(reader: Reader, half: str) -> Examination:
    done = examine(reader, half)
    if done.effect is not None:
        raise NoBackup(f"the copy is not sound ({done.findings[0]}); see kvql-server verify", damaged=True)
    return done
