"""Login and tokens: each call without, with an ended, with a forged token; refresh and logout."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kvql_server.catalog import Catalog, User
from kvql_server.engines.memory import MemoryEngine
from kvql_server.tokens import Tokens

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import Wire, get, put, refused
from tests.servers import PASSWORDS, Server

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "Execute": lambda stub, metadata: stub.Execute(get("a"), metadata=metadata),
    "Select": lambda stub, metadata: list(stub.Select(get("a"), metadata=metadata)),
    "Watch": lambda stub, metadata: list(stub.Watch(pb.Request(watch=pb.WatchCommand()), metadata=metadata)),
    "Session": lambda stub, metadata: list(
        stub.Session(iter([pb.ClientBatch(requests=[get("a")])]), metadata=metadata)
    ),
    "Logout": lambda stub, metadata: stub.Logout(pb.LogoutRequest(), metadata=metadata),
}


def test_every_call_is_in_the_list() -> None:
    methods = {m.name for m in pb.DESCRIPTOR.services_by_name["Kvql"].methods}
    assert methods == {*CALLS, "Login", "Refresh"}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", ""),), (("authorization", "Bearer "),), (("authorization", "Bearer x.y.z"),),
     (("authorization", "Basic YTpi"),)],
)  # fmt: skip
def test_no_call_without_a_token(wires: dict[str, Wire], name: str, metadata: Any) -> None:
    assert refused(lambda: CALLS[name](wires["user"].stub, metadata)).sqlstate == "28000"


@pytest.mark.parametrize("name", CALLS)
def test_a_changed_token_is_refused(wires: dict[str, Wire], name: str) -> None:
    head, body, signature = wires["user"].tokens.access_token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "admin"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    for token in (
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-4]}AAAA",
    ):
        metadata = (("authorization", f"Bearer {token}"),)
        assert refused(lambda m=metadata: CALLS[name](wires["user"].stub, m)).sqlstate == "28000"


# ── forgeries, against the class that checks them, because they need its keys ─────────────────────────────────────


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    engine = MemoryEngine()
    made = Tokens(engine, Catalog(), 900, 3600)
    asyncio.run(made.load())
    yield made
    asyncio.run(engine.close())


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    out = {"sub": "ann", "iss": "kvql", "aud": "kvql", "iat": now, "exp": now + 900, "jti": "1", "family": ""} | changed
    return {name: value for name, value in out.items() if value is not None}


def signed(tokens: Tokens, said: dict[str, Any], key: Any = None, algorithm: str = "EdDSA", **headers: Any) -> str:
    private = tokens._private if key is None else key
    return jwt.encode(said, private, algorithm, headers={"kid": tokens._kid, **headers})


def refuses(tokens: Tokens, token: str) -> bool:
    try:
        tokens.verify(token)
    except Error as e:
        return e.sqlstate == "28000"
    return False


def test_a_good_token_is_taken(tokens: Tokens) -> None:
    assert tokens.verify(signed(tokens, claims())).user == "ann"


@pytest.mark.parametrize(
    "changed",
    [*[{name: None} for name in ("exp", "iat", "sub", "iss", "aud", "jti")], {"iss": "kvq"}, {"iss": "kvql-x"},
     {"aud": "other"}, {"aud": ["kvql", "other"]}, {"sub": 5}, {"jti": 5}, {"exp": "soon"}, {"exp": [1]},
     {"exp": int(time.time()) - 60}, {"iat": int(time.time()) + 3600}, {"family": 1}],
)  # fmt: skip
def test_wrong_claims(tokens: Tokens, changed: dict[str, Any]) -> None:
    said = claims(**changed)
    body = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": tokens._kid}).encode()).rstrip(
        b"="
    )
    assert tokens._private is not None
    signature = base64.urlsafe_b64encode(tokens._private.sign(head + b"." + body)).rstrip(b"=")
    assert refuses(tokens, b".".join((head, body, signature)).decode())


def test_another_key(tokens: Tokens) -> None:
    assert refuses(tokens, signed(tokens, claims(), Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
def test_no_algorithm(tokens: Tokens, algorithm: str) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT", "kid": tokens._kid}).encode()).rstrip(
        b"="
    )
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    assert refuses(tokens, b".".join((head, body, b"")).decode())


def test_the_public_key_as_a_shared_secret(tokens: Tokens) -> None:
    raw = tokens._public[tokens._kid].public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert refuses(tokens, jwt.encode(claims(), raw, "HS256", headers={"kid": tokens._kid}))


@pytest.mark.parametrize(
    "headers",
    [{"kid": "../../etc/passwd"}, {"kid": "'; --"}, {"kid": "x" * 3000}, {"crit": ["exp"]}, {"jku": "http://localhost/"},
     {"jwk": {"kty": "OKP"}}, {"x5c": ["AA"]}],
    ids=lambda h: next(iter(h)),
)  # fmt: skip
def test_strange_headers(tokens: Tokens, headers: dict[str, Any]) -> None:
    assert refuses(tokens, signed(tokens, claims(), **headers))


def test_a_token_that_ends_is_refused_though_it_was_verified(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signed(tokens, claims())
    tokens.verify(token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert refuses(tokens, token)


def test_keys_outlive_a_restart() -> None:
    engine = MemoryEngine()
    first, second = Tokens(engine, Catalog(), 900, 3600), Tokens(engine, Catalog(), 900, 3600)
    asyncio.run(first.load())
    asyncio.run(second.load())
    assert second.verify(signed(first, claims())).user == "ann"
    assert isinstance(User("x").perms, tuple)


# ── login, refresh, logout over the wire ──────────────────────────────────────────────────────────────────────────


def test_wrong_user_and_wrong_password_are_one_answer(server: Server) -> None:
    wire = Wire(server, log_in=False)
    told = [
        refused(lambda r=r: wire.stub.Login(r))
        for r in (pb.LoginRequest(user="other", password="wrong"), pb.LoginRequest(user="nobody", password="wrong"))
    ]
    assert {(e.sqlstate, e.message, e.hint) for e in told} == {("28P01", "wrong user or password", None)}
    for strange in (
        pb.LoginRequest(),
        pb.LoginRequest(user="other"),
        pb.LoginRequest(user="x" * 5000, password="y" * 5000),
    ):
        assert refused(lambda r=strange: wire.stub.Login(r)).sqlstate == "28P01"
    wire.close()


def test_guessing_is_slowed_down(server: Server) -> None:
    wire = Wire(server, log_in=False)
    seen = [refused(lambda: wire.stub.Login(pb.LoginRequest(user="victim", password="x"))) for _ in range(7)]
    assert seen[0].sqlstate == "28P01"
    assert seen[-1].sqlstate == "53400"
    assert seen[-1].hint is not None
    assert "try again in" in seen[-1].hint
    wire.stub.Login(pb.LoginRequest(user="user", password=PASSWORDS["user"]))
    wire.close()


def test_refresh_rotates_and_a_second_use_revokes_all(server: Server) -> None:
    wire = Wire(server, "user")
    first = wire.tokens
    second = wire.stub.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token))
    wire.tokens = second
    wire.execute(put([("r", 1)], "refreshed"))
    assert refused(lambda: wire.stub.Refresh(pb.RefreshRequest(refresh_token=first.refresh_token))).sqlstate == "28000"
    assert refused(lambda: wire.stub.Refresh(pb.RefreshRequest(refresh_token=second.refresh_token))).sqlstate == "28000"
    assert wire.refusal(get("r", namespace="refreshed")).sqlstate == "28000"
    for token in ("", "x", first.access_token, "x" * 100_000):
        assert refused(lambda t=token: wire.stub.Refresh(pb.RefreshRequest(refresh_token=t))).sqlstate == "28000"
    wire.close()


def test_logout_ends_what_the_token_could_do(server: Server) -> None:
    wire = Wire(server, "user")
    session = wire.session()
    session.ask(put([("x", 1)], "loggedout", id=1))
    wire.stub.Logout(pb.LogoutRequest(refresh_token=wire.tokens.refresh_token), metadata=wire.metadata())
    assert wire.refusal(get("x", namespace="loggedout")).sqlstate == "28000"
    assert session.failure().sqlstate == "28000"
    assert (
        refused(lambda: wire.stub.Refresh(pb.RefreshRequest(refresh_token=wire.tokens.refresh_token))).sqlstate
        == "28000"
    )
    wire.close()


def test_another_users_refresh_token_cannot_be_ended(server: Server) -> None:
    one, two = Wire(server, "user"), Wire(server, "other")
    request = pb.LogoutRequest(refresh_token=two.tokens.refresh_token)
    assert refused(lambda: one.stub.Logout(request, metadata=one.metadata())).sqlstate == "28000"
    two.stub.Refresh(pb.RefreshRequest(refresh_token=two.tokens.refresh_token))
    one.close()
    two.close()


def test_a_session_takes_a_fresh_token_of_its_user_only(server: Server) -> None:
    one, two = Wire(server, "user"), Wire(server, "other")
    session = one.session()
    fresh = one.stub.Refresh(pb.RefreshRequest(refresh_token=one.tokens.refresh_token))
    session.send(put([("y", 1)], "inplace", id=1), access_token=fresh.access_token)
    assert session.receive(1)[1].WhichOneof("outcome") == "done"
    session.send(get("y", id=2, namespace="inplace"), access_token=two.tokens.access_token)
    assert session.failure().sqlstate == "28000"
    one.close()
    two.close()


def test_health_needs_no_token(server: Server) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    wire = Wire(server, log_in=False)
    stub = health_pb2_grpc.HealthStub(wire.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    unknown = wire.channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as failure:
        unknown(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    wire.close()
