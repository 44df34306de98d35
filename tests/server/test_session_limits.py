"""What a session may have under way, and what becomes of that which is too much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, ROLLBACK, Session, Wire, act, get, put, request
from tests.servers import Server

STOP = pb.ON_ERROR_STOP
IN_FLIGHT = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("limits")
    settings = folder / "settings.toml"
    settings.write_text(f"requests_in_flight_max = {IN_FLIGHT}\n")
    made = Server(folder / "server", engine="memory", arguments=("--config", str(settings))).start()
    yield made
    made.stop()


@pytest.fixture
def session(admin: Wire) -> Iterator[Session]:
    admin.execute(put([("k", 0)]))
    made = admin.session()
    yield made
    made.close()


def text(statement: str, **fields: int) -> pb.Request:
    return request(text=pb.TextCommand(text=statement), **fields)


def watch(session: Session, id: int) -> None:
    """A request that stays under way."""
    session.send(request(id=id, lane=id, watch=pb.WatchCommand()))


def outcome(response: pb.Response) -> str:
    return response.error.sqlstate if response.WhichOneof("outcome") == "error" else "ok"


def test_a_transaction_that_was_refused_a_statement_does_not_commit_the_rest(session: Session) -> None:
    for id in range(1, IN_FLIGHT + 1):
        watch(session, id)
    session.send(
        act(BEGIN, id=11, lane=9), put([("a", 1)], id=12, lane=9), text("PUT b 1", id=13, lane=9),
        act(COMMIT, id=14, lane=9), act(ROLLBACK, id=15, lane=9),
    )  # fmt: skip
    answers = session.receive(11, 12, 13, 14, 15)
    assert [outcome(answers[id]) for id in range(11, 16)] == ["ok", "ok", "53400", "25P02", "ok"]
    assert outcome(session.ask(get("a", id=16, lane=9))) == "02000"


def test_a_transaction_that_begins_before_the_refused_statement_has_failed_too(session: Session) -> None:
    """BEGIN waits in its lane while what comes behind it is refused already."""
    watch(session, 1)
    session.send(text("BEGIN", id=11, lane=9), text("PUT b 1", id=12, lane=9), text("PUT c 1", id=13, lane=9))
    answers = session.receive(11, 12, 13)
    assert [outcome(answers[id]) for id in (11, 12, 13)] == ["ok", "53400", "53400"]
    session.send(act(COMMIT, id=14, lane=9), act(ROLLBACK, id=15, lane=9))
    answers = session.receive(14, 15)
    assert [outcome(answers[id]) for id in (14, 15)] == ["25P02", "ok"]


def test_a_lane_that_stops_at_errors_stops_at_what_is_refused(session: Session) -> None:
    for id in range(1, IN_FLIGHT + 1):
        watch(session, id)
    session.send(text("PUT a 1", id=11, lane=9, on_error=STOP), put([("b", 1)], id=12, lane=9, on_error=STOP))
    answers = session.receive(11, 12)
    assert [outcome(answers[id]) for id in (11, 12)] == ["53400", "57014"]
    session.send(put([("b", 1)], id=13, lane=9, on_error=STOP), error_seen=[9])
    assert outcome(session.receive(13)[13]) == "ok"


def test_a_number_is_one_requests_while_that_is_in_flight(session: Session) -> None:
    """Else they would be counted as one, and nobody could tell whose an answer is."""
    session.send(text("COUNT", id=11, lane=9), text("COUNT", id=11, lane=8))
    session.send(put([("b", 1)], id=12, lane=7))
    session.receive(12)
    told = [outcome(response) for response in session.finish() if response.id == 11 and response.last]
    assert sorted(told) == ["22023", "ok"]


def test_a_client_that_does_not_read_is_not_answered_on(admin: Wire, session: Session) -> None:
    """A batch of four megabytes holds requests for many gigabytes."""
    admin.execute(put([("big", "x" * 2**20)]))
    session.send(*[get("big", id=id, lane=1) for id in range(1, 201)], put([("behind", 1)], id=201, lane=2))
    time.sleep(0.5)  # the client does not read meanwhile
    assert admin.refusal(get("behind")).sqlstate == "02000"
    answers = session.receive(*range(1, 202))
    assert {outcome(answer) for answer in answers.values()} == {"ok"}
    assert outcome(session.ask(get("behind", id=202, lane=1))) == "ok"
