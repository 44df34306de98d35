"""ROW=gets, put64, get64, executemany: the Python clients over the network."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import etcd, peers
from bench.measure import Figure, compare, seconds
from tests.servers import ADMIN, PASSWORD, Server

ROUNDS = 5
KEYS = 1000
TASKS = 64
SECONDS = 2.0
MANY = 200_000


@contextmanager
def servers() -> Iterator[tuple[Server, peers.Redis]]:
    """Ours and redis, each with the same thousand pairs."""
    with tempfile.TemporaryDirectory() as name, peers.redis() as redis:
        server = Server(Path(name)).start()
        try:
            pairs = [(f"k{i}", f"value-{i}") for i in range(KEYS)]
            with server.connect("bench") as connection:
                connection.executemany("PUT ? ?", pairs)
            redis.client().mset(dict(pairs))
            yield server, redis
        finally:
            server.stop()


def _p50_us(work: Callable[[int], object], count: int = 2000) -> float:
    times = []
    for i in range(count):
        start = time.perf_counter_ns()
        work(i)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def gets() -> list[Figure]:
    """One GET at a time: the median of its latency."""
    rounds = []
    with (
        servers() as (server, redis),
        server.connect("bench") as connection,
        redis.client() as client,
        etcd.etcd(server.ca.parent) as other,
    ):
        for i in range(KEYS):
            other.put(f"k{i}", f"value-{i}")
        works: dict[str, Callable[[int], object]] = {
            "kvql": lambda i: connection.execute("GET ?", [f"k{i % KEYS}"]).fetchall(),
            "etcd (TLS)": lambda i: other.get(f"k{i % KEYS}"),
            "redis-py (plain TCP)": lambda i: client.get(f"k{i % KEYS}"),
        }
        for work in works.values():
            _p50_us(work, 300)
        rounds = [{name: _p50_us(work) for name, work in works.items()} for _ in range(ROUNDS)]
    return [compare("one GET at a time, p50", "µs", rounds, more_is_better=False)]


async def _rate(work: Callable[[int], Awaitable[object]]) -> float:
    """Operations a second of 64 tasks, one operation at a time each."""
    done = 0
    end = time.perf_counter() + SECONDS

    async def task(number: int) -> None:
        nonlocal done
        i = number
        while time.perf_counter() < end:
            await work(i)
            i += TASKS
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(task(n) for n in range(TASKS)))
    return done / (time.perf_counter() - start)


async def _many_tasks(server: Server, redis: peers.Redis, put: bool) -> list[dict[str, float]]:
    import redis.asyncio as aioredis

    import kvql.aio

    url = f"kvql://{ADMIN}@localhost:{server.port}/bench"
    rounds = []
    pool = aioredis.ConnectionPool(port=redis.port, max_connections=TASKS)
    client = aioredis.Redis(connection_pool=pool)
    async with kvql.aio.connect(url, password=PASSWORD, ca=str(server.ca)) as connection:
        for n in range(ROUNDS):
            # PUT is only for absent keys, so each round has its own
            async def ours(i: int, n: int = n) -> Any:
                if put:
                    return await connection.execute("PUT ? ?", [f"p{n}:{i}", i])
                return await connection.execute("GET ?", [f"k{i % KEYS}"])

            async def theirs(i: int, n: int = n) -> Any:
                return await (client.set(f"p{n}:{i}", i, nx=True) if put else client.get(f"k{i % KEYS}"))

            rounds.append({"kvql": await _rate(ours), "redis.asyncio": await _rate(theirs)})
    await client.aclose()
    await pool.disconnect()
    return rounds


def _tasks(put: bool) -> list[Figure]:
    import uvloop

    with servers() as (server, redis):
        rounds: list[dict[str, float]] = uvloop.run(_many_tasks(server, redis, put))
    what = "PUT" if put else "GET"
    return [compare(f"{TASKS} tasks, one {what} at a time", "operations/s", rounds, more_is_better=True)]


def put64() -> list[Figure]:
    return _tasks(put=True)


def get64() -> list[Figure]:
    return _tasks(put=False)


def executemany() -> list[Figure]:
    """200,000 PUTs by ``executemany`` against redis-py's pipeline of 1,000."""
    rounds = []
    with servers() as (server, redis), server.connect("bench") as connection, redis.client() as client:

        def theirs(pairs: list[tuple[str, int]]) -> None:
            for at in range(0, MANY, 1000):
                pipeline: Any = client.pipeline(transaction=False)
                for key, value in pairs[at : at + 1000]:
                    pipeline.set(key, value)
                pipeline.execute()

        for n in range(3):
            pairs = [(f"m{n}:{i}", i) for i in range(MANY)]
            times = {
                "kvql": seconds(connection.executemany, "PUT ? ?", pairs),
                "redis-py pipeline": seconds(theirs, pairs),
            }
            rounds.append({peer: MANY / t for peer, t in times.items()})
    return [compare(f"executemany of {MANY:,} PUTs", "pairs/s", rounds, more_is_better=True)]
