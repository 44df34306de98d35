"""The order of ORDER BY over every type, what makes two values one, and JSON as Python reads it (LANGUAGE §5).

``order_key`` and ``group_key`` agree: two keys of order are equal exactly when the keys of groups are. Both compare
numbers by value and exactly, whatever their types. The content of JSON goes by the same rules as values do, so that
1 and 1.0 are one number there too, and TRUE is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from itertools import chain
from typing import Any, Final

import msgspec

from kvql import errors
from kvql.values import NESTING_MAX, Json, type_of

_NULL, _BOOLEAN, _NUMBER, _NAN, _INTERVAL, _TIMESTAMP, _TEXT, _BYTES, _ARRAY, _OBJECT = range(10)
"""The first part of a key of order. NaN has a place of its own, because nothing compares with it."""

_RANKS: Final[dict[type, int]] = {
    bool: _BOOLEAN, Decimal: _NUMBER, timedelta: _INTERVAL, datetime: _TIMESTAMP, bytes: _BYTES,
}  # fmt: skip


# ── order ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def order_key(value: Any) -> tuple[Any, ...]:
    """A tuple that sorts as ``value`` does: NULL < BOOLEAN < numbers < NaN < INTERVAL < TIMESTAMP < TEXT by code points
    < BYTES < JSON array < JSON object. ``TypeError`` for what is no KVQL value, never when keys are compared.
    """
    kind = type(value)
    if kind is str:
        return (_TEXT, value)
    if kind is int:
        return (_NUMBER, value)
    if value is None:
        return (_NULL,)
    if kind is float:
        return (_NUMBER, value) if value == value else (_NAN,)
    if kind is Json:
        return _place(json_python(value))
    rank = _RANKS.get(kind)
    if rank is None:
        type_of(value)  # raises: not a KVQL value
    return (rank, value)


def _place(content: Any) -> tuple[int, Any]:
    """Rank and payload of a piece of JSON. Arrays go by their items and then by length, objects by their number of
    members and then by names and values in the order of the names; both are flat tuples, to compare without recursion.
    """
    kind = type(content)
    if kind is str:
        return _TEXT, content
    if kind is dict:
        parts = [len(content)]
        for name in sorted(content):
            parts.append(name)
            parts += _place(content[name])
        return _OBJECT, tuple(parts)
    if kind is list:
        return _ARRAY, tuple(chain.from_iterable(map(_place, content)))
    if content is None:
        return _NULL, 0
    return (_BOOLEAN if kind is bool else _NUMBER), content


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────────

_TRUE: Final = (_BOOLEAN, True)
_FALSE: Final = (_BOOLEAN, False)
_ONLY_NAN: Final = (_NAN,)


def group_key(value: Any) -> Hashable:
    """Equal exactly when ``IS NOT DISTINCT FROM`` holds: 1, 1.0 and 1e0 are one, TRUE is none of them, NaN is NaN.

    What others can choose freely (long decimals, JSON) has a key whose hash is text's, which nobody can foresee.
    """
    kind = type(value)
    if type(value) is int or type(value) is str:
        return value
    try:
        return _GROUP_KEYS[kind](value)
    except KeyError:
        return type_of(value)  # raises: not a KVQL value


def _itself(value: Hashable) -> Hashable:
    return value


def _decimal_key(value: Decimal) -> Hashable:
    """The equal int or float, if there is one; else the digits."""
    reduced = value.normalize(_WIDEST)
    digits = str(reduced)
    if "E" not in digits:
        if "." not in digits and len(digits) < 19:
            return int(digits)
        if "." in digits and digits[-1] != "5":
            return (_NUMBER, digits)  # a binary fraction ends in a 5, so no float is equal
    near = float(value)
    if near == value:
        return near
    whole = _small_whole(reduced)
    return (_NUMBER, digits) if whole is None else whole


def _small_whole(reduced: Decimal) -> int | None:
    """A normalised decimal as an int, if it is a whole number of at most 19 digits."""
    exponent = reduced.as_tuple().exponent
    return int(reduced) if isinstance(exponent, int) and exponent >= 0 and reduced.adjusted() < 19 else None


def _json_key(value: Json) -> Hashable:
    """The content in one way of writing it: names sorted, numbers reduced."""
    try:
        if _LONG_NUMBER.search(value.text) is not None:
            content = json.loads(value.text, parse_int=_reduced, parse_float=_reduced)
        else:
            content = _DECODE_REDUCED(value.text)
        return _OBJECT, _ENCODE(content)
    except RecursionError:
        raise _too_deep() from None


def _reduced(text: str) -> int | Decimal:
    """The only form of a JSON number in a key: an int of at most 19 digits, or a decimal without trailing zeros."""
    number = _WIDEST.create_decimal(text)
    if not number:
        return 0
    reduced = number.normalize(_WIDEST)
    whole = _small_whole(reduced)
    return reduced if whole is None else whole


_GROUP_KEYS: Final[dict[type, Callable[[Any], Hashable]]] = {
    type(None): _itself, bytes: _itself, datetime: _itself, timedelta: _itself,
    bool: lambda value: _TRUE if value else _FALSE,
    float: lambda value: value if value == value else _ONLY_NAN,
    Decimal: _decimal_key, Json: _json_key,
}  # fmt: skip


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# Numbers of any length and exponent, exactly: JSON with one that DECIMAL cannot hold is refused, but a store may hold
# some from before it was. An exponent beyond 10^18 has no Decimal: such a number becomes an infinity or zero, which
# sorts right and can be neither stored nor shown, instead of failing every scan it lies in.
_WIDEST: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])

_DECODE: Final = msgspec.json.Decoder(float_hook=_WIDEST.create_decimal).decode
_DECODE_REDUCED: Final = msgspec.json.Decoder(float_hook=_reduced).decode
_ENCODE: Final = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_LONG_NUMBER: Final = re.compile("[0-9]{19}")
_DIGITS_PLAIN_MAX: Final = 4000
"""Digits of a whole number up to which it may be an ``int``; Python itself refuses at 4,300, msgspec too."""


def json_python(value: Json) -> Any:
    """The content as Python objects, made anew on every call: whole numbers as int, all others as Decimal, exactly.

    A whole number of thousands of digits is a Decimal as well. Any Decimal here may be larger than a KVQL value may be
    (``values.check_decimal``), up to exponents that nobody can write out.
    """
    try:
        return _DECODE(value.text)
    except msgspec.ValidationError:
        return json.loads(value.text, parse_int=_whole, parse_float=_WIDEST.create_decimal)
    except RecursionError:
        raise _too_deep() from None


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= _DIGITS_PLAIN_MAX else _WIDEST.create_decimal(text)


def _too_deep() -> errors.Error:
    return errors.error(errors.TOO_COMPLEX, f"JSON is nested more than {NESTING_MAX} levels deep")
