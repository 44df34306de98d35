"""How a value is shown to people and written as a literal, and what an unquoted word means (LANGUAGE §2)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from kvql.values.limits import DECIMAL_DIGITS_MAX, INTEGER_MAX, INTEGER_MIN
from kvql.values.texts import quote
from kvql.values.times import interval_text, timestamp_text
from kvql.values.types import Value


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


def _float_text(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


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
