"""The whole server against dictionaries: statements as text, transactions, savepoints, expiry, kill, power loss,
restarts, checkpoints and the clock, in every order that hypothesis thinks of.

The executor and the hash tables are the real ones; the disk (``tests.engine.disk``) and the clock are simulated. A
failing run is printed as the steps that lead to it, and the seed of a long run repeats it (``tests/soak/machine.py``).
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kvql_server.clock import ManualClock
from kvql_server.engines.hashtable import HashTableEngine

from kvql.errors import Error
from tests.engine.disk import Disk, PowerLoss
from tests.isolation import operations as op
from tests.isolation.append_clients import fetched
from tests.isolation.model import Failed, Model, Pair, Transaction
from tests.isolation.stores import Store
from tests.stores import abandon

SPACES = st.sampled_from(["a", "b"])
KEYS = st.sampled_from(["k1", "k2", "k3", "l1", "l2"])
VALUES = st.integers(0, 20)
TTLS = st.sampled_from([None, None, 1, 2, 5])
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3)
MANY = st.lists(KEYS, min_size=1, max_size=3)
WRITES = st.one_of(
    st.builds(op.put, SPACES, PAIRS, TTLS),
    st.builds(op.put, SPACES, PAIRS, TTLS),
    st.builds(op.upsert, SPACES, PAIRS, TTLS),
    st.builds(op.update, SPACES, KEYS, VALUES),
    st.builds(op.delete, SPACES, MANY),
    st.builds(op.expire, SPACES, KEYS, TTLS),
    st.builds(op.insert, SPACES, KEYS, VALUES, st.sampled_from(["", "nothing", "update"]), TTLS),
    st.builds(op.update_rows, SPACES, VALUES, st.integers(1, 3)),
    st.builds(op.update_row, SPACES, KEYS, VALUES),
    st.builds(op.let_expire, SPACES, st.integers(0, 5)),
    st.builds(op.delete_rows, SPACES, VALUES),
    st.builds(op.truncate, SPACES),
)
READS = st.one_of(
    st.builds(op.get, SPACES, MANY),
    st.builds(op.has, SPACES, MANY),
    st.builds(op.count, SPACES),
    st.builds(op.select, SPACES, st.sampled_from(["", "k", "l", "k1"]), VALUES),
    st.builds(op.ttl, SPACES),
)
COMMENTS = st.sampled_from([None, None, None, "why", "because"])
SAVEPOINTS = st.tuples(st.sampled_from(["savepoint", "back", "release"]), st.sampled_from(["s", "t"]))
PARTS = st.lists(
    st.one_of(WRITES, WRITES, READS, SAVEPOINTS, st.tuples(st.just("clock"), st.integers(1, 2)), st.just("other")),
    max_size=7,
)


PAST_MAX = 40


def micros(value: datetime) -> int:
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class WholeServer(RuleBasedStateMachine):
    """The model is ``model.Model``; the store is opened anew after every crash."""

    @initialize(default_ttl=TTLS)
    def open(self, default_ttl: int | None) -> None:
        self.clock = ManualClock()
        self.disk = Disk()
        self.revision = 0
        self.model = Model(self.clock.now)
        self.past: list[tuple[int, dict[str, dict[str, Pair]]]] = []
        """The newest revisions that wrote something, and what was there then."""
        self._start()
        for space, ttl in (("a", None), ("b", default_ttl)):
            self.create(space, ttl)

    def _start(self) -> None:
        self.engine = HashTableEngine.open("/store", clock=self.clock, files=self.disk)
        self.store = Store(self.engine, self.clock)
        self.one, self.other = self.store.connect("a"), self.store.connect("a")
        assert self.engine.status()["revision"] >= self.revision, "revisions went back"
        self.revision = self.engine.status()["revision"]

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            abandon(self.engine)

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────

    def carry_out(self, connection: Any, operation: op.Operation) -> Any:
        """What the store answers: rows, a count, or an SQLSTATE."""
        try:
            connection.execute(f"USE {operation.space}")
            cursor = connection.execute(operation.whole(), list(operation.parameters))
            if cursor.description is None:
                return cursor.rowcount
            return fetched(cursor)
        except Error as e:
            return e.sqlstate

    def expected(self, transaction: Transaction, operation: op.Operation) -> Any:
        try:
            return operation.apply(transaction)
        except Failed as e:
            return e.sqlstate

    def compare(self, operation: op.Operation, answer: Any, expected: Any, transaction: Transaction) -> None:
        if "expires_at FROM" in operation.whole() and isinstance(answer, list):
            answer = [(key, micros(when) - transaction.time) for key, when in answer]
        assert answer == expected, f"{operation}: {answer}, and the model says {expected}"

    def alone(self, connection: Any, operation: op.Operation) -> None:
        """A statement outside BEGIN … COMMIT."""
        transaction = self.model.begin()
        expected = self.expected(transaction, operation)
        self.compare(operation, self.carry_out(connection, operation), expected, transaction)
        self.committed(transaction if not isinstance(expected, str) else None)

    def committed(self, transaction: Transaction | None) -> None:
        """The model follows; revisions only grow, and by one at least where something was written."""
        revision = self.engine.status()["revision"]
        assert revision >= self.revision
        if transaction is not None and transaction.writes_something:
            assert revision > self.revision
            transaction.commit(revision)
            self.past = [*self.past, (revision, {space: dict(pairs) for space, pairs in self.model.spaces.items()})][
                -PAST_MAX:
            ]
        self.revision = revision

    @rule(operation=WRITES, comment=COMMENTS)
    def write(self, operation: op.Operation, comment: str | None) -> None:
        if comment and not operation.text.startswith("TRUNCATE"):
            operation = op.Operation(
                operation.space, operation.text, operation.parameters, operation.model, True, comment
            )
        self.alone(self.one, operation)

    @rule(operation=READS)
    def read(self, operation: op.Operation) -> None:
        self.alone(self.other, operation)

    @precondition(lambda self: self.past)
    @rule(pick=st.integers(0, PAST_MAX - 1), space=SPACES)
    def read_the_past(self, pick: int, space: str) -> None:
        """A revision that wrote something: the past knows commits and no clock, so what was due then is still there."""
        revision, then = self.past[pick % len(self.past)]
        text = f"SELECT key, value, version, revision FROM {space} AS OF REVISION ?"
        expected = [(key, pair.value, pair.version, pair.revision) for key, pair in sorted(then[space].items())]
        try:
            assert fetched(self.other.execute(text, [revision])) == expected
        except Error as e:
            # of a namespace that was empty when the store was opened nothing earlier is known, not even that
            assert e.sqlstate == "72000" and not expected, e

    @rule(space=SPACES, ttl=TTLS)
    def create(self, space: str, ttl: int | None) -> None:
        """Drop the namespace, and make it anew with another default."""
        options = f" WITH (default_ttl = '{ttl}s')" if ttl else ""
        self.one.execute("BEGIN")
        self.one.execute(f"DROP NAMESPACE IF EXISTS {space}")
        self.one.execute(f"CREATE NAMESPACE {space}{options}")
        self.one.execute("COMMIT")
        self.model.expire()
        self.model.create(space, ttl)
        self.committed(None)
        self.past.clear()  # the past of a namespace goes with it

    # ── transactions ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(parts=PARTS, others=st.lists(WRITES, max_size=2), commits=st.integers(0, 5))
    def transaction(self, parts: list[Any], others: list[op.Operation], commits: int) -> None:
        """BEGIN, statements, savepoints, the clock and another's statements in between, and COMMIT or ROLLBACK."""
        waiting = list(others)
        self.one.execute("BEGIN")
        transaction = self.model.begin()
        for part in parts:
            if part == "other":
                if waiting:
                    self.alone(self.other, waiting.pop())
            elif isinstance(part, tuple) and part[0] == "clock":
                self.clock.advance(part[1])
            elif isinstance(part, tuple):
                if not self.savepoint(transaction, *part):
                    return
            elif not self.inside(transaction, part):
                return
        while waiting:
            self.alone(self.other, waiting.pop())
        if commits == 0:
            self.one.execute("ROLLBACK")
            return
        self.end(transaction)

    def inside(self, transaction: Transaction, operation: op.Operation) -> bool:
        """A statement of the transaction; whether it goes on."""
        expected = self.expected(transaction, operation)
        self.compare(operation, self.carry_out(self.one, operation), expected, transaction)
        if not isinstance(expected, str):
            return True
        assert self.carry_out(self.one, op.count("a")) == "25P02"
        if transaction.savepoints:
            name, state = transaction.savepoints[-1]
            self.one.execute(f"ROLLBACK TO SAVEPOINT {name}")
            transaction.restore(state)
            return True
        self.one.execute("ROLLBACK")
        return False

    def savepoint(self, transaction: Transaction, what: str, name: str) -> bool:
        places = [n for n, (known, _) in enumerate(transaction.savepoints) if known == name]
        if what == "savepoint":
            self.one.execute(f"SAVEPOINT {name}")
            transaction.savepoints.append((name, transaction.state()))
        elif places:
            place = places[-1]
            if what == "back":
                self.one.execute(f"ROLLBACK TO {name}")
                transaction.restore(transaction.savepoints[place][1])
                del transaction.savepoints[place + 1 :]
            else:
                self.one.execute(f"RELEASE SAVEPOINT {name}")
                del transaction.savepoints[place:]
        return True

    def end(self, transaction: Transaction) -> None:
        conflicts = transaction.conflicts()
        try:
            self.one.execute("COMMIT")
        except Error as e:
            assert e.sqlstate == "40001", e
            assert conflicts, f"{e}, and the model sees no conflict"
            self.committed(None)
        else:
            assert not conflicts, "it was committed, and the model sees a conflict"
            self.committed(transaction)

    # ── time, crashes, restarts ───────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def tick(self) -> None:
        self.engine.tick()
        self.model.expire()
        self.committed(None)

    @rule()
    def checkpoint(self) -> None:
        self.engine.checkpoint()
        self.model.expire()
        self.committed(None)

    @rule()
    def restart(self) -> None:
        self.engine.close_now()
        self.disk = self.disk.killed()
        self._start()

    @rule()
    def kill(self) -> None:
        abandon(self.engine)
        self.disk = self.disk.killed()
        self._start()

    @rule(seed=st.integers(0, 2**32 - 1))
    def power_loss(self, seed: int) -> None:
        abandon(self.engine)
        self.disk = self.disk.crashed(random.Random(seed))
        self._start()

    @rule(operation=WRITES, calls=st.integers(0, 6), seed=st.integers(0, 2**32 - 1), power=st.booleans())
    def crash_in_the_middle(self, operation: op.Operation, calls: int, seed: int, power: bool) -> None:
        """The process dies at a call to the disk, while a statement or a checkpoint is under way: it happened wholly
        or not at all."""
        transaction = self.model.begin()
        expected = self.expected(transaction, operation)
        self.disk.die_at(self.disk.calls + calls + 1)
        answered = False
        try:
            answer = self.carry_out(self.one, operation)
            answered = True
            self.engine.checkpoint()
        except PowerLoss:
            pass
        self.disk.heal()
        if answered:
            self.compare(operation, answer, expected, transaction)
        abandon(self.engine)
        self.disk = self.disk.crashed(random.Random(seed)) if power else self.disk.killed()
        before = self.revision
        self._start()
        if not isinstance(expected, str) and transaction.writes_something:
            self.settle(transaction, answered, before)

    def settle(self, transaction: Transaction, answered: bool, before: int) -> None:
        """What the store shows decides whether a statement without an answer was carried out."""
        found = [pair.revision for space in ("a", "b") for pair in self.content(space).values()]
        newest = max(found, default=0)
        kept = {space: dict(pairs) for space, pairs in self.model.spaces.items()}
        transaction.commit(newest)
        if answered or self.agrees():
            return
        self.model.spaces = kept

    # ── what always holds ─────────────────────────────────────────────────────────────────────────────────────

    def content(self, space: str) -> dict[str, Pair]:
        text = f"SELECT key, value, version, created_at, updated_at, expires_at, comment, revision FROM {space}"
        return {
            key: Pair(value, version, micros(created), micros(updated), expires and micros(expires), comment, revision)
            for key, value, version, created, updated, expires, comment, revision in fetched(self.other.execute(text))
        }

    def agrees(self) -> bool:
        return all(self.content(space) == pairs for space, pairs in self.model.live().items())

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "engine"):
            return
        for space, pairs in self.model.live().items():
            assert self.content(space) == pairs
        status = self.engine.status()
        assert status["open_snapshots"] == 0 and status["failed"] is None
        assert all(
            pair.revision <= status["revision"] for pairs in self.model.spaces.values() for pair in pairs.values()
        )


TestWholeServer = WholeServer.TestCase
TestWholeServer.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
