"""Rules of docs/language.md that no golden script can show: times, parameters by place, limits."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

import kvql
from kvql import errors


@pytest.fixture
def con() -> Any:
    with kvql.connect(":memory:", autocommit=True) as connection:
        yield connection


def test_parameters_by_place(con: Any) -> None:
    con.execute("INSERT INTO main VALUES (?, ?), (?, ? + 1)", ["a", 1, "b", 1])
    assert con.execute("SELECT key, ?2 || ?1 || ?2 FROM main WHERE value = ?3", ["x", "-", 2]).fetchall() == [
        ("b", "-x-")
    ]
    assert con.execute("SELECT key FROM main ORDER BY key LIMIT ? OFFSET ?", [1, 1]).fetchall() == [("b",)]
    assert con.execute("SELECT '?', {\"a\": [?]}", [5]).fetchall() == [("?", {"a": [5]})]
    for given in ([], [1, 2], None):
        with pytest.raises(kvql.ProgrammingError) as caught:
            con.execute("SELECT ?", given)
        assert caught.value.sqlstate == errors.UNDEFINED_PARAMETER and caught.value.span is not None


def test_explain_analyze_carries_out_and_measures(con: Any) -> None:
    con.execute("INSERT INTO main VALUES ('user:1', 1), ('user:2', 2), ('x', 'text')")
    query = "EXPLAIN ANALYZE SELECT key FROM main WHERE key ^= 'user:' AND value > 1 ORDER BY value LIMIT 5"
    cursor = con.execute(query)
    assert [column[0] for column in cursor.description] == ["stage", "detail", "rows", "time_ms"]
    rows = cursor.fetchall()
    counts = [(stage, count) for stage, _, count, _ in rows]
    assert counts == [("read", 2), ("filter", 1), ("project", None), ("top", 1)]
    assert all(spent is None or (type(spent) is Decimal and spent >= 0) for *_, spent in rows)
    # what a query has to say, it says here too
    cursor = con.execute("EXPLAIN ANALYZE SELECT key FROM main WHERE value > 1")
    assert cursor.fetchall() and [n.message for n in cursor.notices] == ["1 row skipped: value is TEXT"]
    for statement, count in (
        ("UPDATE main SET value = value + 1 WHERE key ^= 'user:'", 2),
        ("INSERT INTO main VALUES ('new', 1), ('x', 2) ON CONFLICT DO NOTHING", 1),
        ("DELETE FROM main WHERE key = 'x'", 1),
        ("PUT put 1", 1),
        ("TRUNCATE NAMESPACE main", 4),
    ):
        *_, last = con.execute(f"EXPLAIN ANALYZE {statement}").fetchall()
        assert last[2] == count and last[3] > 0, statement
    assert con.execute("COUNT").fetchone() == (0,)


def test_a_write_that_is_too_large_is_refused_whole(con: Any) -> None:
    for n in range(70):
        con.execute("PUT ? ?", [f"k{n:02}", "x" * 1_000_000])
    update = "UPDATE main SET value = 'y' || substr(value, 2)"
    con.execute("BEGIN")
    with pytest.raises(kvql.OperationalError) as caught:
        con.execute(update)
    assert caught.value.sqlstate == errors.LIMIT
    con.execute("ROLLBACK")
    shown = "SELECT count(*), max(version), min(substr(value, 1, 1)), count(DISTINCT revision) FROM main"
    assert con.execute(shown).fetchall() == [(70, 1, "x", 70)]
    # by itself the statement is one commit, however large
    con.execute(update)
    assert con.execute(shown).fetchall() == [(70, 2, "y", 1)]


@pytest.mark.parametrize(
    "condition",
    ["value LIKE '%a%a%a%a%a%a%a%a%a%b'", "value LIKE '%_a_%_a_%_a_%_b'", "value ~ '(a*)*b'", "value ~* '(a|a|a)*$b'"],
)
def test_patterns_take_linear_time(con: Any, condition: str) -> None:
    spent = []
    for size in (50_000, 400_000):
        con.execute("UPSERT k ?", ["a" * size])
        started = time.process_time()
        assert con.execute(f"SELECT key FROM main WHERE {condition}").fetchall() == []
        spent.append(time.process_time() - started)
    assert spent[1] < 1 + 40 * spent[0], spent  # eight times as long; a square would be sixty-four times
