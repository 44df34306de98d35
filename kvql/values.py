"""The types of KVQL's values and how each looks in Python, in a literal and on a screen (LANGUAGE §1, §2).

===========  =====================  ==========================================================
type         in Python              note
===========  =====================  ==========================================================
NULL         ``None``
BOOLEAN      ``bool``
INTEGER      ``int``                64 bits, signed
DECIMAL      ``decimal.Decimal``    exact, finite, at most 1,000 digits
FLOAT        ``float``              IEEE double, NaN and infinities included
TEXT         ``str``                no lone surrogates
BYTES        ``bytes``
TIMESTAMP    ``datetime``           aware, UTC, microseconds
JSON         ``Json``               an object or an array, kept as text
INTERVAL     ``timedelta``          in expressions only; never stored
===========  =====================  ==========================================================
"""

from __future__ import annotations

import enum
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final, TypeAlias

from kvql import errors

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
DECIMAL_DIGITS_MAX: Final = 1000
VALUE_BYTES_MAX: Final = 1024 * 1024
KEY_BYTES_MAX: Final = 512
NAMESPACE_LENGTH_MAX: Final = 64
NESTING_MAX: Final = 100


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


class Json:
    """A JSON object or array, kept as compact text: numbers keep every digit, of duplicate names the last wins."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        """``text`` must be what :meth:`parse` or :meth:`dump` makes; foreign text goes through :meth:`parse`."""
        self.text = text

    @classmethod
    def parse(cls, text: str) -> Json:
        """Check and normalise ``text``; :class:`errors.DataError` (22P02, 54001) if it is no JSON object or array."""
        return cls.dump(_loads(text))

    @classmethod
    def scan(cls, text: str, start: int) -> tuple[Json, int]:
        """The object or array that starts at ``text[start]``, and its end; ``ValueError`` if none can be read there."""
        try:
            value, end = _SCANNER.raw_decode(text, start)
        except RecursionError:
            raise _too_deep() from None
        return cls.dump(value), end

    @classmethod
    def dump(cls, value: Any) -> Json:
        """From Python: dict, list and what they may hold (str, bool, None, int, float, Decimal)."""
        if not isinstance(value, dict | list | tuple):
            raise errors.error(errors.BAD_CAST, "a JSON value must be an object or an array")
        try:
            return cls(_dumps(value))
        except RecursionError:
            raise _too_deep() from None

    def load(self) -> Any:
        """As Python objects, numbers with a fraction or an exponent as Decimal (exact)."""
        return json.loads(self.text, parse_float=Decimal)

    def to_python(self) -> Any:
        """As ``json.loads`` would give it: numbers with a fraction as float. What the API hands out."""
        return json.loads(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and (self.text == other.text or self.load() == other.load())

    def __hash__(self) -> int:
        return hash(len(self.load()))

    def __repr__(self) -> str:
        return f"Json({self.text!r})"

    def __copy__(self) -> Json:
        return self


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
                _check_text(value)
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


def utc(value: datetime) -> datetime:
    """``value`` in UTC; a naive one is taken as UTC (LANGUAGE §1)."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "timestamp out of range") from None


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_micros(value: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    return (value - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time ``micros`` microseconds after 1970; 22003 outside the years 1 to 9999."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "timestamp out of range") from None


def check_decimal(value: Decimal) -> Decimal:
    """``value`` itself if it is finite and has at most 1,000 digits written out; else 22003."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise errors.error(errors.OVERFLOW, f"a decimal cannot be {value}", hint="NaN and infinity exist as FLOAT only")
    if max(len(digits) + max(exponent, 0), -exponent) > DECIMAL_DIGITS_MAX:
        raise errors.error(errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits")
    return value


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise errors.error(
            errors.INVALID, f"text holds a lone surrogate (\\u{ord(value[e.start]):04x}) and is not valid Unicode"
        ) from None


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


# ── bare words ────────────────────────────────────────────────────────────────────────────────────────────────────

_BARE_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


def bare_value(word: str) -> bool | int | Decimal | str:
    """The value of an unquoted word in a short form (LANGUAGE §2).

    It is a number or a boolean only if printing it gives back the very same text, so GET prints what PUT was given.
    """
    first = word[0]
    if first in "0123456789-" and _BARE_NUMBER.fullmatch(word) and word != "-0":
        if "." not in word:
            if len(word) < 19:
                return int(word)
            if len(word.removeprefix("-")) > DECIMAL_DIGITS_MAX:
                return word
            number = int(word)
            return number if INTEGER_MIN <= number <= INTEGER_MAX else Decimal(word)
        if len(word) <= DECIMAL_DIGITS_MAX:
            exact = Decimal(word)
            # -0.0 and 0.0000001 print differently in some contexts; display() is the judge
            return exact if display(exact) == word else word
        return word
    if word == "true":
        return True
    if word == "false":
        return False
    return word


_INTEGERS: Final = re.compile(r"(?:(?:-?[1-9][0-9]{0,16}|0)(?:,|\Z))++")


def bare_values(words: list[str]) -> list[bool | int | Decimal | str]:
    """``bare_value`` of each; words hold no comma (LANGUAGE §2). A column of integers is looked at as a whole."""
    if _INTEGERS.fullmatch(",".join(words)):
        return list(map(int, words))
    return list(map(bare_value, words))


# ── printing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def display(value: Value | timedelta) -> str:
    """``value`` as people read it: text bare, numbers in full, BYTES as ``x'1fff'``, times in ISO 8601, NULL."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return _float_text(value)
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, timedelta):
        return interval_text(value)
    return value.text


def literal(value: Value | timedelta) -> str:
    """``value`` as a literal of the expressions, one that parses back to the same value and type.

    NaN and the infinities have no literal; they are written as casts (``'NaN'::float``).
    """
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text if "." in text or not INTEGER_MIN <= int(text) <= INTEGER_MAX else f"'{text}'::decimal"
    if isinstance(value, float):
        text = _float_text(value)
        return f"'{text}'::float" if text[-1] in "Nfy" else text if "e" in text else f"{text}e0"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{timestamp_text(value)}'"
    if isinstance(value, timedelta):
        return f"INTERVAL '{interval_text(value)}'"
    return display(value)


_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "''"}


