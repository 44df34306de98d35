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
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc
from tests.server.support import Wire, error_of, put, request
from tests.servers import Server

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
            assert await asyncio.wait_for(seen, 60) == [list(range(1, changes + 1))] * WATCHERS
            for call in calls:
                call.cancel()
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
