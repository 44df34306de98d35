"""Going back to earlier moments of a write set, against a model that copies everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvql_server.engines.base import Clear, Delete, Put
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import step
from kvql_server.transaction import Transaction
from kvql_server.write_set import WriteSet

from kvql.errors import Error

NAMESPACES = st.sampled_from(["a", "b"])
KEYS = st.sampled_from(["k1", "k2", "k3"])
NAMES = st.sampled_from(["s", "t", "S"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMESPACES, KEYS),
        st.tuples(st.just("delete"), NAMESPACES, KEYS),
        st.tuples(st.just("clear"), NAMESPACES),
        st.tuples(st.just("comment"), st.sampled_from(["x", "y"])),
        st.tuples(st.just("savepoint"), NAMES),
        st.tuples(st.just("back_to"), NAMES),
        st.tuples(st.just("release"), NAMES),
        st.tuples(st.just("dry_run"), NAMESPACES, KEYS),
    ),
    max_size=30,
)


def state(writes: WriteSet) -> Any:
    """All that COMMIT would see."""
    return {n: dict(own) for n, own in writes.writes.items()}, set(writes.cleared), writes.comment


def apply(writes: WriteSet, what: str, *operands: str, number: int) -> None:
    if what == "put":
        writes.add(Put(operands[0], operands[1], number), 8)
    elif what == "delete":
        writes.add(Delete(operands[0], operands[1]), 0)
    elif what == "clear":
        writes.clear(operands[0])
    else:
        writes.comment = operands[0]


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_against_copies(steps: list[tuple[str, ...]]) -> None:
    writes = WriteSet()
    saved: list[tuple[str, Any]] = []
    for number, (what, *operands) in enumerate(steps):
        if what == "savepoint":
            saved.append((operands[0].lower(), state(writes)))
            writes.savepoint(operands[0])
        elif what in ("back_to", "release"):
            known = [place for place, (name, _) in enumerate(saved) if name == operands[0].lower()]
            act = writes.back_to_savepoint if what == "back_to" else writes.release
            if not known:
                with pytest.raises(Error) as caught:
                    act(operands[0])
                assert caught.value.sqlstate == "3B001"
                continue
            act(operands[0])
            del saved[known[-1] + (what == "back_to") :]
            if what == "back_to":
                assert state(writes) == saved[-1][1]
        elif what == "dry_run":
            before = state(writes)
            mark = writes.mark()
            writes.add(Put(operands[0], operands[1], number), 8)
            writes.clear(operands[0])
            writes.add(Delete(operands[0], operands[1]), 0)
            writes.back_to(mark)
            writes.forget()
            assert state(writes) == before
        else:
            apply(writes, what, *operands, number=number)
    assert all(own for own in writes.writes.values()), "a namespace without writes is not there"
    assert writes.has_savepoints == bool(saved)
    assert saved or not writes._log, "without a mark nothing is kept to go back to"


@settings(max_examples=200, deadline=None)
@given(STEPS, STEPS)
def test_what_the_writes_were_at_a_mark(first: list[tuple[str, ...]], then: list[tuple[str, ...]]) -> None:
    writes = WriteSet()
    plain = {"put", "delete", "clear"}
    for number, (what, *operands) in enumerate(one for one in first if one[0] in plain):
        apply(writes, what, *operands, number=number)
    kept, cleared, _ = state(writes)
    mark = writes.mark()
    for number, (what, *operands) in enumerate(one for one in then if one[0] in plain):
        apply(writes, what, *operands, number=number + 100)
    for namespace in ("a", "b"):
        before = writes.before(namespace, mark)
        found = {key: before.write(key) for key in ("k1", "k2", "k3")}
        assert {key: write for key, write in found.items() if write} == kept.get(namespace, {})
        assert before.cleared == (namespace in cleared)


def test_a_savepoint_costs_nothing_and_going_back_what_was_written_since() -> None:
    writes = WriteSet()
    for n in range(10_000):
        writes.add(Put("a", f"k{n}", n), 8)
    whole = writes.of("a")
    for n in range(100):
        writes.savepoint(f"s{n}")
        writes.add(Put("a", "k0", -n), 8)
    assert writes.of("a") is whole and len(writes._log) == 100
    writes.back_to_savepoint("s50")
    assert writes.of("a") is whole and len(writes._log) == 50
    assert whole["k0"] == Put("a", "k0", -49)


def test_the_log_is_bounded_by_what_bounds_the_writes() -> None:
    writes = WriteSet()
    writes.writes_max = 10
    writes.savepoint("s")
    for _ in range(5):
        writes.add(Put("a", "k", 1), 8)
        writes.clear("a")
    for refused in (lambda: writes.add(Put("a", "k", 1), 8), lambda: writes.clear("a")):
        with pytest.raises(Error, match="53400"):
            refused()
    writes.back_to_savepoint("s")
    assert not writes
    for _ in range(10):
        writes.add(Put("a", "k", 1), 8)


def test_the_order_of_what_is_committed() -> None:
    writes = WriteSet()
    writes.add(Put("a", "k", 1), 8)
    writes.clear("a")
    writes.add(Put("a", "l", 2), 8)
    assert writes.all() == [Clear("a"), Put("a", "l", 2)]


def test_a_transaction_that_was_ended_from_outside_keeps_nothing() -> None:
    transaction = Transaction(MemoryEngine(), "ann")
    transaction.put("a", "k", 1, None)
    transaction.writes.savepoint("s")
    transaction.put("a", "k", 2, None)
    transaction.abandon("idle for too long")
    assert not transaction.writes and not transaction.writes.has_savepoints and not transaction.writes._log


def test_a_read_only_transaction_remembers_no_reads() -> None:
    engine = MemoryEngine()
    transaction = Transaction(engine, "ann", tracked=False, read_only=True)
    step(transaction.get("a", "k"))
    step(transaction.count("a"))
    with pytest.raises(Error, match="25006"):
        transaction.put("a", "k", 1, None)
    assert not transaction._reads and not transaction._ranges
    assert step(transaction.commit()) == transaction.revision
    transaction.close()
