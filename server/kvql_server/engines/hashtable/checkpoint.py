"""The bytes of a checkpoint, made so that a million pairs are read in well under a second
(``docs/format/checkpoint.md``).

Blocks of pairs of one namespace in key order, each a few columns: the decoder makes lists in C, and entries come from
three of them by ``map``. What few pairs have (a second version, an expiry) is apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from kvql_server.engines import base
from kvql_server.engines.hashtable.checkpoint_history import Past, decode_journals, namespace_of
from kvql_server.engines.hashtable.columns import MetaRow, decode_states, encode_states
from kvql_server.engines.hashtable.entries import Entry
from kvql_server.engines.hashtable.files import SEE, File, Reader
from kvql_server.engines.hashtable.store import Store, pair_bytes

FORMAT: Final = 2
"""1 knew pairs only."""
_HEADER: Final = struct.Struct("<8sHHI8sQqI")
_BLOCK: Final = struct.Struct("<4sIII")
_FOOTER: Final = struct.Struct("<4sQQI")
_MAGIC: Final = b"KVQLckp\n"
PAIRS: Final = b"KVQb"
HISTORY: Final = b"KVQh"
JOURNALS: Final = b"KVQj"
"""What a block holds."""
_KINDS: Final = (PAIRS, HISTORY, JOURNALS)
_FOOTER_MAGIC: Final = b"KVQf"
BLOCK_PAIRS: Final = 2048
BLOCK_BYTES: Final = 4 << 20
"""A block is ended when its keys and values reach this."""

_encode: Final = msgspec.msgpack.Encoder().encode

Pairs = list[tuple[str, Entry]]


class Header(NamedTuple):
    epoch: int
    store: bytes
    revision: int
    time: int


class Columns(msgspec.Struct, array_like=True):
    namespace: str
    keys: list[str]
    types: bytes
    values: list[Any]
    revisions: bytes
    metas: list[MetaRow]
    which: bytes
    extras: list[tuple[int, int, int, int | None]]


decode_block: Final = msgspec.msgpack.Decoder(Columns).decode
"""The columns of a block's payload; ``msgspec.DecodeError``."""


def checkpoint_name(revision: int) -> str:
    return f"checkpoint-{revision:016d}.kvc"


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Writer:
    """Writes header, blocks, footer to a new file; nothing is durable before :meth:`finish` returns."""

    def __init__(self, file: File, header: Header) -> None:
        self._file = file
        self._offset = 0
        self._blocks = 0
        self.pairs = 0
        data = _HEADER.pack(_MAGIC, FORMAT, 0, header.epoch, header.store, header.revision, header.time, 0)[:-4]
        self._crc = crc32(data)
        self._write(data + self._crc.to_bytes(4, "little"))

    def add(self, namespace: str, pairs: Pairs) -> None:
        """Pairs in key order, after those of earlier calls."""
        for block in _blocks(pairs):
            self.add_payload(PAIRS, _encode_block(namespace, block), len(block))

    def add_payload(self, kind: bytes, payload: bytes, count: int) -> None:
        """A block whose payload is there already; it holds ``count`` of its kind."""
        head = _BLOCK.pack(kind, len(payload), count, 0)[:-4]
        self._crc = crc32(payload, crc32(head, self._crc))
        self._write(head + self._crc.to_bytes(4, "little") + payload)
        self._blocks += 1
        if kind == PAIRS:
            self.pairs += count

    def finish(self) -> int:
        """Footer and sync; the file's length."""
        data = _FOOTER.pack(_FOOTER_MAGIC, self._blocks, self.pairs, 0)[:-4]
        self._write(data + crc32(data, self._crc).to_bytes(4, "little"))
        self._file.sync()
        return self._offset

    def _write(self, data: bytes) -> None:
        written = self._file.write_at(data, self._offset)
        if written != len(data):
            raise OSError(f"short write: {written} of {len(data)} bytes")
        self._offset += len(data)


def _blocks(pairs: Pairs) -> Iterator[Pairs]:
    start, size = 0, 0
    for at, (key, entry) in enumerate(pairs):
        size += pair_bytes(key, entry.value)
        if size > BLOCK_BYTES:
            yield pairs[start : at + 1]
            start, size = at + 1, 0
    if start < len(pairs):
        yield pairs[start:]


