"""A request with a key is carried out once, however often and by whichever way it comes."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest

from kvql import errors
from kvql.codec import decode_rows
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from tests.server.breaking import Store
from tests.server.support import Wire, act, command, get, put, request, write
from tests.servers import WAIT_S, Server

COMMIT = pb.TransactionCommand.COMMIT
BEGIN = pb.TransactionCommand.BEGIN
ONCE = [
    "UPDATE t SET value = value + 5", "UPDATE t SET value = value + 5 RETURNING key, OLD.value, NEW.value",
    "DELETE FROM t WHERE key = 'a' RETURNING *", "DELETE FROM t", "TRUNCATE NAMESPACE t",
    "INSERT INTO t VALUES ('b', 1)", "INSERT INTO t VALUES ('b', 1), ('c', 2) RETURNING *", "PUT b 1", "PUT b 1, c 2",
    "PUT b 'x' TTL 60s", "UPDATE a 9", "UPSERT a 5", "DELETE a", "EXPIRE a 60s", "PERSIST a", "CREATE NAMESPACE u",
    "CREATE TABLE u (name text)", "DROP NAMESPACE t", "UPDATE t SET value = 1 WHERE key = 'no'",
    "DELETE FROM t WHERE key = 'no' RETURNING *", "UPSERT a (1 + 1)", "PUT b 1 COMMENT 'why'",
]  # fmt: skip


def text(statement: str, namespace: str = "t", **fields: Any) -> pb.Request:
    return pb.Request(namespace=namespace, text=pb.TextCommand(text=statement), **fields)


def told(reply: pb.ExecuteReply) -> list[Any]:
    """What an answer says, without the transaction's state and the like."""
    out: list[Any] = []
    for response in reply.responses:
        out += decode_rows(response.rows) if response.HasField("rows") else []
        if response.HasField("done"):
            out.append((response.done.row_count, response.done.revision, response.done.completed))
    return out


@pytest.fixture
def pair(admin: Wire) -> Wire:
    admin.execute(put([("a", 1)], "t"))
    return admin


@pytest.fixture
def key(request: pytest.FixtureRequest) -> bytes:
    """The test's own: the server is shared."""
    return hashlib.sha256(request.node.name.encode()).digest()[:20]


@pytest.mark.parametrize("way", ["typed", "text"])
@pytest.mark.parametrize("statement", ONCE)
def test_a_repeat_gives_the_first_outcome(pair: Wire, key: bytes, statement: str, way: str) -> None:
    made = (command if way == "typed" else text)(statement, idempotency_key=key)
    first = told(pair.execute(made))
    pair.execute(command("UPSERT other 7", "elsewhere"))
    before = pair.rows(command("SHOW DATA", "elsewhere"))
    assert told(pair.execute(made)) == first
    made.id, made.deadline_ms = 0, 5000  # how it travels is not what it asks for
    assert told(pair.execute(made)) == first
    assert pair.rows(command("SHOW DATA", "elsewhere")) == before


def test_it_is_carried_out_once(pair: Wire, key: bytes) -> None:
    made = command("UPDATE t SET value = value + 5", idempotency_key=key)
    for _ in range(3):
        assert told(pair.execute(made))[0][0] == 1
    assert pair.rows(get("a", namespace="t")) == [("a", 6)]
    pair.execute(command("UPDATE t SET value = value + 5", idempotency_key=key + b"2"))
    assert pair.rows(get("a", namespace="t")) == [("a", 11)]


def test_another_request_under_the_key(pair: Wire, key: bytes) -> None:
    pair.execute(command("UPSERT a 5", idempotency_key=key))
    for other in ("UPSERT a 6", "UPSERT b 5", "DELETE a", "UPSERT a 5 COMMENT 'x'", "DROP NAMESPACE t"):
        error = pair.refusal(command(other, idempotency_key=key))
        assert error.sqlstate == "22023" and "another request" in error.message
    assert pair.refusal(command("UPSERT a 5", "u", idempotency_key=key)).sqlstate == "22023", "another namespace"
    assert pair.rows(get("a", namespace="t")) == [("a", 5)]


