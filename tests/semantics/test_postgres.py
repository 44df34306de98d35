"""The same expressions as PostgreSQL, the same answers: LANGUAGE §5, with its deviations listed and nothing else.

``postgres.tsv`` holds what PostgreSQL 15 answered (``make_postgres.py``). An expression that this release does not
carry out yet answers 0A000 or 42883 and is counted, so that the number cannot grow unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import kvql
from kvql import errors, values

ANSWERS = [tuple(line.split("\t")) for line in (Path(__file__).parent / "postgres.tsv").read_text().splitlines()]

BAD_TIME = ("ERROR", errors.BAD_CAST)
DEVIATIONS: dict[str, tuple[str, str]] = {
    # a float prints all its digits up to 10^16, as Python and JSON do; PostgreSQL stops at 10^15
    "1e15::float": ("FLOAT", "1000000000000000"),
    # a lone escape character is an error whatever the text is; PostgreSQL finds out only if the match gets there
    "'a' LIKE 'a\\'": ("ERROR", errors.INVALID),
    # a scale is not negative
    "12345.678::numeric(10,-2)": ("ERROR", errors.SYNTAX),
    # one code for every text that is no value of the type (LANGUAGE §9)
    "'not a time'::timestamptz": BAD_TIME,
    "'2026-13-01'::timestamptz": BAD_TIME,
    "'2026-02-30'::timestamptz": BAD_TIME,
    # IS DISTINCT FROM stands below comparison, as IS NULL does; PostgreSQL refuses the types of this one
    "1 IS DISTINCT FROM 2 = TRUE": ("BOOLEAN", "true"),
    # one code for every argument that has no meaning (LANGUAGE §9); PostgreSQL's 22011 is of this one function
    "substr('hello', 2, -1)": ("ERROR", errors.INVALID),
    "substr('hello', 0, -1)": ("ERROR", errors.INVALID),
    # a boolean reads as it does everywhere else
    "concat(TRUE)": ("TEXT", "true"),
    # a whole number stays one; PostgreSQL has these functions for FLOAT and DECIMAL only and takes FLOAT
    "round(5)": ("INTEGER", "5"),
    "floor(5)": ("INTEGER", "5"),
    "ceil(5)": ("INTEGER", "5"),
    # one of the arguments as it is: types belong to values, so there is none that all of them would take
    "greatest(1, 1.5, 1e0)": ("DECIMAL", "1.5"),
    "greatest(3, 2.5)": ("INTEGER", "3"),
    "least(2.5, 2)": ("INTEGER", "2"),
}
NOT_YET = {("ERROR", errors.NOT_SUPPORTED), ("ERROR", errors.UNKNOWN_FUNCTION)}
NOT_YET_MAX = 0
"""Functions, CASE and regular expressions; the number only falls."""


def in_our_form(kind: str, text: str) -> str:
    """PostgreSQL's text of a time, a duration or of bytes as KVQL writes it; everything else reads the same."""
    if kind == "TIMESTAMP":
        return values.timestamp_text(values.parse_timestamp(text))
    if kind == "BYTES":
        return values.display(bytes.fromhex(text.removeprefix("\\x")))
    if kind == "INTERVAL":
        hours, minutes, seconds = text.split(":")
        return values.interval_text(timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)))
    return text


@pytest.fixture(scope="module")
def connection() -> Iterator[kvql.Connection]:
    with kvql.connect(":memory:", autocommit=True) as made:
        yield made


def answer(connection: kvql.Connection, expression: str) -> tuple[str, str]:
    """Our type and text, or ERROR and SQLSTATE."""
    try:
        [[value]] = connection.execute(f"SELECT {expression}").fetchall()
    except errors.Error as e:
        return "ERROR", e.sqlstate
    shown = values.from_python(value)  # JSON comes as a list
    return values.type_of(shown).name, values.display(shown)


@pytest.mark.parametrize(("expression", "kind", "text"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_as_postgresql(connection: kvql.Connection, expression: str, kind: str, text: str) -> None:
    ours = answer(connection, expression)
    if expression in DEVIATIONS:
        assert ours == DEVIATIONS[expression]
    elif ours not in NOT_YET:
        assert ours == (kind, in_our_form(kind, text))


def test_what_is_not_carried_out_yet_only_shrinks(connection: kvql.Connection) -> None:
    missing = [a[0] for a in ANSWERS if answer(connection, a[0]) in NOT_YET and ("ERROR", a[2]) not in NOT_YET]
    assert len(missing) <= NOT_YET_MAX, missing