def _encode_block(namespace: str, pairs: Pairs) -> bytes:
    return _encode((namespace, [key for key, _ in pairs], *encode_states([entry for _, entry in pairs])))


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Damaged(base.Corrupted):
    """A damaged checkpoint, with the place and the reason apart from the sentence."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {reason}; restore the folder from a backup")
        self.offset = offset
        self.reason = reason


def read_header(file: File, path: str) -> tuple[Header, int]:
    """The header and its CRC."""
    data = file.read_at(_HEADER.size, 0)
    if len(data) < _HEADER.size:
        raise Damaged(path, 0, f"it is cut short ({len(data)} bytes)")
    magic, version, _, epoch, store, revision, time, crc = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise Damaged(path, 0, "it is not a checkpoint")
    if version > FORMAT:
        raise base.NewerFormat(f"{path} has format {version}, this release reads up to {FORMAT}; use a newer release")
    if crc != crc32(data[:-4]):
        raise Damaged(path, 0, "the header's checksum does not match")
    return Header(epoch, store, revision, time), crc


class Block(NamedTuple):
    """``members`` are how many of its ``kind`` (``PAIRS``, ``HISTORY``, ``JOURNALS``) it holds."""

    offset: int
    kind: bytes
    members: int
    payload: bytes


def read_blocks(file: File, path: str, crc: int) -> Iterator[Block]:
    """Each block, every byte of the file checked; ``crc`` is the header's."""
    offset, blocks, pairs = _HEADER.size, 0, 0
    size = file.size()
    while True:
        head = file.read_at(_BLOCK.size, offset)
        if head[:4] == _FOOTER_MAGIC:
            break
        if len(head) < _BLOCK.size or head[:4] not in _KINDS:
            raise Damaged(path, offset, "neither a block nor the footer is there")
        kind, length, count, expected = _BLOCK.unpack(head)
        if offset + _BLOCK.size + length > size:
            raise Damaged(path, offset, "a block runs beyond the end of the file")
        payload = file.read_at(length, offset + _BLOCK.size)
        crc = crc32(payload, crc32(head[:-4], crc))
        if crc != expected:
            raise Damaged(path, offset, "a block's checksum does not match")
        yield Block(offset, kind, count, payload)
        offset += _BLOCK.size + length
        blocks += 1
        if kind == PAIRS:
            pairs += count
    foot = file.read_at(_FOOTER.size + 1, offset)
    if len(foot) != _FOOTER.size or _FOOTER.unpack(foot)[1:] != (blocks, pairs, crc32(foot[:-4], crc)):
        raise Damaged(path, offset, "the footer does not match the blocks")


def read_pairs(file: File) -> int | None:
    """The number of pairs as the footer has it, the rest unread; None if there is no footer."""
    foot = file.read_at(_FOOTER.size, max(file.size() - _FOOTER.size, 0))
    if len(foot) != _FOOTER.size or foot[:4] != _FOOTER_MAGIC:
        return None
    pairs: int = _FOOTER.unpack(foot)[2]
    return pairs


def read_history(file: File) -> dict[str, dict[str, Any]]:
    """What the file keeps of the past, by namespace, pairs unread and checksums unchecked: ``changes``, ``bytes`` (in
    the file), ``oldest_revision``, ``oldest_time`` (microseconds, or None) as the engine's status has them. Namespaces
    of which nothing is kept are left out."""
    found: dict[str, dict[str, Any]] = {}
    offset = _HEADER.size
    try:
        while len(head := file.read_at(_BLOCK.size, offset)) == _BLOCK.size and head[:4] in _KINDS:
            kind, length, members, _ = _BLOCK.unpack(head)
            if kind == HISTORY:
                one = found.setdefault(namespace_of(file.read_at(length, offset + _BLOCK.size)), {})
                one["changes"] = one.get("changes", 0) + members
                one["bytes"] = one.get("bytes", 0) + length
            elif kind == JOURNALS:
                for row in decode_journals(file.read_at(length, offset + _BLOCK.size)):
                    if row.namespace in found:
                        found[row.namespace] |= {"oldest_revision": row.floor, "oldest_time": row.floor_time}
            offset += _BLOCK.size + length
    except msgspec.DecodeError:
        return {}  # verify says more
    return found if all("oldest_revision" in one for one in found.values()) else {}


def verify(files: Reader, path: str) -> int:
    """Read the whole file back; its length. :class:`base.Corrupted` if a byte is not as it was meant."""
    file = files.open(path)
    try:
        _, crc = read_header(file, path)
        for _ in read_blocks(file, path, crc):
            pass
        return file.size()
    finally:
        file.close()


def load(files: Reader, path: str, store: Store) -> Header:
    """Fill the (empty) tables."""
    try:
        file = files.open(path)
    except FileNotFoundError:
        raise base.Corrupted(f"{path} is missing, though MANIFEST names it; {SEE}") from None
    try:
        header, crc = read_header(file, path)
        store.revision = header.revision
        store.unknown = (header.revision, header.time)  # unless the file has journals
        past = Past()
        for block in read_blocks(file, path, crc):
            try:
                if block.kind == PAIRS:
                    _load_block(block.payload, store)
                elif block.kind == HISTORY:
                    past.add(block.payload)
                else:
                    past.load(block.payload, store, header.revision)
            except (msgspec.DecodeError, ArithmeticError, TypeError, ValueError, IndexError) as e:
                raise Damaged(path, block.offset, f"a block cannot be read ({e})") from None
        return header
    finally:
        file.close()


def _load_block(payload: bytes, store: Store) -> None:
    columns = decode_block(payload)
    entries = decode_states(columns)
    table = store.table(columns.namespace)
    for at, _, _, expires_at in columns.extras:
        if expires_at is not None:
            table.expiring += 1
            store.wheel.add(columns.namespace, columns.keys[at], expires_at)
    table.entries.update(zip(columns.keys, entries, strict=True))
    table.kinds.update(map(type, [entry.value for entry in entries]))
    table.order.load(columns.keys)


def path_of(folder: str, revision: int) -> str:
    return os.path.join(folder, checkpoint_name(revision))
