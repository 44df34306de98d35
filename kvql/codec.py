"""Values, rows and errors to protobuf and back: the one place that knows how a value looks on the wire.

Decoding trusts nothing: a message built by hand can name any type byte and carry any payload, and every disagreement is
22023. Rules of the language that a value must obey (a decimal's digits, a JSON text's form) are checked here as well,
because a value that breaks them could not be represented.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.result import Notice
from kvql.span import Span
from kvql.v1 import kvql_pb2 as pb
from kvql.values import (
    Json,
    Type,
    check_decimal,
    from_micros,
    interval_of,
    to_interval_micros,
    to_micros,
)

NULL, FALSE, TRUE, INTEGER, DECIMAL, FLOAT, TEXT, BYTES, TIMESTAMP, JSON, INTERVAL, EXPRESSION = range(12)

TYPE_OF_CODE: Final[dict[int, Type]] = {
    TRUE: Type.BOOLEAN, FALSE: Type.BOOLEAN, INTEGER: Type.INTEGER, DECIMAL: Type.DECIMAL, FLOAT: Type.FLOAT,
    TEXT: Type.TEXT, BYTES: Type.BYTES, TIMESTAMP: Type.TIMESTAMP, JSON: Type.JSON, INTERVAL: Type.INTERVAL,
}  # fmt: skip
CODE_OF_TYPE: Final[dict[Type | None, int]] = {None: NULL, Type.NULL: NULL} | {
    t: c for c, t in TYPE_OF_CODE.items() if c != FALSE
}

# ── encoding ──────────────────────────────────────────────────────────────────────────────────────────────────────

_CODES: Final[dict[type, int]] = {
    type(None): NULL, int: INTEGER, Decimal: DECIMAL, float: FLOAT, str: TEXT, bytes: BYTES, datetime: TIMESTAMP,
    Json: JSON, timedelta: INTERVAL, pb.Expression: EXPRESSION,
}  # fmt: skip


def encode_values(values: Sequence[Any], into: pb.Values | None = None) -> pb.Values:
    """``values`` (KVQL values; ``pb.Expression`` where allowed) as typed columns, appended to ``into`` if given."""
    out = pb.Values() if into is None else into
    kinds = set(map(type, values))
    if kinds == {str}:
        out.types += b"\x06" * len(values)
        out.texts.extend(values)
        return out
    if kinds == {int}:
        out.types += b"\x03" * len(values)
        out.integers.extend(values)
        return out
    types = bytearray()
    integers: list[int] = []
    texts: list[str] = []
    floats: list[float] = []
    blobs: list[bytes] = []
    for value in values:
        kind = type(value)
        if kind is bool:
            types.append(TRUE if value else FALSE)
            continue
        code = _CODES[kind]
        types.append(code)
        if code == TEXT:
            texts.append(value)
        elif code == INTEGER:
            integers.append(value)
        elif code == DECIMAL:
            texts.append(format(value, "f"))
        elif code == FLOAT:
            floats.append(value)
        elif code == BYTES:
            blobs.append(value)
        elif code == JSON:
            texts.append(value.text)
        elif code == TIMESTAMP:
            integers.append(to_micros(value))
        elif code == INTERVAL:
            integers.append(to_interval_micros(value))
        elif code == EXPRESSION:
            out.expressions.append(value)
    out.types += bytes(types)
    if integers:
        out.integers.extend(integers)
    if texts:
        out.texts.extend(texts)
    if floats:
        out.floats.extend(floats)
    if blobs:
        out.blobs.extend(blobs)
    return out


def encode_rows(rows: Sequence[tuple[Any, ...]], width: int) -> pb.Rows:
    """A chunk of rows, column by column."""
    out = pb.Rows()
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    for column in columns:
        encode_values(column, out.columns.add())
    return out


# ── decoding ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _malformed(why: str) -> Error:
    return errors.error(errors.INVALID, f"malformed values: {why}")


_DIGITS: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def _decimal(text: str) -> Decimal:
    if len(text) > 1003 or not _DIGITS.fullmatch(text):
        raise _malformed("not a decimal")
    return check_decimal(Decimal(text))


_READERS: Final[dict[int, tuple[str, Callable[[Any], Any] | None]]] = {
    INTEGER: ("integers", None), DECIMAL: ("texts", _decimal), FLOAT: ("floats", None), TEXT: ("texts", None),
    BYTES: ("blobs", None), TIMESTAMP: ("integers", from_micros), JSON: ("texts", Json.parse),
    INTERVAL: ("integers", interval_of), EXPRESSION: ("expressions", None),
}  # fmt: skip
_CONSTANTS: Final = {NULL: None, FALSE: False, TRUE: True}


def decode_values(values: pb.Values, *, expressions: bool = False, intervals: bool = False) -> list[Any]:
    """The values in order. ``pb.Expression`` and ``timedelta`` come out only if the caller allows them; else 22023."""
    types = values.types
    if not types and not values.ByteSize():
        return []
    kinds = set(types)
    if len(kinds) == 1:
        # one type, as most columns and constants are, and nothing but its payloads
        if kinds == {TEXT} and len(values.texts) == len(types) and not _other_payloads(values, "texts"):
            return list(values.texts)
        if kinds == {INTEGER} and len(values.integers) == len(types) and not _other_payloads(values, "integers"):
            return list(values.integers)
    out = list(_decode_mixed(values, kinds))
    used = dict.fromkeys(("integers", "texts", "floats", "blobs", "expressions"), 0)
    for kind in kinds:
        if kind in _READERS:
            used[_READERS[kind][0]] += types.count(kind)
    if any(len(getattr(values, name)) != count for name, count in used.items()):
        raise _malformed("more payloads than types")
    if EXPRESSION in kinds and not expressions:
        raise _malformed("an expression where only constants may stand")
    if INTERVAL in kinds and not intervals:
        raise errors.error(errors.INVALID, "an interval cannot be stored", hint="store a timestamp: now() + 5m")
    return out


def _other_payloads(values: pb.Values, name: str) -> bool:
    return bool(
        (name != "texts" and values.texts) or (name != "integers" and values.integers)
        or values.floats or values.blobs or values.expressions
    )  # fmt: skip


def _decode_mixed(values: pb.Values, kinds: set[int]) -> Iterator[Any]:
    sources = {
        "integers": iter(values.integers), "texts": iter(values.texts), "floats": iter(values.floats),
        "blobs": iter(values.blobs), "expressions": iter(values.expressions),
    }  # fmt: skip
    readers: dict[int, tuple[Iterator[Any], Callable[[Any], Any] | None]] = {}
    for kind in kinds:
        if kind in _READERS:
            name, convert = _READERS[kind]
            readers[kind] = (sources[name], convert)
        elif kind not in _CONSTANTS:
            raise _malformed(f"unknown type {kind}")
    for kind in values.types:
        reader = readers.get(kind)
        if reader is None:
            yield _CONSTANTS[kind]
            continue
        payload = next(reader[0], reader)
        if payload is reader:
            raise _malformed("fewer payloads than types")
        yield payload if reader[1] is None else reader[1](payload)


def decode_rows(rows: pb.Rows) -> list[tuple[Any, ...]]:
    """The rows of a chunk, in order."""
    return list(zip(*[decode_values(c, intervals=True) for c in rows.columns], strict=True))


# ── errors and notices ────────────────────────────────────────────────────────────────────────────────────────────


def encode_error(error: Error, into: pb.Error | None = None) -> pb.Error:
    """``error`` for the wire; ``item`` and ``part`` are taken from attributes that the server's rules set."""
    out = pb.Error() if into is None else into
    out.sqlstate = error.sqlstate
    out.message = error.message
    out.hint = error.hint or ""
    if error.span is not None:
        out.span_start, out.span_end = error.span
    out.statement = error.statement or 0
    out.item = error.item
    out.part = pb.Part.ValueType(error.part)
    return out


def decode_error(message: pb.Error) -> Error:
    """The error that the server sent; a place in a typed command is left as ``item`` and ``part`` for the client."""
    made = errors.error(
        message.sqlstate or errors.INTERNAL,
        message.message,
        hint=message.hint or None,
        span=Span(message.span_start, message.span_end) if message.span_end else None,
    )
    made.item, made.part = message.item, message.part
    made.skipped = message.skipped
    made.statement = message.statement
    return made


def encode_notices(notices: Iterable[Notice], into: Any) -> None:
    """Append ``notices`` to a repeated field of ``pb.Notice``."""
    for notice in notices:
        into.add(sqlstate=notice.sqlstate, message=notice.message, hint=notice.hint or "")


def decode_notices(messages: Iterable[pb.Notice]) -> list[Notice]:
    return [Notice(m.message, m.hint or None, m.sqlstate or "00000") for m in messages]
