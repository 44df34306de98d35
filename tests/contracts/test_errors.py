"""The one error shape: classes by SQLSTATE, the caret, hostile text."""

from __future__ import annotations

import copy
import pickle

import pytest

from kvql import errors
from kvql.span import Span, position


def test_the_caret_stands_under_the_place() -> None:
    source = "PUT a 1;\nSELCT key WHERE value > 10"
    error = errors.error(
        errors.SYNTAX, 'syntax error at or near "SELCT"', span=Span(9, 14), source=source, hint="did you mean SELECT?"
    )
    assert error.render() == (
        'ERROR 42601: syntax error at or near "SELCT"\n'
        "LINE 2: SELCT key WHERE value > 10\n"
        "        ^^^^^\n"
        "HINT: did you mean SELECT?"
    )
    assert error.render(where="a.kvql").startswith("ERROR 42601 at a.kvql:2:1: ")


def test_wide_characters_move_the_caret_as_far_as_they_are_wide() -> None:
    error = errors.error(errors.SYNTAX, "x", span=Span(3, 4), source="日本 x")
    assert error.render().splitlines()[2] == " " * 8 + " " * 5 + "^"


def test_control_characters_reach_no_terminal() -> None:
    error = errors.error(errors.SYNTAX, "x", span=Span(0, 3), source="\x1b[2Ja\tb")
    assert "\x1b" not in error.render()


def test_a_long_line_is_cut_around_the_place() -> None:
    source = "x" * 10_000 + "HERE" + "y" * 10_000
    line, caret = errors.error(errors.SYNTAX, "x", span=Span(10_000, 10_004), source=source).render().splitlines()[1:3]
    assert len(line) < 200
    assert line[caret.index("^") : caret.rindex("^") + 1] == "HERE"


def test_a_span_at_the_end_has_a_caret() -> None:
    assert errors.error(errors.SYNTAX, "x", span=Span(5, 5), source="PUT k").render().endswith(" ^")


@pytest.mark.parametrize(
    ("sqlstate", "cls"),
    [
        ("42601", errors.ProgrammingError), ("42501", errors.ProgrammingError), ("3F000", errors.ProgrammingError),
        ("23505", errors.IntegrityError), ("22003", errors.DataError), ("40001", errors.OperationalError),
        ("08006", errors.OperationalError), ("28P01", errors.OperationalError), ("0A000", errors.NotSupportedError),
        ("21000", errors.ProgrammingError), ("3B001", errors.InternalError), ("P0004", errors.IntegrityError),
        ("25P02", errors.InternalError), ("XX001", errors.InternalError), ("02000", errors.DatabaseError),
        ("zzzzz", errors.DatabaseError),
    ],
)  # fmt: skip
def test_classes_follow_the_code(sqlstate: str, cls: type[errors.Error]) -> None:
    assert type(errors.error(sqlstate, "x")) is cls


def test_errors_survive_pickle_and_copy() -> None:
    error = errors.error(
        errors.KEY_EXISTS, "key already exists: a", hint="h", span=Span(1, 2), source="ab", item=1, part=1
    )
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(made) is type(error)
        assert made.render() == error.render()
        assert (made.item, made.part, made.sqlstate) == (1, 1, "23505")


def test_positions_count_from_one() -> None:
    assert position("ab\ncd", 0) == (1, 1)
    assert position("ab\ncd", 4) == (2, 2)
    assert position("ab\n", 3) == (2, 1)
