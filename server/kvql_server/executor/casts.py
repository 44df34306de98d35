"""CAST(e AS t): from text as its literal reads, between numbers by value, to text as it is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.values import (
    DECIMAL_DIGITS_MAX,
    EXACT,
    INTEGER_MAX,
    INTEGER_MIN,
    Json,
    Type,
    check_decimal,
    display,
    parse_interval,
    parse_timestamp,
    quote,
    type_of,
)

ALIASES: Final[dict[str, Type]] = {
    "boolean": Type.BOOLEAN, "bool": Type.BOOLEAN,
    "integer": Type.INTEGER, "int": Type.INTEGER, "bigint": Type.INTEGER, "smallint": Type.INTEGER,
    "int8": Type.INTEGER, "int4": Type.INTEGER, "int2": Type.INTEGER,
    "decimal": Type.DECIMAL, "numeric": Type.DECIMAL, "dec": Type.DECIMAL,
    "float": Type.FLOAT, "real": Type.FLOAT, "double precision": Type.FLOAT, "float8": Type.FLOAT,
    "float4": Type.FLOAT, "double": Type.FLOAT,
    "text": Type.TEXT, "varchar": Type.TEXT, "char": Type.TEXT,
    "character": Type.TEXT, "string": Type.TEXT,
    "bytes": Type.BYTES, "bytea": Type.BYTES, "blob": Type.BYTES,
    "timestamp": Type.TIMESTAMP, "timestamptz": Type.TIMESTAMP,
    "json": Type.JSON, "jsonb": Type.JSON, "interval": Type.INTERVAL,
}  # fmt: skip


def caster(name: str, arguments: tuple[int, ...]) -> Callable[[Any], Any]:
    """The function that casts to the type of that name; 42704's stand-in 22023 if there is no such type."""
    target = ALIASES.get(name.lower())
    if target is None:
        raise errors.error(
            errors.INVALID, f"type {name if len(name) <= 64 else name[:63] + '…'} does not exist",
            hint="for example TEXT, INTEGER, DECIMAL, FLOAT",
        )  # fmt: skip
    convert = _CASTS[target]

    def cast(value: Any) -> Any:
        if value is None:
            return None
        out = convert(value)
        return _fit(out, target, arguments) if arguments else out

    return cast


def _fit(value: Any, target: Type, arguments: tuple[int, ...]) -> Any:
    """``varchar(n)`` cuts, ``numeric(p, s)`` rounds and bounds."""
    if target is Type.TEXT:
        return value[: max(arguments[0], 0)]
    if target is Type.DECIMAL:
        precision, scale = arguments[0], arguments[1] if len(arguments) > 1 else 0
        if not 1 <= precision <= 1000 or not 0 <= scale <= precision:
            raise errors.error(errors.INVALID, f"numeric({precision}, {scale}) is no type", hint="1 to 1000 digits")
        rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=EXACT)
        if rounded and rounded.adjusted() >= precision - scale:
            raise errors.error(
                errors.OVERFLOW, f"numeric field overflow: more than {precision - scale} digits before the point"
            )
        return rounded
    return value


_LONG: Final = 1_100
"""Characters after which a text is no decimal: 1,000 digits, a sign, a point, an exponent."""
_LONG_NUMBER: Final = re.compile(rf"(?=.{{{_LONG + 1}}})[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _invalid(target: str, text: str) -> Error:
    shown = quote(text if len(text) <= 60 else text[:57] + "...")
    return errors.error(errors.BAD_CAST, f"invalid input syntax for type {target}: {shown}")


def _refuse(value: Any, target: str) -> Error:
    return errors.error(errors.BAD_CAST, f"cannot cast type {type_of(value).name} to {target}")


def _to_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int:
        return value != 0
    if type(value) is str:
        word = value.strip().lower()
        if word in ("true", "t", "yes", "y", "on", "1"):
            return True
        if word in ("false", "f", "no", "n", "off", "0"):
            return False
        raise _invalid("boolean", value)
    raise _refuse(value, "BOOLEAN")


def _bounded(value: int) -> int:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise errors.error(errors.OVERFLOW, "INTEGER out of range")
    return value


def _to_integer(value: Any) -> int:
    kind = type(value)
    if kind is int or kind is bool:
        return int(value)
    if kind is Decimal:
        return _bounded(int(value.to_integral_value(ROUND_HALF_UP)))
    if kind is float:
        if not math.isfinite(value):
            raise errors.error(errors.OVERFLOW, "INTEGER out of range")
        return _bounded(int(Decimal(value).to_integral_value(ROUND_HALF_EVEN)))
    if kind is str:
        text = value.strip()
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdigit()):
            raise _invalid("integer", value)
        if len(digits) > 1000:
            raise errors.error(errors.OVERFLOW, "INTEGER out of range")
        return _bounded(int(text))
    raise _refuse(value, "INTEGER")


def _to_decimal(value: Any) -> Decimal:
    kind = type(value)
    if type(value) is Decimal:
        return value
    if kind is int:
        return Decimal(value)
    if kind is float:
        # the digits that the float is shown with, as PostgreSQL does, and not its exact binary value
        return check_decimal(Decimal(repr(value)))
    if kind is str:
        text = value.strip()
        if _LONG_NUMBER.fullmatch(text):
            raise errors.error(errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits")
        if len(text) > _LONG or not text.isascii() or "_" in text:
            raise _invalid("decimal", value)
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise _invalid("decimal", value) from None
        check_decimal(number)
        return Decimal(format(number, "f"))
    raise _refuse(value, "DECIMAL")


def _to_float(value: Any) -> float:
    kind = type(value)
    if type(value) is float:
        return value
    if kind is str:
        text = value.strip()
        if not text.isascii() or "_" in text or (len(text) > _LONG and not _LONG_NUMBER.fullmatch(text)):
            raise _invalid("float", value)
        try:
            number = float(text)
        except ValueError:
            raise _invalid("float", value) from None
        if math.isinf(number) and "inf" not in text.lower():
            raise errors.error(errors.OVERFLOW, "FLOAT out of range: overflow")
        return number
    if kind is int or kind is Decimal:
        try:
            return float(value)
        except OverflowError:
            raise errors.error(errors.OVERFLOW, "FLOAT out of range: overflow") from None
    raise _refuse(value, "FLOAT")


def _to_text(value: Any) -> str:
    return display(value)


def _to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        if value.startswith("\\x"):
            try:
                return bytes.fromhex(value[2:])
            except ValueError:
                raise _invalid("bytes", value) from None
        return value.encode()
    raise _refuse(value, "BYTES")


def _to_timestamp(value: Any) -> datetime:
    if type(value) is datetime:
        return value
    if type(value) is str:
        return parse_timestamp(value)
    raise _refuse(value, "TIMESTAMP")


def _to_json(value: Any) -> Json:
    if type(value) is Json:
        return value
    if type(value) is str:
        return Json.parse(value)
    raise _refuse(value, "JSON")


def _to_interval(value: Any) -> timedelta:
    if type(value) is timedelta:
        return value
    if type(value) is str:
        return parse_interval(value)
    raise _refuse(value, "INTERVAL")


_CASTS: Final[dict[Type, Callable[[Any], Any]]] = {
    Type.BOOLEAN: _to_boolean, Type.INTEGER: _to_integer, Type.DECIMAL: _to_decimal, Type.FLOAT: _to_float,
    Type.TEXT: _to_text, Type.BYTES: _to_bytes, Type.TIMESTAMP: _to_timestamp, Type.JSON: _to_json,
    Type.INTERVAL: _to_interval,
}  # fmt: skip
