"""The audit log tells of DDL and of refusals, whichever way the statement came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kvql.v1 import kvql_pb2 as pb
from tests.server.support import Wire, command, put
from tests.servers import Server, wait_until

DDL = [
    "CREATE NAMESPACE made",
    "ALTER NAMESPACE made SET (history = '1s')",
    "DROP NAMESPACE made",
    "DROP NAMESPACE made",
]
TOLD = [
    ("create_namespace", "admin", "made", "ok"), ("alter_namespace", "admin", "made", "ok"),
    ("drop_namespace", "admin", "made", "ok"), ("drop_namespace", "admin", "made", "failed 3F000"),
    ("write", "other", "admins", "denied"),
]  # fmt: skip


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server").start()
    yield made
    made.stop()


def told(server: Server) -> list[tuple[str, ...]]:
    """(event, actor, what, result) of all but logins and the start."""
    text = "".join(log.read_text() for log in server.logs)
    found = re.findall(r'kvql\.audit (\w+) actor="([^"]*)".*? what="([^"]*)" result="([^"]*)"', text)
    return [event for event in found if event[0] not in ("create_user", "start", "login")]


def as_text(*statements: str, namespace: str = "admins", id: int = 0) -> pb.Request:
    return pb.Request(id=id, namespace=namespace, text=pb.TextCommand(text="; ".join(statements)))


@pytest.mark.parametrize("way", ["typed", "texts", "one text", "session", "text of a session"])
def test_every_way_is_told(fresh: Server, way: str) -> None:
    admin, other = Wire(fresh), Wire(fresh, "other")
    admin.execute(put([("a", 1)], "admins"))
    sent = {
        "typed": [command(one, "") for one in DDL], "texts": [as_text(one) for one in DDL], "one text": [as_text(*DDL)],
        "session": [command(one, "") for one in DDL], "text of a session": [as_text(*DDL)],
    }[way]  # fmt: skip
    denied = command("PUT b 2", "admins") if way in ("typed", "session") else as_text("SELECT 1", "PUT b 2")
    for wire, requests in ((admin, sent), (other, [denied])):
        if "session" in way:
            session = wire.session()
            for number, one in enumerate(requests, 1):
                one.id = number
                session.ask(one)
            session.close()
            continue
        for one in requests:
            try:
                wire.execute(one)
            except grpc.RpcError:
                continue
    wait_until(lambda: len(told(fresh)) >= len(TOLD))
    assert told(fresh) == TOLD
    admin.close()
    other.close()