def test_keys_are_the_users_own(pair: Wire, server: Server, key: bytes) -> None:
    other = Wire(server, "other")
    pair.execute(command("UPSERT a 5", "mine", idempotency_key=key))
    assert told(other.execute(command("UPSERT b 6", "theirs", idempotency_key=key)))[0][0] == 1
    assert other.rows(get("b", namespace="theirs")) == [("b", 6)]
    other.close()


def test_the_length_of_a_key(pair: Wire, key: bytes) -> None:
    pair.execute(command("UPSERT a 5", idempotency_key=b""))
    pair.execute(command("UPSERT a 6", idempotency_key=b""))
    pair.execute(command("UPSERT a 7", idempotency_key=b"\x00" * 64))
    assert pair.refusal(command("UPSERT a 8", idempotency_key=b"x" * 65)).sqlstate == "22023"
    assert pair.refusal(text("UPSERT a 8", idempotency_key=b"x" * 65)).sqlstate == "22023"
    assert pair.rows(get("a", namespace="t")) == [("a", 7)]


def test_what_failed_is_carried_out_anew(pair: Wire, key: bytes) -> None:
    made = command("PUT a 5", idempotency_key=key)
    assert pair.refusal(made).sqlstate == "23505"
    pair.execute(command("DELETE a"))
    first = told(pair.execute(made))
    assert told(pair.execute(made)) == first, "and not: key already exists"


def test_rows_beyond_the_bound(pair: Wire, key: bytes) -> None:
    pair.execute(put([(f"k{i}", "x" * 1000) for i in range(100)], "t"))
    made = command("UPDATE t SET value = 'y' RETURNING OLD.value", idempotency_key=key)
    assert len(told(pair.execute(made))) == 102
    error = pair.refusal(made)
    assert error.sqlstate == "54001" and "was carried out at revision" in error.message and "101 rows" in error.message


def test_texts_of_several_statements(pair: Wire, key: bytes) -> None:
    made = text("UPSERT a 2; PUT b 1; SELECT count(*) FROM t; DELETE b;", idempotency_key=key)
    first = told(pair.execute(made))
    again = told(pair.execute(made))
    assert first[2] == (2,) and again[2] == (1,), "the read is read anew"
    assert [*again[:2], *again[4:]] == [*first[:2], *first[4:]]
    assert pair.refusal(text("UPSERT a 3; PUT b 1;", idempotency_key=key)).sqlstate == "22023"
    error = pair.refusal(text("BEGIN; UPSERT a 3; COMMIT;", idempotency_key=key))
    assert error.sqlstate == "0A000" and "COMMIT alone" in (error.hint or "")


def test_where_a_key_has_no_place(pair: Wire, key: bytes) -> None:
    session = pair.session()
    session.ask(command("BEGIN", id=1))
    assert session.ask(command("UPSERT a 5", id=2, idempotency_key=key)).error.sqlstate == "0A000"
    session.ask(command("ROLLBACK", id=3))
    assert session.ask(command("BEGIN", id=4, idempotency_key=key)).error.sqlstate == "0A000"
    assert session.ask(command("EXPLAIN DELETE FROM t", id=5, idempotency_key=key)).error.sqlstate == "0A000"
    assert session.ask(command("UPSERT a 5", id=6, idempotency_key=key, repeat_key=b"r")).error.sqlstate == "22023"
    assert session.ask(command("UPSERT a 5", id=7, repeat_key=b"r")).error.sqlstate == "22023", "no sequence"
    assert session.ask(command("UPSERT a 5", id=8, repeat_key=b"r" * 65)).error.sqlstate == "22023"
    session.close()
    assert pair.rows(get("a", namespace="t")) == [("a", 1)]


