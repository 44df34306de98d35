"""SAVEPOINT, ROLLBACK TO, RELEASE and BEGIN READ ONLY as anybody can send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kvql_server.local import LocalSession, open_folder

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, ROLLBACK, Session, Wire, act, get, put, request

SAVEPOINT, ROLLBACK_TO, RELEASE = (
    pb.TransactionCommand.Action.Value(name) for name in ("SAVEPOINT", "ROLLBACK_TO", "RELEASE")
)
OPEN, FAILED, NONE = pb.TRANSACTION_STATE_OPEN, pb.TRANSACTION_STATE_FAILED, pb.TRANSACTION_STATE_NONE
KEYS = pb.ListCommand(what=pb.ListCommand.KEYS)


@pytest.fixture
def session(admin: Wire) -> Iterator[Session]:
    made = admin.session()
    yield made
    made.close()


@pytest.fixture
def local() -> Iterator[LocalSession]:
    with open_folder(":memory:") as store:
        yield store.session()


def point(action: int, name: str = "s", **fields: int) -> pb.Request:
    return request(transaction=pb.TransactionCommand(action=action, name=name), **fields)


def outcome(response: pb.Response) -> str:
    return response.error.sqlstate if response.WhichOneof("outcome") == "error" else "ok"


def refusal(local: LocalSession, request: pb.Request) -> Error:
    with pytest.raises(Error) as caught:
        local.execute(request)
    return caught.value


def test_a_failed_transaction_goes_on_after_rollback_to(session: Session) -> None:
    session.send(
        act(BEGIN, id=1, lane=1), put([("a", 1)], id=2, lane=1), point(SAVEPOINT, id=3, lane=1),
        put([("b", 1)], id=4, lane=1), put([("a", 1)], id=5, lane=1), get("a", id=6, lane=1),
        act(COMMIT, id=7, lane=1), point(ROLLBACK_TO, id=8, lane=1), put([("c", 1)], id=9, lane=1),
        act(COMMIT, id=10, lane=1), request(id=11, lane=1, list=KEYS),
    )  # fmt: skip
    answers = session.receive(*range(1, 12))
    expected = ["ok", "ok", "ok", "ok", "23505", "25P02", "25P02", "ok", "ok", "ok", "ok"]
    assert [outcome(answers[i]) for i in range(1, 12)] == expected
    assert [answers[i].done.transaction for i in (3, 8, 9, 10)] == [OPEN, OPEN, OPEN, NONE]
    assert session.rows_of(11) == [("a",), ("c",)]


def test_stopping_after_errors_and_rollback_to(session: Session) -> None:
    """A client that stops its lane at errors sees the error, says so, and goes back."""
    stop = {"lane": 1, "on_error": pb.ON_ERROR_STOP}
    session.send(
        act(BEGIN, id=1, **stop),
        point(SAVEPOINT, id=2, **stop),
        get("a", id=3, **stop),
        point(ROLLBACK_TO, id=4, **stop),
    )
    answers = session.receive(1, 2, 3, 4)
    assert [outcome(answers[i]) for i in (1, 2, 3, 4)] == ["ok", "ok", "3F000", "57014"]
    session.send(point(ROLLBACK_TO, id=5, **stop), act(COMMIT, id=6, **stop), error_seen=[1])
    answers = session.receive(5, 6)
    assert [outcome(answers[i]) for i in (5, 6)] == ["ok", "ok"]


def test_an_unknown_savepoint_is_named_with_its_place(local: LocalSession) -> None:
    local.execute(act(BEGIN))
    for action in (ROLLBACK_TO, RELEASE):
        error = refusal(local, point(action, "nope"))
        assert (error.sqlstate, error.item, error.part) == ("3B001", 1, pb.PART_NAME)
        local.execute(act(ROLLBACK))
        local.execute(act(BEGIN))
    assert 'savepoint "nope" does not exist' in error.message


def test_outside_a_transaction(local: LocalSession) -> None:
    for action in (SAVEPOINT, ROLLBACK_TO, RELEASE):
        assert refusal(local, point(action)).sqlstate == "25P01"
    assert refusal(local, point(SAVEPOINT, "")).sqlstate == "25P01"


@pytest.mark.parametrize("name", ["", "n" * 65, "a\nb", "\x1b[2J", "\u202e"])
def test_names_that_are_refused(local: LocalSession, name: str) -> None:
    local.execute(act(BEGIN))
    for action in (SAVEPOINT, ROLLBACK_TO, RELEASE):
        error = refusal(local, point(action, name))
        assert (error.sqlstate, error.item, error.part) == ("22023", 1, pb.PART_NAME)
        local.execute(act(ROLLBACK))
        local.execute(act(BEGIN))


@pytest.mark.parametrize("name", ["s", "ß", "日本", "two words", "n" * 64, "1"])
def test_names_that_are_fine(local: LocalSession, name: str) -> None:
    local.execute(act(BEGIN))
    for action in (SAVEPOINT, ROLLBACK_TO, RELEASE):
        local.execute(point(action, name))
    local.execute(act(COMMIT))


def test_only_savepoints_have_names(local: LocalSession) -> None:
    assert refusal(local, point(BEGIN)).sqlstate == "22023"
    local.execute(act(BEGIN))
    assert refusal(local, point(COMMIT)).sqlstate == "22023"
    assert refusal(local, act(COMMIT)).sqlstate == "25P02", "the transaction is still there, and has failed"


def test_no_way_back_into_a_transaction_that_was_ended(local: LocalSession) -> None:
    local.execute(act(BEGIN))
    local.execute(point(SAVEPOINT))
    transaction = local._lane.transaction
    assert transaction is not None
    transaction.abandon("the transaction was idle for too long and has been rolled back")
    for action in (ROLLBACK_TO, SAVEPOINT, RELEASE):
        error = refusal(local, point(action))
        assert error.sqlstate == "25P02" and "idle for too long" in error.message
    local.execute(act(ROLLBACK))
    local.execute(act(COMMIT))


def test_the_number_of_savepoints_is_bounded(local: LocalSession) -> None:
    local.execute(act(BEGIN))
    for n in range(1_000):
        local.execute(point(SAVEPOINT, f"s{n}"))
    error = refusal(local, point(SAVEPOINT, "one_more"))
    assert error.sqlstate == "53400" and "1,000 savepoints" in error.message
    local.execute(point(ROLLBACK_TO, "s998"))
    local.execute(point(SAVEPOINT, "one_more"))
    local.execute(point(RELEASE, "s0"))
    local.execute(act(COMMIT))


def test_a_savepoint_in_a_loop_over_many_writes(local: LocalSession) -> None:
    """What psycopg's nested blocks do; with a copy of the write set each it would be 10,000 times 10,000 pairs."""
    local.execute(act(BEGIN))
    for n in range(10_000):
        local.execute(point(SAVEPOINT))
        local.execute(put([(f"k{n}", n)]))
        local.execute(point(RELEASE) if n % 2 else point(ROLLBACK_TO))
        if not n % 2:
            local.execute(point(RELEASE))
    local.execute(act(COMMIT))
    assert local.execute(request(list=pb.ListCommand()))[0].rows == [(5_000,)]


