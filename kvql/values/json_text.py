"""JSON values, kept as text."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from kvql import errors
from kvql.values.limits import DECIMAL_DIGITS_MAX, NESTING_MAX, check_decimal, check_text, too_many_digits
from kvql.values.texts import shorten


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
        """What the API hands out: numbers as ``json.loads`` gives them, but none is ever rounded.

        A number with a fraction or an exponent is a float if the float shows the very same number, as it does for
        whatever Python wrote; otherwise a Decimal.
        """
        return json.loads(self.text, parse_float=_unrounded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and (self.text == other.text or self.load() == other.load())

    def __hash__(self) -> int:
        return hash(len(self.load()))

    def __repr__(self) -> str:
        return f"Json({self.text!r})"

    def __copy__(self) -> Json:
        return self


class _Number(str):
    """The text of a JSON number that must come out again as it went in."""


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as e:
        raise errors.error(
            errors.BAD_CAST, f"invalid input syntax for type json at character {e.pos + 1}: {shorten(text)}"
        ) from None


def _unrounded(text: str) -> float | Decimal:
    near = float(text)
    if len(text) <= _FLOAT_DIGITS and "e" not in text and "E" not in text:
        return near
    exact = Decimal(text)
    return near if Decimal(repr(near)) == exact else exact


_FLOAT_DIGITS: Final = 16
"""Characters of a number, the point among them, of which a float keeps every digit."""


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
        return _number(value)
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
    if kind is int and not -_WHOLE_END < value < _WHOLE_END:
        raise too_many_digits()
    return json.dumps(value, allow_nan=False)


_WHOLE_END: Final = 10**DECIMAL_DIGITS_MAX


def _number(text: str) -> str:
    """``text`` itself, if it is a number that a field can be read as: one that DECIMAL can hold."""
    if len(text) > DECIMAL_DIGITS_MAX or "e" in text or "E" in text:
        try:
            check_decimal(Decimal(text))
        except InvalidOperation:  # an exponent that not even Python can hold
            raise too_many_digits() from None
    return str.__str__(text)


def _json_text(text: str) -> str:
    if not text.isascii():
        check_text(text)
    return json.dumps(text, ensure_ascii=False)
