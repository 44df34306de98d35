"""Many who watch, and one who does not read: nobody pays for them but they."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import kvql.aio
from kvql.codec import decode_rows
from kvql.compiler import compile_statement
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc
from tests.server.support import UPSERT, Wire, error_of, put, request, write
from tests.servers import WAIT_S, Server

WATCHERS = 1_000
COMMITS = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server").start()
    yield made
    made.stop()


def resident_bytes(server: Server) -> int:
    assert server.process is not None
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_watchers(server: Server) -> None:
    """Each sees every change, once and in order; none of them costs the server a thread or a connection."""
    changes = 20

    async def main() -> None:
        credentials = grpc.ssl_channel_credentials(server.ca.read_bytes())
        wire = Wire(server)
        wire.execute(put([("k", 0)]))
        async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials) as channel:
            stub: Any = kvql_pb2_grpc.KvqlStub(channel)
            command = request(watch=pb.WatchCommand(initial=True))
            calls = [stub.Watch(command, metadata=wire.metadata()) for _ in range(WATCHERS)]

            async def live(call: Any) -> None:
                rows: list[Any] = []
                while not rows or rows[-1][0] != "LIVE":
                    response = await call.read()
                    rows = decode_rows(response.rows) if response.HasField("rows") else rows

            async def values(call: Any) -> list[int]:
                out: list[int] = []
                while len(out) < changes:
                    response = await call.read()
                    out += [row[4] for row in decode_rows(response.rows)] if response.HasField("rows") else []
                return out

            await asyncio.gather(*map(live, calls))
            seen = asyncio.gather(*map(values, calls))
            for n in range(1, changes + 1):
                await asyncio.to_thread(
                    wire.execute, request(write=pb.WriteCommand(mode=pb.WRITE_MODE_UPDATE, keys=["k"],
                                                                values=pb.Values(types=b"\x03", integers=[n])))
                )  # fmt: skip
            assert await asyncio.wait_for(seen, WAIT_S) == [list(range(1, changes + 1))] * WATCHERS
            for call in calls:
                call.cancel()
        wire.close()

    asyncio.run(main())


def test_each_is_told_what_it_asked_for(server: Server) -> None:
    """Watches at one place of the history share what they tell if they ask for the same, and nothing else: each gets
    what a watch gets that is alone."""
    conditions = ["", "value > 3", "key ^= 'a'", "value > 3 AND key ^= 'a'", "key = 'b1'"]
    keys = ["a1", "a2", "b1", "b2"]
    wire = Wire(server)
    wire.execute(put([("first", 0)]))

    def ask(number: int, start: int | None) -> Any:
        condition = conditions[number % len(conditions)]
        made = compile_statement(parse("WATCH shop" + (f" WHERE {condition}" if condition else ""))[0])
        made.id = number % 3
        if start is not None:
            made.watch.from_revision = start
        return made

    def written() -> Iterator[pb.Request]:
        for n in range(60):
            pairs = [(key, (n * 7 + at) % 9) for at, key in enumerate(keys[n % 4 :])]
            yield request(write=write(UPSERT, pairs, each=n % 2 == 0))
        yield request(write=write(UPSERT, [(f"c{n}", n % 9) for n in range(900)]))  # told in two portions
        yield request(write=write(UPSERT, [("b1", 8), ("a1", 8), ("end", 9)]))

    async def main() -> None:
        credentials = grpc.ssl_channel_credentials(server.ca.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials) as channel:
            stub: Any = kvql_pb2_grpc.KvqlStub(channel)

            async def begin(number: int, start: int | None) -> Any:
                call = stub.Watch(ask(number, start), metadata=wire.metadata())
                return call, (await call.read()).progress.revision

            async def until(call: Any, number: int, revision: int) -> list[Any]:
                rows: list[Any] = []
                while not rows or rows[-1][1] < revision:
                    response = await call.read()
                    assert response.id == number % 3
                    rows += decode_rows(response.rows) if response.HasField("rows") else []
                call.cancel()
                return rows

            calls = [await begin(n, None) for n in range(40)]
            last = 0
            for one in written():
                last = (await asyncio.to_thread(wire.execute, one)).responses[-1].done.revision
            told = await asyncio.gather(*[until(call, n, last) for n, (call, _) in enumerate(calls)])
            for n in range(len(conditions)):
                call, _ = await begin(n, calls[0][1])
                alone = await asyncio.wait_for(until(call, n, last), WAIT_S)
                assert len(alone) > 5
                assert [rows == alone for rows in told[n :: len(conditions)]] == [True] * 8, conditions[n]
        wire.close()

    asyncio.run(main())


def test_one_that_does_not_read_costs_nothing(server: Server) -> None:
    """The history of a namespace is bounded; a watcher that stands still must not keep more than that alive.

    The same load is done with and without it, so that what the store itself needs is not laid at its door.
    """
    value = "x" * 900

    async def load(writer: Any, keys: int, rounds: int) -> None:
        for n in range(rounds):
            await writer.executemany("UPSERT ? ?", [(f"k{i}", f"{n}{value}") for i in range(keys)])

    async def main() -> None:
        url = f"kvql://admin@localhost:{server.port}/shop"
        async with kvql.aio.connect(url, password="correct-horse-1", ca=str(server.ca)) as writer:
            await load(writer, 1_000, COMMITS // 1_000)
            before = resident_bytes(server)
            wire = Wire(server)
            call = wire.stub.Watch(request(watch=pb.WatchCommand()), metadata=wire.metadata())
            next(call)
            await load(writer, 1_000, COMMITS // 1_000)
            grown = resident_bytes(server) - before
            print(f"{COMMITS:,} commits of 900 bytes past a watcher that reads nothing: {grown / 2**20:+.1f} MiB")
            assert grown < 24 * 2**20, "a quarter of what went past it"

            def rest() -> int:
                return sum(len(decode_rows(r.rows)) for r in call if r.HasField("rows"))

            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(rest)
            error = error_of(caught.value)
            assert error.sqlstate == "72000" and "fallen behind" in error.message
            wire.close()

    asyncio.run(main())
