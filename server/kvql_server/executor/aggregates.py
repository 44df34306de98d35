"""The aggregates (LANGUAGE §4): what each keeps of the values that went by.

A result never depends on how the values were cut into batches, and on their order only where that is asked for: in
``string_agg``, and in which of several equal values (1, 1.0) ``min`` and ``max`` show. Numbers are added exactly, FLOAT
too, and rounded once at the end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from datetime import timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.values import DECIMAL_DIGITS_MAX, Json, Type, check_decimal, interval_of, to_interval_micros
from kvql_server.executor.functions import no_function
from kvql_server.executor.operators import check_length, divide_decimal, no_operator, text_length
from kvql_server.executor.ordering import group_key, order_key

AGGREGATES: Final[dict[str, tuple[int, int]]] = {
    "count": (0, 1), "sum": (1, 1), "avg": (1, 1), "min": (1, 1), "max": (1, 1), "string_agg": (2, 2),
}  # fmt: skip
"""Name -> least and most arguments; a count without one counts rows."""


class Accumulator(ABC):
    """One aggregate over one group; NULLs are ignored. What ``string_agg`` is given are pairs (value, separator)."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def add(self, value: Any) -> None:
        """One value."""
        self.add_many([value])

    @abstractmethod
    def add_many(self, values: list[Any]) -> None:
        """The same as one by one, and faster; the list stays as it is."""

    def add_count(self, count: int) -> None:
        """So many rows, whatever is in them: for ``count`` only."""
        raise TypeError(f"{self._name} does not count rows")

    @abstractmethod
    def result(self) -> Any:
        """Over all that was added; NULL (from ``count`` 0) if that was nothing."""

    @property
    def held_bytes(self) -> int:
        """About what is kept that grows with the input."""
        return 0

    def _no_function(self, *arguments: Any) -> Error:
        wanted = "TEXT" if self._name == "string_agg" else "INTEGER"
        hint = f"to leave other types out: {self._name}(…) FILTER (WHERE type = '{wanted}')"
        return no_function(self._name, arguments, hint)


def make(name: str, distinct: bool) -> Accumulator:
    """A new accumulator for one of ``AGGREGATES``; ``distinct``: of equal values only the first one counts."""
    made = _MAKERS[name](name)
    return _Distinct(name, made) if distinct else made


def result_type(name: str, argument_type: Type | None) -> Type | None:
    """What is known of the result where that is known of the argument; None where the values decide."""
    if name == "count":
        return Type.INTEGER
    if name == "string_agg":
        return Type.TEXT
    if name in ("min", "max") or argument_type is None:
        return argument_type
    return _SUM_TYPES.get(argument_type)


_SUM_TYPES: Final = {
    Type.INTEGER: Type.DECIMAL, Type.DECIMAL: Type.DECIMAL, Type.FLOAT: Type.FLOAT, Type.INTERVAL: Type.INTERVAL,
}  # fmt: skip
_SUMMABLE: Final = frozenset((int, Decimal, float, timedelta))
_NONE: Final = type(None)


def _not_null(values: list[Any], kinds: set[type]) -> list[Any]:
    """``values`` without NULLs; ``kinds`` are their types, and lose NULL's."""
    if _NONE not in kinds:
        return values
    kinds.remove(_NONE)
    return [v for v in values if v is not None]


