"""``for attempt in con.transaction(retries=n)``: a transaction that met a conflict is tried again."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest

import kvql


def test_conflicts_are_repeated(target: dict[str, Any]) -> None:
    with kvql.connect(**target, autocommit=True) as one, kvql.connect(**target, autocommit=True) as two:
        one.execute("PUT visits 0")
        rounds = 0
        for attempt in one.transaction(retries=3):
            with attempt:
                rounds += 1
                [(_, visits)] = one.execute("GET visits").fetchall()
                if rounds == 1:
                    two.execute("UPDATE visits 10")
                one.execute("UPDATE visits ?", [visits + 1])
        assert rounds == 2 and one.execute("GET visits").fetchone() == ("visits", 11)
        with pytest.raises(kvql.OperationalError) as caught, one.transaction():
            one.execute("GET visits")
            two.execute("UPDATE visits 20")
            one.execute("UPDATE visits 0")
        assert caught.value.sqlstate == "40001" and "attempt" in (caught.value.hint or "")
        assert one.execute("GET visits").fetchone() == ("visits", 20)


def test_a_block_that_is_left_before_it_could_be_repeated_says_so(target: dict[str, Any]) -> None:
    """``return`` and ``break`` take the loop away: the COMMIT that failed on the way out is nobody's to repeat."""
    with kvql.connect(**target, autocommit=True) as one, kvql.connect(**target, autocommit=True) as two:
        one.execute("PUT visits 0")

        def visit(disturbed: int) -> int:
            for attempt in one.transaction(retries=3):
                with attempt:
                    [(_, visits)] = one.execute("GET visits").fetchall()
                    if disturbed:
                        two.execute("UPDATE visits ?", [disturbed])
                    one.execute("UPDATE visits ?", [visits + 1])
                    return int(visits + 1)
            raise AssertionError

        with pytest.warns(RuntimeWarning, match="nothing was committed"):
            visit(10)
        assert one.execute("GET visits").fetchone() == ("visits", 10) and one.transaction_state == "none"
        with warnings.catch_warnings(record=True) as told:
            assert visit(0) == 11
        assert told == []
        assert one.execute("GET visits").fetchone() == ("visits", 11)


def test_the_pause_between_attempts_has_an_end(target: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long each time, the thirtieth would last a month."""
    longest: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda shortest, most: longest.append(most) or 0.0)
    conflict = kvql.OperationalError("somebody was faster", sqlstate="40001")
    with kvql.connect(**target, autocommit=True) as auto, pytest.raises(kvql.OperationalError) as caught:
        for attempt in auto.transaction(retries=1100):
            with attempt:
                raise conflict
    assert caught.value is conflict and len(longest) == 1100
    assert max(longest) < 1 and longest[:3] == sorted(set(longest[:3]))