def test_rolled_back_writes_do_not_count(local: LocalSession) -> None:
    local.execute(act(BEGIN))
    local.execute(point(SAVEPOINT))
    for _ in range(3):
        for at in range(0, 100_000, 2_000):
            local.execute(put([(f"k{n}", n) for n in range(at, at + 2_000)]))
        local.execute(point(ROLLBACK_TO))
    local.execute(act(COMMIT))


def test_dry_run_between_savepoints(local: LocalSession) -> None:
    local.execute(put([("a", 1), ("b", 2)]))
    local.execute(act(BEGIN))
    local.execute(request(delete=pb.DeleteCommand(keys=["a"])))
    local.execute(point(SAVEPOINT))
    local.execute(request(write=pb.WriteCommand(mode=pb.WRITE_MODE_UPSERT, keys=["b"], values=_values(3))))
    dry = request(truncate=pb.TruncateCommand(namespace="shop"), mode=pb.MODE_DRY_RUN)
    assert local.execute(dry)[0].rows == [("DELETE", "b", 3, None)]
    local.execute(point(ROLLBACK_TO))
    assert local.execute(dry)[0].rows == [("DELETE", "b", 2, None)]
    local.execute(request(truncate=pb.TruncateCommand(namespace="shop")))
    local.execute(put([("a", 9)]))
    again = request(write=pb.WriteCommand(mode=pb.WRITE_MODE_UPSERT, keys=["a"], values=_values(8)))
    again.mode = pb.MODE_DRY_RUN
    assert local.execute(again)[0].rows == [("UPDATE", "a", 9, 8)]
    local.execute(point(ROLLBACK_TO))
    assert list(local.execute(request(list=pb.ListCommand(what=pb.ListCommand.DATA)))[0].rows) == [("b", 2)]


def _values(value: int) -> pb.Values:
    return pb.Values(types=b"\x03", integers=[value])


def test_read_only_validates_nothing(session: Session) -> None:
    session.ask(put([("a", 1)], id=1, lane=2))
    session.ask(request(id=2, lane=1, transaction=pb.TransactionCommand(action=BEGIN, read_only=True)))
    session.ask(request(id=3, lane=1, list=KEYS))
    dry = put([("b", 1)], id=4, lane=1)
    dry.mode = pb.MODE_DRY_RUN
    assert outcome(session.ask(dry)) == "ok" and session.rows_of(4) == [("INSERT", "b", None, 1)]
    assert outcome(session.ask(put([("b", 1)], id=5, lane=2))) == "ok"
    answer = session.ask(act(COMMIT, id=6, lane=1))
    assert outcome(answer) == "ok"


# ── the door of texts ─────────────────────────────────────────────────────────────────────────────────────────────


def test_one_text_with_savepoints(admin: Wire) -> None:
    text = "BEGIN; PUT a 1; SAVEPOINT s; PUT b 2; ROLLBACK TO s; PUT c 3; RELEASE s; COMMIT; SHOW KEYS"
    assert admin.rows(request(text=pb.TextCommand(text=text))) == [("a",), ("c",)]
    reply = admin.execute(request(text=pb.TextCommand(text="BEGIN; SAVEPOINT s; ROLLBACK TO oops; COMMIT")))
    assert (reply.responses[-1].error.sqlstate, len(reply.responses)) == ("3B001", 3)
    error = reply.responses[-1].error
    assert (error.span_start, error.span_end) == (32, 36)


def test_texts_of_a_session_share_its_transaction(session: Session) -> None:
    session.ask(request(id=1, lane=1, text=pb.TextCommand(text="BEGIN; PUT a 1; SAVEPOINT s; PUT a 2")))
    assert outcome(session.ask(request(id=2, lane=1, text=pb.TextCommand(text="PUT b 1; COMMIT")))) == "25P02"
    session.ask(request(id=3, lane=1, text=pb.TextCommand(text="ROLLBACK TO s; PUT b 1; COMMIT; SHOW KEYS")))
    assert session.rows_of(3) == [("a",), ("b",)]
