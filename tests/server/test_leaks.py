"""What is unforeseen reaches the log, and a client gets an opaque id."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor
from kvql_server.service import Service
from kvql_server.service.status import Net
from kvql_server.settings import Settings
from kvql_server.tokens import Tokens
from kvql_server.users import add

from kvql.codec import decode_error
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc
from tests.server.support import error_of, get, put

SECRET = "/home/secret/path"


class BrokenEngine(MemoryEngine):
    """Fails in a way that nobody foresaw, once it is told to."""

    broken = False

    def snapshot(self, revision: int | None = None):
        if self.broken:
            raise KeyError(SECRET)
        return super().snapshot(revision)


async def converse() -> list[Error]:
    engine, settings = BrokenEngine(), Settings()
    executor = Executor(engine, settings=settings)
    await add(engine, "ann", "word", ())
    tokens = Tokens(engine, executor.catalog, 900, 3600)
    await tokens.load()
    service = Service(engine, executor, tokens, settings)
    server = grpc.aio.server(interceptors=[Net()])
    kvql_pb2_grpc.add_KvqlServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told: list[Error] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = kvql_pb2_grpc.KvqlStub(channel)
        login = await stub.Login(pb.LoginRequest(user="ann", password="word"))
        metadata = (("authorization", f"Bearer {login.access_token}"),)
        await stub.Execute(put([("a", 1)]), metadata=metadata)
        session = stub.Session(metadata=metadata)
        engine.broken = True
        for call in (
            stub.Execute(get("a"), metadata=metadata),
            stub.Login(pb.LoginRequest(user="ann", password="word")),
            stub.Refresh(pb.RefreshRequest(refresh_token=login.refresh_token)),
            stub.Logout(pb.LogoutRequest(), metadata=metadata),
        ):
            with pytest.raises(grpc.RpcError) as failure:
                await call
            told.append(error_of(failure.value))
        await session.write(pb.ClientBatch(requests=[get("a", id=1)]))
        told.append(decode_error((await session.read()).responses[0].error))
        engine.broken = False
        await session.write(pb.ClientBatch(requests=[get("a", id=2)]))
        assert (await session.read()).responses[0].HasField("done")
        await session.done_writing()
    await server.stop(0)
    service.close()
    return told


def test_nothing_leaks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        told = asyncio.run(converse())
    assert [e.sqlstate for e in told] == ["XX000"] * 5
    assert all(SECRET not in str(e) and "KeyError" not in str(e) for e in told)
    ids = {e.message.rsplit("=")[-1] for e in told}
    assert len(ids) == 5
    assert all(any(i in r.getMessage() for r in caplog.records) for i in ids)
