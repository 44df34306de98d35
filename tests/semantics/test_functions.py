"""Functions beyond what PostgreSQL was asked (``expressions.txt``): our own types, refusals, sizes and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvql_server.executor import operators
from kvql_server.executor.functions import FUNCTIONS

from kvql import errors
from kvql.values import Json, Type, type_of
from tests.semantics.values import anything, decimals, floats, texts

DAY = datetime(2026, 1, 2, tzinfo=UTC)
MIB = 1024 * 1024


def call(name: str, *arguments: Any) -> Any:
    return FUNCTIONS[name].call(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("concat", (None, b"\x00\xff", True, Json("[1]")), "x'00ff'true[1]"),
        ("concat", (1e3, DAY), "10002026-01-02T00:00:00Z"),
        ("typeof", (None,), "NULL"), ("typeof", (True,), "BOOLEAN"), ("typeof", (1,), "INTEGER"),
        ("typeof", (Decimal(1),), "DECIMAL"), ("typeof", (1.0,), "FLOAT"), ("typeof", ("",), "TEXT"),
        ("typeof", (b"",), "BYTES"), ("typeof", (DAY,), "TIMESTAMP"), ("typeof", (Json("{}"),), "JSON"),
        ("typeof", (timedelta(1),), "INTERVAL"),
        ("greatest", (1, "a", None, True), "a"), ("least", (1, "a", None, True), True),
        ("greatest", (Json("[9]"), Json("{}"), b"z"), Json("{}")), ("greatest", (1, Decimal("1.0")), 1),
        ("least", (2**53 + 1, float(2**53)), float(2**53)),
        ("nullif", (1, "1"), 1), ("nullif", (True, 1), True), ("nullif", (Json('{"a": 1.0}'), Json('{"a": 1}')), None),
        ("nullif", (float("nan"), float("nan")), None), ("coalesce", (None, 0, 1), 0), ("coalesce", (None,), None),
        ("json_keys", (Json('{"b": 1, "a": {"c": 2}}'),), Json('["b", "a"]')), ("json_keys", (Json("[1]"),), None),
        ("json_keys", (Json("{}"),), Json("[]")), ("json_length", (Json('{"b": [1, 2, 3], "a": {}}'),), 2),
        ("json_length", (Json("[[1, 2], " + "7" * 9000 + "]"),), 2), ("json_length", (None,), None),
        ("abs", (Decimal("-" + "9" * 1000),), Decimal("9" * 1000)), ("floor", (Decimal("-0.0"),), Decimal(0)),
        ("floor", (Decimal("-" + "9" * 998 + ".1"),), Decimal("-1" + "0" * 998)),
        ("ceil", (Decimal("0." + "9" * 999),), Decimal(1)), ("ceil", (Decimal("9" * 1000),), Decimal("9" * 1000)),
        ("round", (Decimal("9" * 999 + ".9"),), Decimal("1" + "0" * 999)),
        ("round", (Decimal("12345"), -(10**18)), Decimal(0)),
        ("round", (-7, -(10**9)), Decimal(0)), ("round", (2**63 - 1, 3), Decimal("9223372036854775807.000")),
        ("trim", ("\u2028 a \u2028",), "\u2028 a \u2028"), ("trim", ("-=[x]=-", "][=-"), "x"),
        ("trim", ("a" * 50 + "x" + "b" * 50, "abcdefghijklmnopqrstuvw"), "x"), ("upper", ("ὦᾳß",), "Ὦᾼß"),
        ("lower", ("ΟΔΟΣ İ",), "οδοσ i"), ("substr", ("abc", -(10**30), 10**31), "abc"),
        ("split_part", ("a,b", ",", -(10**30)), ""), ("split_part", ("a" * 5, "aa", -2), ""),
        ("date_trunc", ("Century", datetime(1, 1, 1, tzinfo=UTC)), datetime(1, 1, 1, tzinfo=UTC)),
        ("date_trunc", ("week", datetime(1, 1, 3, tzinfo=UTC)), datetime(1, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_values(name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    result = call(name, *arguments)
    assert (type(result), result) == (type(expected), expected)


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("length", (5,), errors.UNKNOWN_FUNCTION, "function length(INTEGER) does not exist"),
        ("length", (Json("[1]"),), errors.UNKNOWN_FUNCTION, "function length(JSON) does not exist"),
        ("replace", ("a", 1, "b"), errors.UNKNOWN_FUNCTION, "function replace(TEXT, INTEGER, TEXT) does not exist"),
        ("trim", (b"a",), errors.UNKNOWN_FUNCTION, "function trim(BYTES) does not exist"),
        ("trim", (b"a", "b"), errors.UNKNOWN_FUNCTION, "function trim(BYTES, TEXT) does not exist"),
        ("substr", ("a", True), errors.UNKNOWN_FUNCTION, "function substr(TEXT, BOOLEAN) does not exist"),
        ("substr", ("a", 1, 1.0), errors.UNKNOWN_FUNCTION, "function substr(TEXT, INTEGER, FLOAT) does not exist"),
        ("round", (1.5, 1), errors.UNKNOWN_FUNCTION, "function round(FLOAT, INTEGER) does not exist"),
        ("abs", (timedelta(1),), errors.UNKNOWN_FUNCTION, "function abs(INTERVAL) does not exist"),
        ("date_trunc", ("day", "2026"), errors.UNKNOWN_FUNCTION, "function date_trunc(TEXT, TEXT) does not exist"),
        ("json_keys", ("{}",), errors.UNKNOWN_FUNCTION, "function json_keys(TEXT) does not exist"),
        ("json_length", (1,), errors.UNKNOWN_FUNCTION, "function json_length(INTEGER) does not exist"),
        ("substr", ("a", 1, -1), errors.INVALID, "negative substring length not allowed"),
        ("split_part", ("a", ",", 0), errors.INVALID, "field position must not be zero"),
        ("date_trunc", ("x" * 99, DAY), errors.INVALID, "timestamp units 'xxxxxxxxxxxxx...' not recognized"),
        ("date_trunc", ("decade", datetime(5, 1, 1, tzinfo=UTC)), errors.OVERFLOW, "timestamp out of range"),
        ("abs", (-(2**63),), errors.OVERFLOW, "INTEGER out of range"),
        ("round", (Decimal("1.5"), 10**18), errors.OVERFLOW, "a decimal has at most 1,000 digits"),
        ("round", (Decimal("9" * 1000), -1), errors.OVERFLOW, "a decimal has at most 1,000 digits"),
    ],
)  # fmt: skip
def test_refusals(name: str, arguments: tuple[Any, ...], code: str, message: str) -> None:
    with pytest.raises(errors.Error) as caught:
        call(name, *arguments)
    assert (caught.value.sqlstate, caught.value.message) == (code, message)


def test_hints_name_a_cast_that_helps() -> None:
    for name, arguments, hint in (
        ("length", (5,), "TEXT"),
        ("round", (1.5, 1), "DECIMAL"),
        ("json_keys", ("",), "JSON"),
    ):
        with pytest.raises(errors.Error) as caught:
            call(name, *arguments)
        assert caught.value.hint == f"a cast may help: CAST(… AS {hint})"


_NOT_STRICT = {"concat", "coalesce", "nullif", "greatest", "least", "typeof"}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - _NOT_STRICT))
def test_null_in_null_out(name: str) -> None:
    function = FUNCTIONS[name]
    assert function.most is not None
    for count in range(function.least, function.most + 1):
        for at in range(count):
            assert function.call(*[None if i == at else "a" for i in range(count)]) is None


@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(anything, min_size=3, max_size=3), st.integers(0, 2))
def test_a_function_gives_a_value_or_an_error_of_ours(name: str, arguments: list[Any], more: int) -> None:
    function = FUNCTIONS[name]
    count = min(function.least + more, 3 if function.most is None else function.most)
    try:
        result = function.call(*arguments[:count])
    except errors.Error as e:
        assert e.sqlstate in (errors.UNKNOWN_FUNCTION, errors.INVALID, errors.OVERFLOW)
    else:
        assert result is None or function.type in (None, type_of(result))


@given(texts, texts, st.integers(-9, 9).filter(bool))
def test_split_part_as_a_list_of_pieces(text: str, separator: str, number: int) -> None:
    pieces = text.split(separator) if separator else [text]
    expected = pieces[number - 1 if number > 0 else number] if abs(number) <= len(pieces) else ""
    assert call("split_part", text, separator, number) == expected


@given(texts, st.integers(-9, 9), st.integers(0, 9))
def test_substr_counts_places_before_the_first(text: str, start: int, count: int) -> None:
    assert call("substr", text, start, count) == "".join(
        c for at, c in enumerate(text, 1) if start <= at < start + count
    )
    assert call("substr", text, start) == "".join(c for at, c in enumerate(text, 1) if start <= at)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_case_is_changed_character_by_character(text: str) -> None:
    for name in ("lower", "upper"):
        assert call(name, text) == "".join(call(name, c) for c in text)
        assert len(call(name, text)) == len(text)


@given(decimals | floats)
def test_rounding_goes_to_a_neighbour(number: Any) -> None:
    low, near, high = (call(name, number) for name in ("floor", "round", "ceil"))
    if number == number:
        assert low <= number <= high and near in (low, high)
        assert low == high == number if low == high else high - low == 1 or type(number) is float
    assert {type(low), type(near), type(high)} == {type(number)}


# ── hostile sizes ─────────────────────────────────────────────────────────────────────────────────────────────────

BIG = "a" * (4 * MIB)
GROWING: list[tuple[str, Callable[[], Any]]] = [
    ("replace", lambda: call("replace", "a" * MIB, "a", "b" * MIB)),
    ("replace by wide characters", lambda: call("replace", "a" * 2 * MIB, "a", "éé")),
    ("concat", lambda: call("concat", BIG, None, "b")),
    ("concat of bytes", lambda: call("concat", bytes(2 * MIB), "b")),
    ("concat of many", lambda: call("concat", *[b"a" * MIB] * 10_000)),
    ("||", lambda: operators.concat(BIG, "a")),
    ("|| of bytes", lambda: operators.concat(bytes(4 * MIB), b"a")),
    ("|| of bytes and text", lambda: operators.concat(bytes(3 * MIB), "a")),
    ("|| of wide characters", lambda: operators.concat("é" * MIB, "é" * MIB + "a")),
]


@pytest.mark.parametrize("make", [g[1] for g in GROWING], ids=[g[0] for g in GROWING])
def test_no_text_above_four_mebibytes(make: Callable[[], Any]) -> None:
    with pytest.raises(errors.OperationalError) as caught:
        make()
    assert caught.value.sqlstate == errors.LIMIT
    assert "bytes, and at most 4,194,304 are allowed" in caught.value.message


def test_four_mebibytes_are_allowed() -> None:
    assert len(call("concat", BIG)) == len(operators.concat(BIG, "")) == len(call("replace", BIG, "a", "b")) == 4 * MIB
    assert call("replace", "é" * MIB, "é", "bb") == "b" * 2 * MIB


LONG: list[tuple[str, Callable[[], Any]]] = [
    ("trim", lambda: call("trim", BIG, "bcdefghijklmnopqrstuvwxyz" * 100_000 + "a")),
    ("split_part from the end", lambda: call("split_part", BIG, "aa", -1)),
    ("split_part from the start", lambda: call("split_part", BIG, "a" * 1000 + "b", 1)),
    ("split_part of many", lambda: call("split_part", BIG, "aaaa", 10**6)),
    ("replace of what is nearly there", lambda: call("replace", BIG, "a" * MIB + "b", "c")),
    ("upper", lambda: call("upper", "ß" * MIB)),
    ("round", lambda: call("round", Decimal("9" * 998 + ".5"), 0)),
    ("json_length", lambda: call("json_length", Json("[" + "[[]], " * 100_000 + "1]"))),
]


@pytest.mark.parametrize("run", [g[1] for g in LONG], ids=[g[0] for g in LONG])
def test_time_is_linear(run: Callable[[], Any]) -> None:
    start = time.process_time()
    run()
    assert time.process_time() - start < 10


def test_types_and_numbers_of_arguments() -> None:
    assert FUNCTIONS["length"].type is Type.INTEGER and FUNCTIONS["coalesce"].type is None
    assert all(f.least >= 1 and (f.most is None or f.most >= f.least) for f in FUNCTIONS.values())
