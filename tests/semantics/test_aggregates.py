"""Aggregates against a naive model, whatever the batches and the order; what they refuse; DISTINCT."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvql_server.executor import operators
from kvql_server.executor.aggregates import AGGREGATES, make, result_type
from kvql_server.executor.ordering import group_key, order_key

from kvql import errors
from kvql.values import Json, Type
from tests.semantics.values import anything, decimals, floats, integers, intervals, texts

NAN, INF = float("nan"), float("inf")


def aggregate(
    name: str, values: list[Any], cut: Callable[[int], int] = lambda left: left, distinct: bool = False
) -> Any:
    """The result over ``values``, cut into batches of ``cut(values left)``; 0 stands for a single value by ``add``."""
    made = make(name, distinct)
    at = 0
    while at < len(values):
        size = cut(len(values) - at)
        if size:
            made.add_many(values[at : at + size])
        else:
            made.add(values[at])
        at += size or 1
    return made.result()


def outcome(name: str, values: list[Any], cut: Callable[[int], int], distinct: bool = False) -> tuple[Any, ...]:
    """The result with its type and digits, or the SQLSTATE."""
    try:
        result = aggregate(name, values, cut, distinct)
    except errors.Error as e:
        return (e.sqlstate,)
    return type(result), str(result) if type(result) is Decimal else group_key(result)


@st.composite
def shuffled(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[list[Any], list[Any], Callable[[int], int]]:
    """Values in two orders, and a way to cut them into batches."""
    some = draw(st.lists(st.none() | values, max_size=12))
    seed = draw(st.integers(0, 2**32))
    return some, draw(st.permutations(some)), lambda left: random.Random(seed + left).randint(0, left)


def whole_list(left: int) -> int:
    return left


# ── the naive model ───────────────────────────────────────────────────────────────────────────────────────────────


def model_sum(values: list[Any], divided: bool = False) -> Any:
    """Of numbers that are not NULL, by fractions; an error's SQLSTATE as a text."""
    special = {str(v) for v in values if type(v) is float and not math.isfinite(v)}
    if special:
        return float(special.pop()) if len(special) == 1 else NAN
    total = sum(Fraction(v) for v in values)
    if any(type(v) is float for v in values):
        try:
            return float(total / len(values) if divided else total)
        except OverflowError:
            return errors.OVERFLOW
    return total


