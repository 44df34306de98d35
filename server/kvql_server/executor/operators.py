"""What the operators mean (LANGUAGE §5): exact numbers, comparison across types, three-valued logic's leaves.

Every function takes KVQL values (None is NULL) and returns one. An operator that does not exist for the types at hand
is 42883, as in PostgreSQL; an ordering comparison across types is NULL and counted, so that the result can say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
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
    interval_of,
    to_interval_micros,
    type_of,
)
from kvql_server.executor.ordering import group_key, order_key

NUMBERS: Final = frozenset((int, Decimal, float))


class Skipped:
    """Counts the rows with a comparison that had no answer because the types differ, by the type found."""

    __slots__ = ("_row", "types")

    def __init__(self) -> None:
        self.types: Counter[Type] = Counter()
        self._row: object = self

    def note(self, value: Any, row: object) -> None:
        """``row`` is the entry at hand; the same one is counted once."""
        if row is not self._row:
            self._row = row
            self.types[type_of(value)] += 1


def _class(kind: type) -> type:
    return int if kind in NUMBERS else kind


# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────────────


def equal(a: Any, b: Any) -> bool | None:
    """``=``: FALSE across types; NaN equals itself."""
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if ka is not kb and not (ka in NUMBERS and kb in NUMBERS):
        return False
    if ka is Json:
        # by content, and not as Python compares it: TRUE is not 1
        return a.text == b.text or group_key(a) == group_key(b)
    if a != a or b != b:
        return bool(a != a and b != b)
    return bool(a == b)


def distinct(a: Any, b: Any) -> bool:
    """``IS DISTINCT FROM``: as ``<>``, but NULL is a value like others."""
    return (a is not b) if a is None or b is None else not equal(a, b)


def compare(a: Any, b: Any) -> int | None:
    """-1, 0, 1 in the order of one type; None for NULL and across types. NaN sorts after every number."""
    if a is None or b is None or _class(type(a)) is not _class(type(b)):
        return None
    if type(a) is Json:
        return _compare_json(a, b)
    if a != a or b != b:
        return int(a != a) - int(b != b)
    return int(a > b) - int(a < b)


def _compare_json(a: Json, b: Json) -> int:
    x, y = order_key(a), order_key(b)
    return int(x > y) - int(x < y)


def _ordering(test: Callable[[int], bool]) -> Callable[[Any, Any, Skipped, object], bool | None]:
    def ordered(a: Any, b: Any, skipped: Skipped, row: object) -> bool | None:
        order = compare(a, b)
        if order is None:
            if a is not None and b is not None:
                skipped.note(a, row)
            return None
        return test(order)

    return ordered


less = _ordering(lambda order: order < 0)
less_equal = _ordering(lambda order: order <= 0)
greater = _ordering(lambda order: order > 0)
greater_equal = _ordering(lambda order: order >= 0)


def between(value: Any, low: Any, high: Any, skipped: Skipped, row: object) -> bool | None:
    """``value >= low AND value <= high``."""
    above, below = greater_equal(value, low, skipped, row), less_equal(value, high, skipped, row)
    if above is False or below is False:
        return False
    return None if above is None or below is None else True


def among(value: Any, items: tuple[Any, ...]) -> bool | None:
    """``IN``: TRUE if one is equal, else NULL if one is NULL."""
    if value is None:
        return None
    unknown = False
    for item in items:
        same = equal(value, item)
        if same:
            return True
        unknown = unknown or same is None
    return None if unknown else False


def starts_with(value: Any, prefix: Any, skipped: Skipped, row: object) -> bool | None:
    """``^=``."""
    if value is None or prefix is None:
        return None
    if type(prefix) is not str:
        raise no_operator("^=", value, prefix)
    if type(value) is not str:
        skipped.note(value, row)
        return None
    return value.startswith(prefix)


def negation(value: Any) -> bool | None:
    """NOT."""
    return None if boolean(value) is None else not value


def boolean(value: Any) -> bool | None:
    """The operand of AND, OR, NOT and WHERE must be a BOOLEAN or NULL."""
    if value is None or value is True or value is False:
        return value
    raise errors.error(errors.TYPE_MISMATCH, f"a condition must be BOOLEAN, not {type_of(value).name}")


# ── arithmetic ────────────────────────────────────────────────────────────────────────────────────────────────────


def no_operator(operator: str, *operands: Any) -> Error:
    types = f" {operator} ".join(type_of(operand).name for operand in operands)
    shown = types if len(operands) > 1 else f"{operator} {types}"
    return errors.error(
        errors.UNKNOWN_FUNCTION, f"operator does not exist: {shown}", hint="a cast may help: CAST(… AS INTEGER)"
    )


def _integer(value: int) -> int:
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    raise errors.error(errors.OVERFLOW, "INTEGER out of range", hint="cast an operand to DECIMAL")


def _float(value: float, *operands: float) -> float:
    if value in (float("inf"), float("-inf")) and not any(o in (value, -value) for o in operands):
        raise errors.error(errors.OVERFLOW, "FLOAT out of range: overflow")
    return value


def _numbers(a: Any, b: Any) -> tuple[Any, Any]:
    """Two numbers of different types as two of one: FLOAT wins over DECIMAL, DECIMAL over INTEGER."""
    if type(a) is type(b):
        return a, b
    if type(a) is float or type(b) is float:
        try:
            return float(a), float(b)
        except OverflowError:
            raise errors.error(errors.OVERFLOW, "FLOAT out of range: overflow") from None
    return Decimal(a), Decimal(b)


def _exact(compute: Callable[[Context], Decimal]) -> Decimal:
    try:
        return check_decimal(compute(EXACT))
    except DecimalException:
        raise errors.error(errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits") from None


def add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if ka is int and kb is int:
        return _integer(a + b)
    if ka in NUMBERS and kb in NUMBERS:
        a, b = _numbers(a, b)
        return _float(a + b, a, b) if type(a) is float else _exact(lambda context: context.add(a, b))
    if (ka is datetime or ka is timedelta) and kb is timedelta:
        return _time(lambda: a + b)
    if ka is timedelta and kb is datetime:
        return _time(lambda: b + a)
    raise no_operator("+", a, b)


def subtract(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if ka is int and kb is int:
        return _integer(a - b)
    if ka in NUMBERS and kb in NUMBERS:
        a, b = _numbers(a, b)
        return _float(a - b, a, b) if type(a) is float else _exact(lambda context: context.subtract(a, b))
    if (ka is datetime and kb in (datetime, timedelta)) or (ka is timedelta and kb is timedelta):
        return _time(lambda: a - b)
    raise no_operator("-", a, b)


def multiply(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if ka is int and kb is int:
        return _integer(a * b)
    if ka in NUMBERS and kb in NUMBERS:
        a, b = _numbers(a, b)
        return _float(a * b, a, b) if type(a) is float else _exact(lambda context: context.multiply(a, b))
    if ka is timedelta and kb in NUMBERS:
        return _scaled(a, b)
    if kb is timedelta and ka in NUMBERS:
        return _scaled(b, a)
    raise no_operator("*", a, b)


def divide(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if kb not in NUMBERS or not (ka in NUMBERS or ka is timedelta):
        raise no_operator("/", a, b)
    if b == 0:
        raise _division_by_zero()
    if ka is int and kb is int:
        quotient = abs(a) // abs(b)
        return _integer(quotient if (a < 0) is (b < 0) else -quotient)
    if ka is timedelta:
        return _scaled(a, 1 / b if kb is float else divide_decimal(Decimal(1), Decimal(b)))
    a, b = _numbers(a, b)
    return _float(a / b, a, b) if type(a) is float else divide_decimal(a, b)


def modulo(a: Any, b: Any) -> Any:
    """The remainder with the sign of the first operand."""
    if a is None or b is None:
        return None
    ka, kb = type(a), type(b)
    if ka not in NUMBERS or kb not in NUMBERS or float in (ka, kb):
        raise no_operator("%", a, b)
    if b == 0:
        raise _division_by_zero()
    if ka is int and kb is int:
        rest = abs(a) % abs(b)
        return -rest if a < 0 else rest
    a, b = _numbers(a, b)
    return _exact(lambda context: context.remainder(a, b))


def negate(a: Any) -> Any:
    kind = type(a)
    if a is None:
        return None
    if kind is int:
        return _integer(-a)
    if kind is float or kind is timedelta:
        return -a
    if kind is Decimal:
        return a.copy_negate() if a else a
    raise no_operator("-", a)


def plus(a: Any) -> Any:
    if a is None or type(a) in NUMBERS or type(a) is timedelta:
        return a
    raise no_operator("+", a)


def concat(a: Any, b: Any) -> Any:
    """``||``: text with anything, shown as text; bytes with bytes. 53400 if the result is too long."""
    if type(a) is str and type(b) is str and len(a) + len(b) <= TEXT_BYTES_MAX // 4:
        return a + b
    if a is None or b is None:
        return None
    if type(a) is bytes and type(b) is bytes:
        check_length(len(a) + len(b))
        return a + b
    if type(a) is str or type(b) is str:
        return joined((a, b))
    raise no_operator("||", a, b)


# ── the length of what is made ────────────────────────────────────────────────────────────────────────────────────

TEXT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a text or of bytes that an expression makes on its way to a value, which may be no longer than 1 MiB."""