# ── count ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Count(Accumulator):
    __slots__ = ("_count",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._count = 0

    def add(self, value: Any) -> None:
        self._count += value is not None

    def add_many(self, values: list[Any]) -> None:
        self._count += len(_not_null(values, set(map(type, values))))

    def add_count(self, count: int) -> None:
        self._count += count

    def result(self) -> int:
        return self._count


# ── sum and avg ───────────────────────────────────────────────────────────────────────────────────────────────────

_WIDE: Final = Context(prec=DECIMAL_DIGITS_MAX * 3)
"""Exact for sums of any number of decimals: 1,000 places after the point, and 2,000 digits before it."""


class _Sum(Accumulator):
    """DECIMAL from INTEGER and DECIMAL, FLOAT as soon as there is one, INTERVAL from INTERVAL."""

    __slots__ = ("_count", "_decimals", "_floats", "_intervals", "_micros", "_whole")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._count = 0
        self._intervals = 0
        self._whole = 0
        self._micros = 0
        self._decimals = Decimal(0)
        self._floats: _FloatSum | None = None

    def add(self, value: Any) -> None:
        if type(value) is int:
            self._count += 1
            self._whole += value
        elif value is not None:
            self.add_many([value])

    def add_many(self, values: list[Any]) -> None:
        kinds = set(map(type, values))
        values = _not_null(values, kinds)
        if not kinds <= _SUMMABLE:
            raise self._no_function(next(v for v in values if type(v) not in _SUMMABLE))
        for kind in kinds:
            self._add_kind(kind, values if len(kinds) == 1 else [v for v in values if type(v) is kind])

    def _add_kind(self, kind: type, values: list[Any]) -> None:
        if kind is int:
            self._whole += sum(values)
        elif kind is Decimal:
            with localcontext(_WIDE):
                self._decimals = sum(values, self._decimals)
        elif kind is float:
            self._floats = self._floats or _FloatSum()
            self._floats.add(values)
        else:
            self._micros += sum(map(to_interval_micros, values))
            self._intervals += len(values)
        self._count += len(values)

    def result(self) -> Any:
        if not self._count:
            return None
        if self._intervals:
            self._check_intervals()
            return self._interval()
        if self._floats is not None:
            return self._float(self._floats)
        return self._decimal(_WIDE.add(self._decimals, Decimal(self._whole)))

    def _check_intervals(self) -> None:
        if self._intervals != self._count:
            raise no_operator("+", timedelta(0), 0 if self._floats is None else 0.0)

    def _interval(self) -> timedelta:
        return interval_of(self._micros)

    def _float(self, floats: _FloatSum) -> float:
        return floats.total(self._exact())

    def _decimal(self, total: Decimal) -> Decimal:
        return check_decimal(total)

    def _exact(self) -> Fraction:
        """What is to be added to the floats; 0 in most cases."""
        return Fraction(self._decimals) + self._whole


class _Average(_Sum):
    """With the scale of PostgreSQL's division for DECIMAL; the exact mean, rounded once, for FLOAT and INTERVAL."""

    __slots__ = ()

    def _interval(self) -> timedelta:
        return interval_of(round(Fraction(self._micros, self._count)))

    def _float(self, floats: _FloatSum) -> float:
        return floats.total(self._exact(), self._count)

    def _decimal(self, total: Decimal) -> Decimal:
        return divide_decimal(total, Decimal(self._count))


_PARTIALS_MAX: Final = 5
"""Two or three are usual; more come from values of very different sizes, and whole numbers are faster then."""


class _FloatSum:
    """An exact sum of floats.

    It is kept as a few floats whose exact sum it is: ``fsum`` rounds correctly, so what it leaves over is smaller by 53
    bits each time and soon nothing (an expansion, as in Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997).
    """

    __slots__ = ("_partials", "_special", "_units")

    def __init__(self) -> None:
        self._partials: list[float] = []
        self._units = 0
        """Multiples of the smallest float, 2^-1074: sums that are beyond the largest one on their way."""
        self._special: set[str] = set()
        """Which of inf, -inf and nan went by."""

    def add(self, values: list[float]) -> None:
        rest = self._partials + values
        partials: list[float] = []
        try:
            while total := math.fsum(rest):
                if len(partials) == _PARTIALS_MAX or not math.isfinite(total):
                    return self._add_slowly(values)
                partials.append(total)
                rest.append(-total)
        except (OverflowError, ValueError):
            return self._add_slowly(values)
        self._partials = partials
        return None

    def _add_slowly(self, values: list[float]) -> None:
        for value in values:
            if math.isfinite(value):
                numerator, denominator = value.as_integer_ratio()
                self._units += numerator * ((1 << 1074) // denominator)
            else:
                self._special.add(str(value))

    def total(self, more: Fraction, divisor: int = 1) -> float:
        """(The sum + ``more``) / ``divisor``, rounded once; 22003 if no float is that large."""
        if self._special:
            return float(self._special.pop() if len(self._special) == 1 else "nan")
        if divisor == 1 and not self._units and not more:
            return math.fsum(self._partials)
        exact = sum(map(Fraction, self._partials), Fraction(self._units, 1 << 1074) + more)
        try:
            return float(exact / divisor)
        except OverflowError:
            raise errors.error(errors.OVERFLOW, "FLOAT out of range: overflow") from None


# ── min and max ───────────────────────────────────────────────────────────────────────────────────────────────────


class _Extreme(Accumulator):
    """In the order of ORDER BY; of several equal values the first."""

    __slots__ = ("_best", "_pick")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._pick: Callable[..., Any] = min if name == "min" else max
        self._best: Any = None

    def add_many(self, values: list[Any]) -> None:
        kinds = set(map(type, values))
        values = _not_null(values, kinds)
        if values:
            best = self._pick(values) if _compare_alike(values, kinds) else self._pick(values, key=order_key)
            self._best = best if self._best is None else self._pick(self._best, best, key=order_key)

    def add(self, value: Any) -> None:
        best, kind = self._best, type(value)
        if kind is type(best) and (kind is int or kind is str):
            self._best = self._pick(best, value)
        elif value is not None:
            self._best = value if best is None else self._pick(best, value, key=order_key)

    def result(self) -> Any:
        return self._best


def _compare_alike(values: list[Any], kinds: set[type]) -> bool:
    """Whether Python compares these values as ORDER BY does."""
    if len(kinds) != 1 or Json in kinds:
        return False
    return float not in kinds or not any(map(math.isnan, values))


# ── string_agg ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Joined(Accumulator):
    """A value's separator stands before it, the first one's nowhere; a NULL separator is none."""

    __slots__ = ("_empty", "_length", "_texts")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._empty = True
        self._length = 0
        self._texts: list[str] = []

    def add_many(self, values: list[Any]) -> None:
        pieces: list[str] = []
        for value, separator in values:
            if value is None:
                continue
            if type(value) is not str or not (separator is None or type(separator) is str):
                raise self._no_function(value, separator)
            if self._empty:
                self._empty = False
            elif separator:
                pieces.append(separator)
            pieces.append(value)
        self._length += sum(map(text_length, pieces))
        check_length(self._length)
        if text := "".join(pieces):
            self._texts.append(text)

    @property
    def held_bytes(self) -> int:
        return self._length

    def result(self) -> str | None:
        return None if self._empty else "".join(self._texts)


# ── DISTINCT ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Distinct(Accumulator):
    """Hands on what was not there yet."""

    __slots__ = ("_inner", "_key", "_seen")

    def __init__(self, name: str, inner: Accumulator) -> None:
        super().__init__(name)
        self._inner = inner
        self._key = _pair_key if name == "string_agg" else group_key
        self._seen: set[Hashable] = set()

    def add_many(self, values: list[Any]) -> None:
        kinds = set(map(type, values))
        if kinds <= _THEIR_OWN_KEYS:
            fresh = list(set(values) - self._seen)
            self._seen.update(fresh)
        else:
            fresh = self._fresh(values)
        self._inner.add_many(fresh)

    def _fresh(self, values: list[Any]) -> list[Any]:
        fresh = []
        for value in values:
            if value is not None and (key := self._key(value)) not in self._seen:
                self._seen.add(key)
                fresh.append(value)
        return fresh

    @property
    def held_bytes(self) -> int:
        return _DISTINCT_BYTES * len(self._seen) + self._inner.held_bytes

    def result(self) -> Any:
        return self._inner.result()


_DISTINCT_BYTES: Final = 120
"""What one of several different values takes in a set, by and large."""


_THEIR_OWN_KEYS: Final = frozenset((int, str))
"""Types of which the values are their own keys, and equal only if they are the same."""


def _pair_key(pair: tuple[Any, Any]) -> Hashable:
    return group_key(pair[0]), group_key(pair[1])


_MAKERS: Final[dict[str, Callable[[str], Accumulator]]] = {
    "count": _Count, "sum": _Sum, "avg": _Average, "min": _Extreme, "max": _Extreme, "string_agg": _Joined,
}  # fmt: skip
