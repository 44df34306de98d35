"""The SQL forms as anybody may send them: every call and mode, answers too large for a message, readers that stop."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from kvql_server.executor import Work
from kvql_server.service import answers

from kvql.codec import decode_rows, encode_values
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import Wire, command, get, put, refused, request
from tests.servers import WAIT_S

MIB = 1024 * 1024


def text(statement: str, namespace: str = "t", **fields: Any) -> pb.Request:
    return pb.Request(namespace=namespace, text=pb.TextCommand(text=statement), **fields)


@pytest.fixture
def pair(admin: Wire) -> Wire:
    """A namespace ``t`` with the pair a = 1."""
    admin.execute(put([("a", 1)], "t"))
    return admin


WRITES = [
    "UPDATE t SET value = 5", "UPDATE t SET value = 5 RETURNING *", "DELETE FROM t", "DELETE FROM t RETURNING *",
    "TRUNCATE NAMESPACE t", "INSERT INTO t VALUES ('b', 1)", "INSERT INTO t VALUES ('b', 1) RETURNING *", "PUT b 1",
    "UPSERT a 5", "DELETE a", "EXPIRE a 60s", "CREATE NAMESPACE u", "DROP NAMESPACE t", "BEGIN",
]  # fmt: skip


@pytest.mark.parametrize("statement", WRITES)
def test_the_call_for_reads_writes_nothing(pair: Wire, statement: str) -> None:
    for mode in ("", "DRY RUN ", "EXPLAIN ", "EXPLAIN ANALYZE "):
        if mode and statement.split()[0] in ("CREATE", "DROP", "BEGIN"):
            continue
        sent = command(mode + statement)
        error = refused(lambda sent=sent: list(pair.stub.Select(sent, metadata=pair.metadata(), timeout=WAIT_S)))
        assert error.sqlstate == "0A000"
    assert pair.rows(get("a", namespace="t")) == [("a", 1)]
    assert pair.rows(command("SELECT count(*), max(version) FROM t")) == [(1, 1)]
    assert [name for name, *_ in pair.rows(command("SHOW NAMESPACES"))] == ["t"]


@pytest.mark.parametrize("mode", [pb.MODE_EXPLAIN, pb.MODE_EXPLAIN_ANALYZE, pb.MODE_DRY_RUN])
def test_a_text_has_no_mode(pair: Wire, mode: Any) -> None:
    """It would have been carried out."""
    assert pair.refusal(text("UPDATE t SET value = 5", mode=mode)).sqlstate == "0A000"
    assert pair.rows(get("a", namespace="t")) == [("a", 1)]


@pytest.mark.parametrize("name", ["transaction", "create_namespace", "drop_namespace", "use", "describe"])
def test_modes_are_for_data(pair: Wire, name: str) -> None:
    commands = {
        "transaction": pb.Request(transaction=pb.TransactionCommand(action=pb.TransactionCommand.BEGIN)),
        "create_namespace": pb.Request(create_namespace=pb.CreateNamespaceCommand(namespace="u")),
        "drop_namespace": pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace="t")),
        "use": pb.Request(use=pb.UseCommand(namespace="t")),
        "describe": pb.Request(describe=pb.DescribeCommand(namespace="t")),
    }
    session = pair.session()
    for identifier, mode in enumerate((pb.MODE_EXPLAIN, pb.MODE_EXPLAIN_ANALYZE, pb.MODE_DRY_RUN), 1):
        sent = commands[name]
        sent.id, sent.mode = identifier, mode
        assert session.ask(sent).error.sqlstate == "0A000"
    session.close()
    assert pair.rows(command("SHOW NAMESPACES")) == [("t", "admin", 1)]


# ── answers that are large ────────────────────────────────────────────────────────────────────────────────────────


def _large(wire: Wire, count: int = 6) -> None:
    for number in range(count):
        wire.execute(put([(f"k{number}", "x" * (MIB - 10))], "big"))


@pytest.mark.parametrize("statement", [
    "UPDATE big SET expires_at = now() + 1h RETURNING value", "DELETE FROM big RETURNING *",
    "DELETE k0, k1, k2, k3, k4",
    "INSERT INTO big VALUES ('k0', 1), ('k1', 1), ('k2', 1), ('k3', 1), ('k4', 1)"
    " ON CONFLICT DO UPDATE SET value = EXCLUDED.value RETURNING OLD.value",
])  # fmt: skip
def test_a_write_whose_answer_cannot_be_sent_is_not_carried_out(admin: Wire, statement: str) -> None:
    _large(admin)
    for sent in (command(statement, "big"), text(statement, "big")):
        assert admin.refusal(sent).sqlstate == "54001"
    # of several statements of a text, those before it are done and told
    reply = admin.execute(text(f"PUT z 1; {statement}; PUT y 1", "big"))
    outcomes = [r.WhichOneof("outcome") for r in reply.responses]
    assert outcomes == ["done", "error"]
    assert reply.responses[1].error.sqlstate == "54001"
    state = "SELECT count(*), count(expires_at), sum(length(value)) FROM big WHERE key ^= 'k'"
    assert admin.rows(command(state)) == [(6, 0, 6 * (MIB - 10))]
    # a session has room for it
    session = admin.session()
    session.ask(command(statement, "big", id=1))
    assert len(session.rows_of(1)) >= 5
    session.close()


def test_rows_of_any_size_fit_into_messages(admin: Wire) -> None:
    """A chunk of small rows and a row that nearly fills a message do not leave together."""
    admin.execute(put([("a", "y" * 230_000), ("b", "x" * 980_000)], "big"))
    four = "value || value || value || value || substr(value, 1, 120000)"
    statement = f"SELECT CASE WHEN key = 'a' THEN value ELSE {four} END FROM big"
    for order in ("", " ORDER BY key DESC"):
        session = admin.session()
        answer = session.ask(command(f"{statement}{order}", "big", id=1))
        assert answer.WhichOneof("outcome") == "done"
        assert sorted(len(value) for (value,) in session.rows_of(1)) == [230_000, 4_040_000]
        # one row, behind another answer
        small, large = f"{statement} WHERE key = 'a'", f"{statement} WHERE key = 'b'"
        session.send(command(small, "big", id=2), command(large, "big", id=3))
        session.receive(2, 3)
        assert len(session.rows_of(3)[0][0]) == 4_040_000
        update = "UPDATE big SET expires_at = NULL WHERE key = '{}' RETURNING value || value || value || value"
        session.send(command(update.format("a"), "big", id=4), command(update.format("b"), "big", id=5))
        session.receive(4, 5)
        assert len(session.rows_of(5)[0][0]) == 4 * 980_000
        session.close()


def test_a_row_that_no_message_holds_is_refused_before_the_write(admin: Wire) -> None:
    _large(admin, 1)
    session = admin.session()
    wide = "RETURNING " + ", ".join(["value"] * 5)
    assert session.ask(command(f"UPDATE big SET expires_at = now() + 1h {wide}", "big", id=1)).error.sqlstate == "54001"
    assert session.ask(command(f"DELETE FROM big {wide}", "big", id=2)).error.sqlstate == "54001"
    session.close()
    assert admin.rows(command("SELECT count(*), count(expires_at) FROM big")) == [(1, 0)]


# ── readers that stop ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_that_does_not_read_is_not_waited_for_longer_than_a_statement_may_take() -> None:
    class Context:
        async def write(self, message: Any) -> None:
            await asyncio.sleep(60)

    work = Work(limit_s=0.2)
    with pytest.raises(Error) as caught:
        asyncio.run(answers.write_in_time(Context(), pb.Response(), work))
    assert caught.value.sqlstate == "57014"


def test_a_stream_that_is_not_read_ends_in_time(admin: Wire) -> None:
    admin.execute(put([(f"k{i}", "x" * 1000) for i in range(2_000)], "big"))
    for start in range(2_000, 40_000, 2_000):
        admin.execute(put([(f"k{i}", "x" * 1000) for i in range(start, start + 2_000)], "big", id=0))
    stream = admin.stub.Select(
        command("SELECT * FROM big", deadline_ms=1_000), metadata=admin.metadata(), timeout=WAIT_S
    )
    next(stream)
    asyncio.run(asyncio.sleep(2.0))
    error = refused(lambda: list(stream))
    assert error.sqlstate == "57014"
    assert admin.rows(request("big", list=pb.ListCommand(what=pb.ListCommand.COUNT))) == [(40_000,)]


def test_a_stream_that_is_left_stops(admin: Wire) -> None:
    admin.execute(put([(f"k{i}", "x" * 1000) for i in range(2_000)], "big"))
    stream = admin.stub.Select(command("SELECT * FROM big"), metadata=admin.metadata(), timeout=WAIT_S)
    next(stream)
    stream.cancel()
    with pytest.raises(grpc.RpcError):
        list(stream)
    assert admin.rows(command("SELECT count(*) FROM big")) == [(2_000,)]


# ── places of errors ──────────────────────────────────────────────────────────────────────────────────────────────

PLACES = [
    ("SELECT 1;\n  SELECT key,\n  'ä€𝄞', value +\n 'x' || nope(key) FROM t", "nope(key)"),
    ("PUT b 1; -- é\nUPDATE t SET value = 1 / 0 WHERE key = 'é' OR TRUE", "1 / 0"),
    ("/* 𝄞 */ EXPLAIN SELECT length(key, 1) FROM t", "length(key, 1)"),
    ("DRY RUN UPDATE t SET value = '𝄞', expires_at = 'x'", "'x'"),
    ("EXPLAIN ANALYZE DELETE FROM t WHERE key = '𝄞' OR lower(value) = 'x'", "lower(value)"),
    ("INSERT INTO t VALUES ('é', 1), ('b', 2 / 0)", "2 / 0"),
    ("INSERT INTO t VALUES ('é', 1), (7, 2)", "7"),
    ("INSERT INTO t VALUES ('é', 1), ('a', 2)", "'a'"),
    ("INSERT INTO t (key, värde) VALUES ('a', 1)", "värde"),
    ("INSERT INTO t VALUES ('a', 1) ON CONFLICT DO UPDATE SET value = value / 0", "value / 0"),
    ("SELECT 'é' FROM t GROUP BY value HAVING key = 'x'", "key"),
    ("SELECT 'é' FROM t ORDER BY 7", "7"),
    ("SELECT value" + " + 1" * 30 + " + key FROM t", "value" + " + 1" * 30 + " + key"),
    ("SELECT 'é', value" + " + 1" * 300 + " - key + 2 FROM t", "value" + " + 1" * 300 + " - key + 2"),
]


@pytest.mark.parametrize(("statement", "blamed"), PLACES)
def test_an_error_names_its_place_in_the_text(pair: Wire, statement: str, blamed: str) -> None:
    reply = None
    try:
        reply = pair.execute(text(statement))
    except grpc.RpcError as e:
        error = refused(lambda e=e: (_ for _ in ()).throw(e))
        assert error.span is not None
        start, end = error.span
    else:
        last = reply.responses[-1].error
        start, end = last.span_start, last.span_end
    assert statement[start:end] == blamed


def test_rows_come_before_the_error_of_a_later_row(pair: Wire) -> None:
    for number in range(3):
        pair.execute(put([(f"b{n:05}", n) for n in range(number * 2_000, (number + 1) * 2_000)], "t"))
    session = pair.session()
    answer = session.ask(command("SELECT 1000000 / (5999 - value) FROM t WHERE key ^= 'b'", id=1))
    assert answer.error.sqlstate == "22012"
    assert answer.error.part == pb.PART_STEP
    assert len(session.rows_of(1)) > 1_000
    session.close()


def test_values_of_every_type_come_back_through_every_form(admin: Wire) -> None:
    statement = (
        "INSERT INTO t VALUES ('a', NULL), ('b', TRUE), ('c', -9223372036854775807 - 1), ('d', 0.10),"
        " ('e', 'NaN'::float), ('f', e'\\u00e9'), ('g', x'00ff'), ('h', TIMESTAMP '0001-01-01'),"
        " ('i', {\"a\": [1.50, null]}) RETURNING value"
    )
    returned = admin.rows(text(statement))
    again = admin.rows(text("SELECT value FROM t"))
    deleted = admin.rows(text("DELETE FROM t RETURNING value"))
    wire = [encode_values([value for (value,) in rows]).SerializeToString() for rows in (returned, again, deleted)]
    assert wire[0] == wire[1] == wire[2]
    assert decode_rows(pb.Rows(columns=[encode_values([value for (value,) in again])]))[3][0].as_tuple().exponent == -2
