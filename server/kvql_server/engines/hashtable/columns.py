"""States of pairs as columns, the way a checkpoint has them: lists that the decoder makes in C, and entries that come
from three of them by ``map``. What few states have (a second version, an expiry) is apart."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from kvql.values import Json, Type
from kvql_server.engines.hashtable.entries import ChangedEntry, Entry, Meta

_NATIVE: Final = frozenset((type(None), bool, int, float, str, bytes))


class MetaRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A commit's time, user and comment as they stand in the file."""

    time: int
    user: str
    comment: str


class States(Protocol):
    """The columns of states; :func:`encode_states` makes them in this order."""

    types: bytes
    values: list[Any]
    revisions: bytes
    metas: list[MetaRow]
    which: bytes
    extras: list[tuple[int, int, int, int | None]]


def encode_states(entries: list[Entry]) -> tuple[Any, ...]:
    """The columns of states: types, values, revisions, metas, which, extras."""
    values = [entry.value for entry in entries]
    types = b""
    if not _NATIVE.issuperset(map(type, values)):
        types = bytes([_type_code(value) for value in values])
        values = [_plain(value) for value in values]
    metas, which = encode_metas([entry.meta for entry in entries])
    return (
        types,
        values,
        numbers_bytes(array("q", [entry.revision for entry in entries])),
        metas,
        which,
        [
            (at, entry.version, entry.created_at, entry.expires_at)
            for at, entry in enumerate(entries)
            if type(entry) is not Entry
        ],
    )


def encode_metas(metas: list[Meta]) -> tuple[list[tuple[int, str, str]], bytes]:
    """Each once, and for every state the number of its own; at most 65,536 states."""
    numbers: dict[int, int] = {}  # by identity
    distinct: list[Meta] = []
    which = array("H")
    for meta in metas:
        number = numbers.get(id(meta))
        if number is None:
            number = numbers[id(meta)] = len(distinct)
            distinct.append(meta)
        which.append(number)
    return [(meta.time, meta.user, meta.comment) for meta in distinct], numbers_bytes(which)


def numbers_bytes(numbers: array[int]) -> bytes:
    """Little-endian, on every machine."""
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def numbers_of(code: str, data: bytes) -> array[int]:
    """The inverse of :func:`numbers_bytes`; ``code`` as of ``array``."""
    numbers = array(code, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _type_code(value: Any) -> int:
    kind = type(value)
    return int(Type.JSON if kind is Json else Type.DECIMAL if kind is Decimal else Type.NULL)


def _plain(value: Any) -> Any:
    kind = type(value)
    return value.text if kind is Json else str(value) if kind is Decimal else value


def decode_states(columns: States) -> list[Entry]:
    """The inverse of :func:`encode_states`."""
    values: Iterable[Any] = columns.values
    if columns.types:
        values = [_typed(code, value) for code, value in zip(columns.types, columns.values, strict=True)]
    metas = [Meta(meta.time, meta.user, meta.comment) for meta in columns.metas]
    which = map(metas.__getitem__, numbers_of("H", columns.which))
    entries = list(map(Entry, values, numbers_of("q", columns.revisions), which))
    for at, version, created_at, expires_at in columns.extras:
        old = entries[at]
        entries[at] = ChangedEntry(old.value, old.revision, old.meta, version, created_at, expires_at, None)
    return entries


def _typed(code: int, value: Any) -> Any:
    return Json(value) if code == Type.JSON else Decimal(value) if code == Type.DECIMAL else value