def check_length(length: int) -> None:
    """53400 if a text of so many bytes may not be made; to be asked before it is."""
    if length > TEXT_BYTES_MAX:
        raise errors.error(
            errors.LIMIT, f"an expression makes a text of {length:,} bytes, and at most {TEXT_BYTES_MAX:,} are allowed",
            hint="split the value over several keys",
        )  # fmt: skip


def text_length(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def concat_all(values: tuple[Any, ...]) -> Any:
    """``a || b || c …``: the same as one by one, without copying what is joined already at each step."""
    if str in (type(values[0]), type(values[1])):
        return None if any(v is None for v in values) else joined(values)
    first = values[0]
    for value in values[1:]:
        first = concat(first, value)
    return first


def joined(values: Iterable[Any]) -> str:
    """``values``, none of them NULL, as they are shown, one after the other."""
    pieces: list[str] = []
    length = 0
    for value in values:
        if type(value) is bytes:
            check_length(length + 2 * len(value))
        pieces.append(display(value))
        length += text_length(pieces[-1])
        check_length(length)
    return "".join(pieces)


def _division_by_zero() -> Error:
    return errors.error(errors.DIVISION_BY_ZERO, "division by zero")


def _time(compute: Callable[[], Any]) -> Any:
    try:
        out = compute()
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "timestamp out of range") from None
    return interval_of(to_interval_micros(out)) if type(out) is timedelta else out


