"""The faults of the first system, one test each: they must not come back.

Over real TLS. Where the fault was that only the client checked, the request is built by hand from the wire's own
messages and no client of ours takes part.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kvql_server.clock import SystemClock
from kvql_server.engines.memory import MemoryEngine, MemorySnapshot
from kvql_server.local import LocalStore, _Shared

import kvql
from kvql import errors
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc as rpc
from tests.servers import PASSWORDS, WAIT_S, Server


@pytest.fixture
def shared(server_of: Callable[[str], Server]) -> Server:
    server = server_of("hashtable")
    server.drop_namespaces()
    return server


class ByHand:
    """A channel and a token; requests are plain messages."""

    def __init__(self, server: Server, user: str = "admin") -> None:
        credentials = grpc.ssl_channel_credentials(server.ca.read_bytes())
        self.channel = grpc.secure_channel(f"localhost:{server.port}", credentials)
        self.stub: Any = rpc.KvqlStub(self.channel)
        self.tokens = self.stub.Login(pb.LoginRequest(user=user, password=PASSWORDS[user]), timeout=WAIT_S)
        self.token: str = self.tokens.access_token

    def execute(self, token: str | None = None, **command: Any) -> list[Any]:
        metadata = [("authorization", f"Bearer {token or self.token}")]
        reply = self.stub.Execute(pb.Request(**command), metadata=metadata, timeout=WAIT_S)
        return list(reply.responses)

    def refused(self, token: str | None = None, **command: Any) -> str:
        """The SQLSTATE with which a request is refused, whichever way the error travels."""
        from google.rpc import error_details_pb2
        from grpc_status import rpc_status

        try:
            responses = self.execute(token, **command)
        except grpc.RpcError as e:
            status = rpc_status.from_call(e)
            assert status is not None, e
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
            raise AssertionError(f"an error without details: {e}") from None
        for response in responses:
            if response.HasField("error"):
                return str(response.error.sqlstate)
        raise AssertionError(f"not refused: {command}")


@pytest.fixture
def by_hand(shared: Server) -> Iterator[ByHand]:
    made = ByHand(shared)
    yield made
    made.channel.close()


def write(mode: int, key: str, value: str) -> Any:
    return pb.WriteCommand(mode=mode, keys=[key], values=pb.Values(types=bytes([pb.VALUE_TYPE_TEXT]), texts=[value]))


BAD_KEYS = ["", "a b", "a.b", "a\tb", "a\u00a0b", "a\u2003b", "a\x00b", "a\x7fb", "a\u202eb", "k" * 513, "é" * 257]


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
@pytest.mark.parametrize("mode", [pb.WRITE_MODE_PUT, pb.WRITE_MODE_UPDATE, pb.WRITE_MODE_UPSERT])
def test_rules_are_the_servers_and_not_only_the_clients(by_hand: ByHand, key: str, mode: int) -> None:
    assert by_hand.refused(namespace="shop", write=write(mode, key, "v")) == errors.INVALID


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_reads_check_their_keys_too(by_hand: ByHand, key: str) -> None:
    for command in (
        {"get": pb.GetCommand(keys=[key])},
        {"has": pb.HasCommand(keys=[key])},
        {"delete": pb.DeleteCommand(keys=[key])},
        {"expire": pb.ExpireCommand(key=key, ttl_ms=1000)},
    ):
        assert by_hand.refused(namespace="shop", **command) == errors.INVALID


def test_a_refused_request_changes_nothing(shared: Server, by_hand: ByHand) -> None:
    two = pb.WriteCommand(
        mode=pb.WRITE_MODE_PUT, keys=["fine", "not fine"],
        values=pb.Values(types=bytes([pb.VALUE_TYPE_TEXT] * 2), texts=["1", "2"]),
    )  # fmt: skip
    assert by_hand.refused(namespace="shop", write=two) == errors.INVALID
    with shared.connect() as connection:
        assert connection.execute("SHOW NAMESPACES").fetchall() == []


def test_a_value_beyond_the_limit_is_refused_by_the_server(by_hand: ByHand) -> None:
    assert by_hand.refused(namespace="shop", write=write(pb.WRITE_MODE_PUT, "k", "v" * (2**20 + 1))) in (
        errors.INVALID,
        errors.LIMIT,
    )


@pytest.mark.parametrize("name", ["my ns!", "a.b", "a b", "", "é", "n" * 65, "a-b", "ns\n"], ids=ascii)
def test_a_namespace_name_is_anchored(by_hand: ByHand, name: str) -> None:
    assert by_hand.refused(use=pb.UseCommand(namespace=name)) == errors.INVALID
    assert by_hand.refused(create_namespace=pb.CreateNamespaceCommand(namespace=name)) == errors.INVALID
    if name:
        assert by_hand.refused(namespace=name, write=write(pb.WRITE_MODE_PUT, "k", "v")) == errors.INVALID


def test_digits_alone_are_a_namespace(shared: Server) -> None:
    with shared.connect() as connection:
        connection.execute("USE 123")
        connection.execute("PUT a 1")
        assert connection.execute("GET a").fetchall() == [("a", 1)]


def test_dots_let_nobody_into_anothers_keys(shared: Server, by_hand: ByHand) -> None:
    """User ``a``, namespace ``b.c`` and user ``a.b``, namespace ``c`` shared keys: the store joined names by dots."""
    assert by_hand.refused(namespace="b.c", write=write(pb.WRITE_MODE_PUT, "k", "v")) == errors.INVALID
    assert by_hand.refused(namespace="b", write=write(pb.WRITE_MODE_PUT, "c.k", "v")) == errors.INVALID
    with shared.connect("b", user="user") as mine, shared.connect("b", user="other") as theirs:
        mine.execute("PUT ck 1")
        with pytest.raises(kvql.Error) as caught:
            theirs.execute("GET ck")
        assert caught.value.sqlstate == errors.NO_SUCH_NAMESPACE


def test_keywords_in_any_case(shared: Server) -> None:
    with shared.connect("shop") as connection:
        connection.execute("PUT a 1")
        for text in ("SHOW KEYS", "show keys", "Show kEYS"):
            assert connection.execute(text).fetchall() == [("a",)]


def test_show_namespaces_has_no_blank_names(shared: Server) -> None:
    with shared.connect() as connection:
        for name in ("a", "b", "c"):
            connection.execute(f"USE {name}")
            connection.execute("PUT k 1")
        assert connection.execute("SHOW NAMESPACES").fetchall() == [(n, "admin", 1) for n in ("a", "b", "c")]


def test_updates_are_not_lost(shared: Server) -> None:
    """UPDATE was check-then-set. Four sessions race to take one key away and put it back; every step has one winner."""
    with shared.connect("shop") as connection:
        connection.execute("PUT counter 0")
    wins: list[int] = []

    def count_up(steps: int) -> None:
        with shared.connect("shop") as connection:
            for _ in range(steps):
                while True:
                    try:
                        connection.execute("BEGIN")
                        ((_, value),) = connection.execute("GET counter").fetchall()
                        connection.execute("UPDATE counter ?", [value + 1])
                        connection.execute("COMMIT")
                        wins.append(value)
                        break
                    except kvql.Error as e:
                        assert e.sqlstate == errors.CONFLICT, e
                        connection.execute("ROLLBACK")

    threads = [threading.Thread(target=count_up, args=(15,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    with shared.connect("shop") as connection:
        assert connection.execute("GET counter").fetchall() == [("counter", 60)]
    assert sorted(wins) == list(range(60))


def test_one_of_many_puts_wins(shared: Server) -> None:
    won: list[int] = []

    def put(who: int) -> None:
        with shared.connect("shop") as connection:
            for key in range(20):
                try:
                    connection.execute("PUT ? ?", [f"k{key}", who])
                    won.append(key)
                except kvql.IntegrityError as e:
                    assert e.sqlstate == errors.KEY_EXISTS

    threads = [threading.Thread(target=put, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(won) == list(range(20))


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def _with_claims(token: str, claims: dict[str, Any]) -> str:
    head, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


def test_the_tokens_user_is_bound_to_the_caller(shared: Server) -> None:
    """A token names its user under the server's signature; another name, or none, is refused."""
    with shared.connect("secret") as connection:
        connection.execute("PUT k hidden")
    user = ByHand(shared, "user")
    forged = _with_claims(user.token, {**_claims(user.token), "sub": "admin"})
    assert user.refused(forged, namespace="secret", get=pb.GetCommand(keys=["k"])) == errors.TOKEN_INVALID
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    forged = f"{unsigned}.{forged.split('.')[1]}."
    assert user.refused(forged, namespace="secret", get=pb.GetCommand(keys=["k"])) == errors.TOKEN_INVALID
    # its own token does not open what is another's, whatever the request claims
    assert user.refused(namespace="secret", get=pb.GetCommand(keys=["k"])) == errors.NO_SUCH_NAMESPACE
    user.channel.close()


