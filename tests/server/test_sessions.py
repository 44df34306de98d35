"""Lanes, stopping, cancelling, transactions, chunks: the Session call, driven by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kvql.codec import encode_values
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, PUT, ROLLBACK, UPDATE, Session, Wire, act, get, put, request, write
from tests.servers import WAIT_S

STOP = pb.ON_ERROR_STOP


@pytest.fixture
def session(admin: Wire) -> Iterator[Session]:
    made = admin.session()
    yield made
    made.close()


def outcome(response: pb.Response) -> str:
    return response.error.sqlstate if response.WhichOneof("outcome") == "error" else "ok"


def test_a_lane_answers_in_order(session: Session) -> None:
    session.send(
        *[put([(f"k{i}", i)], id=i, lane=1) for i in range(1, 20)], request(id=20, lane=1, list=pb.ListCommand())
    )
    session.receive(*range(1, 21))
    assert session.order() == list(range(1, 21))
    assert session.rows_of(20) == [(19,)]


def test_what_waits_behind_a_long_request_keeps_its_place(session: Session) -> None:
    session.send(
        put([("a", 1)], id=1, lane=1), request(id=2, lane=1, list=pb.ListCommand(what=pb.ListCommand.DATA)),
        put([("b", 1)], id=3, lane=1), request(id=4, lane=1, list=pb.ListCommand()),
    )  # fmt: skip
    session.receive(1, 2, 3, 4)
    assert session.order() == [1, 2, 3, 4]
    assert session.rows_of(2) == [("a", 1)]
    assert session.rows_of(4) == [(2,)]


def test_a_long_text_is_read_aside(session: Session) -> None:
    """Parsing megabytes takes seconds; who asks for a pair meanwhile is answered first."""
    long = "SELECT 1" + " + 1" * 150_000
    session.send(put([("a", 1)], id=1, lane=2))
    session.receive(1)
    session.send(request(id=2, lane=1, text=pb.TextCommand(text=long)))
    time.sleep(0.3)  # so that it has begun; it takes seconds
    session.send(get("a", id=3, lane=2))
    answers = session.receive(2, 3)
    assert session.order()[-2:] == [3, 2]
    assert outcome(answers[2]) == "54001"


def test_an_error_stops_the_lane_until_it_is_seen(session: Session) -> None:
    session.send(
        put([("a", 1)], id=1, lane=1, on_error=STOP), put([("a", 2)], id=2, lane=1, on_error=STOP),
        put([("b", 1)], id=3, lane=1, on_error=STOP), put([("c", 1)], id=4, lane=2),
    )  # fmt: skip
    answers = session.receive(1, 2, 3, 4)
    assert [outcome(answers[i]) for i in (1, 2, 3, 4)] == ["ok", "23505", "57014", "ok"]
    assert answers[3].error.skipped
    assert not answers[2].error.skipped
    assert outcome(session.ask(put([("b", 1)], id=5, lane=1))) == "57014"
    session.send(put([("b", 1)], id=6, lane=1), error_seen=[1])
    assert outcome(session.receive(6)[6]) == "ok"


def test_a_run_stops_at_the_statement_that_failed(session: Session) -> None:
    pairs = [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
    answer = session.ask(request(id=1, lane=1, on_error=STOP, write=write(PUT, pairs, each=True)))
    assert (answer.error.sqlstate, answer.error.statement) == ("23505", 2)
    session.send(request(id=2, lane=2, list=pb.ListCommand(what=pb.ListCommand.DATA)))
    session.receive(2)
    assert session.rows_of(2) == [("a", 1), ("b", 2)]


def test_a_run_that_goes_on_tells_every_failure(session: Session) -> None:
    pairs = [("a", 1), ("bad key", 2), ("a", 3), ("c", 4)]
    done = session.ask(request(id=1, lane=1, write=write(PUT, pairs, each=True))).done
    assert (done.completed, done.failed, done.row_count) == (2, 2, 2)
    assert [(e.statement, e.sqlstate) for e in done.errors] == [(1, "22023"), (2, "23505")]


def test_a_run_of_statements_of_several_pairs(session: Session) -> None:
    pairs = [("a", 1), ("b", 2), ("b", 3), ("c", 3), ("d", 4)]
    done = session.ask(request(id=1, lane=1, write=write(PUT, pairs, statement_sizes=[2, 2, 1]))).done
    assert (done.completed, done.failed) == (2, 1)
    session.send(request(id=2, lane=2, list=pb.ListCommand(what=pb.ListCommand.DATA)))
    session.receive(2)
    assert session.rows_of(2) == [("a", 1), ("b", 2), ("d", 4)]


def test_updates_of_one_key_in_a_run(session: Session) -> None:
    session.send(
        put([("a", 0), ("b", 0)], id=1, lane=1),
        request(id=2, lane=1, on_error=STOP, write=write(UPDATE, [("a", 1), ("a", 2), ("zz", 1), ("b", 1)], each=True)),
    )
    answers = session.receive(1, 2)
    assert (answers[2].error.sqlstate, answers[2].error.statement) == ("02000", 2)
    session.send(get("a", "b", id=3, lane=2))
    session.receive(3)
    assert session.rows_of(3) == [("a", 2), ("b", 0)]


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transaction_sees_its_own_writes_and_others_do_not(session: Session) -> None:
    session.send(
        put([("z", 0)], id=1, lane=9), act(BEGIN, id=2, lane=1), put([("a", 1)], id=3, lane=1),
        request(id=4, lane=1, list=pb.ListCommand(what=pb.ListCommand.DATA)),
        request(id=5, lane=1, list=pb.ListCommand()), get("a", id=6, lane=1),
    )  # fmt: skip
    answers = session.receive(1, 2, 3, 4, 5, 6)
    assert answers[2].done.transaction == pb.TRANSACTION_STATE_OPEN
    assert session.rows_of(4) == [("a", 1), ("z", 0)]
    assert session.rows_of(5) == [(2,)]
    assert session.rows_of(6) == [("a", 1)]
    assert outcome(session.ask(get("a", id=7, lane=2))) == "02000"
    assert session.ask(act(COMMIT, id=8, lane=1)).done.transaction == pb.TRANSACTION_STATE_NONE
    assert outcome(session.ask(get("a", id=9, lane=2))) == "ok"


def test_rollback(session: Session) -> None:
    session.send(act(BEGIN, id=1, lane=1), put([("a", 1)], id=2, lane=1), act(ROLLBACK, id=3, lane=1))
    session.receive(1, 2, 3)
    assert outcome(session.ask(get("a", id=4, lane=1))) == "3F000"


@pytest.mark.parametrize(
    ("reads", "disturbs"),
    [
        (get("a", lane=1), request(write=write(UPDATE, [("a", 9)]), lane=2)),
        (request(has=pb.HasCommand(keys=["new"]), lane=1), put([("new", 1)], lane=2)),
        (request(list=pb.ListCommand(), lane=1), put([("new", 1)], lane=2)),
        (request(list=pb.ListCommand(what=pb.ListCommand.KEYS, pattern="n%"), lane=1), put([("new", 1)], lane=2)),
        (
            request(list=pb.ListCommand(what=pb.ListCommand.DATA), lane=1),
            request(delete=pb.DeleteCommand(keys=["a"]), lane=2),
        ),
    ],
    ids=["key", "absent key", "count", "range", "deleted"],
)
def test_what_was_read_must_not_change(session: Session, reads: pb.Request, disturbs: pb.Request) -> None:
    session.ask(put([("a", 1)], id=1, lane=3))
    session.ask(act(BEGIN, id=2, lane=1))
    reads.id, disturbs.id = 3, 4
    session.ask(reads)
    assert outcome(session.ask(disturbs)) == "ok"
    session.ask(put([("mine", 1)], id=5, lane=1))
    answer = session.ask(act(COMMIT, id=6, lane=1))
    assert outcome(answer) == "40001"
    assert outcome(session.ask(get("mine", id=7, lane=2))) == "02000"
    assert outcome(session.ask(put([("mine", 1)], id=8, lane=1))) == "ok"


def test_a_range_elsewhere_is_no_conflict(session: Session) -> None:
    session.ask(put([("a", 1)], id=1, lane=3))
    session.ask(act(BEGIN, id=2, lane=1))
    session.ask(request(id=3, lane=1, list=pb.ListCommand(what=pb.ListCommand.KEYS, pattern="n%")))
    session.ask(put([("other", 1)], id=4, lane=2))
    session.ask(put([("mine", 1)], id=5, lane=1))
    assert outcome(session.ask(act(COMMIT, id=6, lane=1))) == "ok"


def test_after_an_error_only_rollback(session: Session) -> None:
    session.send(
        act(BEGIN, id=1, lane=1), put([("a", 1)], id=2, lane=1), put([("a", 1)], id=3, lane=1), get("a", id=4, lane=1),
        act(COMMIT, id=5, lane=1), act(ROLLBACK, id=6, lane=1), put([("b", 1)], id=7, lane=1),
    )  # fmt: skip
    answers = session.receive(*range(1, 8))
    assert [outcome(answers[i]) for i in range(1, 8)] == ["ok", "ok", "23505", "25P02", "25P02", "ok", "ok"]


def test_begin_twice_and_commit_without(session: Session) -> None:
    done = session.ask(act(COMMIT, id=1, lane=1)).done
    assert done.notices[0].sqlstate == "25P01"
    session.ask(act(BEGIN, id=2, lane=1))
    assert outcome(session.ask(act(BEGIN, id=3, lane=1))) == "25001"


def test_read_only(session: Session) -> None:
    session.ask(request(id=1, lane=1, transaction=pb.TransactionCommand(action=BEGIN, read_only=True)))
    assert outcome(session.ask(put([("a", 1)], id=2, lane=1))) == "25006"


def test_now_is_one_moment_of_a_transaction(session: Session) -> None:
    now = pb.Request(select=pb.SelectCommand(projections=[pb.Projection(name="now", expression=pb.Expression(
        steps=[pb.Step(op=pb.OP_CALL)], names=["now"]))]), lane=1)  # fmt: skip
    session.ask(act(BEGIN, id=1, lane=1))
    for number in (2, 3):
        now.id = number
        session.ask(now)
        time.sleep(0.002)
    assert session.rows_of(2) == session.rows_of(3)


def test_ddl_is_part_of_a_transaction(session: Session) -> None:
    create = pb.Request(id=2, lane=1, create_namespace=pb.CreateNamespaceCommand(namespace="made"))
    session.send(act(BEGIN, id=1, lane=1), create, put([("a", 1)], "made", id=3, lane=1), act(ROLLBACK, id=4, lane=1))
    session.receive(1, 2, 3, 4)
    assert outcome(session.ask(get("a", namespace="made", id=5, lane=1))) == "3F000"


def test_an_open_transaction_ends_with_its_session(admin: Wire) -> None:
    first, second = admin.session(), admin.session()
    first.ask(act(BEGIN, id=1, lane=1))
    first.ask(put([("a", 1)], id=2, lane=1))
    first.finish()
    assert outcome(second.ask(put([("a", 2)], id=1))) == "ok"
    second.close()


def test_no_update_is_lost(admin: Wire) -> None:
    """Four sessions, read and add one, in transactions repeated on 40001: the sum is right."""
    sessions = [admin.session() for _ in range(4)]
    sessions[0].ask(put([("n", 0)], id=1))
    ids = iter(range(10, 100_000))
    done = [0] * 4
    while min(done) < 10:
        for s in sessions:
            s.ask(act(BEGIN, id=next(ids), lane=1))
        values = []
        for s in sessions:
            number = next(ids)
            s.ask(get("n", id=number, lane=1))
            values.append(s.rows_of(number)[0][1])
        for place, s in enumerate(sessions):
            s.ask(request(id=next(ids), lane=1, write=write(UPDATE, [("n", values[place] + 1)])))
            answer = s.ask(act(COMMIT, id=next(ids), lane=1))
            done[place] += outcome(answer) == "ok"
            assert outcome(answer) in ("ok", "40001")
        if min(done) == 0 and max(done) > 20:
            break
    assert admin.rows(get("n")) == [("n", sum(done))]
    for s in sessions:
        s.close()


# ── long answers ──────────────────────────────────────────────────────────────────────────────────────────────────


def fill(wire: Wire, count: int, value: str) -> None:
    for at in range(0, count, 1000):
        pairs = [(f"k{i:06}", value) for i in range(at, min(at + 1000, count))]
        wire.execute(request(write=write(PUT, pairs, each=True)))


def test_rows_come_in_chunks(admin: Wire, session: Session) -> None:
    fill(admin, 20_000, "x" * 100)
    session.send(request(id=1, lane=1, list=pb.ListCommand(what=pb.ListCommand.DATA)))
    answer = session.receive(1)[1]
    rows = session.rows_of(1)
    assert len(rows) == answer.done.row_count == 20_000
    assert [k for k, _ in rows] == [f"k{i:06}" for i in range(20_000)]
    assert sum(r.HasField("rows") for r in session.responses) > 8


def test_large_values_are_sent_too(admin: Wire, session: Session) -> None:
    big = "x" * (1024 * 1024)
    for i in range(12):
        admin.execute(put([(f"k{i}", big)]))
    session.send(get(*[f"k{i}" for i in range(12)], id=1, lane=1))
    assert session.receive(1)[1].done.row_count == 12
    assert all(value == big for _, value in session.rows_of(1))


def test_a_cancelled_scan_stops(admin: Wire, session: Session) -> None:
    fill(admin, 50_000, "x" * 1000)
    session.send(request(id=1, lane=1, list=pb.ListCommand(what=pb.ListCommand.DATA)))
    time.sleep(0.3)  # the client does not read meanwhile: the scan must have stopped before its end
    session.send(cancel=[1])
    answer = session.receive(1)[1]
    assert outcome(answer) == "57014"
    assert len(session.rows_of(1)) < 50_000
    assert outcome(session.ask(get("k000000", id=2, lane=1))) == "ok"


def test_a_scan_does_not_hold_up_other_lanes(admin: Wire, session: Session) -> None:
    fill(admin, 20_000, "x" * 10)
    like = request(id=1, lane=1, list=pb.ListCommand(what=pb.ListCommand.COUNT, pattern="%a%b%"))
    session.send(like, get("k000000", id=2, lane=2))
    session.receive(1, 2)
    assert session.order() == [2, 1]


def test_a_deadline_ends_a_request(admin: Wire, session: Session) -> None:
    fill(admin, 20_000, "x" * 100)
    late = request(id=1, lane=1, list=pb.ListCommand(what=pb.ListCommand.COUNT, pattern="%a%b%"))
    late.deadline_ms = 1
    assert outcome(session.ask(late)) == "57014"


def test_use_holds_for_its_lane(session: Session) -> None:
    session.send(
        pb.Request(id=1, lane=1, use=pb.UseCommand(namespace="mine")), put([("a", 1)], "", id=2, lane=1),
        put([("a", 1)], "", id=3, lane=2),
    )  # fmt: skip
    answers = session.receive(1, 2, 3)
    assert [outcome(answers[i]) for i in (1, 2, 3)] == ["ok", "ok", "3F000"]
    assert answers[1].done.namespace == "mine"
    assert answers[1].done.notices


def test_select_streams_and_refuses_writes(admin: Wire) -> None:
    fill(admin, 5000, "x")
    stream = admin.stub.Select(
        request(list=pb.ListCommand(what=pb.ListCommand.KEYS)), metadata=admin.metadata(), timeout=WAIT_S
    )
    answers = list(stream)
    assert answers[0].HasField("rows_header")
    assert answers[-1].done.row_count == 5000
    from tests.server.support import refused

    assert refused(lambda: list(admin.stub.Select(put([("z", 1)]), metadata=admin.metadata()))).sqlstate == "0A000"


def test_an_answer_too_large_for_one_message_is_refused(admin: Wire) -> None:
    fill(admin, 10_000, "x" * 1000)
    assert admin.refusal(request(list=pb.ListCommand(what=pb.ListCommand.DATA))).sqlstate == "54001"


def test_a_select_with_a_condition(admin: Wire) -> None:
    admin.execute(put([("a", 1), ("b", 20), ("c", "x")]))
    where = pb.Expression(
        steps=[pb.Step(op=pb.OP_COLUMN, arity=1), pb.Step(op=pb.OP_CONSTANT), pb.Step(op=pb.OP_GT)],
        constants=encode_values([10]), names=["value"],
    )  # fmt: skip
    select = pb.SelectCommand(from_session=True, where=where)
    select.projections.add(name="*", expression=pb.Expression(steps=[pb.Step(op=pb.OP_STAR)]))
    reply = admin.execute(request(select=select))
    assert admin.rows(request(select=select)) == [("b", 20)]
    assert reply.responses[-1].done.notices[0].message == "1 row skipped: value is TEXT"