@given(shuffled(integers | decimals | floats))
def test_sum_as_the_model(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    given_ones = [v for v in values if v is not None]
    expected = model_sum(given_ones) if given_ones else None
    result = outcome("sum", values, whole_list)
    assert result == outcome("sum", others, cut)
    if type(expected) is str:
        assert result == (expected,)
    elif type(expected) in (Fraction, int):
        assert result[0] is Decimal and Fraction(result[1]) == expected
    else:
        assert result == (type(expected), group_key(expected))


@given(shuffled(integers | decimals))
def test_avg_is_the_division_of_the_operators(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    count = sum(v is not None for v in values)
    result = outcome("avg", values, whole_list)
    assert result == outcome("avg", others, cut)
    expected = operators.divide(aggregate("sum", values), Decimal(count)) if count else None
    assert result == (type(expected), str(expected) if count else None)


@given(shuffled(floats | integers))
def test_avg_of_floats(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    result = outcome("avg", values, whole_list)
    assert result == outcome("avg", others, cut)
    given_ones = [v for v in values if v is not None]
    if any(type(v) is float for v in given_ones):
        expected = model_sum(given_ones, divided=True)
        assert result == ((expected,) if type(expected) is str else (float, group_key(expected)))


@given(shuffled(intervals))
def test_intervals(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    given_ones = [v for v in values if v is not None]
    assert aggregate("sum", others, cut) == (sum(given_ones, timedelta(0)) if given_ones else None)
    assert aggregate("avg", others, cut) == (sum(given_ones, timedelta(0)) / len(given_ones) if given_ones else None)


@given(shuffled(anything))
def test_min_and_max_follow_the_order(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    given_ones = [v for v in values if v is not None]
    for name, pick in (("min", min), ("max", max)):
        expected = pick(given_ones, key=order_key) if given_ones else None
        assert aggregate(name, values, cut) is expected
        assert order_key(aggregate(name, others, cut)) == order_key(expected)


@given(shuffled(anything))
def test_count_and_count_distinct(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, others, cut = case
    given_ones = [v for v in values if v is not None]
    assert aggregate("count", others, cut) == len(given_ones)
    assert aggregate("count", others, cut, distinct=True) == len(set(map(group_key, given_ones)))


@given(shuffled(integers | decimals | floats))
def test_sum_distinct(case: tuple[list[Any], list[Any], Callable[[int], int]]) -> None:
    values, _, cut = case
    firsts = list({group_key(v): v for v in reversed(values) if v is not None}.values())
    assert outcome("sum", values, cut, distinct=True) == outcome("sum", firsts, whole_list)


@given(shuffled(texts), st.sampled_from(["", ",", "é", None]))
def test_string_agg_keeps_the_order(
    case: tuple[list[Any], list[Any], Callable[[int], int]], separator: str | None
) -> None:
    values, _, cut = case
    given_ones = [v for v in values if v is not None]
    pairs = [(v, separator) for v in values]
    assert aggregate("string_agg", pairs, cut) == ((separator or "").join(given_ones) if given_ones else None)
    firsts = list(dict.fromkeys(given_ones))
    assert aggregate("string_agg", pairs, cut, True) == ((separator or "").join(firsts) if firsts else None)


# ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [n for n in AGGREGATES if n != "count"])
def test_of_nothing_is_null(name: str) -> None:
    assert make(name, False).result() is None
    assert make(name, True).result() is None
    nulls = [(None, ",")] if name == "string_agg" else [None, None]
    assert aggregate(name, nulls) is None


def test_count_of_rows() -> None:
    made = make("count", False)
    assert made.result() == 0
    made.add_count(4096)
    made.add(None)
    made.add(0)
    assert made.result() == 4097
    with pytest.raises(TypeError):
        make("sum", False).add_count(1)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("sum", [1, 2, None], Decimal(3)), ("sum", [2**63 - 1] * 3, Decimal((2**63 - 1) * 3)),
        ("sum", [Decimal("0.10"), 1], Decimal("1.10")), ("sum", [0.1] * 10, 1.0), ("sum", [1, 0.5], 1.5),
        ("sum", [1e308, 1e308, -1e308], 1e308), ("sum", [1.0, 1e100, 1.0, -1e100], 2.0), ("sum", [INF, 1], INF),
        ("sum", [INF, -INF], NAN), ("sum", [NAN, 1.0], NAN), ("sum", [5e-324, -5e-324, 5e-324], 5e-324),
        ("sum", [0.1, Decimal("0.1")], 0.2), ("avg", [1, 2], Decimal("1.5000000000000000")),
        ("avg", [1, 1, 2], Decimal("1.3333333333333333")), ("avg", [1e308, 1e308], 1e308), ("avg", [1.0, 2], 1.5),
        ("avg", [timedelta(seconds=1), timedelta(seconds=2)], timedelta(seconds=1.5)),
        ("min", [2, 1.5, Decimal(3)], 1.5), ("max", [2, "a", True], "a"), ("max", [1, NAN, INF], NAN),
        ("max", [1.0, 2.0, NAN], NAN), ("min", [NAN, 2.0, 1.0], 1.0),
        ("min", [datetime(2026, 1, 2, tzinfo=UTC), "a"], datetime(2026, 1, 2, tzinfo=UTC)),
        ("max", [Json("[2]"), Json("[10]")], Json("[10]")),
    ],
)  # fmt: skip
def test_examples(name: str, values: list[Any], expected: Any) -> None:
    result = aggregate(name, values)
    assert (type(result), str(result)) == (type(expected), str(expected))
    assert str(aggregate(name, values, lambda left: 1)) == str(expected)


@pytest.mark.parametrize(
    ("name", "values", "code", "message"),
    [
        ("sum", [1, "a"], errors.UNKNOWN_FUNCTION, "function sum(TEXT) does not exist"),
        ("avg", [True], errors.UNKNOWN_FUNCTION, "function avg(BOOLEAN) does not exist"),
        ("sum", [Json("[1]")], errors.UNKNOWN_FUNCTION, "function sum(JSON) does not exist"),
        ("sum", [timedelta(1), 1], errors.UNKNOWN_FUNCTION, "operator does not exist: INTERVAL + INTEGER"),
        ("avg", [0.5, timedelta(1)], errors.UNKNOWN_FUNCTION, "operator does not exist: INTERVAL + FLOAT"),
        ("sum", [1e308, 1e308], errors.OVERFLOW, "FLOAT out of range: overflow"),
        ("sum", [Decimal("9e999")] * 2, errors.OVERFLOW, "a decimal has at most 1,000 digits"),
        ("sum", [timedelta.max] * 2, errors.OVERFLOW, "interval out of range"),
        ("string_agg", [(1, ",")], errors.UNKNOWN_FUNCTION, "function string_agg(INTEGER, TEXT) does not exist"),
        ("string_agg", [("a", 1)], errors.UNKNOWN_FUNCTION, "function string_agg(TEXT, INTEGER) does not exist"),
    ],
)  # fmt: skip
def test_refusals(name: str, values: list[Any], code: str, message: str) -> None:
    with pytest.raises(errors.Error) as caught:
        aggregate(name, values)
    assert (caught.value.sqlstate, caught.value.message) == (code, message)


def test_the_hint_names_the_filter() -> None:
    with pytest.raises(errors.ProgrammingError) as caught:
        aggregate("sum", ["a"])
    assert caught.value.hint == "to leave other types out: sum(…) FILTER (WHERE type = 'INTEGER')"


def test_decimals_are_exact_beyond_the_limit_on_the_way() -> None:
    wide = [Decimal("9" * 1000), Decimal(1).scaleb(-900), Decimal("-" + "9" * 1000), Decimal(1)]
    total = aggregate("sum", wide * 500 + [Decimal(1).scaleb(-900) * -500])
    assert total == 500


def test_string_agg_is_bounded_before_it_is_built() -> None:
    piece = "é" * 1024 * 512
    with pytest.raises(errors.OperationalError) as caught:
        aggregate("string_agg", [(piece, ",")] * 5)
    assert caught.value.sqlstate == errors.LIMIT
    assert len(aggregate("string_agg", [(piece, "")] * 4)) == 1024 * 512 * 4


def test_result_types() -> None:
    known = {
        ("count", None): Type.INTEGER, ("sum", Type.INTEGER): Type.DECIMAL, ("avg", Type.FLOAT): Type.FLOAT,
        ("sum", None): None, ("min", Type.TEXT): Type.TEXT, ("max", None): None, ("string_agg", None): Type.TEXT,
        ("sum", Type.TEXT): None, ("avg", Type.INTERVAL): Type.INTERVAL,
    }  # fmt: skip
    assert {case: result_type(*case) for case in known} == known
