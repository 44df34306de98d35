"""The functions of expressions (LANGUAGE §4), with PostgreSQL's meaning.

Each takes KVQL values (None is NULL) and returns one. NULL in gives NULL out, except where the function says otherwise;
for types that it is not made for, a function does not exist (42883). None takes more than linear time, and what could
become longer than ``operators.TEXT_BYTES_MAX`` is measured before it is made (53400).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from kvql import errors
from kvql.errors import Error
from kvql.values import DECIMAL_DIGITS_MAX, EXACT, INTEGER_MAX, Json, Type, check_decimal, type_of
from kvql_server.executor.operators import check_length, equal, joined, text_length
from kvql_server.executor.ordering import order_key


class Function(NamedTuple):
    """``call`` takes ``least`` to ``most`` arguments (None: any number) and gives a ``type`` (None: it depends)."""

    call: Callable[..., Any]
    least: int
    most: int | None
    type: Type | None


def no_function(name: str, arguments: Iterable[Any], hint: str) -> Error:
    """42883: there is none of that name for these types."""
    types = ", ".join(type_of(a).name for a in arguments)
    return errors.error(errors.UNKNOWN_FUNCTION, f"function {name}({types}) does not exist", hint=hint)


def _null(name: str, target: str, *arguments: Any) -> Any:
    """NULL, as one of the arguments is; 42883 if none is, so that their types must be wrong."""
    for argument in arguments:
        if argument is None:
            return None
    raise no_function(name, arguments, f"a cast may help: CAST(… AS {target})")


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def length(value: Any) -> Any:
    """Code points of a TEXT, bytes of BYTES."""
    if type(value) is str or type(value) is bytes:
        return len(value)
    return _null("length", "TEXT", value)


def lower(value: Any) -> Any:
    """Character by character: neither a final sigma nor a dotted capital i is special, and the length stays."""
    if type(value) is str:
        return value.lower() if value.isascii() else value.replace("Σ", "σ").replace("İ", "i").lower()
    return _null("lower", "TEXT", value)


def upper(value: Any) -> Any:
    """Character by character: ``ß`` has no capital that is one character, and stays."""
    if type(value) is not str:
        return _null("upper", "TEXT", value)
    text = value.upper()
    return text if len(text) == len(value) else "".join(map(_upper_character, value))


def _upper_character(character: str) -> str:
    for other in (character.upper(), character.title()):
        if len(other) == 1:
            return other
    return character


_STRIP_MAX: Final = 16
"""Characters that ``strip`` looks through for each character of the text; more are looked up."""


def trim(value: Any, *characters: Any) -> Any:
    """Without spaces (or the given characters) at both ends."""
    if type(value) is str and (not characters or type(characters[0]) is str):
        unwanted = characters[0] if characters else " "
        return value.strip(unwanted) if len(unwanted) <= _STRIP_MAX else _trim_many(value, frozenset(unwanted))
    if type(value) is bytes and characters and type(characters[0]) is bytes:
        return value.strip(bytes(set(characters[0])))
    return _null("trim", "TEXT", value, *characters)


def _trim_many(text: str, unwanted: frozenset[str]) -> str:
    start, end = 0, len(text)
    while start < end and text[start] in unwanted:
        start += 1
    while end > start and text[end - 1] in unwanted:
        end -= 1
    return text[start:end]


def replace(value: Any, old: Any, new: Any) -> Any:
    """Every ``old`` by ``new``, from left to right; an empty ``old`` is nowhere."""
    if not (type(value) is str and type(old) is str and type(new) is str):
        return _null("replace", "TEXT", value, old, new)
    if not old:
        return value
    grown = text_length(new) - text_length(old)
    if grown > 0:
        check_length(text_length(value) + value.count(old) * grown)
    return value.replace(old, new)


def substr(value: Any, start: Any, *count: Any) -> Any:
    """From place ``start`` (from 1) on, ``count`` characters or bytes; places before the first are there, but empty."""
    text = type(value) is str or type(value) is bytes
    if not (text and type(start) is int and (not count or type(count[0]) is int)):
        return _null("substr", "INTEGER", value, start, *count)
    if not count:
        return value[max(start - 1, 0) :]
    if count[0] < 0:
        raise errors.error(errors.INVALID, "negative substring length not allowed")
    return value[max(start - 1, 0) : max(start - 1 + count[0], 0)]


def split_part(value: Any, separator: Any, number: Any) -> Any:
    """The piece of that number, from 1, or from the end if negative; empty text where there is none."""
    if not (type(value) is str and type(separator) is str and type(number) is int):
        return _null("split_part", "TEXT", value, separator, number)
    if number == 0:
        raise errors.error(errors.INVALID, "field position must not be zero")
    pieces = value.count(separator) + 1 if separator else 1
    if number < 0:
        number += pieces + 1
    return _piece(value, separator, number) if 1 <= number <= pieces else ""


def _piece(text: str, separator: str, number: int) -> str:
    """Piece ``number`` of a text that has it; without a list of pieces, which could be millions."""
    start = 0
    for _ in range(number - 1):
        start = text.find(separator, start) + len(separator)
    end = text.find(separator, start) if separator else -1
    return text[start:] if end < 0 else text[start:end]


def starts_with(value: Any, prefix: Any) -> Any:
    if type(value) is str and type(prefix) is str:
        return value.startswith(prefix)
    return _null("starts_with", "TEXT", value, prefix)


def concat(*values: Any) -> str:
    """Anything, as it is shown; NULLs are left out."""
    return joined([v for v in values if v is not None])


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def absolute(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        if abs(value) > INTEGER_MAX:
            raise errors.error(errors.OVERFLOW, "INTEGER out of range", hint="cast the operand to DECIMAL")
        return abs(value)
    if kind is float:
        return abs(value)
    # not abs(): it would round to the digits of the thread's context
    return value.copy_abs() if kind is Decimal else _null("abs", "DECIMAL", value)


def round_(value: Any, *places: Any) -> Any:
    """To a whole number, of the same type: halves away from zero for DECIMAL, to the even one for FLOAT.

    With a number of places (also before the point, if negative) it is for INTEGER and DECIMAL and gives DECIMAL.
    """
    kind = type(value)
    if not places:
        if kind is float:
            return math.copysign(round(value), value) if math.isfinite(value) else value
        if kind is int:
            return value
        return _rounded(value, 0, ROUND_HALF_UP) if kind is Decimal else _null("round", "DECIMAL", value)
    if (kind is Decimal or kind is int) and type(places[0]) is int:
        return _rounded(Decimal(value), places[0], ROUND_HALF_UP)
    return _null("round", "DECIMAL", value, *places)


def _rounded(value: Decimal, places: int, rounding: str) -> Decimal:
    """At that many places; 22003 if there is no room for them."""
    kept = max(-DECIMAL_DIGITS_MAX - 1, min(places, DECIMAL_DIGITS_MAX + 1))
    try:
        out = value.quantize(Decimal(1).scaleb(-kept), rounding, EXACT)
        if kept < 0:
            out = out.quantize(Decimal(1), context=EXACT)
    except InvalidOperation:
        raise errors.error(errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits") from None
    return check_decimal(out if out else out.copy_abs())


def floor(value: Any) -> Any:
    """The largest whole number that is not larger, of the same type."""
    return _to_whole("floor", value, math.floor, ROUND_FLOOR)


def ceil(value: Any) -> Any:
    """The smallest whole number that is not smaller, of the same type."""
    return _to_whole("ceil", value, math.ceil, ROUND_CEILING)


def _to_whole(name: str, value: Any, of_float: Callable[[float], int], rounding: str) -> Any:
    kind = type(value)
    if kind is int:
        return value
    if kind is float:
        # the sign also of zero: ceil(-0.5e0) is -0
        return math.copysign(of_float(value), value) if math.isfinite(value) else value
    return _rounded(value, 0, rounding) if kind is Decimal else _null(name, "DECIMAL", value)


# ── any type ──────────────────────────────────────────────────────────────────────────────────────────────────────


def coalesce(*values: Any) -> Any:
    """The first that is not NULL."""
    for value in values:
        if value is not None:
            return value
    return None


def nullif(value: Any, other: Any) -> Any:
    """NULL if the two are equal, else the first."""
    return None if equal(value, other) else value


def greatest(*values: Any) -> Any:
    """In the order of ORDER BY, NULLs left out; of equal ones the first."""
    return max((v for v in values if v is not None), key=order_key, default=None)


def least(*values: Any) -> Any:
    """In the order of ORDER BY, NULLs left out; of equal ones the first."""
    return min((v for v in values if v is not None), key=order_key, default=None)


def typeof(value: Any) -> str:
    """The type's name, of NULL too."""
    return type_of(value).name


