"""WATCH over the network: by a call of its own, on the lanes of a session, as text; rights, limits, its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import kvql
from kvql.codec import decode_rows
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import Wire, error_of, put, refused, request
from tests.servers import PASSWORDS, WAIT_S, Server, wait_until


class Watch:
    """A Watch call that is read by hand."""

    def __init__(self, wire: Wire, request: pb.Request) -> None:
        self.call = wire.stub.Watch(request, metadata=wire.metadata(), timeout=WAIT_S)
        self.responses: list[pb.Response] = []
        self.first = self.read()

    def read(self) -> pb.Response:
        response: pb.Response = next(self.call)
        self.responses.append(response)
        return response

    def rows(self, count: int) -> list[tuple[Any, ...]]:
        """So many more events."""
        out: list[tuple[Any, ...]] = []
        while len(out) < count:
            response = self.read()
            out += decode_rows(response.rows) if response.HasField("rows") else []
        return out

    def failure(self) -> Error:
        with pytest.raises(grpc.RpcError) as caught:
            while True:
                self.read()
        return error_of(caught.value)


def watch(namespace: str = "shop", **fields: Any) -> pb.Request:
    return request(namespace, watch=pb.WatchCommand(**fields))


def drop(name: str) -> pb.Request:
    return pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=name))


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with small limits."""
    for name, value in {
        "WATCHES_MAX": 3, "WATCHES_PER_USER_MAX": 2, "WATCHES_PER_SESSION_MAX": 1, "WATCH_PROGRESS_S": 0.2,
        "SHUTDOWN_GRACE_S": 2,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"KVQL_SERVER_{name}", str(value))
    made = Server(tmp_path / "server").start()
    yield made
    made.stop()


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose tokens live for two seconds."""
    monkeypatch.setenv("KVQL_SERVER_TOKEN_LIFETIME_S", "2")
    made = Server(tmp_path / "server").start()
    yield made
    made.stop()


# ── the call ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_call_tells_where_it_begins_and_how_far_it_is(admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    one = Watch(admin, watch())
    names = ["event", "revision", "key", "old_value", "value", "by"]
    assert list(one.first.rows_header.names) == names and not one.first.HasField("rows")
    start = one.first.progress
    assert start.store and start.since == start.revision and not start.initial
    admin.execute(put([("b", 2), ("c", 3)]))
    response = one.read()
    assert decode_rows(response.rows) == [
        ("PUT", start.revision + 1, "b", None, 2, "admin"), ("PUT", start.revision + 1, "c", None, 3, "admin"),
    ]  # fmt: skip
    assert response.progress.revision == start.revision + 1, "with the last events of the commit"
    again = Watch(admin, watch(from_revision=start.revision + 1, after_key="b", store=start.store, since=start.since))
    assert again.first.progress.key == "b"
    assert again.rows(1)[0][2] == "c"
    one.call.cancel()
    again.call.cancel()


def test_the_initial_pairs_in_portions(admin: Wire) -> None:
    value = "x" * 50_000
    for at in range(0, 40, 10):
        admin.execute(put([(f"k{n:02}", value) for n in range(at, at + 10)]))
    one = Watch(admin, watch(initial=True))
    assert one.first.progress.initial
    rows = one.rows(41)
    assert [row[0] for row in rows] == ["INITIAL"] * 40 + ["LIVE"]
    assert len(one.responses) > 4 and one.responses[-1].progress.revision == rows[0][1]
    one.call.cancel()


def test_as_text_and_what_is_refused(admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    text = pb.Request(namespace="shop", text=pb.TextCommand(text="WATCH WHERE value > 5 WITH INITIAL"))
    one = Watch(admin, text)
    assert one.rows(1)[0][0] == "LIVE"
    admin.execute(put([("b", 9)]))
    assert one.rows(1)[0][2] == "b"
    one.call.cancel()
    for wrong in (pb.Request(text=pb.TextCommand(text="SHOW NAMESPACES")), put([("x", 1)]),
                  pb.Request(text=pb.TextCommand(text="WATCH shop; WATCH shop"))):  # fmt: skip
        assert refused(lambda wrong=wrong: Watch(admin, wrong)).sqlstate == "0A000"
    assert admin.refusal(watch()).sqlstate == "0A000"
    select = admin.stub.Select(watch(), metadata=admin.metadata(), timeout=WAIT_S)
    assert refused(lambda: list(select)).sqlstate == "0A000"
    assert admin.refusal(pb.Request(namespace="shop", text=pb.TextCommand(text="WATCH"))).sqlstate == "0A000"
    explained = watch()
    explained.mode = pb.MODE_EXPLAIN
    assert refused(lambda: Watch(admin, explained)).sqlstate == "0A000"


# ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_a_lane_of_a_session(admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    session = admin.session()
    command = watch()
    command.id, command.lane = 1, 1
    text = pb.Request(id=2, lane=2, namespace="shop", text=pb.TextCommand(text="WATCH WITH INITIAL"))
    session.send(command, text)
    session.send(put([("b", 2)], id=3, lane=3))
    assert session.receive(3)[3].HasField("done"), "another lane is not held up"
    while len(session.rows_of(1)) < 1 or len(session.rows_of(2)) < 3:
        session.responses += next(session._call).responses
    assert [row[:3:2] for row in session.rows_of(1)] == [("PUT", "b")]
    assert session.rows_of(2)[0][0] == "INITIAL" and session.rows_of(2)[-1][2] == "b"
    assert {r.progress.store for r in session.responses if r.HasField("progress")} != {""}
    session.send(cancel=[1, 2])
    for response in session.receive(1, 2).values():
        assert response.error.sqlstate == "57014"
    assert session.ask(put([("c", 3)], id=4, lane=1)).HasField("done"), "the lane goes on"
    session.close()


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rights_and_the_end_of_a_login(admin: Wire, wires: dict[str, Wire], server: Server) -> None:
    user, other = wires["user"], wires["other"]
    user.execute(put([("a", 1)], "mine"))
    assert refused(lambda: Watch(other, watch("mine"))).sqlstate == "3F000"
    assert refused(lambda: Watch(admin, watch("nowhere"))).sqlstate == "3F000"
    fresh = Wire(server, "user")
    one = Watch(fresh, watch("mine"))
    fresh.stub.Logout(pb.LogoutRequest(), metadata=fresh.metadata(), timeout=WAIT_S)
    assert one.failure().sqlstate == "28000"
    fresh.close()
    two = Watch(user, watch("mine"))
    position = two.first.progress
    admin.execute(drop("mine"))
    assert two.failure().sqlstate == "3F000"
    other.execute(put([("theirs", 1)], "mine"))
    again = watch("mine", from_revision=position.revision, since=position.since, store=position.store)
    assert refused(lambda: Watch(user, again)).sqlstate == "3F000"
    assert Watch(other, watch("mine", from_revision=position.revision)).rows(1)[0][2] == "theirs"


def test_limits_have_names(busy: Server) -> None:
    user, admin = Wire(busy, "user"), Wire(busy)
    user.execute(put([("a", 1)]))
    first, second = Watch(user, watch()), Watch(user, watch())
    assert "a user has at most 2 watches" in refused(lambda: Watch(user, watch())).message
    third = Watch(admin, watch())
    error = refused(lambda: Watch(admin, watch()))
    assert error.sqlstate == "53400" and "the server has at most 3 watches" in error.message
    for one in (first, second, third):
        one.call.cancel()

    def began() -> bool:
        try:
            Watch(user, watch()).call.cancel()
        except grpc.RpcError:
            return False
        return True

    wait_until(began)  # a call that is cancelled is over in the server
    session = user.session()
    for number in (1, 2):
        command = watch()
        command.id = command.lane = number
        session.send(command)
    assert "a session has at most 1 watch" in session.receive(2)[2].error.message
    session.close()
    user.close()
    admin.close()


def test_progress_where_nothing_happens(busy: Server) -> None:
    wire = Wire(busy)
    wire.execute(put([("a", 1)]))
    one = Watch(wire, watch())
    latest = wire.execute(put([("x", 1)], "elsewhere")).responses[-1].done.revision
    while (response := one.read()).progress.revision < latest:
        assert not response.HasField("rows")
    assert response.progress.since == one.first.progress.since
    filtered = Watch(wire, pb.Request(namespace="shop", text=pb.TextCommand(text="WATCH WHERE value > 5")))
    wire.execute(put([("b", 1)]))
    while filtered.read().progress.revision <= filtered.first.progress.revision:
        pass
    wire.close()


def test_a_watch_ends_with_its_token(forgetful: Server) -> None:
    with forgetful.connect("shop") as writer:
        writer.execute("PUT a 1")
    for _ in range(20):  # a token may be over before the watch has begun
        wire = Wire(forgetful)
        try:
            one = Watch(wire, watch())
        except grpc.RpcError as e:
            assert error_of(e).sqlstate == "28000"
            wire.close()
            continue
        assert one.failure().sqlstate == "28000"
        wire.close()
        return
    raise AssertionError("no watch began within the life of a token")


def test_a_client_outlives_its_tokens(forgetful: Server) -> None:
    with forgetful.connect("shop") as writer, forgetful.connect("shop") as reader:
        writer.execute("PUT k 0")
        found = []
        one = reader.watch("WATCH shop", timeout=WAIT_S)
        stop = time.monotonic() + 5
        n = 0
        while time.monotonic() < stop:
            n += 1
            writer.execute("UPDATE k ?", [n])
            found.append(next(one).value)
            time.sleep(0.05)
        assert found == list(range(1, n + 1))


def test_a_server_that_stops_says_so(busy: Server) -> None:
    wire = Wire(busy)
    wire.execute(put([("a", 1)]))
    one = Watch(wire, watch())
    stopping = threading.Thread(target=busy.stop)
    stopping.start()
    error = one.failure()
    assert error.sqlstate == "57P01"
    stopping.join()
    wire.close()


def test_closing_ends_it_in_the_server(busy: Server) -> None:
    """The limit of two watches of a user is where one that is left behind would show."""
    url = f"kvql://user@localhost:{busy.port}/shop"
    with kvql.connect(url, password=PASSWORDS["user"], ca=str(busy.ca), autocommit=True) as connection:
        connection.execute("PUT a 1")
        for turn in range(12):

            def once(turn: int = turn) -> bool:
                try:
                    match turn % 4:
                        case 0:
                            connection.watch("WATCH").close()
                        case 1:
                            for _ in connection.watch("WATCH FROM REVISION 0"):
                                break
                        case 2:
                            with connection.watch("WATCH WITH INITIAL") as one:
                                next(one)
                        case _:
                            connection.execute("WATCH WITH INITIAL").fetchone()
                except kvql.OperationalError as e:
                    assert e.sqlstate == "53400"
                    return False
                return True

            wait_until(once)
