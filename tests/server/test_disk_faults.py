"""A disk that fails or is full, under a real server: what the client gets, what the operator reads, how it ends.

strace makes the server's system calls fail (``-D``: the server is the process that was started). Its counters are per
call and per thread: the log is written by a thread of its own, whose first syncs are those of the first start.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kvql_server import exits
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.executor import Executor
from kvql_server.service import Service
from kvql_server.tokens import Tokens

import kvql
from tests.engine.disk import Disk
from tests.engine.steps import HAS_STRACE, NO_STRACE, STRACE
from tests.servers import WAIT_S, Server

needs_strace = pytest.mark.skipif(not HAS_STRACE, reason=NO_STRACE)
LATER = 12
"""Beyond what any thread does of one call while the server starts."""


def failing(call: str, how: str) -> tuple[str, ...]:
    return (*STRACE, "-D", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{how}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one pair, from a server that was stopped in order."""
    server = Server(tmp_path / "server").start()
    with server.connect("shop") as connection:
        connection.execute("PUT first 1")
    assert server.stop() == 0
    return server.folder


def put_until_refused(connection: Any, limit: int = 40) -> tuple[list[str], kvql.Error]:
    """The keys that were confirmed, and the refusal of the one after them."""
    confirmed: list[str] = []
    for n in range(limit):
        try:
            connection.execute("PUT ? ?", [f"k{n}", n])
        except kvql.Error as e:
            return confirmed, e
        confirmed.append(f"k{n}")
    raise AssertionError(f"{limit} writes went through")


def judge_after(folder: Path, confirmed: list[str], unknown: str | None) -> None:
    """Without the fault: what was confirmed is there, and nothing else but perhaps the one without an answer."""
    server = Server(folder).start()
    try:
        with server.connect("shop") as connection:
            there = {key for (key,) in connection.execute("SELECT key").fetchall()}
        assert {"first", *confirmed} <= there <= {"first", *confirmed, *([unknown] if unknown else [])}
    finally:
        assert server.stop() == 0


@needs_strace
@pytest.mark.parametrize(
    ("call", "how", "reason"),
    [
        ("fdatasync", f"error=EIO:when={LATER}", os.strerror(errno.EIO)),
        ("fdatasync", f"error=EIO:when={LATER}+", os.strerror(errno.EIO)),
        ("pwrite64", f"error=ENOSPC:when={LATER}+", os.strerror(errno.ENOSPC)),
        ("pwrite64", f"retval=7:when={LATER}", "short write: 7 of"),
    ],
)
def test_a_failed_write_of_the_log_is_the_end(folder: Path, call: str, how: str, reason: str) -> None:
    """Once or for ever: nothing is tried again, the outcome is unknown, the server says so and exits."""
    server = Server(folder, prefix=failing(call, how)).start()
    connection = server.connect("shop")
    confirmed, refusal = put_until_refused(connection)
    assert refusal.sqlstate in ("40003", "08006"), refusal
    assert server.process is not None and server.process.wait(WAIT_S) == exits.STOPPED
    said = server.logs[-1].read_text()
    assert "kvql-server: stopped: writing the log " in said and ".kvl failed (" in said and reason in said
    assert "no more is written until the store is opened again" in said and "Traceback" not in said
    judge_after(folder, confirmed, f"k{len(confirmed)}")


