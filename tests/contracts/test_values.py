"""The forms of a value: bare words, literals, display, JSON, times; each as a property where one holds for all."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvql import errors, values
from kvql.values import Json, Type

WORDS = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1)
NUMBERLIKE = st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,12})?\Z")


@given(WORDS | NUMBERLIKE)
def test_what_a_bare_word_becomes_prints_as_the_word(word: str) -> None:
    assert values.display(values.bare_value(word)) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("5", 5), ("-5", -5), ("0", 0), ("1.50", Decimal("1.50")), ("true", True), ("false", False),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775808", Decimal(2**63)),
        ("0.00000001", Decimal("0.00000001")),
        ("007", "007"), ("+5", "+5"), ("1e3", "1e3"), ("-0", "-0"), (".5", ".5"), ("5.", "5."), ("TRUE", "TRUE"),
        ("null", "null"), ("60s", "60s"), ("1_000", "1_000"), ("٣", "٣"), ("-", "-"), ("--", "--"),
    ],
)  # fmt: skip
def test_only_a_word_that_prints_back_is_a_number_or_a_boolean(word: str, value: object) -> None:
    made = values.bare_value(word)
    assert (type(made), made) == (type(value), value)


def test_a_number_of_many_digits_is_text_not_a_crash() -> None:
    word = "9" * 5000
    assert values.bare_value(word) == word
    assert values.bare_value("1" * 1000) == Decimal("1" * 1000)


@given(st.integers(values.INTEGER_MIN, values.INTEGER_MAX))
def test_types_tell_numbers_apart(number: int) -> None:
    assert values.type_of(number) is Type.INTEGER
    assert values.type_of(Decimal(number)) is Type.DECIMAL
    assert values.type_of(float(number)) is Type.FLOAT
    assert values.type_of(True) is Type.BOOLEAN


def test_a_foreign_object_has_no_type() -> None:
    with pytest.raises(TypeError):
        values.type_of(object())


# ── parameters from Python ────────────────────────────────────────────────────────────────────────────────────────


class Word(str):
    """A subclass, as enumerations and numpy make them."""


def test_parameters_become_plain_values() -> None:
    assert values.from_python({"a": [1, None]}) == Json('{"a": [1, null]}')
    assert values.from_python((1, 2)) == Json("[1, 2]")
    assert values.from_python(bytearray(b"x")) == b"x"
    assert values.from_python(2**70) == Decimal(2**70)
    assert values.from_python(datetime(2026, 1, 2)) == datetime(2026, 1, 2, tzinfo=UTC)
    east = timezone(timedelta(hours=2))
    assert values.from_python(datetime(2026, 1, 2, 2, tzinfo=east)) == datetime(2026, 1, 2, tzinfo=UTC)
    made = values.from_python(Word("x"))
    assert type(made) is str


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": object()}, "\ud800", {"\ud800": 1}, {"a": math.nan}, 1j])
def test_what_has_no_type_is_refused_by_code(value: object) -> None:
    with pytest.raises(errors.DataError) as e:
        values.from_python(value)
    assert e.value.sqlstate == errors.INVALID


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e1001", "1e-1001", "1" * 1001])
def test_a_decimal_is_finite_and_bounded(text: str) -> None:
    with pytest.raises(errors.DataError) as e:
        values.from_python(Decimal(text))
    assert e.value.sqlstate == errors.OVERFLOW


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(st.lists(JSON_VALUES))
def test_json_comes_back_as_it_went_in(value: list[object]) -> None:
    made = Json.dump(value)
    assert made.to_python() == value
    assert Json.parse(made.text).text == made.text


def test_json_keeps_every_digit_and_the_last_of_duplicate_names() -> None:
    assert Json.parse('{"a": 1.10, "b": 1e400, "a": 123456789012345678901234567890}').text == (
        '{"a": 123456789012345678901234567890, "b": 1e400}'
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1", errors.BAD_CAST), ('"a"', errors.BAD_CAST), ("{", errors.BAD_CAST), ("[NaN]", errors.BAD_CAST),
        ("", errors.BAD_CAST), ("[" * 200 + "]" * 200, errors.TOO_COMPLEX), ("[" * 10**6, errors.TOO_COMPLEX),
    ],
)  # fmt: skip
def test_what_is_no_json_document_is_refused(text: str, code: str) -> None:
    with pytest.raises(errors.Error) as e:
        Json.parse(text)
    assert e.value.sqlstate == code
    assert len(str(e.value)) < 300


def test_a_json_number_of_many_digits_survives() -> None:
    text = "[" + "9" * 1000 + ", 0." + "9" * 999 + "]"
    assert Json.parse(text).text == text


# ── times ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_text_and_microseconds(time: datetime) -> None:
    assert values.parse_timestamp(values.timestamp_text(time)) == time
    assert values.from_micros(values.to_micros(time)) == time


@given(st.timedeltas(timedelta(days=-(10**8)), timedelta(days=10**8)))
def test_intervals_survive_text(interval: timedelta) -> None:
    assert values.parse_interval(values.interval_text(interval)) == interval


@pytest.mark.parametrize("text", ["200000000 days", "-999999999 days", "999999999999999 weeks"])
def test_an_interval_has_64_bits(text: str) -> None:
    with pytest.raises(errors.DataError) as e:
        values.parse_interval(text)
    assert e.value.sqlstate == errors.OVERFLOW
    for given_one in (timedelta.max, timedelta.min):
        with pytest.raises(errors.DataError) as e:
            values.from_python(given_one)
        assert e.value.sqlstate == errors.OVERFLOW


@pytest.mark.parametrize("text", ["", "x", "5", "5 months", "5 years", "minutes", "5 minutes x", "٣ days", "1e3 s"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.DataError) as e:
        values.parse_interval(text)
    assert e.value.sqlstate == errors.BAD_CAST


@pytest.mark.parametrize("micros", [10**30, -(10**30)])
def test_times_beyond_the_calendar_overflow(micros: int) -> None:
    for convert in (values.from_micros, values.interval_of):
        with pytest.raises(errors.DataError) as e:
            convert(micros)
        assert e.value.sqlstate == errors.OVERFLOW


# ── literals ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"), (True, "TRUE"), (5, "5"), (Decimal("1.50"), "1.50"), (Decimal(5), "'5'::decimal"),
        (1.5, "1.5e0"), (1e300, "1e+300"), (math.nan, "'NaN'::float"), (-math.inf, "'-Infinity'::float"),
        ("it's", "'it''s'"), ("a\nb", "e'a\\nb'"), (b"\x1f", "x'1f'"),
        (datetime(2026, 1, 2, tzinfo=UTC), "TIMESTAMP '2026-01-02T00:00:00Z'"),
        (timedelta(seconds=90), "INTERVAL '1 minute 30 seconds'"), (Json("[1]"), "[1]"),
    ],
)  # fmt: skip
def test_literals_are_written_as_the_language_reads_them(value: object, text: str) -> None:
    assert values.literal(value) == text


def test_sizes_count_bytes() -> None:
    assert values.encoded_size("é") == 2
    assert values.encoded_size(b"abc") == 3
    assert values.encoded_size(Json('{"é": 1}')) == 9


# ── numbers in JSON ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "number",
    [
        "1" * 1001,
        "0." + "1" * 1001,
        "1e1000",
        "1E+2000",
        "-1e-1001",
        "1e99999999999999999999",
        "1e-99999999999999999999",
    ],
)
def test_a_json_number_that_no_type_can_hold_is_refused_when_it_is_written(number: str) -> None:
    for make in (Json.parse, lambda text: Json.scan(text, 0)):
        with pytest.raises(errors.DataError, match="at most 1,000 digits") as caught:
            make(f'{{"a": [{number}]}}')
        assert caught.value.sqlstate == errors.OVERFLOW
    with pytest.raises(errors.DataError):
        values.from_python({"n": 10**1000})
    with pytest.raises(errors.DataError):
        values.from_python([-(10**6000)])


@pytest.mark.parametrize(
    "number", ["1" * 1000, "-" + "9" * 1000, "0." + "1" * 1000, "1e999", "1e-1000", "0.10", "-0.0"]
)
def test_json_numbers_that_decimal_can_hold_keep_their_text(number: str) -> None:
    assert Json.parse(f"[{number}]").text == f"[{number}]"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_in_json_comes_back_as_it_went_in(number: float) -> None:
    (back,) = Json.dump([number]).to_python()
    assert type(back) is float and repr(back) == repr(number)


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=20)
    | st.from_regex(r"\A-?[0-9]{1,20}\.[0-9]{1,20}\Z").map(Decimal)
)
def test_no_number_in_json_is_rounded_on_its_way_out(number: Decimal) -> None:
    (back,) = Json.dump([number]).to_python()
    exact = Decimal(repr(back)) if isinstance(back, float) else Decimal(back)
    assert exact == number


def test_what_a_float_cannot_hold_is_a_decimal() -> None:
    given_ = Json.parse('{"a": 0.1, "b": 1e400, "c": 0.12345678901234567890, "d": 1.50, "e": 7}')
    assert given_.to_python() == {
        "a": 0.1, "b": Decimal("1e400"), "c": Decimal("0.12345678901234567890"), "d": 1.5, "e": 7,
    }  # fmt: skip
