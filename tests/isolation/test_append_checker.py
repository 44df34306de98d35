"""The checker of append lists against histories that are right, and against one of each kind of wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.isolation.appends import Append, Read, Transaction, check


def history(*transactions: tuple[Any, ...]) -> list[Transaction]:
    """(began, ended, op, …): ops as ``"x+1"`` (append 1 to x) and ``"x=1,2"`` (a read); ``"!"`` is a rollback and
    ``"?"`` an unknown outcome."""
    made = []
    for number, (began, ended, *ops) in enumerate(transactions):
        one = Transaction(number, began, ended, "committed")
        for op in ops:
            if op in ("!", "?"):
                one.outcome = "aborted" if op == "!" else "unknown"
            elif "+" in op:
                key, _, element = op.partition("+")
                one.ops.append(Append(key, int(element)))
            else:
                key, _, seen = op.partition("=")
                one.ops.append(Read(key, tuple(map(int, filter(None, seen.split(","))))))
        if one.outcome == "unknown":
            one.ended = float("inf")
        made.append(one)
    return made


RIGHT = {
    "nothing": [],
    "one after the other": [(1, 2, "x+1"), (3, 4, "x=1", "x+2"), (5, 6, "x=1,2", "y=")],
    "at the same time, in any order": [(1, 9, "x+1"), (1, 9, "x+2"), (1, 9, "x=2"), (10, 11, "x=2,1")],
    "a read of one's own": [(1, 2, "x=", "x+1", "x=1", "x+2", "x=1,2"), (3, 4, "x=1,2")],
    "a rollback that nobody saw": [(1, 2, "x+1", "!"), (3, 4, "x=")],
    "unknown, and it happened": [(1, 2, "x+1", "?"), (3, 4, "x="), (5, 6, "x=1")],
    "unknown, and it did not": [(1, 2, "x+1", "?"), (3, 4, "x="), (9, 10, "x=")],
    "unknown reads say nothing": [(1, 2, "x+1"), (3, 4, "x=", "y=7", "?"), (9, 10, "x=1")],
    "an append that nobody has read yet": [(1, 2, "x+1"), (1, 2, "x=")],
    "a reader of the past beside its writer": [(1, 8, "x="), (2, 3, "x+1"), (9, 10, "x=1")],
}

WRONG: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "a stale read from a cache": ("G-single-realtime", [(1, 2, "x+1"), (3, 4, "x="), (5, 6, "x=1")]),
    "a list that goes back": ("G-single-realtime", [(1, 2, "x+1"), (3, 4, "x=1"), (5, 6, "x="), (7, 8, "x=1")]),
    "two writers the wrong way round in time": ("G0-realtime", [(1, 2, "x+1"), (3, 4, "x+2"), (5, 6, "x=2,1")]),
    "a lost update": ("lost", [(1, 5, "x=", "x+1"), (1, 5, "x=", "x+2"), (6, 7, "x=2")]),
    "a lost append": ("lost", [(1, 2, "x+1"), (3, 4, "x=")]),
    "an aborted read": ("G1a", [(1, 5, "x+1", "!"), (2, 3, "x=1")]),
    "an aborted read by one that failed as well": ("G1a", [(1, 5, "x+1", "!"), (2, 3, "x=1", "!")]),
    "an intermediate read": ("G1b", [(1, 9, "x+1", "x+2"), (1, 9, "x=1"), (10, 11, "x=1,2")]),
    "dirty writes": ("G0", [(1, 9, "x+1", "y+2"), (1, 9, "x+3", "y+4"), (10, 11, "x=1,3", "y=4,2")]),
    "writes that lie between another's": ("G0", [(1, 9, "x+1", "x+3"), (1, 9, "x+2"), (10, 11, "x=1,2,3")]),
    "a circle of what was read": ("G1c", [(1, 9, "x+1", "y=2"), (1, 9, "y+2", "x=1"), (10, 11, "x=1", "y=2")]),
    "a read of half a transaction": ("G-single", [(1, 9, "x+1", "y+2"), (1, 9, "x=1", "y="), (10, 11, "x=1", "y=2")]),
    "write skew": ("G2", [(1, 9, "x=", "y+1"), (1, 9, "y=", "x+2"), (10, 11, "x=2", "y=1")]),
    "write skew that nobody has read": ("G2", [(1, 9, "x=", "y=", "y+1"), (1, 9, "x=", "y=", "x+2"), (10, 11, "z=")]),
    "phantoms over three": (
        "G2", [(1, 9, "x=", "y+1"), (1, 9, "y=", "z+2"), (1, 9, "z=", "x+3"), (10, 11, "x=3", "y=1", "z=2")],
    ),
    "a report that was over before what it missed": (  # Fekete et al., a read-only transaction anomaly
        "G2", [(1, 20, "x=", "y=", "x+1"), (2, 3, "y=", "y+2"), (4, 5, "x=", "y=2"), (21, 22, "x=1", "y=2")],
    ),
    "two orders of one list": ("incompatible order", [(1, 9, "x+1"), (1, 9, "x+2"), (1, 9, "x=1"), (1, 9, "x=2,1")]),
    "an element twice": ("duplicate", [(1, 2, "x+1"), (3, 4, "x=1,1")]),
    "an element from nowhere": ("garbage", [(1, 2, "x+1"), (3, 4, "x=1,9")]),
    "an element of another list": ("garbage", [(1, 2, "x+1"), (3, 4, "y=1")]),
    "a read that changes inside": ("internal", [(1, 9, "x=", "x=1"), (1, 9, "x+1")]),
    "a read without one's own": ("internal", [(1, 9, "x+1", "x=")]),
    "half of what is unknown": ("G-single", [(1, 2, "x+1", "y+2", "?"), (3, 4, "x=1", "y="), (5, 6, "y=2")]),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert check(history(*RIGHT[name])) == []


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    expected, transactions = WRONG[name]
    assert expected in [anomaly.name for anomaly in check(history(*transactions))]


def test_what_is_told_names_the_transactions() -> None:
    (found,) = check(history((1, 9, "x=", "y+1"), (1, 9, "y=", "x+2"), (10, 11, "x=2", "y=1")))
    assert "0 -rw-> 1" in found.text and "1 -rw-> 0" in found.text and "Append(key='x', element=2)" in found.text


def test_a_long_circle_is_found() -> None:
    """Histories are longer than Python's stack."""
    n = 5000
    ring = [(1, 9, f"k{i}=", f"k{(i + 1) % n}+{i}") for i in range(n)]
    everything = (10, 11, *[f"k{(i + 1) % n}={i}" for i in range(n)])
    assert [anomaly.name for anomaly in check(history(*ring, everything))] == ["G2"]
