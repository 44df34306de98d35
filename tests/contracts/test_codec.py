"""Values over the wire: everything comes back, and a message built by hand can do no harm."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvql import codec, errors
from kvql.v1 import kvql_pb2 as pb
from kvql.values import INTEGER_MAX, INTEGER_MIN, Json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = (
    st.none() | st.booleans() | st.integers(INTEGER_MIN, INTEGER_MAX) | st.floats(allow_nan=False) | TEXT | st.binary()
    | st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=5)
    | st.datetimes(timezones=st.just(UTC)) | st.lists(st.integers()).map(Json.dump)
)  # fmt: skip


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


@given(st.lists(VALUES))
def test_values_come_back_with_their_types(values: list[Any]) -> None:
    wire = pb.Values.FromString(codec.encode_values(values).SerializeToString())
    back = codec.decode_values(wire)
    assert len(back) == len(values)
    assert all(map(same, values, back))


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1))
def test_rows_come_back(rows: list[tuple[Any, Any]]) -> None:
    back = codec.decode_rows(codec.encode_rows(rows, 2))
    assert len(back) == len(rows)
    assert all(same(a, b) for x, y in zip(rows, back, strict=True) for a, b in zip(x, y, strict=True))


def test_nan_comes_back() -> None:
    assert math.isnan(codec.decode_values(codec.encode_values([math.nan]))[0])


def test_values_are_appended() -> None:
    into = codec.encode_values([1, "a"])
    codec.encode_values(["b", None], into)
    assert codec.decode_values(into) == [1, "a", "b", None]


@pytest.mark.parametrize(
    "message",
    [
        pb.Values(types=b"\x06"),
        pb.Values(types=b"\x06\x06", texts=["a"]),
        pb.Values(types=b"\x06", texts=["a", "b"]),
        pb.Values(types=b"\x00", integers=[1]),
        pb.Values(types=b"\x03\x03", integers=[1, 2, 3]),
        pb.Values(types=b"\xff"),
        pb.Values(types=b"\x0c"),
        pb.Values(types=b"\x0b", expressions=[pb.Expression()]),
        pb.Values(types=b"\x0a", integers=[1]),
        *[
            pb.Values(types=b"\x04", texts=[t])
            for t in ("", "x", "NaN", "Infinity", "1e9", "1_0", " 1", "٣", "1" * 1004)
        ],
    ],
)
def test_a_malformed_message_is_an_invalid_parameter(message: pb.Values) -> None:
    with pytest.raises(errors.DataError) as e:
        codec.decode_values(message)
    assert e.value.sqlstate == errors.INVALID


def test_what_no_value_can_be_is_refused() -> None:
    for message, code in (
        (pb.Values(types=b"\x09", texts=["1"]), errors.BAD_CAST),
        (pb.Values(types=b"\x09", texts=["[" * 500 + "]" * 500]), errors.TOO_COMPLEX),
        (pb.Values(types=b"\x08", integers=[2**62]), errors.OVERFLOW),
        (pb.Values(types=b"\x04", texts=["1" * 1001]), errors.OVERFLOW),
    ):
        with pytest.raises(errors.Error) as e:
            codec.decode_values(message)
        assert e.value.sqlstate == code


def test_intervals_and_expressions_come_out_where_they_are_allowed() -> None:
    wire = codec.encode_values([timedelta(seconds=1), pb.Expression(names=["now"])])
    interval, expression = codec.decode_values(wire, intervals=True, expressions=True)
    assert interval == timedelta(seconds=1)
    assert expression.names == ["now"]


@given(st.lists(st.binary(max_size=8)), st.binary(max_size=6), st.lists(st.integers(-5, 5)), st.lists(TEXT))
def test_no_message_makes_a_python_error(
    blobs: list[bytes], types: bytes, integers: list[int], texts: list[str]
) -> None:
    message = pb.Values(types=types, integers=integers, texts=texts, blobs=blobs)
    try:
        back = codec.decode_values(message)
    except errors.Error as e:
        assert e.sqlstate[:2] in ("22", "54")
    else:
        assert len(back) == len(types)


def test_errors_and_their_places_travel() -> None:
    error = errors.error(errors.KEY_EXISTS, "key already exists: a", hint="h", item=2, part=pb.PART_KEY, statement=7)
    back = codec.decode_error(codec.encode_error(error))
    assert (back.sqlstate, back.message, back.hint, back.item, back.part, back.statement) == (
        "23505", "key already exists: a", "h", 2, pb.PART_KEY, 7,
    )  # fmt: skip
    assert back.span is None


def test_a_decimal_prints_without_exponent_on_the_wire() -> None:
    assert codec.encode_values([Decimal("1E-8")]).texts == ["0.00000001"]
