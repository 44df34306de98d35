"""Runs of writes and rows of parameters, merged into messages that say the same as one statement after the other."""

from __future__ import annotations

from collections import UserList
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from kvql import ast, errors
from kvql.codec import decode_values
from kvql.compiler import RowRuns, Run, compile_statement
from kvql.compiler.bulk import BYTES_MAX, PAIRS_MAX
from kvql.v1 import kvql_pb2 as pb

L, P = ast.Literal, ast.Param


def put(key: str, value: Any, **more: Any) -> ast.Put:
    return ast.Put((ast.Pair(L(key), L(value)),), **more)


def runs(statements: Iterable[ast.Statement]) -> list[pb.Request]:
    """Everything as messages, in order."""
    out: list[pb.Request] = []
    run = Run()
    for statement in statements:
        if run.add(statement):
            continue
        if len(run):
            out.append(run.request())
            run = Run()
        if not run.add(statement):
            out.append(compile_statement(statement))
    if len(run):
        out.append(run.request())
    return out


def test_a_run_is_one_message() -> None:
    [request] = runs(put(f"k{i}", i) for i in range(100))
    assert request.write.each and list(request.write.keys) == [f"k{i}" for i in range(100)]
    assert decode_values(request.write.values) == list(range(100))


def test_statements_of_several_pairs_keep_their_borders() -> None:
    two = ast.Put((ast.Pair(L("x"), L(1)), ast.Pair(L("y"), L(2))))
    [request] = runs([put("a", 1), two, put("b", 1)])
    assert list(request.write.statement_sizes) == [1, 2, 1] and not request.write.each


@pytest.mark.parametrize(
    "other",
    [
        ast.Upsert((ast.Pair(L("b"), L(1)),)),
        ast.UpdateKey(ast.Pair(L("b"), L(1))),
        put("b", 1, ttl=L(timedelta(1))),
        put("b", 1, comment=L("x")),
        ast.Get((L("a"),)),
        ast.Put((ast.Pair(L("b"), ast.Call("now")),)),
    ],
)
def test_what_differs_is_never_merged(other: ast.Statement) -> None:
    messages = runs([put("a", 1), other, put("c", 1)])
    assert len(messages) == 3
    assert messages[1].WhichOneof("command") == compile_statement(other).WhichOneof("command")


def test_equal_ttl_and_comment_merge() -> None:
    more = {"ttl": L(timedelta(seconds=1)), "comment": L("x")}
    [request] = runs([put("a", 1, **more), put("b", 2, **more)])
    assert request.write.ttl_ms == 1000 and request.comment == "x"


def test_messages_are_bounded_in_pairs_and_bytes() -> None:
    assert [len(r.write.keys) for r in runs(put(f"k{i}", i) for i in range(5000))] == [PAIRS_MAX, PAIRS_MAX, 1000]
    large = runs(put(f"k{i}", "x" * 300_000) for i in range(20))
    assert all(r.ByteSize() < 2 * BYTES_MAX for r in large) and sum(len(r.write.keys) for r in large) == 20


def test_a_huge_statement_has_a_message_of_its_own() -> None:
    """Together with others it might not fit on the wire, and they would fail with it."""
    sizes = [
        len(r.write.keys) for r in runs([*[put(f"k{i}", "x" * 50_000) for i in range(5)], put("l", "x" * 3_900_000)])
    ]
    assert sizes == [5, 1]


def test_exact_numbers_are_merged_and_others_are_not() -> None:
    assert [len(r.write.keys) for r in runs([put("a", Decimal("1.50")), put("b", 1)])] == [2]
    run = Run()
    assert not run.add(put("c", Decimal("NaN"))) and not run.add(put("c", Decimal("1e2000")))


def test_a_refused_statement_leaves_the_run_as_it_was() -> None:
    run = Run()
    assert run.add(put("a", 1))
    bad = ast.Put((ast.Pair(L("b"), L(1)), ast.Pair(L("c"), P(0))))
    assert not run.add(bad)
    assert list(run.request().write.keys) == ["a"]


# ── executemany ───────────────────────────────────────────────────────────────────────────────────────────────────

PUT = ast.Put((ast.Pair(P(0), P(1)),))


def test_rows_travel_in_columns() -> None:
    rows = [(f"k{i}", i if i % 2 else f"v{i}") for i in range(4500)]
    messages = list(RowRuns(PUT, rows))
    assert [(m.first, m.size) for m in messages if not isinstance(m, errors.Error)] == [
        (0, 2000), (2000, 2000), (4000, 500),
    ]  # fmt: skip
    sent = [
        pair
        for m in messages
        if not isinstance(m, errors.Error)
        for pair in zip(m.request.write.keys, decode_values(m.request.write.values), strict=True)
    ]
    assert sent == rows


def test_the_fast_way_and_the_slow_way_send_the_same() -> None:
    rows = [(f"k{i}", v) for i, v in enumerate([1, "a", None, True, 1.5, b"x"] * 5)]
    [fast] = RowRuns(PUT, rows)
    [slow] = RowRuns(PUT, [UserList(row) for row in rows])
    named = ast.Put((ast.Pair(P("k"), P("v")),))
    [by_name] = RowRuns(named, [{"k": k, "v": v} for k, v in rows])
    assert not any(isinstance(m, errors.Error) for m in (fast, slow, by_name))
    assert fast == slow == by_name


def test_a_row_that_cannot_be_sent_is_told_in_its_place() -> None:
    rows: list[Any] = [("a", 1), ("b", object()), ("c", 2**70), (3, 1), ("d",), ("e", 1, 2), ("f", {"x": 1})]
    got = [(m.statement, m.sqlstate) if isinstance(m, errors.Error) else (m.first, m.size) for m in RowRuns(PUT, rows)]
    assert got == [(0, 1), (1, "22023"), (2, 1), (3, "22023"), (4, "42P02"), (5, "42P02"), (6, 1)]


def test_large_rows_make_small_messages() -> None:
    messages = list(RowRuns(PUT, [(f"k{i}", "x" * 200_000) for i in range(30)]))
    assert all(not isinstance(m, errors.Error) and m.request.ByteSize() < 2 * BYTES_MAX for m in messages)
    assert sum(m.size for m in messages if not isinstance(m, errors.Error)) == 30


def test_rows_are_taken_as_they_are_needed() -> None:
    taken = 0

    def rows() -> Iterable[tuple[str, int]]:
        nonlocal taken
        for i in range(100_000):
            taken += 1
            yield f"k{i}", i

    next(iter(RowRuns(PUT, rows())))
    assert taken <= 2 * PAIRS_MAX


def test_other_statements_are_sent_one_by_one() -> None:
    messages = list(RowRuns(ast.DeleteKeys((P(0),)), [["a"], ["b"]]))
    assert [m.request.WhichOneof("command") for m in messages if not isinstance(m, errors.Error)] == ["delete"] * 2
