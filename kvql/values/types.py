"""The types, and a value on its way from and to Python."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

from kvql import errors
from kvql.values.json_text import Json
from kvql.values.limits import INTEGER_MAX, INTEGER_MIN, check_decimal, check_text
from kvql.values.times import interval_of, to_interval_micros, utc


class Type(enum.IntEnum):
    """The types in the order in which ORDER BY sorts them (LANGUAGE §5); also their codes on disk, never renumbered."""

    NULL = 0
    BOOLEAN = 1
    INTEGER = 2
    DECIMAL = 3
    FLOAT = 4
    TIMESTAMP = 5
    TEXT = 6
    BYTES = 7
    JSON = 8
    INTERVAL = 9


Value: TypeAlias = bool | int | Decimal | float | str | bytes | datetime | Json | None
"""What a pair may hold."""

_TYPE_OF: Final[dict[type, Type]] = {
    type(None): Type.NULL,
    bool: Type.BOOLEAN,
    int: Type.INTEGER,
    Decimal: Type.DECIMAL,
    float: Type.FLOAT,
    datetime: Type.TIMESTAMP,
    str: Type.TEXT,
    bytes: Type.BYTES,
    Json: Type.JSON,
    timedelta: Type.INTERVAL,
}


def type_of(value: object) -> Type:
    """The type of a value in its Python form; ``TypeError`` for anything that the table above does not name."""
    try:
        return _TYPE_OF[type(value)]
    except KeyError:
        raise TypeError(f"not a KVQL value: {type(value).__name__}") from None


def from_python(value: Any) -> Value | timedelta:
    """A parameter given by a Python caller as a KVQL value.

    dict, list and tuple become JSON, a naive datetime is taken as UTC, bytearray and memoryview become BYTES, and a
    subclass (``IntEnum``, ``numpy.float64``) becomes its base. :class:`errors.DataError` (22023, 22003) otherwise.
    """
    made: Value | timedelta
    match _TYPE_OF.get(type(value)):
        case Type.TEXT:
            if not value.isascii():
                check_text(value)
            made = value
        case Type.INTEGER:
            made = value if INTEGER_MIN <= value <= INTEGER_MAX else check_decimal(Decimal(value))
        case Type.TIMESTAMP:
            made = utc(value)
        case Type.DECIMAL:
            made = check_decimal(value)
        case Type.INTERVAL:
            made = interval_of(to_interval_micros(value))
        case None:
            made = _from_other(value)
        case _:
            made = value
    return made


_BASES: Final[tuple[type[Any], ...]] = (int, float, str, bytes, Decimal)


def _from_other(value: Any) -> Value | timedelta:
    if isinstance(value, dict | list | tuple):
        try:
            return Json.dump(value)
        except (TypeError, ValueError) as e:
            raise errors.error(errors.INVALID, f"this cannot be a JSON value: {e}") from None
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    for base in _BASES:
        if isinstance(value, base):
            return from_python(base(value))
    if isinstance(value, datetime):
        return utc(value)
    raise errors.error(
        errors.INVALID,
        f"a parameter of type {type(value).__name__} has no KVQL type",
        hint="pass None, bool, int, float, Decimal, str, bytes, datetime, timedelta, dict or list",
    )


def to_python(value: Any) -> Any:
    """A KVQL value as the Python API hands it out: JSON as dict or list, everything else as it is."""
    return value.to_python() if type(value) is Json else value


def encoded_size(value: Value) -> int:
    """Bytes that count against the limit of 1 MiB: the text in UTF-8, the bytes themselves, 8 for other types."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Json):
        return len(value.text.encode())
    if isinstance(value, Decimal):
        return len(str(value))
    return 0 if value is None else 1 if isinstance(value, bool) else 8