def test_tokens_expire(shared: Server) -> None:
    by_hand = ByHand(shared)
    claims = _claims(by_hand.token)
    assert {"exp", "iat", "sub", "iss", "aud", "jti"} <= set(claims)
    assert 0 < claims["exp"] - time.time() <= 15 * 60 + 5
    assert claims["exp"] - claims["iat"] == by_hand.tokens.expires_in_s == 15 * 60
    longer = _with_claims(by_hand.token, {**claims, "exp": claims["exp"] + 86_400})
    assert by_hand.refused(longer, namespaces=pb.NamespacesCommand()) == errors.TOKEN_INVALID
    by_hand.channel.close()


def test_a_crash_loses_nothing_that_was_answered(server: Server) -> None:
    """Five minutes of writes were lost: the store was written to disk every five minutes only."""
    with server.connect("shop") as connection:
        for i in range(50):
            connection.execute("PUT ? ?", [f"k{i}", i])
        connection.execute("DELETE k7")
        connection.execute("UPDATE k8 'eight'")
    server.kill()
    server.start()
    with server.connect("shop") as connection:
        found = dict(connection.execute("SHOW DATA").fetchall())
    assert found == {f"k{i}": i for i in range(50) if i != 7} | {"k8": "eight"}


def test_a_checkpoint_is_never_written_in_place(tmp_path: Path) -> None:
    """The live checkpoint is replaced whole: the inode of a file that is read by recovery never changes its content."""
    server = Server(tmp_path / "server", arguments=("--checkpoint-interval", "1")).start()
    try:
        seen: dict[tuple[str, int], bytes] = {}
        with server.connect("shop") as connection:
            end = time.monotonic() + 4
            i = 0
            while time.monotonic() < end or len(seen) < 2:
                connection.execute("UPSERT ? ?", [f"k{i % 100}", i])
                i += 1
                if i % 20:
                    continue
                for path in server.data.rglob("checkpoint*"):
                    if not path.is_file() or path.suffix in (".tmp", ".new", ".part"):
                        continue
                    try:
                        key, content = (path.name, path.stat().st_ino), path.read_bytes()
                    except FileNotFoundError:
                        continue
                    assert seen.setdefault(key, content) == content, f"{path} was changed in place"
    finally:
        server.stop()


def test_count_reads_one_namespace() -> None:
    """COUNT read every user's keys. Here the engine notes what is asked of it: another namespace's keys never are."""
    asked: list[str] = []

    class Noting(MemorySnapshot):
        def scan(self, namespace: str, *arguments: Any, **named: Any) -> Any:
            asked.append(namespace)
            return super().scan(namespace, *arguments, **named)

        async def count(self, namespace: str) -> int:
            asked.append(namespace)
            return await super().count(namespace)

    class Engine(MemoryEngine):
        def snapshot(self, revision: int | None = None) -> MemorySnapshot:
            plain = super().snapshot(revision)
            plain.__class__ = Noting
            return plain

    session = LocalStore(_Shared(Engine(), SystemClock()), None).session()
    for namespace in ("small", "big"):
        session.execute(pb.Request(namespace=namespace, write=write(pb.WRITE_MODE_PUT, "k", "v")))
    asked.clear()
    (result,) = session.execute(pb.Request(namespace="small", list=pb.ListCommand(what=pb.ListCommand.COUNT)))
    assert list(result.rows) == [(1,)]
    assert "small" in asked and "big" not in asked
