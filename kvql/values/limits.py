"""The limits of values, and what must hold of a number or a text wherever it comes from (LANGUAGE §1)."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from kvql import errors

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
DECIMAL_DIGITS_MAX: Final = 1000
VALUE_BYTES_MAX: Final = 1024 * 1024
KEY_BYTES_MAX: Final = 512
NAMESPACE_LENGTH_MAX: Final = 64
NESTING_MAX: Final = 100
# Division and the like never round silently in a default context of 28 digits: callers use this one.
EXACT: Final = Context(prec=DECIMAL_DIGITS_MAX * 2 + 2)


def check_decimal(value: Decimal) -> Decimal:
    """``value`` itself if it is finite and has at most 1,000 digits written out; else 22003."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise errors.error(errors.OVERFLOW, f"a decimal cannot be {value}", hint="NaN and infinity exist as FLOAT only")
    if max(len(digits) + max(exponent, 0), -exponent) > DECIMAL_DIGITS_MAX:
        raise too_many_digits()
    return value


def too_many_digits() -> errors.Error:
    """22003 for a number that no type can hold."""
    return errors.error(errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits")


def check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise errors.error(
            errors.INVALID, f"text holds a lone surrogate (\\u{ord(value[e.start]):04x}) and is not valid Unicode"
        ) from None
