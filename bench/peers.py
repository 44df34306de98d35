"""The peers as processes of their own: a redis-server on a free port, the sqlite3 command."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Redis:
    """A running redis-server."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def client(self, **options: Any) -> Any:
        import redis

        return redis.Redis(port=self.port, **options)

    def pipe(self, file: Path) -> None:
        """``redis-cli --pipe`` with a file of RESP commands."""
        with file.open("rb") as commands:
            subprocess.run(
                ["redis-cli", "-p", str(self.port), "--pipe"], stdin=commands, capture_output=True, check=True
            )

    def rss_bytes(self) -> int:
        return rss_bytes(self.process.pid)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, from /proc."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} tells no VmRSS")


def have(*commands: str) -> list[str]:
    """Those of the peers that are not installed; the bench says so and goes on without them."""
    return [c for c in commands if shutil.which(c) is None]


@contextmanager
def redis(folder: Path | None = None, *options: str) -> Iterator[Redis]:
    """A redis-server with AOF everysec, on a free port, in a folder of its own."""
    place = folder or Path(tempfile.mkdtemp(prefix="kvql-bench-redis-"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    arguments = options or ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    made = Redis(port, place, process)
    try:
        wait_for(made)
        yield made
    finally:
        process.terminate()
        process.wait()
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def wait_for(server: Redis) -> None:
    """Until it answers PING, its data loaded."""
    import redis

    end = time.monotonic() + 60
    with server.client() as client:
        while True:
            try:
                client.ping()
                return
            except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.002)


def resp(pairs: Iterator[tuple[str, str]]) -> Iterator[bytes]:
    """SET commands in redis's protocol, as its manual asks for mass insertion."""
    for key, value in pairs:
        k, v = key.encode(), value.encode()
        yield b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(k), k, len(v), v)


def sqlite(database: Path, script: Path) -> None:
    """The sqlite3 command with a script on standard input."""
    with script.open("rb") as text:
        subprocess.run(["sqlite3", "-bail", str(database)], stdin=text, capture_output=True, check=True)