def _scaled(interval: timedelta, factor: Any) -> timedelta:
    micros = interval // timedelta(microseconds=1)
    try:
        return interval_of(round(Decimal(micros) * Decimal(factor)))
    except (DecimalException, ValueError, OverflowError):
        raise errors.error(errors.OVERFLOW, "interval out of range") from None


def _weight(value: Decimal) -> tuple[int, int]:
    """Place and size of the first digit in base 10,000, as PostgreSQL counts."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(abs(value).scaleb(-4 * weight, EXACT))


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def divide_decimal(a: Decimal, b: Decimal) -> Decimal:
    """With the scale that PostgreSQL's numeric gives (select_div_scale): at least 16 significant digits."""
    (weight_a, first_a), (weight_b, first_b) = _weight(a), _weight(b)
    weight = weight_a - weight_b - (first_a <= first_b)
    scale = min(max(16 - weight * 4, _scale(a), _scale(b), 0), DECIMAL_DIGITS_MAX)
    wide = Context(prec=DECIMAL_DIGITS_MAX * 4, rounding=ROUND_HALF_UP)
    return _exact(lambda _: wide.divide(a, b).quantize(Decimal(1).scaleb(-scale), context=wide))


BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": add, "-": subtract, "*": multiply, "/": divide, "%": modulo, "||": concat,
}  # fmt: skip


def chain(first: Any, *rest: Any) -> Any:
    """Operators of one precedence from left to right: ``chain(a, add, b, subtract, c)``."""
    for at in range(0, len(rest), 2):
        first = rest[at](first, rest[at + 1])
    return first