def quote(text: str) -> str:
    """``text`` as a string literal; with control characters in the ``e'…'`` form, so that a script stays readable."""
    if _PLAIN.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    body = "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if not _PLAIN.fullmatch(c) else c) for c in text)
    return f"e'{body}'"


def _float_text(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


def timestamp_text(value: datetime) -> str:
    """ISO 8601 in UTC with a ``Z``, the fraction only if there is one."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def interval_text(value: timedelta) -> str:
    """A duration as PostgreSQL's words, exact: ``'1 day 2 hours 0.5 seconds'``; ``'0 seconds'`` for none."""
    micros = value // _MICROSECOND
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    parts: list[str] = []
    for unit, size in (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000)):
        count, micros = divmod(micros, size)
        if count:
            parts.append(f"{sign}{count} {unit}{'s' if count != 1 else ''}")
    if micros or not parts:
        seconds, fraction = divmod(micros, 1_000_000)
        text = f"{seconds}.{fraction:06d}".rstrip("0") if fraction else str(seconds)
        parts.append(f"{sign}{text} {'second' if text == '1' else 'seconds'}")
    return " ".join(parts)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_timestamp(text: str) -> datetime:
    """ISO 8601, a date alone or with a time, ``T`` or a space between; naive means UTC. Else 22P02."""
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise errors.error(
            errors.BAD_CAST,
            f"invalid input syntax for type timestamp: {_shorten(text)}",
            hint="write it as '2026-01-02T03:04:05Z'",
        ) from None


