"""Real servers for tests: ``kvql-server`` as a process of its own, over TLS on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kvql

BIN = Path(sys.executable).parent
WAIT_S = 120.0
"""How long a test waits for what must come: it never does, where all is well, however busy the machine is."""
ADMIN, PASSWORD = "admin", "correct-horse-1"
USERS = [
    {"username": ADMIN, "password": PASSWORD, "perms": ["ADMIN"]},
    {"username": "user", "password": "battery-staple-2", "perms": []},
    {"username": "other", "password": "battery-staple-3", "perms": []},
]
PASSWORDS = {str(u["username"]): str(u["password"]) for u in USERS}


@dataclass
class Server:
    """A running server and how to get in."""

    folder: Path
    engine: str = "hashtable"
    arguments: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    """A command that runs the server in its own process, as ``strace -D`` does."""
    keeps_port: bool = False
    """Whether it comes back on the port that it had, so that clients find it again by themselves."""
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    logs: list[Path] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "ca.pem"

    @property
    def url(self) -> str:
        return f"kvql://{ADMIN}@localhost:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--ca", str(self.ca))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KVQL_PASSWORD": PASSWORD, "HOME": str(self.folder)}

    def prepare(self) -> None:
        """Certificates and users, once a folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [str(BIN / "kvql-server"), "certs", "--host=localhost"], cwd=self.folder, check=True, capture_output=True
        )
        self.data.mkdir(exist_ok=True)
        (self.data / "users.json").write_text(json.dumps(USERS))

    def start(self) -> Server:
        if not self.ca.exists():
            self.prepare()
        log = self.folder / f"server-{len(self.logs)}.log"
        self.logs.append(log)
        # the hash tables are what the server takes without being asked
        engine = () if self.engine == "hashtable" else ("--engine", f"{self.engine}:")
        place = f"localhost:{self.port if self.keeps_port else 0}"
        with log.open("wb") as err:
            self.process = subprocess.Popen(
                [*self.prefix, str(BIN / "kvql-server"), "start", "--data", str(self.data), "--listen", place,
                 "--print-port", *engine, *self.arguments],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        if not line:
            raise AssertionError(f"the server did not start: {log.read_text()}")
        self.port = int(line.rsplit(":", 1)[-1].split()[-1])
        return self

    def connect(self, namespace: str = "", user: str = ADMIN, **options: Any) -> Any:
        """An autocommit connection over TLS."""
        url = f"kvql://{user}@localhost:{self.port}" + (f"/{namespace}" if namespace else "")
        return kvql.connect(url, password=PASSWORDS[user], ca=str(self.ca), autocommit=True, **options)

    def drop_namespaces(self) -> None:
        """Make the store empty, so that a script finds what it would find on a new one."""
        with self.connect() as connection:
            for name, *_ in connection.execute("SHOW NAMESPACES").fetchall():
                connection.execute(f"DROP NAMESPACE {name}")

    def kill(self) -> None:
        """SIGKILL, as a crash does it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


def wait_until(condition: Any, timeout_s: float = WAIT_S) -> None:
    """Poll ``condition`` until it holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come true in time")
        time.sleep(0.02)
