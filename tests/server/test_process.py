"""The server as a process: every way in which a start fails has its sentence and exit code; SIGTERM; what leaks."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from kvql_server import exits, passwords

from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, Wire, act, get, put, refused
from tests.servers import BIN, PASSWORDS, WAIT_S, Server


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A folder with certificates and users, and no server."""
    made = Server(tmp_path_factory.mktemp("stopped"))
    made.prepare()
    return made


def start(server: Server, *arguments: str) -> tuple[int, str]:
    """Exit code and what was said, of a start that fails."""
    command = [str(BIN / "kvql-server"), "start", "--data", str(server.data), "--listen", "localhost:0", *arguments]
    done = subprocess.run(command, cwd=server.folder, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return done.returncode, done.stderr.splitlines()[-1]


def command(server: Server, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "kvql-server"), *arguments],
        cwd=server.folder, input=stdin, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def test_a_port_in_use(stopped: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = start(stopped, "--listen", f"127.0.0.1:{port}")
    assert code == exits.PORT_IN_USE
    assert f"port {port}" in said
    assert "--listen" in said


def test_two_servers_on_one_port(stopped: Server, tmp_path: Path) -> None:
    first = Server(tmp_path / "first", engine="memory").start()
    try:
        code, _ = start(stopped, "--listen", f"localhost:{first.port}")
        assert code == exits.PORT_IN_USE
    finally:
        assert first.stop() == 0


def test_a_folder_in_use(tmp_path: Path) -> None:
    first = Server(tmp_path / "first").start()
    try:
        code, said = start(first)
        assert code == exits.LOCKED
        assert str(first.data) in said
        assert "running" in command(first, "status").stdout
    finally:
        first.stop()


def test_certificates_that_cannot_be_used(stopped: Server, tmp_path: Path) -> None:
    def refused_with(what: str) -> None:
        code, said = start(stopped, "--certs", str(tmp_path))
        assert code == exits.CERTIFICATES
        assert what in said

    refused_with("is missing")
    for name in ("server.key", "server.pem"):
        (tmp_path / name).write_bytes((stopped.folder / "certs" / name).read_bytes())
    (tmp_path / "server.key").chmod(0o644)
    refused_with("chmod 600")
    (tmp_path / "server.key").chmod(0o600)
    (tmp_path / "server.pem").write_text("nonsense")
    refused_with("is no certificate")
    other = tmp_path / "other"
    assert command(stopped, "certs", "--host=localhost", "--out", str(other)).returncode == 0
    (tmp_path / "server.pem").write_bytes((other / "server.pem").read_bytes())
    refused_with("does not belong")
    (tmp_path / "server.key").write_text("nonsense")
    refused_with("is no private key")


def test_made_certificates(stopped: Server) -> None:
    folder = stopped.folder / "certs"
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {
        "ca.pem": 0o644, "server.pem": 0o644, "server.key": 0o600,
    }  # fmt: skip
    assert command(stopped, "certs", "--host=localhost").returncode == 1
    verify = [
        "openssl",
        "verify",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "127.0.0.1",
        "-CAfile",
        "ca.pem",
        "server.pem",
    ]
    done = subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "server.pem: OK"


@pytest.mark.parametrize(
    ("users", "what"),
    [
        ("{", "valid JSON"), ("{}", "a list"), ('[{"username": "a"}]', "user 1"),
        ('[{"username": "a b", "password": "x"}]', "user 1"), ('[{"username": "a", "password": ""}]', "user 1"),
        ('[{"username": "a", "password": "x", "perms": ["ROOT"]}]', "ADMIN"),
        ('[{"username": "a", "password": "x"}, {"username": "a", "password": "x"}]', "twice"),
    ],
)  # fmt: skip
def test_a_users_file_that_cannot_be_used(tmp_path: Path, stopped: Server, users: str, what: str) -> None:
    (tmp_path / "users.json").write_text(users)
    code, said = start(stopped, "--data", str(tmp_path))
    assert code == exits.USERS
    assert what in said
    assert (tmp_path / "users.json").read_text() == users


def test_known_passwords_are_for_loopback_only(tmp_path: Path, stopped: Server) -> None:
    seed = [{"username": "admin", "password": "password", "perms": ["ADMIN"]}]
    (tmp_path / "users.json").write_text(json.dumps(seed))
    code, said = start(stopped, "--data", str(tmp_path), "--listen", "0.0.0.0:0")
    assert code == exits.USERS
    assert "everybody knows" in said
    (tmp_path / "users.json").write_text(json.dumps([{**seed[0], "password": passwords.hash_password("password")}]))
    assert start(stopped, "--data", str(tmp_path), "--listen", "0.0.0.0:0")[0] == exits.USERS


def test_plain_text_is_for_loopback_only(stopped: Server) -> None:
    assert start(stopped, "--plain-text", "--listen", "0.0.0.0:0")[0] == exits.USAGE


@pytest.mark.parametrize("name", ["KVQL_SERVER_NONSENSE", "KVQL_SERVER_SYNC", "KVQL_SERVER_SESSIONS_MAX"])
def test_wrong_settings(stopped: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "often")
    assert start(stopped)[0] == exits.USAGE


def test_passwords_become_hashes_in_place(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", engine="memory").start()
    try:
        users = json.loads((server.data / "users.json").read_text())
        assert [u["username"] for u in users] == ["admin", "user", "other"]
        assert all(u["password"].startswith("$argon2id$") for u in users)
        assert users[0]["perms"] == ["ADMIN"]
        assert stat.S_IMODE((server.data / "users.json").stat().st_mode) == 0o600
        assert sorted(os.listdir(server.data)) == ["users.json"]
    finally:
        server.stop()


def test_users_of_a_stopped_store(tmp_path: Path) -> None:
    server = Server(tmp_path / "s").start()
    assert server.stop() == 0
    data = ("--data", str(server.data))
    assert command(server, "users", "passwd", "user", *data, stdin="another-word-9\n").returncode == 0
    assert command(server, "users", "passwd", "nobody", *data, stdin="x\n").returncode == 1
    assert command(server, "users", "add", "ann", "--admin", *data, stdin="ann-word-8\n").returncode == 0
    assert command(server, "users", "add", "ann", *data, stdin="x\n").returncode == 1
    assert command(server, "users", "list", *data).stdout == "admin\tADMIN\nann\tADMIN\nother\t\nuser\t\n"
    assert "stopped" in command(server, "status", *data).stdout
    server.start()
    try:
        wire = Wire(server, log_in=False)
        assert refused(
            lambda: wire.stub.Login(pb.LoginRequest(user="user", password=PASSWORDS["user"]))
        ).sqlstate == "28P01"  # fmt: skip
        wire.stub.Login(pb.LoginRequest(user="user", password="another-word-9"))
        wire.close()
        assert command(server, "users", "list", *data).returncode == exits.LOCKED
    finally:
        server.stop()


def test_sigterm_ends_open_sessions_and_keeps_what_was_committed(tmp_path: Path) -> None:
    server = Server(tmp_path / "s").start()
    wire = Wire(server)
    session = wire.session()
    session.ask(put([("kept", 1)], id=1, lane=1))
    session.ask(act(BEGIN, id=2, lane=2))
    session.ask(put([("lost", 1)], id=3, lane=2))
    assert server.stop() == 0
    assert session.failure().sqlstate == "57P01"
    wire.close()
    server.start()
    wire = Wire(server)
    assert wire.rows(get("kept")) == [("kept", 1)]
    assert wire.refusal(get("lost")).sqlstate == "02000"
    wire.close()
    assert server.stop() == 0


def test_garbage_on_the_port(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", engine="memory").start()
    try:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(2000), b"\x16\x03\x01" + b"\0" * 100):
            with socket.create_connection(("localhost", server.port)) as raw:
                raw.sendall(garbage)
        wire = Wire(server)
        wire.execute(put([("a", 1)]))
        for method in ("Execute", "Login", "Session"):
            call = wire.channel.unary_unary(f"/kvql.v1.Kvql/{method}")
            with pytest.raises(grpc.RpcError) as failure:
                call(b"\xff" * 50, metadata=wire.metadata(), timeout=WAIT_S)
            assert "/" not in (failure.value.details() or "").replace("/kvql", "")
        assert wire.rows(get("a")) == [("a", 1)]
        wire.close()
    finally:
        assert server.stop() == 0


def test_no_secret_is_logged(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", engine="memory", arguments=("--log-format", "json")).start()
    wire = Wire(server)
    refused(lambda: wire.stub.Login(pb.LoginRequest(user="x\nINFO admin login ok \x1b[31m", password="hunter-2")))
    wire.execute(put([("a", "secret-value")], "ns"))
    tokens = wire.tokens
    wire.close()
    server.stop()
    log = server.logs[-1].read_text()
    for secret in ("hunter-2", "secret-value", tokens.access_token, tokens.refresh_token, *PASSWORDS.values()):
        assert secret not in log
    events = [json.loads(line) for line in log.splitlines()]
    assert [e["message"] for e in events if e["logger"] == "kvql.audit"][-1] == "stop"
    assert any(e["message"] == "login" and e["result"] == "denied" for e in events)


def test_the_launcher() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "server", "--help"], cwd=root, capture_output=True, text=True, check=False)
    assert "certs" in done.stdout
