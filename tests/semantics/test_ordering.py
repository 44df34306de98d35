"""The order of ORDER BY and the equality of GROUP BY: total, over every type, and in agreement with the operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from kvql_server.executor import operators
from kvql_server.executor.ordering import group_key, json_python, order_key

from kvql.values import Json
from tests.semantics.values import anything, jsons, numbers

DAY = datetime(2026, 1, 2, tzinfo=UTC)


def order(a: Any, b: Any) -> int:
    x, y = order_key(a), order_key(b)
    assert [x < y, x == y, x > y].count(True) == 1
    return (x > y) - (x < y)


ASCENDING = [
    None, False, True, float("-inf"), -(2**63), Decimal("-1.5"), 0, 5e-324, Decimal("0.1"), 0.1, 1, 2**53,
    Decimal(2**53 + 1), 1e300, Decimal("1E+400"), float("inf"), float("nan"), timedelta(0), timedelta(1), DAY,
    DAY + timedelta(microseconds=1), "", "A", "a", "aa", "é", "\uffff", "\U0001f600", b"", b"\x00", b"a", Json("[]"),
    Json("[null]"), Json("[null, 1]"), Json("[false]"), Json("[true]"), Json("[0.5]"), Json("[1, 0]"), Json("[2]"),
    Json('["1"]'), Json("[[]]"), Json("[{}]"), Json("{}"), Json('{"b": null}'), Json('{"b": 1}'), Json('{"c": 0}'),
    Json('{"a": 1, "b": 2}'), Json('{"a": 1, "b": 3}'), Json('{"a": 1, "c": 0}'), Json('{"a": 2, "b": 0}'),
]  # fmt: skip


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ASCENDING)), ids=map(repr, ASCENDING[1:]))
def test_the_order_over_all_types(lower: Any, higher: Any) -> None:
    assert order(lower, higher) == -1
    assert group_key(lower) != group_key(higher)


EQUAL = [
    [1, Decimal("1.00"), 1.0], [0, Decimal("-0.0"), -0.0, Decimal("0E-30")], [Decimal("0.5"), 0.5],
    [2**53 + 1, Decimal("9007199254740993.0")], [2**63 - 1, Decimal(2**63 - 1)], [2.0**70, Decimal(2**70)],
    [Decimal("1E+20"), Decimal(10**20), 1e20], [Decimal("0.1"), Decimal("0.10")], [float("nan"), -float("nan")],
    [Decimal(10**25 + 1), Decimal(f"{10**25 + 1}.0")],
    [Json('{"a": 1, "b": [1.0]}'), Json('{"b": [1], "a": 1e0}')], [Json("[1e25]"), Json(f"[{10**25}]")],
    [Json("[0.0]"), Json("[-0]"), Json("[0e99]")], [Json("[100]"), Json("[1.0e2]")],
    [Json("[1" + "0" * 5000 + "]"), Json("[1e5000]")],
]  # fmt: skip


@pytest.mark.parametrize("values", EQUAL, ids=repr)
def test_equal_by_value_whatever_the_type(values: list[Any]) -> None:
    assert {order(a, b) for a in values for b in values} == {0}
    assert len({group_key(v) for v in values}) == 1
    assert all(operators.equal(a, b) for a in values for b in values)


@pytest.mark.parametrize(
    ("a", "b"),
    [(True, 1), (False, 0), ("1", 1), ("a", b"a"), (Json("[true]"), Json("[1]")), (Json("[false]"), Json("[0]")),
     (Json("[null]"), Json("[]")), (Json('["1"]'), Json("[1]")), (0.1, Decimal("0.1")), (2.0**53, 2**53 + 1),
     (Json("[10000000000000000000000001]"), Json("[1e25]")), (Json("[[1], 2]"), Json("[[1, 2]]"))],
)  # fmt: skip
def test_not_equal(a: Any, b: Any) -> None:
    assert order(a, b) != 0
    assert group_key(a) != group_key(b)
    assert operators.distinct(a, b)


@given(anything, anything)
def test_equal_keys_are_what_is_not_distinct(a: Any, b: Any) -> None:
    same = not operators.distinct(a, b)
    assert (group_key(a) == group_key(b)) is same
    assert (order(a, b) == 0) is same
    assert not same or hash(group_key(a)) == hash(group_key(b))


@given(anything, anything, anything)
def test_a_total_order(a: Any, b: Any, c: Any) -> None:
    assert order(a, b) == -order(b, a)
    if order(a, b) <= 0 and order(b, c) <= 0:
        assert order(a, c) <= 0


@given(anything, anything)
def test_the_order_is_that_of_the_operators(a: Any, b: Any) -> None:
    compared = operators.compare(a, b)
    assert compared is None or compared == order(a, b)


@given(jsons, jsons)
def test_json_has_one_order_too(a: Json, b: Json) -> None:
    assert operators.compare(a, b) == order(a, b)


@given(numbers, numbers)
def test_numbers_in_json_compare_as_outside(a: Any, b: Any) -> None:
    finite = [n for n in (a, b) if type(n) is not float]
    if len(finite) == 2:
        assert order(Json.dump([a]), Json.dump([b])) == order(a, b)


@given(jsons)
def test_json_python_is_exact(value: Json) -> None:
    content = json_python(value)
    assert content == value.load()
    assert Json.dump(content) == value
    assert json_python(value) is not content


def test_json_numbers_of_any_size() -> None:
    assert json_python(Json("[1, 2.50, 1e2, 123456789012345678901234567890]")) == [
        1, Decimal("2.50"), Decimal(100), 123456789012345678901234567890,
    ]  # fmt: skip
    [long] = json_python(Json("[" + "7" * 100_000 + "]"))
    assert type(long) is Decimal and len(str(long)) == 100_000
    assert order(Json("[1e99999999999999999999]"), Json("[1e999999999]")) == 1
    assert order(Json("[-1e99999999999999999999]"), Json("[0]")) == -1
    assert group_key(Json("[1e99999999999999999999]")) != group_key(Json("[1]"))


def test_names_and_depth_in_json() -> None:
    deep = Json("[" * 101 + "]" * 101)
    assert order(deep, Json("[" * 100 + "]" * 100)) == 1
    assert group_key(deep) == group_key(Json(deep.text))
    assert order(Json('{"é": 1}'), Json('{"z": 1}')) == 1


def test_decimals_chosen_to_collide_do_not() -> None:
    """Their hashes would all be equal, as Python's are taken modulo this number."""
    chosen = [Decimal(n * (2**61 - 1)) for n in range(10**6, 10**6 + 1000)]
    assert len(set(map(hash, chosen))) == 1
    assert len({hash(group_key(d)) for d in chosen}) == 1000


def test_what_is_no_value_has_no_key() -> None:
    for wrong in ([1], {"a": 1}, object()):
        with pytest.raises(TypeError, match="not a KVQL value"):
            order_key(wrong)
        with pytest.raises(TypeError, match="not a KVQL value"):
            group_key(wrong)
