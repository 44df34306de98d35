"""What ``make shell`` runs: a real server on ./data, a shell logged in to it, and a clean stop afterwards.

At the first start it makes certificates and an administrator with a generated password, which is shown once and kept in
``data/admin-password`` (mode 0600). Piped input works like typed input. The server's log is ``data/server.log``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from kvql_server import exits
from kvql_server.engines.hashtable.files import lock_holder

PORT: Final = 7443
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
_BIN: Final = Path(sys.executable).parent


def main(arguments: Sequence[str]) -> int:
    """Make what is missing, start, run the shell with ``arguments``, stop; the shell's exit code."""
    data, certs = Path("data"), Path("certs")
    data.mkdir(mode=0o700, exist_ok=True)
    if not (certs / "server.pem").exists():
        subprocess.run([_BIN / "kvql-server", "certs", "--host", "localhost"], check=True, stdout=sys.stderr)
    password = ensure_administrator(data)
    holder = lock_holder(str(data))
    if holder.held and holder.url is not None:  # before the log of that server is begun anew
        line = shlex.join(shell_command(holder.url, certs, password))
        print(
            f"a server has {data} already: process {holder.process}. A second shell on it, until that server stops:\n"
            f"  {line}",
            file=sys.stderr,
        )
        return 2
    try:
        with server(data) as port:
            return _run_shell([*shell_command(f"kvql://localhost:{port}", certs, password), *arguments])
    except ServerFailed as e:
        print(e, file=sys.stderr)
        return 2


def shell_command(url: str, certs: Path, password: Path | None) -> list[str]:
    """How to get into the server at ``url``, which has no user and no namespace yet."""
    command = [str(_BIN / "kvql")]
    if url.startswith("kvql+unix:"):
        command += [f"{url}?ns=main", "--user", "admin"]
    else:
        command += [f"{url.replace('://', '://admin@')}/main", "--ca", str(certs / "ca.pem")]
    return command if password is None else [*command, "--password-file", str(password)]


def ensure_administrator(data: Path) -> Path | None:
    """The file with the administrator's password; None if users exist whose passwords only their owners know."""
    password = data / "admin-password"
    users = data / "users.json"
    if password.exists() or users.exists():
        return password if password.exists() else None
    word = secrets.token_urlsafe(15)
    # the password first: a user whose password nobody knows would lock everybody out
    _write_private(password, word + "\n")
    _write_private(users, json.dumps([{"username": "admin", "password": word, "perms": ["ADMIN"]}], indent=2) + "\n")
    print(f"made the administrator: user admin, password {word} (kept in {password})", file=sys.stderr)
    return password


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


class ServerFailed(Exception):
    """The server did not come up; the text is what it said."""


@contextlib.contextmanager
def server(data: Path) -> Iterator[int]:
    """A server on ``data`` while the context lasts; its port: the usual one, or any free one if somebody has that."""
    for wanted in (PORT, 0):
        with _attempt(data, wanted) as port:
            if port:
                yield port
                return
        print(f"port {PORT} is in use, taking a free one", file=sys.stderr)


@contextlib.contextmanager
def _attempt(data: Path, wanted: int) -> Iterator[int]:
    """A server that listens on ``wanted``; its port, 0 if somebody has it."""
    log_path = data / "server.log"
    listen = f"127.0.0.1:{wanted}"
    command = [str(_BIN / "kvql-server"), "start", "--data", str(data), "--listen", listen, "--print-port"]
    with log_path.open("w", encoding="utf-8") as log:
        # a session of its own: Ctrl-C at the prompt is for the shell, not for the server
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True, text=True)
        try:
            yield _wait_for_port(process, log_path, wanted)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_port(process: subprocess.Popen[str], log_path: Path, wanted: int) -> int:
    assert process.stdout is not None
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        digits = "".join(c for c in line if c.isdigit())
        if digits:
            return int(digits)
        if not line:
            break
    if process.wait(STOP_TIMEOUT_S) == exits.PORT_IN_USE and wanted:
        return 0
    said = log_path.read_text(encoding="utf-8").strip().splitlines()[-5:]
    raise ServerFailed("the server did not start:\n" + "\n".join(said))


def _run_shell(command: list[str]) -> int:
    """The shell in the foreground; Ctrl-C reaches it and must not end us before the server is stopped."""
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(command)
    finally:
        signal.signal(signal.SIGINT, previous)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
