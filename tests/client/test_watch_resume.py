"""A watch whose connection is cut, whose server is killed, shut down and started again: no gap, no event twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import kvql
import kvql.aio
from kvql.client.events import Event
from tests.client.cutting import CuttingProxy
from tests.client.proxy import Proxy
from tests.server.watching import Folded
from tests.servers import ADMIN, PASSWORD, WAIT_S, Server

ROUNDS = 100
END = "the-end"


def write(server: Server, choose: random.Random, enough: Callable[[], bool]) -> None:
    """Commits of one pair and of many, and some that expire, ``ROUNDS`` and more until it is enough; ``END`` at last.

    How many bytes a watcher is sent depends on how many events go together: so it is asked.
    """
    with server.connect("shop") as connection:
        for n in count():
            if n >= ROUNDS and enough():
                break
            if n % 10 == 0:
                pairs = ", ".join(f"k{choose.randrange(300)} {n}" for _ in range(60))
                connection.execute(f"UPSERT {pairs}")
            elif n % 10 == 5:
                connection.execute("DELETE FROM shop WHERE value < ?", [n - 20])
            else:
                connection.execute(f"UPSERT k{choose.randrange(300)} {n}" + (" TTL 5ms" if n % 7 == 0 else ""))
        time.sleep(0.3)
        connection.execute(f"PUT {END} 1")


def seen_by(watch: Any) -> list[Event]:
    """The events until ``END``."""
    out = []
    while not out or out[-1].key != END:
        event = watch.next(WAIT_S)
        assert event is not None, "nothing comes"
        out.append(event)
    return out


def check(server: Server, found: list[Event], start: int) -> None:
    """They are exactly the events that one sees to whom nothing happened, and fold to the state of the store."""
    live = [e for e in found if e.event not in ("INITIAL", "LIVE")]
    with server.connect("shop") as connection:
        assert live == seen_by(connection.watch(f"WATCH shop FROM REVISION {start}"))
        folded = Folded()
        for event in found:
            folded.take(event)
        assert folded.pairs == dict(connection.execute("SHOW DATA").fetchall())


@pytest.mark.parametrize("seed", range(2))
def test_connections_that_are_cut(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    choose = random.Random(seed)
    server = Server(tmp_path / "server").start()
    # a login over TLS takes some four kilobytes
    proxy = CuttingProxy(lambda: server.port, choose, 15_000)
    try:
        with server.connect("shop") as admin:
            admin.execute("UPSERT " + ", ".join(f"k{n} {n}" for n in range(100)))
        url = f"kvql://{ADMIN}@localhost:{proxy.port}/shop"
        proxy.calm = True
        connection = kvql.connect(url, password=PASSWORD, ca=str(server.ca), autocommit=True)
        proxy.calm = False
        watch = connection.watch("WATCH shop WITH INITIAL")
        assert watch.position is not None, "it has begun"
        start = watch.position.revision
        writer = threading.Thread(target=write, args=(server, choose, lambda: proxy.cuts >= 3))
        writer.start()
        found = seen_by(watch)
        writer.join()
        check(server, found, start)
        proxy.calm = True
        connection.close()
    finally:
        proxy.close()
        server.stop()


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_server_that_is_started_again(way: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "server").start()
    server.arguments = ("--listen", f"localhost:{server.port}")
    try:
        with server.connect("shop") as admin:
            start = admin.execute("PUT k0 0, k1 1").revision
        connection = server.connect("shop")
        watch = connection.watch("WATCH shop WITH INITIAL")
        found: list[Event] = []
        choose = random.Random(way)
        for turn in range(3):
            with server.connect("shop") as writer:
                for n in range(40):
                    writer.execute(f"UPSERT k{choose.randrange(20)} {n}, x{turn} {n}")
                while len(found) < choose.randrange(turn * 80 + 30, turn * 80 + 80):
                    found.append(watch.next(WAIT_S))
            getattr(server, way)()
            assert server.process is not None and server.process.stdout is not None
            server.process.stdout.close()
            server.start()
        with server.connect("shop") as writer:
            writer.execute(f"PUT {END} 1")
        found += seen_by(watch)
        check(server, found, start)
        connection.close()
    finally:
        server.stop()


def test_another_store_at_the_same_address_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path / "one", engine="memory").start()
    server.arguments = ("--listen", f"localhost:{server.port}")
    try:
        connection = server.connect("shop")
        connection.execute("PUT a 1")
        watch = connection.watch("WATCH shop")
        server.stop()
        server.start()
        with server.connect("shop") as other:
            other.execute("PUT a 1")
        with pytest.raises(kvql.OperationalError, match="the store is another one") as caught:
            watch.next(WAIT_S)
        assert caught.value.sqlstate == "72000" and watch.closed
        connection.close()
    finally:
        server.stop()


def test_a_server_that_stays_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvql.transport.watch.PATIENCE_S", 1.0)
    server = Server(tmp_path / "server", engine="memory").start()
    connection = server.connect("shop")
    connection.execute("PUT a 1")
    watch = connection.watch("WATCH shop")
    server.stop()
    with pytest.raises(kvql.OperationalError) as caught:
        watch.next(WAIT_S)
    assert caught.value.sqlstate in ("08006", "08001", "57P01")
    connection.close()


def test_tasks_that_watch(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", engine="memory").start()

    async def main() -> None:
        url = f"kvql://{ADMIN}@localhost:{server.port}/shop"
        async with kvql.aio.connect(url, password=PASSWORD, ca=str(server.ca)) as connection:
            await connection.execute("PUT n 0")

            async def count(watch: kvql.aio.Watch) -> int:
                async for event in watch:
                    if event.value == 50:
                        return int(event.value)
                raise AssertionError

            watches = [await connection.watch("WATCH WHERE value > ?", [n]) for n in range(5)]
            tasks = [asyncio.create_task(count(watch)) for watch in watches]
            for _ in range(50):
                await connection.execute("UPDATE shop SET value = value + 1 WHERE key = 'n'")
            assert await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S) == [50] * 5
            idle = connection.watch("WATCH", timeout=0.1)
            assert [event async for event in idle] == []
            waiting = asyncio.create_task(idle.next())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await connection.execute("UPSERT n 99")
            event = await idle.next(WAIT_S)
            assert event is not None and event.value == 99, "what was asked for is not lost"
            async with connection.watch("WATCH WITH INITIAL") as watch:
                assert [(await anext(watch)).event for _ in range(2)] == ["INITIAL", "LIVE"]
            assert watch.closed

    try:
        asyncio.run(main())
    finally:
        server.stop()


def test_a_reader_who_takes_longer_than_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the server is tried for counts from when it was missed, not from when it was last read from."""
    monkeypatch.setattr("kvql.transport.watch.PATIENCE_S", 3.0)
    server = Server(tmp_path / "server", engine="memory").start()
    proxy = Proxy(server.port)
    try:
        url = f"kvql://{ADMIN}@localhost:{proxy.port}/shop"
        with kvql.connect(url, password=PASSWORD, ca=str(server.ca), autocommit=True) as connection:
            connection.execute("PUT a 1")
            watch = connection.watch("WATCH shop")
            time.sleep(3.2)
            proxy.cut()
            with server.connect("shop") as other:
                other.execute("PUT b 2")
            event = watch.next(WAIT_S)
            assert event is not None and event.key == "b"
    finally:
        proxy.close()
        server.stop()


def test_ctrl_c_ends_the_waiting_and_not_the_watch(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", engine="memory").start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    try:
        with server.connect("shop") as connection, server.connect("shop") as other:
            connection.execute("PUT a 1")
            watch = connection.watch("WATCH shop")
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                watch.next(WAIT_S)
            timer.join()
            assert not watch.closed
            other.execute("PUT b 2")
            event = watch.next(WAIT_S)
            assert event is not None and event.key == "b"
    finally:
        signal.signal(signal.SIGINT, before)
        server.stop()