@pytest.mark.parametrize("mode", ["interval", "checkpoint"])
def test_a_log_that_fails_while_nobody_waits_is_the_end_too(mode: Any) -> None:
    """Commits are answered before they are on the disk in these modes, and nobody may ever write again."""

    async def main() -> str:
        disk = Disk()
        engine = HashTableEngine.open("/store", files=disk, sync=mode)
        executor = Executor(engine)
        service = Service(engine, executor, Tokens(engine, executor.catalog, 900, 3600), executor.settings)

        def fail(name: str, path: str) -> None:
            if name in ("sync", "write"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        await engine.commit_many([Transaction((), [Put("a", "k", 1)])])  # which reserves revisions, durably
        disk.on_call = fail
        await engine.commit_many([Transaction((), [Put("a", "k", 2)])])
        ticking = asyncio.create_task(service.tick())
        try:
            return await asyncio.wait_for(service.failed, 30)
        finally:
            ticking.cancel()
            service.close()
            await engine.close()

    assert "writing the log /store/log-00000001.kvl failed (Input/output error)" in asyncio.run(main())


@needs_strace
def test_while_a_sync_takes_long_nothing_unsynced_is_seen(folder: Path) -> None:
    """Nobody gets to see a pair before its sync has ended; the server takes requests all the while."""
    server = Server(folder, prefix=failing("fdatasync", f"delay_enter=1000000:when={LATER}+")).start()
    connection, reader = server.connect("shop"), server.connect("shop")
    order: list[str] = []
    written: list[str] = []

    def write() -> None:
        for n in range(LATER + 2):
            connection.execute("PUT ? ?", [f"k{n}", n])
            written.append(f"k{n}")
            if n == LATER + 1:
                order.append("written")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while thread.is_alive():
            before = len(written)
            there = {key for (key,) in reader.execute("SELECT key").fetchall()} - {"first"}
            # whatever is seen was confirmed, or is confirmed at once: it is on the disk by now
            assert len(there) <= len(written) + 1, (there, written)
            assert len(there) >= before
        assert reader.execute("SHOW NAMESPACES").fetchall()
    finally:
        thread.join(WAIT_S)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    judge_after(folder, written, None)


@needs_strace
def test_a_full_disk_refuses_writes_and_reads_go_on(folder: Path) -> None:
    server = Server(folder, prefix=failing("fallocate", "error=ENOSPC:when=2+")).start()
    try:
        with server.connect("shop") as connection:
            connection.execute("PUT small 1")
            with pytest.raises(kvql.Error) as refused:
                for n in range(4):
                    connection.execute("PUT ? ?", [f"big{n}", "x" * 900_000])
            assert refused.value.sqlstate == "53100" and "no space left for the log in" in str(refused.value)
            assert connection.execute("GET small").fetchall()
            there = {key for (key,) in connection.execute("SELECT key").fetchall()}
    finally:
        assert server.stop() == 0
    judge_after(folder, sorted(there - {"first"}), None)


@needs_strace
def test_a_checkpoint_that_finds_no_space_is_told_and_tried_again(folder: Path) -> None:
    """Every write of the checkpoint's own threads fails: the log goes on, and keeps everything."""
    prefix = failing("rename", "error=ENOSPC:when=2+")
    server = Server(folder, prefix=prefix, arguments=("--checkpoint-interval", "0.2")).start()
    confirmed: list[str] = []
    try:
        with server.connect("shop") as connection:
            for n in count():
                connection.execute("PUT ? ?", [f"k{n}", n])
                confirmed.append(f"k{n}")
                if "a checkpoint of" in server.logs[-1].read_text():
                    break
            connection.execute("PUT after 1")
            confirmed.append("after")
        said = server.logs[-1].read_text()
        assert "failed, the log goes on and keeps everything: " in said and os.strerror(errno.ENOSPC) in said
    finally:
        assert server.stop() == 0
    judge_after(folder, confirmed, None)


@needs_strace
@pytest.mark.parametrize("which", ["log", "checkpoint", "MANIFEST"])
def test_a_file_that_cannot_be_read_is_not_the_end_of_it(folder: Path, which: str) -> None:
    """EIO while the store is opened: refused with the file's name and a code of its own, and nothing is changed."""
    data = folder / "data"
    if which == "checkpoint":
        server = Server(folder, arguments=("--checkpoint-interval", "0.1")).start()
        with server.connect("shop") as connection:
            for n in count():
                connection.execute("UPSERT k ?", [n])
                if list(data.glob("*.kvc")):
                    break
            connection.execute("DELETE k")
        assert server.stop() == 0
    path = max(data.glob({"log": "*.kvl", "checkpoint": "*.kvc", "MANIFEST": "MANIFEST"}[which]))
    before = {file.name: file.read_bytes() for file in data.iterdir() if file.name != "LOCK"}
    # by the path strace follows the descriptor, whichever read it is
    done = subprocess.run(
        [*STRACE, "-o", "/dev/null", "-P", str(path), "-e", "trace=pread64", "-e", "inject=pread64:error=EIO",
         str(Path(sys.executable).parent / "kvql-server"), "start", "--data", str(data), "--listen", "localhost:0"],
        cwd=folder, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == exits.DISK, done.stderr
    assert (
        f"cannot open the store in {data}: {path} cannot be used ({os.strerror(errno.EIO)}); the disk is" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert {file.name: file.read_bytes() for file in data.iterdir() if file.name != "LOCK"} == before
    judge_after(folder, [], None)


@needs_strace
def test_no_space_at_the_start(folder: Path) -> None:
    done = subprocess.run(
        [*failing("fallocate", "error=ENOSPC")[:-4], "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC",
         str(Path(sys.executable).parent / "kvql-server"), "start", "--data", str(folder / "data"),
         "--listen", "localhost:0"],
        cwd=folder, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == exits.FULL and "no space left for the log in" in done.stderr, done.stderr
    judge_after(folder, [], None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; only root may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of its own can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_really_fills_up(small_disk: Path) -> None:
    """Log and checkpoints on it until it is full; deleting something else makes writes go on, without a restart."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6 << 20))
    server = Server(small_disk / "server", arguments=("--checkpoint-interval", "0.2")).start()
    confirmed: list[str] = []
    try:
        with server.connect("shop") as connection:
            refusal = None
            for n in range(60):
                try:
                    connection.execute("PUT ? ?", [f"k{n}", "x" * 500_000])
                except kvql.Error as e:
                    refusal = e
                    break
                confirmed.append(f"k{n}")
            assert refusal is not None and refusal.sqlstate == "53100", refusal
            assert len(connection.execute("SELECT key").fetchall()) == len(confirmed)
            ballast.unlink()
            connection.execute("PUT after 1")
            confirmed.append("after")
    finally:
        assert server.stop() == 0
    again = Server(server.folder).start()
    try:
        with again.connect("shop") as connection:
            assert {key for (key,) in connection.execute("SELECT key").fetchall()} == set(confirmed)
    finally:
        assert again.stop() == 0
