"""Values for the property tests: every type, often equal to each other by value and not by type, and extreme ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from kvql.values import INTEGER_MAX, INTEGER_MIN, Json

_BOUNDS = [0, 1, -1, 2, 2**53, 2**53 + 1, INTEGER_MAX, INTEGER_MIN]
integers = st.sampled_from(_BOUNDS) | st.integers(INTEGER_MIN, INTEGER_MAX) | st.integers(-3, 3)
decimals = (
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-4, max_value=4)
    | st.sampled_from(["1", "1.0", "1.00", "-0", "0.0", "0.1", "0.5", "1E+30", "1E-30", f"{2**53 + 1}.0"]).map(Decimal)
    | integers.map(Decimal)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
)
floats = st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.1, 2.0**53, 2.0**63, 1e308, -1e308, 5e-324]) | st.floats()
texts = st.sampled_from(["", "1", "a", "é", "z", "\U0001f600", "\uffff"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda time: time.replace(tzinfo=UTC))
intervals = st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6))
_json_numbers = integers | decimals | st.integers(-(10**25), 10**25)
_json = st.recursive(
    st.none() | st.booleans() | _json_numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
jsons = (st.lists(_json, max_size=3) | st.dictionaries(texts, _json, max_size=3)).map(Json.dump)
numbers = integers | decimals | floats
anything: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | numbers | texts | st.binary(max_size=3) | times | intervals | jsons
)
