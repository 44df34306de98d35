"""ROW=watch: how fast events reach one who watches, and what those who watch cost one who writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench import peers
from bench.measure import Figure, compare, seconds
from bench.network import _rate, servers
from tests.servers import ADMIN, PASSWORD, Server

EVENTS = 100_000
WATCHERS = 100
ROUNDS = 5


def measure() -> list[Figure]:
    with servers() as (server, redis):
        return [_history(server, redis), _live(server), *_idle(server)]


def _history(server: Server, redis: peers.Redis) -> Figure:
    """Events that happened already, each a commit of its own; redis: the entries of a stream."""
    rounds = []
    with server.connect("past") as connection, redis.client() as client:
        start = connection.execute("PUT first 0").revision
        connection.executemany("PUT ? ?", [(f"k{i}", i) for i in range(EVENTS)])
        for at in range(0, EVENTS, 1000):
            pipeline: Any = client.pipeline(transaction=False)
            for i in range(at, at + 1000):
                pipeline.xadd("stream", {f"k{i}": i})
            pipeline.execute()

        def ours() -> None:
            watch = connection.watch("WATCH FROM REVISION ?", [start])
            for _ in range(EVENTS):
                next(watch)
            watch.close()

        def theirs() -> None:
            place, count = "0", 0
            while count < EVENTS:
                ((_, entries),) = client.xread({"stream": place}, count=1000)
                place, count = entries[-1][0], count + len(entries)

        for _ in range(3):
            rounds.append({"kvql": EVENTS / seconds(ours), "redis-py XREAD of 1,000": EVENTS / seconds(theirs)})
    return compare(f"{EVENTS:,} events of one pair each, from a revision on", "events/s", rounds, more_is_better=True)


def _live(server: Server) -> Figure:
    """Events that another client causes as fast as it can."""
    rounds = []
    with server.connect("live") as connection, server.connect("live") as writer:
        connection.execute("PUT first 0")
        for n in range(3):
            watch = connection.watch("WATCH")
            pairs = [(f"k{n}:{i}", i) for i in range(EVENTS)]
            thread = threading.Thread(target=writer.executemany, args=("PUT ? ?", pairs))

            def work(watch: Any = watch, thread: threading.Thread = thread) -> None:
                thread.start()
                for _ in range(EVENTS):
                    next(watch)
                thread.join()

            rounds.append({"kvql": EVENTS / seconds(work)})
            watch.close()
    name = f"{EVENTS:,} events while executemany causes them, both clients in one process"
    return compare(name, "events/s", rounds, more_is_better=True)


def _idle(server: Server) -> list[Figure]:
    import uvloop

    figures = []
    for text, name in (
        ("WATCH elsewhere", f"64 tasks, one PUT at a time, beside {WATCHERS} watches of another namespace"),
        ("WATCH bench WHERE key = 'none'", f"the same beside {WATCHERS} watches of this one that nothing matches"),
        ("WATCH bench", f"the same beside {WATCHERS} watches that are sent every event"),
    ):
        rounds: list[dict[str, float]] = uvloop.run(_puts(server, text))
        figures.append(compare(name, "operations/s", rounds, more_is_better=True))
    return figures


async def _puts(server: Server, text: str) -> list[dict[str, float]]:
    import kvql.aio

    url = f"kvql://{ADMIN}@localhost:{server.port}/bench"
    rounds = []
    async with kvql.aio.connect(url, password=PASSWORD, ca=str(server.ca)) as connection:
        await connection.execute("INSERT INTO elsewhere VALUES ('a', 1) ON CONFLICT DO NOTHING")
        for n in range(ROUNDS):

            async def put(i: int, n: int = n) -> Any:
                return await connection.execute("UPSERT ? ?", [f"u{i % 100_000}", n])

            alone = await _rate(put)
            async with _watchers(url, server, text):
                rounds.append({"kvql": await _rate(put), "without them": alone})
    return rounds


@asynccontextmanager
async def _watchers(url: str, server: Server, text: str) -> AsyncIterator[None]:
    """Watches of other clients, in a process of their own so that only the server's share is measured."""
    import sys

    code = (
        "import asyncio, sys, kvql.aio\n"
        "async def main():\n"
        "    url, password, ca, text, count = sys.argv[1:]\n"
        "    async with kvql.aio.connect(url, password=password, ca=ca) as c:\n"
        "        watches = [await c.watch(text) for _ in range(int(count))]\n"
        "        print('ready', flush=True)\n"
        "        async def read(w):\n"
        "            async for _ in w: pass\n"
        "        await asyncio.gather(*map(read, watches))\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        url,
        PASSWORD,
        str(server.ca),
        text,
        str(WATCHERS),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()