# ── times ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _to_year(of: Callable[[int], int]) -> Callable[[datetime], datetime]:
    """To the first day of a year; 22003 if that year is none of the calendar's."""

    def truncated(time: datetime) -> datetime:
        year = of(time.year)
        if year < 1:
            raise errors.error(errors.OVERFLOW, "timestamp out of range")
        return _to_day(time).replace(year=year, month=1, day=1)

    return truncated


def _to_day(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


_TRUNCATED: Final[dict[str, Callable[[datetime], datetime]]] = {
    "microsecond": lambda time: time,
    "millisecond": lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000),
    "second": lambda time: time.replace(microsecond=0),
    "minute": lambda time: time.replace(second=0, microsecond=0),
    "hour": lambda time: time.replace(minute=0, second=0, microsecond=0),
    "day": _to_day,
    "week": lambda time: _to_day(time) - timedelta(days=time.weekday()),
    "month": lambda time: _to_day(time).replace(day=1),
    "quarter": lambda time: _to_day(time).replace(month=(time.month - 1) // 3 * 3 + 1, day=1),
    "year": _to_year(lambda year: year),
    "decade": _to_year(lambda year: year // 10 * 10),
    "century": _to_year(lambda year: (year - 1) // 100 * 100 + 1),
    "millennium": _to_year(lambda year: (year - 1) // 1000 * 1000 + 1),
}
_FIELDS: Final[dict[str, Callable[[datetime], datetime]]] = {
    **_TRUNCATED,
    **{f"{name}s": truncated for name, truncated in _TRUNCATED.items()},
    "centuries": _TRUNCATED["century"],
    "millennia": _TRUNCATED["millennium"],
}


def date_trunc(field: Any, time: Any) -> Any:
    """The start of the hour, day, month … of ``time``, in UTC; a week starts on Monday, a century in its year 1."""
    if type(field) is not str or type(time) is not datetime:
        return _null("date_trunc", "TIMESTAMP", field, time)
    truncated = _FIELDS.get(field.lower()) if len(field) <= 16 else None
    if truncated is None:
        shown = field if len(field) <= 16 else field[:13] + "..."
        raise errors.error(
            errors.INVALID, f"timestamp units {shown!r} not recognized", hint=f"one of {', '.join(_TRUNCATED)}"
        )
    return truncated(time)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# one level deep: what lies below is skipped, not read
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def json_keys(value: Any) -> Any:
    """The names of an object in the order in which they are stored, as a JSON array; NULL for an array."""
    if type(value) is Json:
        return Json.dump(list(_MEMBERS(value.text))) if value.text[0] == "{" else None
    return _null("json_keys", "JSON", value)


def json_length(value: Any) -> Any:
    """How many members an object has, or items an array."""
    if type(value) is Json:
        return len(_MEMBERS(value.text) if value.text[0] == "{" else _ITEMS(value.text))
    return _null("json_length", "JSON", value)


FUNCTIONS: Final[dict[str, Function]] = {
    "length": Function(length, 1, 1, Type.INTEGER),
    "lower": Function(lower, 1, 1, Type.TEXT),
    "upper": Function(upper, 1, 1, Type.TEXT),
    "trim": Function(trim, 1, 2, None),
    "replace": Function(replace, 3, 3, Type.TEXT),
    "substr": Function(substr, 2, 3, None),
    "split_part": Function(split_part, 3, 3, Type.TEXT),
    "starts_with": Function(starts_with, 2, 2, Type.BOOLEAN),
    "concat": Function(concat, 1, None, Type.TEXT),
    "abs": Function(absolute, 1, 1, None),
    "round": Function(round_, 1, 2, None),
    "floor": Function(floor, 1, 1, None),
    "ceil": Function(ceil, 1, 1, None),
    "coalesce": Function(coalesce, 1, None, None),
    "nullif": Function(nullif, 2, 2, None),
    "greatest": Function(greatest, 1, None, None),
    "least": Function(least, 1, None, None),
    "typeof": Function(typeof, 1, 1, Type.TEXT),
    "date_trunc": Function(date_trunc, 2, 2, Type.TIMESTAMP),
    "json_keys": Function(json_keys, 1, 1, Type.JSON),
    "json_length": Function(json_length, 1, 1, Type.INTEGER),
}
