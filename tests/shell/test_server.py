"""The same outcomes over TLS, against a server in a process of its own, and what ``make shell`` does."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvql import connect
from tests.servers import WAIT_S

Kvql = Callable[..., "subprocess.CompletedProcess[str]"]
Environ = Callable[..., dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"


@dataclass
class Server:
    process: subprocess.Popen[str]
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"kvql://admin@localhost:{self.port}"

    @property
    def ca(self) -> str:
        return str(self.folder / "certs" / "ca.pem")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/shell:{ROOT}/server"}
    kvql_server = [str(Path(sys.executable).parent / "kvql-server")]
    subprocess.run([*kvql_server, "certs", "--host", "localhost"], cwd=folder, env=env, check=True, timeout=60)
    (folder / "data").mkdir(mode=0o700)
    users = folder / "data" / "users.json"
    users.write_text(json.dumps([{"username": "admin", "password": PASSWORD, "perms": ["ADMIN"]}]))
    users.chmod(0o600)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*kvql_server, "start", "--listen", "127.0.0.1:0", "--print-port"],
            cwd=folder, env=env, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "server.log").read_text()
    yield Server(process, folder, int("".join(c for c in line if c.isdigit())))
    process.send_signal(signal.SIGTERM)
    process.wait(WAIT_S)


@pytest.fixture
def remote(server: Server, kvql: Kvql) -> Kvql:
    """``kvql`` with the server's certificate and password in its environment; the first argument is the namespace."""

    def run(*arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
        return kvql(*arguments, env={"KVQL_PASSWORD": PASSWORD, "KVQL_CA": server.ca}, **keywords)

    return run


def test_fine(server: Server, remote: Kvql) -> None:
    done = remote(f"{server.url}/fine", "-c", "PUT a 1; GET a; COUNT")
    assert (done.returncode, done.stdout) == (0, "key\tvalue\na\t1\ncount\n1\n"), done.stderr
    assert remote(server.url, "-c", "COUNT").returncode == 3


def test_failed_and_syntax(server: Server, remote: Kvql) -> None:
    done = remote(f"{server.url}/failed", "-c", "PUT a 1; PUT a 2; COUNT")
    assert (done.returncode, done.stdout) == (3, "")
    assert "ERROR 23505: key already exists" in done.stderr
    assert "\nLINE 1: PUT a 2\n            ^" in done.stderr
    assert remote(f"{server.url}/failed", "-c", "GET a; SELCT").returncode == 4


def test_login(server: Server, kvql: Kvql, tmp_path: Path) -> None:
    wrong = kvql(server.url, "-c", "COUNT", env={"KVQL_PASSWORD": "wrong", "KVQL_CA": server.ca})
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("ERROR 28P01: ")
    assert "wrong" not in wrong.stderr.lower().replace("wrong user or password", "")
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    target = f"{server.url}/login"
    by_file = kvql(target, "--password-file", str(secret), "--ca", server.ca, "-c", "PUT a 1")
    assert by_file.returncode == 0, by_file.stderr
    config = tmp_path / "config.toml"
    config.write_text(f'url = "{target}"\nca = "{server.ca}"\npassword = "{PASSWORD}"\n')
    config.chmod(0o600)
    assert kvql("-c", "GET a", env={"KVQL_CONFIG": str(config)}).stdout == "key\tvalue\na\t1\n"


def test_a_certificate_that_is_not_trusted(server: Server, kvql: Kvql, tmp_path: Path) -> None:
    done = kvql(server.url, "-c", "COUNT", env={"KVQL_PASSWORD": PASSWORD})
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR 08001: ")


def test_ping(server: Server, remote: Kvql) -> None:
    done = remote("ping", server.url)
    assert done.returncode == 0, done.stderr
    assert "is there" in done.stdout
    assert remote("ping", "kvql://admin@localhost:1").returncode == 2


def test_conflict(server: Server, remote: Kvql, environ: Environ) -> None:
    target = f"{server.url}/conflict"
    assert remote(target, "-c", "PUT a 1").returncode == 0
    with subprocess.Popen(
        [sys.executable, "-m", "kvql_shell.main", target, "--no-header"], stdin=subprocess.PIPE, bufsize=1, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ(KVQL_PASSWORD=PASSWORD, KVQL_CA=server.ca),
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("BEGIN; GET a;\n")
        assert process.stdout.readline() == "a\t1\n"
        assert remote(target, "-c", "UPDATE a 2").returncode == 0
        process.stdin.write("UPDATE a 3; COMMIT;\n")
        _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 5, stderr
    assert "ERROR 40001" in stderr


def test_run_is_exact(server: Server, remote: Kvql, tmp_path: Path) -> None:
    script = tmp_path / "many.kvql"
    lines = [f"PUT k{i} {i};" for i in range(5000)]
    script.write_text("\n".join(lines) + "\n")
    done = remote("run", str(script), f"{server.url}/exact")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "5000 statements carried out\n")
    lines[3000] = "PUT k7 again;"
    script.write_text("\n".join(lines).replace("PUT k", "PUT x"))
    done = remote("run", str(script), f"{server.url}/exact")
    assert done.returncode == 3
    assert f"ERROR 23505 at {script}:3001:5: key already exists" in done.stderr
    assert done.stderr.endswith("3000 statements before it were carried out\n")
    assert remote(f"{server.url}/exact", "--no-header", "-c", "COUNT LIKE 'x%'").stdout == "3000\n"


def test_run_with_continue(server: Server, remote: Kvql, tmp_path: Path) -> None:
    script = tmp_path / "some.kvql"
    script.write_text("PUT a 1;\nPUT a 2;\nSELCT;\nPUT b 3;\nGET b;\nGET c;\n")
    done = remote("run", str(script), f"{server.url}/continue", "--continue")
    assert done.returncode == 3
    places = [line.split(":")[1] for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert places == ["2", "3", "6"], done.stderr
    assert done.stdout == "key\tvalue\nb\t3\n"
    assert done.stderr.endswith("3 statements carried out, 3 failed\n")


@pytest.fixture(scope="module")
def big(server: Server) -> str:
    """A namespace of 30 MB."""
    target = f"{server.url}/big"
    with connect(target, password=PASSWORD, ca=server.ca, autocommit=True) as connection:
        connection.cursor().executemany("PUT ? ?", [(f"key{i:06}", "x" * 1000) for i in range(30_000)])
    return target


def test_a_long_result_takes_bounded_memory(server: Server, big: str, environ: Environ) -> None:
    code = (
        "import resource, sys; from kvql_shell.main import main; code = main(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for limit in (10, 30_000):
        done = subprocess.run(
            [sys.executable, "-c", code, big, "--format", "table", "-c", f"SHOW DATA LIMIT {limit}"],
            capture_output=True, env=environ(KVQL_PASSWORD=PASSWORD, KVQL_CA=server.ca), timeout=120,
        )  # fmt: skip
        result, peak = done.stderr.split()[-2:]
        assert result == b"0", done.stderr
        assert done.stdout.endswith(f"({limit} rows)\n".encode())
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 20_000, f"KiB, few and many rows: {peaks}"
    assert resource.getpagesize() > 0


def test_interrupt_cancels_in_the_server(server: Server, big: str, environ: Environ) -> None:
    """The connection lives on: what comes after the cancelled statement is not carried out, and nothing hangs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvql_shell.main", big, *["-c", "SHOW DATA"] * 200],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environ(KVQL_PASSWORD=PASSWORD, KVQL_CA=server.ca),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(10_000)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, stderr
    assert b"ERROR 57014" in stderr
    assert len(rest) < 1 << 30, "of six gigabytes"


def test_dev_shell(tmp_path: Path, environ: Environ) -> None:
    """Twice on the same folder: the second time nothing is made, and the data is there."""
    command = [sys.executable, str(ROOT / "tools" / "dev_shell.py")]
    env = environ()
    first = subprocess.run(
        command, cwd=tmp_path, env=env, input="PUT a 1; GET a;", capture_output=True, text=True, timeout=120
    )
    assert (first.returncode, first.stdout) == (0, "key\tvalue\na\t1\n"), first.stderr
    password = tmp_path / "data" / "admin-password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    word = password.read_text().strip()
    assert word in first.stderr
    assert word not in (tmp_path / "data" / "users.json").read_text()
    second = subprocess.run(
        command, cwd=tmp_path, env=env, input="GET a; PUT a 2;", capture_output=True, text=True, timeout=120
    )
    assert (second.returncode, second.stdout) == (3, "key\tvalue\na\t1\n"), second.stderr
    assert word not in second.stderr


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_dev_shell_where_the_usual_port_is_taken(when: str, tmp_path: Path, environ: Environ) -> None:
    """Two that start at the same moment both see it free, and one of them gets it."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    command = [sys.executable, str(ROOT / "tools" / "dev_shell.py")]
    with contextlib.ExitStack() as stack:
        if when == "before":
            taken = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # another test has it, which is as well
                taken.bind(("127.0.0.1", 7443))
        both = [
            subprocess.Popen(
                command, cwd=tmp_path / name, env=environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )
            for name in ("first", "second")
        ]  # fmt: skip
        done = [process.communicate("PUT a 1; GET a;", timeout=WAIT_S) for process in both]
    assert [out for out, _ in done] == ["key\tvalue\na\t1\n"] * 2, done
    assert any("port 7443 is in use, taking a free one" in err for _, err in done)


def test_a_second_dev_shell_says_how_to_get_in(tmp_path: Path, environ: Environ) -> None:
    """The server of the first goes on, with its log; the line that is printed is carried out as it stands."""
    command = [sys.executable, str(ROOT / "tools" / "dev_shell.py")]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, bufsize=1,
    ) as first:  # fmt: skip
        assert first.stdin and first.stdout and first.stderr
        first.stdin.write("PUT a 1; GET a;\n")
        assert [first.stdout.readline() for _ in range(2)] == ["key\tvalue\n", "a\t1\n"]
        log = (tmp_path / "data" / "server.log").read_text()
        assert log
        second = subprocess.run(
            command, cwd=tmp_path, env=environ(), input="GET a;", capture_output=True, text=True, timeout=60
        )
        assert (second.returncode, second.stdout) == (2, "")
        line = second.stderr.splitlines()[-1].strip()
        assert "/kvql kvql://admin@localhost:" in line, second.stderr
        entered = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environ(), input="GET a;", capture_output=True, text=True, timeout=60
        )
        assert (entered.returncode, entered.stdout) == (0, "key\tvalue\na\t1\n"), entered.stderr
        opened = subprocess.run(
            [sys.executable, "-m", "kvql_shell.main", "data", "-c", "GET a"],
            cwd=tmp_path, env=environ(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert opened.returncode == 2 and f"connect to it at kvql://localhost:{_port_in(line)} " in opened.stderr
        assert (tmp_path / "data" / "server.log").read_text().startswith(log)
        first.stdin.close()
        assert first.wait(60) == 0, first.stderr.read()
    after = subprocess.run(
        command, cwd=tmp_path, env=environ(), input="GET a;", capture_output=True, text=True, timeout=60
    )
    assert (after.returncode, after.stdout) == (0, "key\tvalue\na\t1\n"), after.stderr


def _port_in(line: str) -> str:
    return line.partition("localhost:")[2].partition("/")[0]