def test_a_commit(pair: Wire, key: bytes) -> None:
    session = pair.session()
    session.ask(act(BEGIN, id=1))
    session.ask(command("UPDATE t SET value = value + 1", id=2))
    first = session.ask(act(COMMIT, id=3, idempotency_key=key))
    assert first.done.revision
    assert session.ask(act(COMMIT, id=4, idempotency_key=key)).done.revision == first.done.revision
    session.close()
    session = pair.session()
    assert session.ask(act(COMMIT, id=1, idempotency_key=key)).done.revision == first.done.revision
    session.ask(act(BEGIN, id=2))
    session.ask(command("UPDATE t SET value = value + 1", id=3))
    assert session.ask(act(COMMIT, id=4, idempotency_key=key)).done.revision == first.done.revision
    assert session.ask(act(COMMIT, id=5)).done.notices[0].sqlstate == "25P01", "the second one is over as well"
    assert pair.rows(get("a", namespace="t")) == [("a", 2)]
    session.close()


def test_a_repeat_key_that_another_transaction_used_since_begin(pair: Wire, key: bytes) -> None:
    """A connection's tasks take turns with its keys: what the key holds now is no change to what this one has read."""
    session = pair.session()
    session.ask(act(BEGIN, id=1, lane=1))
    session.ask(command("UPSERT b 1", id=2, lane=1))
    session.ask(act(BEGIN, id=3, lane=2))
    session.ask(command("UPSERT c 2", id=4, lane=2))
    assert session.ask(act(COMMIT, id=5, lane=2, repeat_key=key, repeat_sequence=1)).done.revision
    first = session.ask(act(COMMIT, id=6, lane=1, repeat_key=key, repeat_sequence=2))
    assert first.done.revision, first.error
    again = session.ask(act(COMMIT, id=7, lane=1, repeat_key=key, repeat_sequence=2))
    assert again.done.revision == first.done.revision
    assert sorted(pair.rows(get("b", "c", namespace="t"))) == [("b", 1), ("c", 2)]
    session.close()


def test_a_commit_that_comes_after_it_was_asked_for(pair: Wire, key: bytes) -> None:
    """The first COMMIT is still on its way when its client, on another connection, asks what became of it."""
    slow, fresh = pair.session(), pair.session()
    slow.ask(act(BEGIN, id=1))
    slow.ask(command("UPSERT a 5", id=2))
    assert fresh.ask(act(COMMIT, id=1, idempotency_key=key)).error.sqlstate == "25P01"
    error = slow.ask(act(COMMIT, id=3, idempotency_key=key)).error
    assert error.sqlstate == "22023" and "found no transaction" in error.message
    assert pair.rows(get("a", namespace="t")) == [("a", 1)]
    slow.close()
    fresh.close()


