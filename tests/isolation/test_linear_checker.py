"""The checker of linearizability against histories that are right, against one of each kind of wrong, and against a
register that is right by construction."""

from __future__ import annotations

import random
from itertools import permutations
from math import inf
from typing import Any

import pytest

from tests.isolation.linear import ABSENT, UNKNOWN, Operation, apply, explain


def ops(*operations: tuple[Any, ...]) -> list[Operation]:
    """(kind, argument, outcome, call, return)."""
    return [Operation(n, *operation) for n, operation in enumerate(operations)]


RIGHT = {
    "nothing": [],
    "one after the other": [
        ("get", None, ABSENT, 1, 2), ("put", 1, "ok", 3, 4), ("put", 2, "exists", 5, 6), ("get", None, 1, 7, 8),
        ("update", 3, "ok", 9, 10), ("cas", (3, 4), True, 11, 12), ("cas", (3, 5), False, 13, 14),
        ("delete", None, 4, 15, 16), ("delete", None, ABSENT, 17, 18), ("update", 1, ABSENT, 19, 20),
        ("cas", (1, 2), False, 21, 22), ("upsert", 7, "ok", 23, 24), ("get", None, 7, 25, 26),
    ],
    "at the same time": [
        ("upsert", 1, "ok", 1, 9), ("upsert", 2, "ok", 2, 8), ("get", None, 1, 3, 7), ("get", None, 2, 4, 6),
    ],
    "old and new around a write": [("upsert", 1, "ok", 1, 9), ("get", None, ABSENT, 2, 3), ("get", None, 1, 4, 5)],
    "unknown, and it happened late": [
        ("upsert", 1, UNKNOWN, 1, 2), ("get", None, ABSENT, 3, 4), ("get", None, 1, 50, 51),
    ],
    "unknown, and it never happened": [("upsert", 1, UNKNOWN, 1, 2), ("get", None, ABSENT, 50, 51)],
    "an unknown put that found a value": [
        ("upsert", 1, "ok", 1, 2), ("put", 2, UNKNOWN, 3, 4), ("get", None, 1, 5, 6), ("delete", None, 1, 7, 8),
    ],
    "two puts, of which one wins": [("put", 1, "exists", 1, 9), ("put", 2, "ok", 1, 9), ("get", None, 2, 10, 11)],
}  # fmt: skip

WRONG = {
    "a stale read from a cache": [
        ("upsert", 1, "ok", 1, 2), ("upsert", 2, "ok", 3, 4), ("get", None, 1, 5, 6),
    ],
    "a value that goes back": [
        ("upsert", 1, "ok", 1, 2), ("upsert", 2, "ok", 3, 20), ("get", None, 2, 4, 5), ("get", None, 1, 6, 7),
    ],
    "a lost update": [
        ("upsert", 0, "ok", 1, 2), ("cas", (0, 1), True, 3, 9), ("cas", (0, 2), True, 4, 8), ("get", None, 2, 10, 11),
    ],
    "a confirmed write that is gone": [("upsert", 1, "ok", 1, 2), ("get", None, ABSENT, 3, 4)],
    "a write that was refused and is there": [
        ("upsert", 1, "ok", 1, 2), ("put", 2, "exists", 3, 4), ("get", None, 2, 5, 6),
    ],
    "a put over a value": [("upsert", 1, "ok", 1, 2), ("put", 2, "ok", 3, 4)],
    "a write before it was asked for": [("get", None, 1, 1, 2), ("upsert", 1, "ok", 3, 4)],
    "an unknown write before it was asked for": [("get", None, 1, 1, 2), ("upsert", 1, UNKNOWN, 3, 4)],
    "an unknown write that came and went": [
        ("upsert", 1, UNKNOWN, 1, 2), ("get", None, 1, 3, 4), ("get", None, ABSENT, 5, 6),
    ],
    "deleted twice": [("upsert", 1, "ok", 1, 2), ("delete", None, 1, 3, 9), ("delete", None, 1, 3, 9)],
    "a deleted value that comes again": [
        ("upsert", 1, "ok", 1, 2), ("delete", None, 1, 3, 4), ("get", None, 1, 5, 6),
    ],
    "a value from nowhere": [("upsert", 1, "ok", 1, 2), ("get", None, 9, 3, 4)],
    "a failed comparison that should not have": [("upsert", 1, "ok", 1, 2), ("cas", (1, 2), False, 3, 4)],
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert explain(ops(*RIGHT[name])) is None


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    told = explain(ops(*WRONG[name]))
    assert told is not None and told.startswith("not linearizable")


def by_trying_everything(operations: list[Operation]) -> bool:
    """The definition itself, for short histories without unknown outcomes."""
    for order in permutations(operations):
        if any(later.returned < order[n].call for n in range(len(order)) for later in order[n + 1 :]):
            continue
        state: Any = ABSENT
        for op in order:
            outcome, state = apply(state, op)
            if outcome != op.outcome:
                break
        else:
            return True
    return False


def random_operation(rng: random.Random, n: int, call: float, returned: float) -> Operation:
    kind = rng.choice(["get", "get", "put", "update", "upsert", "delete", "cas"])
    argument: Any = n if kind in ("put", "update", "upsert") else (rng.randrange(4), n) if kind == "cas" else None
    outcomes: dict[str, list[Any]] = {
        "get": [ABSENT, *range(5)], "put": ["ok", "exists"], "update": ["ok", ABSENT], "upsert": ["ok"],
        "delete": [ABSENT, *range(5)], "cas": [True, False],
    }  # fmt: skip
    return Operation(n, kind, argument, rng.choice(outcomes[kind]), call, returned)


def test_the_search_agrees_with_the_definition() -> None:
    rng = random.Random(7)
    counts = {True: 0, False: 0}
    for _ in range(3000):
        size = rng.randrange(1, 6)
        moments = rng.sample(range(100), 2 * size)
        operations = []
        for n in range(size):
            call, returned = sorted(moments[2 * n : 2 * n + 2])
            operations.append(random_operation(rng, n, call, returned))
        right = by_trying_everything(operations)
        counts[right] += 1
        assert (explain(operations) is None) == right, operations
    assert min(counts.values()) > 300, counts


@pytest.mark.parametrize("seed", range(20))
def test_a_long_history_of_a_real_register_with_crashes(seed: int) -> None:
    """Right by construction: each operation takes effect at a moment inside it. Then one read is changed."""
    rng = random.Random(seed)
    state: Any = ABSENT
    taken: list[tuple[float, Operation]] = []
    for n in range(200):
        at = n * 10 + rng.random()
        op = random_operation(rng, n, at - rng.uniform(0, 20), at + rng.uniform(0, 20))
        outcome, new = apply(state, op)
        if rng.random() < 0.05:
            state = new if rng.random() < 0.5 else state
            taken.append((at, op._replace(outcome=UNKNOWN, returned=inf)))
        else:
            state = new
            taken.append((at, op._replace(outcome=outcome)))
    operations = [op for _, op in taken]
    rng.shuffle(operations)
    assert explain(operations) is None
    place = rng.choice([n for n, op in enumerate(operations) if op.kind == "get" and op.outcome != UNKNOWN])
    operations[place] = operations[place]._replace(outcome=10**6)
    assert explain(operations) is not None