_UNITS: Final[dict[str, int]] = {
    "ms": 1_000, "millisecond": 1_000, "milliseconds": 1_000,
    "s": 1_000_000, "sec": 1_000_000, "secs": 1_000_000, "second": 1_000_000, "seconds": 1_000_000,
    "m": 60_000_000, "min": 60_000_000, "mins": 60_000_000, "minute": 60_000_000, "minutes": 60_000_000,
    "h": 3_600_000_000, "hour": 3_600_000_000, "hours": 3_600_000_000,
    "d": 86_400_000_000, "day": 86_400_000_000, "days": 86_400_000_000,
    "w": 604_800_000_000, "week": 604_800_000_000, "weeks": 604_800_000_000,
}  # fmt: skip
_INTERVAL_PART: Final = re.compile(r"\s*([+-]?[0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{1,12})(?![A-Za-z])")


def parse_interval(text: str) -> timedelta:
    """``'5 minutes'``, ``'1 day 2 hours'``, ``'90s'``; months and years have no fixed length: 22P02."""
    micros, at = 0, 0
    stripped = text.strip()
    while at < len(stripped):
        part = _INTERVAL_PART.match(stripped, at)
        size = _UNITS.get(part[2].lower()) if part else None
        if part is None or size is None:
            raise errors.error(
                errors.BAD_CAST,
                f"invalid input syntax for type interval: {_shorten(text)}",
                hint="write it as '5 minutes'; the units are weeks, days, hours, minutes, seconds, milliseconds",
            )
        micros += int(Decimal(part[1]) * size)
        at = part.end()
    if not stripped:
        raise errors.error(
            errors.BAD_CAST, "invalid input syntax for type interval: ''", hint="write it as '5 minutes'"
        )
    return interval_of(micros)


def interval_of(micros: int) -> timedelta:
    """A duration of ``micros`` microseconds; 22003 if they do not fit into 64 bits."""
    if abs(micros) > INTEGER_MAX:
        raise errors.error(errors.OVERFLOW, "interval out of range")
    return timedelta(microseconds=micros)


def to_interval_micros(value: timedelta) -> int:
    """A duration in microseconds, exactly."""
    return value // _MICROSECOND


def _shorten(text: str) -> str:
    """A piece of input for a message: quoted, and no longer than a line."""
    return quote(text if len(text) <= 60 else text[:57] + "...")


# ── JSON text ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Number(str):
    """The text of a JSON number that must come out again as it went in."""


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as e:
        raise errors.error(
            errors.BAD_CAST, f"invalid input syntax for type json at character {e.pos + 1}: {_shorten(text)}"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise errors.error(errors.BAD_CAST, f"invalid input syntax for type json: {name} is not JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_SCANNER: Final = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_no_constant)


def _too_deep() -> errors.Error:
    return errors.error(errors.TOO_COMPLEX, f"JSON is nested more than {NESTING_MAX} levels deep")


def _dumps(value: Any, depth: int = 0) -> str:
    """Like ``json.dumps(value, ensure_ascii=False)``, but numbers keep their digits and the depth is bounded."""
    kind = type(value)
    if kind is _Number:
        return str.__str__(value)
    if depth >= NESTING_MAX and isinstance(value, dict | list | tuple):
        raise _too_deep()
    if kind is Decimal:
        return str(check_decimal(value))
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise errors.error(errors.INVALID, f"a name in a JSON object must be text, not {type(name).__name__}")
        return "{" + ", ".join(f"{_json_text(k)}: {_dumps(v, depth + 1)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([_dumps(v, depth + 1) for v in value]) + "]"
    if isinstance(value, str):
        return _json_text(value)
    if kind is Json:
        return str(value.text)
    return json.dumps(value, allow_nan=False)


def _json_text(text: str) -> str:
    if not text.isascii():
        _check_text(text)
    return json.dumps(text, ensure_ascii=False)


# Division and the like never round silently in a default context of 28 digits: callers use this one.
EXACT: Final = Context(prec=DECIMAL_DIGITS_MAX * 2 + 2)
