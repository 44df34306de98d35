"""Long expressions are compiled in pieces: cut or not, they mean the same."""

from __future__ import annotations

import random

import pytest
from kvql_server.executor.expressions import builder, conditions, values

from kvql.errors import Error
from tests.server.busy import BusyStore

_LEAVES = {
    "number": ("version", "1", "2.5", "NULL", "length(key)", "size", "-version"),
    "text": ("key", "comment", "'x'", "NULL", "updated_by", "value::text", "name"),
    "truth": ("TRUE", "NULL", "key < 'b'", "comment IS NULL", "deep.er IS MISSING", "value = 1", "value > 1",
              "key ^= 'j'"),
}  # fmt: skip


def _expression(random_: random.Random, kind: str, depth: int) -> str:
    """An expression of some type; only now and then one that fails."""
    if depth == 0 or random_.random() < 0.1:
        return f"({random_.choice(_LEAVES[kind])})"

    def some(of: str, least: int, most: int) -> list[str]:
        return [_expression(random_, of, depth - 1) for _ in range(random_.randint(least, most))]

    match random_.randrange(5):
        case 0:
            whens = " ".join(f"WHEN {a} THEN {b}" for a, b in zip(some("truth", 3, 3), some(kind, 3, 3), strict=True))
            return f"(CASE {whens} {random_.choice(('', 'ELSE ' + some(kind, 1, 1)[0]))} END)"
        case 1:
            whens = " ".join(f"WHEN {a} THEN {b}" for a, b in zip(some("number", 3, 3), some(kind, 3, 3), strict=True))
            return f"(CASE {some('number', 1, 1)[0]} {whens} END)"
        case 2:
            return f"coalesce({', '.join(some(kind, 1, 6))})"
    if kind == "number":
        if random_.random() < 0.5:
            return f"greatest({', '.join(some(kind, 1, 6))})"
        return "(0 " + " ".join(f"{random_.choice('+-')} {e}" for e in some(kind, 1, 7)) + ")"
    if kind == "text":
        return random_.choice((f"concat({', '.join(some(kind, 1, 6))})", f"({' || '.join(some(kind, 2, 7))})"))
    of = random_.choice(("number", "text"))
    return random_.choice((
        f"({' OR '.join(some(kind, 2, 6))})", f"({' AND '.join(some(kind, 2, 6))})", f"(NOT {some(kind, 1, 1)[0]})",
        f"({some(of, 1, 1)[0]} IN ({', '.join(some(of, 1, 6))}))", f"({some(of, 1, 1)[0]} < {some(of, 1, 1)[0]})",
    ))  # fmt: skip


def _answers(busy: BusyStore, statements: list[str]) -> list[object]:
    out: list[object] = []
    for statement in statements:
        try:
            result = busy.run(statement)
            out.append((repr(result.rows), result.columns, [n.message for n in result.notices]))
        except Error as e:
            out.append(e.sqlstate)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_what_is_cut_into_pieces_means_the_same(busy: BusyStore, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random_ = random.Random(seed)
    statements = []
    for _ in range(10):
        one, two, truth = [_expression(random_, kind, 3) for kind in ("number", "text", "truth")]
        statements += [
            f"SELECT {one}, {two}, {truth} FROM t", f"SELECT key FROM t WHERE {truth}",
            f"SELECT {two}, count({one}) FROM t GROUP BY {two}", f"SELECT key FROM t ORDER BY {two} DESC, {one}",
        ]  # fmt: skip
    whole = _answers(busy, statements)
    assert sum(isinstance(answer, tuple) for answer in whole) > 30
    for module in (builder, conditions, values):
        for name, small in (("PIECE", 2), ("WIDE", 1), ("DEPTH_MAX", 3), ("SOURCE_MAX", 30)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, small)
    assert _answers(busy, statements) == whole


def test_a_long_condition_that_explain_cuts_keeps_its_brackets(busy: BusyStore) -> None:
    long = " OR ".join(f"key = 'k{i}'" for i in range(1_000))
    details = [detail for _, detail in busy.rows(f"EXPLAIN DELETE FROM t WHERE value < 0 AND ({long})")]
    assert any(detail.startswith("value < 0 AND (key = 'k0' OR ") for detail in details), details
    assert max(map(len, details)) < 1_100
