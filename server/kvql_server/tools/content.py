"""A hash over what a store holds, the same whatever its log looks like and whichever engine keeps it
(``docs/format/hash.md``)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from kvql.values import Type, type_of
from kvql_server.engines.base import Entry

HEADER: Final = b"KVQL content 1\n"
_NUMBERS: Final = struct.Struct("<qqqqBqB").pack
_LENGTH: Final = struct.Struct("<I").pack
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAN: Final = bytes.fromhex("000000000000f87f")
_FEED_BYTES: Final = 1 << 20


def content_hash(namespaces: Iterable[tuple[str, Iterable[tuple[str, Entry]]]]) -> str:
    """SHA-256 in hexadecimal; both levels come in order of the UTF-8 bytes of their names."""
    hashed = sha256(HEADER)
    parts: list[bytes] = []
    size = 0
    for namespace, pairs in namespaces:
        name = _text(namespace)
        for key, entry in pairs:
            part = name + _pair(key, entry)
            parts.append(part)
            size += len(part)
            if size > _FEED_BYTES:
                hashed.update(b"".join(parts))
                parts, size = [], 0
    hashed.update(b"".join(parts))
    return hashed.hexdigest()


def _pair(key: str, entry: Entry) -> bytes:
    code = type_of(entry.value)
    value = value_bytes(code, entry.value)
    expires = entry.expires_at
    numbers = _NUMBERS(
        entry.revision, entry.version, entry.created_at, entry.updated_at,
        expires is not None, expires or 0, code,
    )  # fmt: skip
    return b"".join((_text(key), numbers, _LENGTH(len(value)), value, _text(entry.updated_by), _text(entry.comment)))


def _text(text: str) -> bytes:
    data = text.encode()
    return _LENGTH(len(data)) + data


def value_bytes(code: Type, value: Any) -> bytes:
    """A value as the hash takes it; the type is told apart from it."""
    match code:
        case Type.NULL:
            return b""
        case Type.BOOLEAN:
            return b"\1" if value else b"\0"
        case Type.INTEGER | Type.DECIMAL:
            return str(value).encode("ascii")
        case Type.FLOAT:
            return struct.pack("<d", value) if value == value else _NAN
        case Type.TIMESTAMP:
            return struct.pack("<q", (value - _EPOCH) // timedelta(microseconds=1))
        case Type.TEXT:
            return bytes(value.encode())
        case Type.BYTES:
            return bytes(value)
        case Type.JSON:
            return bytes(value.text.encode())
        case _:
            raise TypeError(f"{code.name} is never stored")
