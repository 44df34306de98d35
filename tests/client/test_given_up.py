"""A connection that one call has given up: what was under way on it is lost, and not cancelled.

gRPC calls it cancelled. To a task that would mean that somebody wants it to end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kvql
import kvql.aio
from kvql import errors
from kvql.compiler import compile_statement
from kvql.parser import parse
from kvql.transport.target import parse_target
from kvql.transport.wire import Access, WireTransport
from kvql.v1 import kvql_pb2 as pb
from tests.client.faulty import FaultyServer
from tests.servers import PASSWORD, WAIT_S, Server

ROWS = 50_000
MANY = 60


async def opened(faulty: FaultyServer) -> WireTransport:
    access = Access(target=parse_target(faulty.url), user="ann", password="secret", insecure=True)
    return await WireTransport.open(access, "main")


def request(text: str, *parameters: Any) -> pb.Request:
    made = compile_statement(parse(text)[0], parameters or None)
    made.lane, made.namespace = 1, "main"
    return made


async def done(transport: WireTransport, text: str, *parameters: Any) -> Any:
    return await asyncio.wait_for(transport.submit(request(text, *parameters)).result(), WAIT_S)


async def give_up(transport: WireTransport) -> None:
    stub, _ = await transport.ready()
    await transport.lost(stub)


async def test_a_read_that_has_shown_something(faulty: FaultyServer) -> None:
    transport = await opened(faulty)
    for start in range(0, ROWS, 5000):
        pairs = ", ".join(f"k{n} '{'x' * 100}'" for n in range(start, start + 5000))
        await done(transport, f"PUT {pairs}")
    exchange = transport.submit(request("SELECT * FROM main"), apart=True)
    await exchange.result()
    await give_up(transport)
    with pytest.raises(kvql.Error) as caught:
        while await exchange.more():
            pass
    assert caught.value.sqlstate == errors.CONNECTION_LOST
    assert (await done(transport, "HAS k0")).rows == [("k0", True)]
    await transport.close()


async def test_a_read_that_has_shown_nothing_yet_is_repeated(faulty: FaultyServer) -> None:
    transport = await opened(faulty)
    await done(transport, "PUT a 1")
    exchange: Any = transport.submit(request("SELECT * FROM main"), apart=True)
    reading = asyncio.create_task(exchange.result())
    while exchange._call is None:
        await asyncio.sleep(0)
    await give_up(transport)
    assert (await asyncio.wait_for(reading, WAIT_S)).rows == [("a", 1)]
    await transport.close()


async def test_a_task_that_is_cancelled_meanwhile_is(faulty: FaultyServer) -> None:
    transport = await opened(faulty)
    await done(transport, "PUT a 1")
    reading = asyncio.create_task(transport.submit(request("SELECT * FROM main"), apart=True).result())
    await asyncio.sleep(0)
    reading.cancel()
    await give_up(transport)
    with pytest.raises(asyncio.CancelledError):
        await reading
    await transport.close()


async def test_a_message_that_is_being_written(faulty: FaultyServer) -> None:
    """What has left, or may have, is of unknown outcome; what has not leaves with the next connection."""
    transport = await opened(faulty)
    await done(transport, "PUT a 1")
    faulty.service.hold = hold = threading.Event()
    asked = transport.submit(request("COUNT"))  # holds nothing back that comes behind it
    await asyncio.sleep(0.1)
    # the server does not read them, and there is not that much room on the way
    writes = [transport.submit(request(f"PUT big{n} '{'x' * 900_000}'")) for n in range(MANY)]
    while transport.batches < MANY // 8:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert transport.batches < MANY
    await give_up(transport)
    hold.set()
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(each.result() for each in writes), return_exceptions=True), WAIT_S
    )
    unknown = [str(e.sqlstate) for e in outcomes if isinstance(e, kvql.Error)]
    fine = [e for e in outcomes if not isinstance(e, BaseException)]
    assert set(unknown) == {errors.OUTCOME_UNKNOWN} and fine and len(unknown) + len(fine) == MANY, outcomes
    with pytest.raises(kvql.Error) as caught:
        await asked.result()
    assert caught.value.sqlstate == errors.CONNECTION_LOST
    assert (await done(transport, "HAS a")).rows == [("a", True)]
    await transport.close()


async def test_a_watch_goes_on(server_of: Callable[[str], Server]) -> None:
    server = server_of("memory")
    server.drop_namespaces()
    con = await kvql.aio.connect(f"{server.url}/shop", password=PASSWORD, ca=str(server.ca), autocommit=True)
    await con.execute("PUT a 1")
    watch = con.watch("WATCH shop")
    waiting = asyncio.ensure_future(watch.next(WAIT_S))
    await asyncio.sleep(0.2)
    await give_up(con._client._transport)
    await con.execute("PUT b 2")
    event = await waiting
    assert event is not None and (event.key, event.value) == ("b", 2)
    await con.close()
