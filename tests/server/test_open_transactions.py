"""What an open transaction may hold, whom it holds up (nobody), and how it ends where no COMMIT comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor
from kvql_server.local import LocalStore, _Shared
from kvql_server.service import Service
from kvql_server.service.status import Net
from kvql_server.settings import Settings
from kvql_server.tokens import Tokens
from kvql_server.users import add

import kvql
from kvql.client.drive import step
from kvql.client.sync import Client
from kvql.transport.local import LocalTransport
from kvql.v1 import kvql_pb2_grpc
from tests.servers import WAIT_S, Server


@pytest.fixture(params=["memory", "hashtable"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = MemoryEngine() if request.param == "memory" else HashTableEngine.open(tmp_path, sync="checkpoint")
    yield made
    step(made.close())


def connections(engine: Any, count: int, settings: Settings | None = None, clock: Any = None) -> list[kvql.Connection]:
    """So many connections in process to one store."""
    shared = _Shared(engine, clock or engine._clock)
    if settings is not None:
        shared.executor = Executor(engine, shared.executor.clock, settings, start_namespace="main")
    shared.users = 1
    store = LocalStore(shared, None)
    return [
        kvql.Connection(Client(LocalTransport(store, "t", owner=False), step), autocommit=True) for _ in range(count)
    ]


def refused(connection: kvql.Connection, text: str, parameters: Any = None) -> str:
    with pytest.raises(kvql.Error) as caught:
        connection.execute(text, parameters).fetchall()
    return caught.value.sqlstate


# ── whom it holds up ──────────────────────────────────────────────────────────────────────────────────────────────


def test_readers_hold_no_writer_up_and_see_what_they_began_with(engine: Any) -> None:
    """Ten open transactions and a result half read; a writer changes, removes and truncates what they look at."""
    writer, half, *readers = connections(engine, 12)
    writer.execute("CREATE NAMESPACE t")
    for n in range(600):
        writer.execute("PUT ? ?", [f"k{n:03}", n])
    rows = iter(half.execute("SELECT key, value FROM t ORDER BY key"))
    first = [next(rows) for _ in range(10)]
    expected = []
    for n, reader in enumerate(readers):
        reader.execute("BEGIN READ ONLY" if n % 2 else "BEGIN")
        expected.append(reader.execute("SELECT count(*), sum(value) FROM t").fetchall())
        writer.execute("UPDATE t SET value = value + 1 WHERE key < 'k300'")
        writer.execute("DELETE ?", [f"k{599 - n:03}"])
    writer.execute("TRUNCATE NAMESPACE t")
    writer.execute("PUT k000 'new'")
    if hasattr(engine, "checkpoint"):
        engine.checkpoint()
    engine.tick()
    for reader, answer in zip(readers, expected, strict=True):
        assert reader.execute("SELECT count(*), sum(value) FROM t").fetchall() == answer
        reader.execute("COMMIT")
    assert first + list(rows) == [(f"k{n:03}", n) for n in range(600)]
    assert writer.execute("SELECT key, value FROM t").fetchall() == [("k000", "new")]
    assert engine.status()["open_snapshots"] == 0


# ── what it may hold ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["one by one", "one statement", "a condition", "many"])
def test_writes_at_the_limit(engine: Any, way: str) -> None:
    (connection,) = connections(engine, 1, Settings(transaction_writes_max=10))
    connection.execute("CREATE NAMESPACE t")
    connection.execute("PUT " + ", ".join(f"a{n} {n}" for n in range(20)))

    def write(count: int) -> None:
        if way == "one by one":
            for n in range(count):
                connection.execute("UPSERT ? 1", [f"k{n}"])
        elif way == "one statement":
            connection.execute("UPSERT " + ", ".join(f"k{n} 1" for n in range(count)))
        elif way == "a condition":
            connection.execute("UPDATE t SET value = value + 0 WHERE value < ?", [count])
        else:
            connection.executemany("UPSERT ? ?", [(f"k{n}", 1) for n in range(count)])

    for count in (9, 10):
        connection.execute("BEGIN")
        write(count)
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    with pytest.raises(kvql.Error) as caught:
        write(11)
    assert caught.value.sqlstate == "53400" and "at most 10 writes" in caught.value.message
    assert connection.transaction_state == "failed"
    assert refused(connection, "COUNT") == "25P02"
    connection.execute("ROLLBACK")
    assert engine.status()["open_snapshots"] == 0


def test_bytes_at_the_limit(engine: Any) -> None:
    limit = 5_000
    (connection,) = connections(engine, 1, Settings(transaction_bytes_max=limit))
    connection.execute("CREATE NAMESPACE t")
    size = _largest(connection, limit)
    for value_bytes, code in ((size - 1, ""), (size, ""), (size + 1, "53400")):
        connection.execute("BEGIN")
        if code:
            assert refused(connection, "UPSERT k ?", ["x" * value_bytes]) == code
            connection.execute("ROLLBACK")
        else:
            connection.execute("UPSERT k ?", ["x" * value_bytes])
            connection.execute("COMMIT")


def _largest(connection: kvql.Connection, limit: int) -> int:
    """The longest value that a transaction takes, by halving: it is near the limit, and one more is too much."""
    low, high = 0, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        connection.execute("BEGIN")
        try:
            connection.execute("UPSERT k ?", ["x" * middle])
            low = middle
        except kvql.Error:
            high = middle
        connection.execute("ROLLBACK")
    assert limit - 200 < low < limit
    return low


@pytest.mark.parametrize("count", [3, 4, 5])
def test_savepoints_at_the_limit(engine: Any, count: int) -> None:
    (connection,) = connections(engine, 1, Settings(savepoints_max=4))
    connection.execute("BEGIN")
    for n in range(min(count, 4)):
        connection.execute(f"SAVEPOINT s{n}")
    if count > 4:
        assert refused(connection, "SAVEPOINT s9") == "53400"
    connection.execute("ROLLBACK")


# ── times to live ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("default", [False, True])
def test_a_time_to_live_counts_from_the_statement(tmp_path: Path, default: bool) -> None:
    """Also in a transaction that began long before, and by whichever statement."""
    clock = ManualClock()
    engine = HashTableEngine.open(tmp_path, clock=clock, sync="checkpoint")
    (connection,) = connections(engine, 1, clock=clock)
    connection.execute("CREATE NAMESPACE t" + (" WITH (default_ttl = '5s')" if default else ""))
    clause = "" if default else " TTL 5s"
    connection.execute("BEGIN")
    clock.advance(100)
    connection.execute(f"PUT a 1{clause}")
    connection.execute(f"UPSERT b 1{clause}")
    connection.execute(f"INSERT INTO t VALUES ('c', 1){clause}")
    connection.execute("COMMIT")
    clock.advance(4)
    assert connection.execute("SHOW KEYS").fetchall() == [("a",), ("b",), ("c",)]
    clock.advance(1)
    assert connection.execute("SHOW KEYS").fetchall() == []
    engine.close_now()


@pytest.mark.parametrize("kind", ["memory", "hashtable"])
def test_what_was_over_at_begin_is_no_conflict(kind: str, tmp_path: Path) -> None:
    """The store may carry an expiry out late; who begins after it was due has never seen the pair."""
    clock = ManualClock()
    engine: Any = MemoryEngine(clock) if kind == "memory" else HashTableEngine.open(tmp_path, clock=clock)
    (connection,) = connections(engine, 1, clock=clock)
    connection.execute("CREATE NAMESPACE t")
    connection.execute("PUT a 1, b 2")
    connection.execute("EXPIRE a 1s")
    clock.advance(1)
    connection.execute("BEGIN")
    assert connection.execute("SELECT key, value FROM t").fetchall() == [("b", 2)]
    connection.execute("UPDATE t SET value = 3")
    connection.execute("COMMIT")
    connection.execute("EXPIRE b 1s")
    connection.execute("BEGIN")
    connection.execute("UPDATE t SET value = 4")
    clock.advance(1)
    assert refused(connection, "COMMIT") == "40001", "but what is over at COMMIT is one"
    step(engine.close())


# ── how it ends without COMMIT ────────────────────────────────────────────────────────────────────────────────────

CLIENT = """
import sys, time, kvql
con = kvql.connect(sys.argv[1], password="word-1234", insecure=True, autocommit=True)
con.execute("BEGIN")
con.execute("PUT mine 1")
con.execute("SELECT count(*) FROM t").fetchall()
other = kvql.Connection(con._client.sibling(), autocommit=True)
rows = iter(other.execute("SELECT key, value FROM t"))
next(rows)
print("ready", flush=True)
time.sleep(600)
"""


@contextlib.asynccontextmanager
async def served(engine: Any) -> AsyncIterator[tuple[Service, str]]:
    """A service in this loop, and where ``ann`` finds its namespace ``t``."""
    settings = Settings()
    executor = Executor(engine, settings=settings)
    await add(engine, "ann", "word-1234", ())
    tokens = Tokens(engine, executor.catalog, 900, 3600)
    await tokens.load()
    service = Service(engine, executor, tokens, settings)
    server = grpc.aio.server(interceptors=[Net()])
    kvql_pb2_grpc.add_KvqlServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"kvql://ann@127.0.0.1:{port}/t"
    await server.stop(0)
    service.close()


async def _serve_and_kill(engine: Any) -> None:
    async with served(engine) as (_, target), kvql.aio.connect(target, password="word-1234", insecure=True) as con:
        for start in range(0, 60_000, 2_000):
            await con.executemany("PUT ? ?", [(f"k{n:06}", "x" * 50) for n in range(start, start + 2_000)])
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, target, stdout=asyncio.subprocess.PIPE
        )
        assert client.stdout is not None
        assert await client.stdout.readline() == b"ready\n"
        assert engine.status()["open_snapshots"] >= 1
        os.kill(client.pid, signal.SIGKILL)
        await client.wait()
        async with asyncio.timeout(WAIT_S):
            while engine.status()["open_snapshots"]:  # of a client that is gone
                await asyncio.sleep(0.02)
        await con.execute("PUT mine 2")


def test_a_client_that_is_killed_leaves_nothing_open(engine: Any) -> None:
    asyncio.run(_serve_and_kill(engine))


async def _leave_idle(engine: Any) -> None:
    async with served(engine) as (service, target):
        options = {"password": "word-1234", "insecure": True}
        async with kvql.aio.connect(target, **options) as con, kvql.aio.connect(target, **options) as other:
            await con.execute("PUT a 1")
            idle, busy = await con.transaction().__aenter__(), await other.transaction().__aenter__()
            await idle.execute("PUT b 1")
            await busy.execute("PUT c 1")
            first, last = sorted(_last_used(service))
            # the clock that says how long ago that was is the test's
            for session in service._sessions:
                session.tick((first + last) / 2 + service.settings.transaction_idle_s)
            for text in ("PUT d 1", "PUT e 1"):
                with pytest.raises(kvql.Error, match="idle for too long"):
                    await idle.execute(text)
            with pytest.raises(kvql.Error, match="idle for too long"):
                await idle.commit()
            await idle.rollback()
            assert (await con.execute("SHOW KEYS")).rows == [("a",)]
            await busy.execute("UPSERT c 2")
            await busy.commit()
            assert (await con.execute("SHOW KEYS")).rows == [("a",), ("c",)]


def _last_used(service: Service) -> list[float]:
    lanes = [state.lane for session in service._sessions for state in session._lanes.values()]
    return [lane.transaction.last_used_s for lane in lanes if lane.transaction is not None]


def test_an_idle_transaction_is_rolled_back(engine: Any) -> None:
    """The one is used later than the other; at a moment in between, so long ago as the server waits, that one ends."""
    asyncio.run(_leave_idle(engine))


def test_a_server_looks_for_idle_transactions(tmp_path: Path) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text("transaction_idle_s = 0.1\n")
    server = Server(tmp_path / "server", engine="memory", arguments=("--config", str(settings))).start()
    try:
        with server.connect("t") as idle:
            idle.execute("BEGIN")
            for _ in range(20):  # each a chance for the server to be quicker than the next statement
                time.sleep(2)
                try:
                    idle.execute("UPSERT d 1")
                except kvql.Error as e:
                    assert "idle for too long" in str(e)
                    break
            assert idle.transaction_state == "failed"
            idle.execute("ROLLBACK")
    finally:
        server.stop()