def test_two_at_once(pair: Wire, key: bytes) -> None:
    """A statement over many pairs lets others have their turn; the second of them must not come in between."""
    pair.execute(put([(f"k{i}", 0) for i in range(1500)], "t"))
    made = command("UPDATE t SET value = value + 1", idempotency_key=key)
    results: list[list[Any]] = []

    def work() -> None:
        results.append(told(pair.execute(made)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(results) == 6 and all(result == results[0] for result in results)
    assert pair.rows(command("SELECT DISTINCT value FROM t WHERE key <> 'a'")) == [(1,)]


def test_repeat_keys_keep_the_newest(pair: Wire, key: bytes) -> None:
    def upsert(value: int, sequence: int, **fields: Any) -> pb.Request:
        return command(f"UPSERT a {value}", repeat_key=key, repeat_sequence=sequence, **fields)

    first = told(pair.execute(upsert(5, 1)))
    assert told(pair.execute(upsert(5, 1))) == first
    second = told(pair.execute(upsert(6, 2)))
    assert told(pair.execute(upsert(6, 2))) == second != first
    assert pair.refusal(upsert(5, 1)).sqlstate == "22023"
    assert pair.rows(get("a", namespace="t")) == [("a", 6)]
    counted = command("UPDATE t SET value = value + 1 RETURNING value", repeat_key=key, repeat_sequence=9)
    assert told(pair.execute(counted)) == told(pair.execute(counted))
    session = pair.session()
    session.ask(act(BEGIN, id=1))
    assert session.ask(upsert(8, 10, id=2)).done.row_count == 1, "without effect inside a transaction"
    assert session.ask(upsert(9, 10, id=3)).done.row_count == 1
    session.close()


# ── runs, and time ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_lasts_24_hours() -> None:
    store = Store()
    store.run(command("PUT zero 0", "shop"))
    made = command("PUT a 1", "shop", idempotency_key=b"k")
    first = store.run(made)
    store.clock.advance(24 * 3600 - 0.001)
    assert store.run(made).revision == first.revision
    store.clock.advance(0.001)
    with pytest.raises(Error) as caught:
        store.run(made)
    assert caught.value.sqlstate == errors.KEY_EXISTS, "it is a request like any other"


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("full_at", range(1, 8))
def test_a_run_goes_on_where_it_ended(full_at: int, stop: bool) -> None:
    """Of k0 … k5 the statement about k2 fails; the commits of the others break one after the other."""
    store = Store()
    store.run(command("PUT k2 before", "shop"))
    store.engine.commits = 0
    pairs = [(f"k{i}", i) for i in range(6)]
    mode = pb.ON_ERROR_STOP if stop else pb.ON_ERROR_CONTINUE
    made = request(write=write(pb.WRITE_MODE_PUT, pairs, each=True), idempotency_key=b"k", on_error=mode)
    store.engine.full_at = (full_at,)
    outcomes: list[Any] = []
    for _ in range(3):
        try:
            outcomes.append(store.run(made))
        except Error as e:
            outcomes.append(e)
    if stop:
        assert isinstance(outcomes[2], Error) and outcomes[2].statement == 2
        assert outcomes[2].sqlstate == errors.KEY_EXISTS, "and not k0, which is the run's own"
        assert store.keys() == ["k0", "k1", "k2"]
        return
    last = outcomes[2]
    assert isinstance(last, Result) and last.completed == last.row_count == 5 and last.failed == 1
    assert [e.statement for e in last.errors] == [2] and last.errors[0].sqlstate == errors.KEY_EXISTS
    assert store.keys() == [f"k{i}" for i in range(6)]
    assert store.run(made).revision == last.revision


def test_a_run_of_another_content() -> None:
    store = Store()
    made = request(write=write(pb.WRITE_MODE_UPSERT, [("a", 1), ("b", 2)], each=True), idempotency_key=b"k")
    store.run(made)
    other = request(write=write(pb.WRITE_MODE_UPSERT, [("a", 1), ("b", 3)], each=True), idempotency_key=b"k")
    with pytest.raises(Error) as caught:
        store.run(other)
    assert caught.value.sqlstate == errors.INVALID


def test_others_have_their_turn_beside_a_run(server: Server, key: bytes) -> None:
    """A run under a key was split by copying all of it for each statement, and nobody else was served meanwhile."""
    busy, other = Wire(server), Wire(server)
    busy.execute(put([("first", 0)], "crowd"))
    pairs = [(f"k{i}", i) for i in range(10_000)]
    made = request("crowd", id=1, write=write(pb.WRITE_MODE_UPSERT, pairs, each=True), idempotency_key=key)
    session = busy.session()
    session.ask(get("first", namespace="crowd", id=2))
    done = threading.Event()

    def run() -> None:
        assert session.ask(made).done.completed == len(pairs)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    served = 0
    while not done.is_set():
        other.rows(get("first", namespace="crowd"))
        served += 1
    thread.join()
    assert served > 5
    session.close()
    busy.close()
    other.close()


def test_two_of_a_run_at_once(server: Server, key: bytes) -> None:
    """They take turns, and overtake each other; each pair is put once, and both are told the same."""
    pairs = [(f"k{i}", i) for i in range(3000)]
    made = request("race", id=1, write=write(pb.WRITE_MODE_PUT, pairs, each=True), idempotency_key=key)
    wires = [Wire(server) for _ in range(3)]
    wires[0].execute(put([("k77", "before")], "race"))
    done: list[tuple[int, int, int, list[int]]] = []

    def run(wire: Wire) -> None:
        session = wire.session()
        told = session.ask(made).done
        done.append((told.completed, told.failed, told.revision, [e.statement for e in told.errors]))
        session.close()

    threads = [threading.Thread(target=run, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(done) == 3 and done[0] == done[1] == done[2]
    assert (done[0][0], done[0][1], done[0][3]) == (2999, 1, [77])
    assert wires[0].rows(command("COUNT", "race")) == [(3000,)]
    for wire in wires:
        wire.close()
