"""The bytes of a log: headers of segments, records; ``docs/format/log.md`` describes every one of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from kvql.values import Json, Type
from kvql_server.engines import base
from kvql_server.engines.base import Clear, Delete, Put, Write
from kvql_server.engines.hashtable.files import SEE, File

FORMAT: Final = 2
"""The highest that this release reads; 2 since there are runs of puts."""
PLAIN_FORMAT: Final = 1
"""Of segments, and of records of the kinds that have been there from the beginning."""

SEGMENT_MAGIC: Final = b"KVQLlog\n"
_SEGMENT: Final = struct.Struct("<8sHHI8sI")
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _SEGMENT.size + _CRC.size

RECORD_MAGIC: Final = b"KVQr"
_RECORD: Final = struct.Struct("<4sBBHIIQQqI")
_PREFIX: Final = struct.Struct("<4sBBHI")
_REST: Final = struct.Struct("<IQQqI")
RECORD_HEADER_BYTES: Final = _RECORD.size + _CRC.size
RECORD_EXTRA_BYTES: Final = RECORD_HEADER_BYTES + _CRC.size
WINDOW_BYTES: Final = 4 << 20

COMMIT: Final = 0
EXPIRY: Final = 1
RESERVE: Final = 2
CLOSED: Final = 3
PUTS: Final = 4
COMMITS: Final = (COMMIT, EXPIRY, PUTS)
KINDS: Final = (COMMIT, EXPIRY, RESERVE, CLOSED, PUTS)
RUN_MAX: Final = 0xFFFF
"""Commits of one record."""

_JSON: Final = int(Type.JSON)
_DECIMAL: Final = int(Type.DECIMAL)

pack_rest: Final = _REST.pack
pack_crc: Final = _CRC.pack


# ── payloads ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _encode_other(value: Any) -> msgspec.msgpack.Ext:
    if type(value) is Json:
        return msgspec.msgpack.Ext(_JSON, value.text.encode())
    raise TypeError(f"not a KVQL value: {type(value).__name__}")


def _decode_other(code: int, data: memoryview) -> Any:
    if code == _JSON:
        return Json(str(data, "utf-8"))
    if code == _DECIMAL:
        return Decimal(str(data, "ascii"))
    raise ValueError(f"unknown type code {code}")


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_encode_other).encode
_decode: Final = msgspec.msgpack.Decoder(ext_hook=_decode_other).decode
_decode_run: Final = msgspec.msgpack.Decoder(tuple[str, str, str, list[str], list[Any]], ext_hook=_decode_other).decode


def _decimal_ext(value: Decimal) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())


def _plain_decimal(write: Write) -> Write:
    """msgspec writes Decimal as text, which reads back as TEXT; so it is marked here."""
    if type(write) is Put and type(write.value) is Decimal:
        return Put(write.namespace, write.key, _decimal_ext(write.value), write.expires_at)
    return write


def encode_transactions(transactions: Iterable[base.Transaction]) -> list[bytes]:
    """The payload of each."""
    out: list[bytes] = []
    for t in transactions:
        writes = t.writes
        for write in writes:
            if type(write) is Put and type(write.value) is Decimal:
                writes = [_plain_decimal(each) for each in writes]
                break
        out.append(_encode((t.user, t.comment, t.idempotency_key, writes)))
    return out


def encode_puts(run: base.PutRun) -> list[tuple[bytes, int]]:
    """The payloads of a run, each with how many commits it has: keys and values as columns, a third of the time and a
    fifth of the bytes of records of their own. One, unless the run is longer than a record may be."""
    values: Sequence[Any] = run.values
    if Decimal in set(map(type, values)):
        values = [_decimal_ext(v) if type(v) is Decimal else v for v in values]
    return [
        (_encode((run.user, run.comment, run.namespace, keys, values[at : at + RUN_MAX])), len(keys))
        for at in range(0, len(run.keys), RUN_MAX)
        if (keys := run.keys[at : at + RUN_MAX])
    ]


def decode_puts(data: bytes | memoryview) -> base.PutRun:
    """Inverse of :func:`encode_puts`; ``ValueError`` for what that never writes, but see :func:`check_distinct`."""
    try:
        user, comment, namespace, keys, values = _decode_run(data)
    except (msgspec.DecodeError, TypeError, ValueError, ArithmeticError) as e:
        raise ValueError(f"the payload cannot be read: {e}") from None
    if not 0 < len(keys) == len(values):
        raise ValueError("a run of puts needs as many values as keys")
    return base.PutRun(namespace, keys, values, user, comment)


def check_distinct(run: base.PutRun) -> None:
    """``ValueError`` for a run that puts a key twice. Apart, because whoever fills a table finds out without this."""
    if len(set(run.keys)) != len(run.keys):
        raise ValueError("a run of puts names a key twice")


class Payload(NamedTuple):
    user: str
    comment: str
    idempotency_key: bytes
    writes: Sequence[Write]


def decode_payload(data: bytes | memoryview) -> Payload:
    """Inverse of :func:`encode_transactions`; ``ValueError`` for what that never writes."""
    try:
        user, comment, key, writes = _decode(data)
        return Payload(user, comment, key, [_write(fields) for fields in writes])
    except (msgspec.DecodeError, TypeError, ArithmeticError) as e:
        raise ValueError(f"the payload cannot be read: {e}") from None


def _write(fields: list[Any]) -> Write:
    if len(fields) == 4:
        return Put(*fields)
    if len(fields) == 2:
        return Delete(*fields)
    return Clear(*fields)


def encode_reserve(until: int) -> bytes:
    return _encode(until)


def decode_reserve(data: bytes | memoryview) -> int:
    until = _decode(data)
    if not isinstance(until, int):
        raise ValueError("a reservation is a number")
    return until


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Record(NamedTuple):
    """A valid record and where it ends. ``crc`` is what the next record names as ``previous``."""

    kind: int
    size: int
    """How many commits a run of puts has; 0 for other kinds."""
    epoch: int
    previous: int
    revision: int
    durable: int
    time: int
    payload: bytes
    crc: int
    end: int

    @property
    def last(self) -> int:
        """The revision of the last commit that the record holds."""
        return self.revision + self.size - 1 if self.size else self.revision


def prefix(kind: int, epoch: int, size: int = 0) -> bytes:
    """What the headers of all records of a kind and epoch begin with; ``pack_rest`` makes the rest up to the CRC."""
    return _PREFIX.pack(RECORD_MAGIC, FORMAT if kind == PUTS else PLAIN_FORMAT, kind, size, epoch)


def frame(
    kind: int, epoch: int, previous: int, revision: int, durable: int, time: int, payload: bytes, size: int = 0
) -> tuple[bytes, int]:
    """A record's bytes, and its CRC."""
    head = prefix(kind, epoch, size)
    rest = pack_rest(previous, revision, durable, time, len(payload))
    header_crc = crc32(rest, crc32(head))
    crc = crc32(payload, header_crc)
    return b"".join((head, rest, pack_crc(header_crc), payload, pack_crc(crc))), crc


def read_record(data: bytes, offset: int) -> Record | None:
    """The record at ``offset`` if its bytes are whole; whether it belongs there is the caller's to judge.

    :class:`base.Corrupted` for a newer format, whose header is otherwise in order.
    """
    start = offset + RECORD_HEADER_BYTES
    if len(data) < start:
        return None
    magic, version, kind, size, epoch, previous, revision, durable, time, length = _RECORD.unpack_from(data, offset)
    if magic != RECORD_MAGIC:
        return None
    (header_crc,) = _CRC.unpack_from(data, start - 4)
    if crc32(data[offset : start - 4]) != header_crc:
        return None
    if version > FORMAT:
        raise base.NewerFormat(
            f"a record at offset {offset} has format {version}, this release reads up to {FORMAT}; use a newer release"
        )
    end = start + length + 4
    if len(data) < end:
        return None
    payload = data[start : end - 4]
    (crc,) = _CRC.unpack_from(data, end - 4)
    if crc32(payload, header_crc) != crc:
        return None
    return Record(kind, size, epoch, previous, revision, durable, time, payload, crc, end)


def why_not(data: bytes, offset: int, rest: int) -> str:
    """Why :func:`read_record` found none at ``offset``, where ``rest`` bytes of the file are left."""
    head = data[offset : offset + RECORD_HEADER_BYTES]
    if head[:4] != RECORD_MAGIC[: len(head)]:
        return f"no record begins here, but {bytes(head[:4])!r}"
    if len(head) < RECORD_HEADER_BYTES:
        return f"the header of a record is cut short ({len(head)} of {RECORD_HEADER_BYTES} bytes)"
    if crc32(head[:-4]) != _CRC.unpack_from(head, RECORD_HEADER_BYTES - 4)[0]:
        return "the checksum of a record's header does not match"
    whole = _whole_length(head, 0)
    if whole is not None and whole > rest:
        return f"a record is cut short ({rest} of {whole} bytes)"
    return "the checksum of a record does not match"


def _whole_length(data: bytes, offset: int) -> int | None:
    """How long the record at ``offset`` is, by a header that is in order."""
    head = data[offset : offset + RECORD_HEADER_BYTES]
    if len(head) < RECORD_HEADER_BYTES or head[:4] != RECORD_MAGIC:
        return None
    if crc32(head[:-4]) != _CRC.unpack_from(head, RECORD_HEADER_BYTES - 4)[0]:
        return None
    length: int = _RECORD.unpack_from(head)[-1]
    return RECORD_EXTRA_BYTES + length


def read_records(file: File, offset: int) -> Iterator[tuple[int, Record]]:
    """The whole records from ``offset`` on, each with the offset behind it; they end where none is whole.

    Through a window: a log may be larger than the memory to spare.
    """
    data, start = b"", offset  # ``data`` are the file's bytes from ``start`` on
    while True:
        read = read_record(data, offset - start)
        if read is None:
            wanted = _whole_length(data, offset - start) or 0
            fresh = file.read_at(max(WINDOW_BYTES, wanted), offset)
            if start == offset and len(fresh) <= len(data):
                return
            data, start = fresh, offset
            continue
        offset = start + read.end
        yield offset, read


# ── segments ──────────────────────────────────────────────────────────────────────────────────────────────────────


class SegmentHeader(NamedTuple):
    epoch: int
    store: bytes
    number: int


def encode_segment_header(header: SegmentHeader) -> bytes:
    data = _SEGMENT.pack(SEGMENT_MAGIC, PLAIN_FORMAT, 0, header.epoch, header.store, header.number)
    return data + pack_crc(crc32(data))


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """:class:`base.Corrupted` if it is not one, or of a newer format."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise base.Corrupted(f"{path} is too short for a log segment ({len(data)} bytes); {SEE}")
    magic, version, _, epoch, store, number = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise base.Corrupted(f"{path} is not a log segment: it starts with {data[:8]!r}; {SEE}")
    if version > PLAIN_FORMAT:
        raise base.NewerFormat(
            f"{path} has format {version}, this release reads up to {PLAIN_FORMAT}; use a newer release"
        )
    if _CRC.unpack_from(data, _SEGMENT.size)[0] != crc32(data[: _SEGMENT.size]):
        raise base.Corrupted(f"{path} is damaged at offset 0: the header's checksum does not match; {SEE}")
    return SegmentHeader(epoch, store, number)


def segment_name(number: int) -> str:
    return f"log-{number:08d}.kvl"
