"""A server with faults on order: the real executor behind a gRPC service that breaks where a test says.

The real service is tested over TLS in ``test_wire``; what cannot be had from it is a connection that is cut at exactly
the moment between carrying out and answering.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

import grpc
from kvql_server.local import LocalSession, open_folder

from kvql.codec import CODE_OF_TYPE, encode_error, encode_notices, encode_rows
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql.v1.kvql_pb2_grpc import KvqlServicer, add_KvqlServicer_to_server
from tests.servers import WAIT_S

CHUNK = 1000


class Service(KvqlServicer):
    """One store in memory. ``cut`` is asked before each request whether the stream should break now."""

    def __init__(self) -> None:
        self.store = open_folder(":memory:")
        self.cut_before: Callable[[pb.Request], bool] = lambda request: False
        self.cut_after: Callable[[pb.Request], bool] = lambda request: False
        self.garbled: Callable[[pb.Request], bool] = lambda request: False
        """Whether the rows of its answer are of a type that no client knows."""
        self.keeps_outcomes = False
        """What it tells clients; it does keep them."""
        self.hold: threading.Event | None = None
        """While it is there and not set, a session reads what comes and answers nothing."""
        self.token = "first"
        self.token_lifetime_s = 900
        self.logins = self.refreshes = self.batches = self.requests = self.chunks_sent = 0
        self.tokens_seen: list[str] = []
        self.refuse_refresh = False

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.Tokens:
        self.logins += 1
        if request.password != "secret":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return self._tokens()

    async def Refresh(self, request: pb.RefreshRequest, context: Any) -> pb.Tokens:
        self.refreshes += 1
        if self.refuse_refresh:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return self._tokens()

    async def Logout(self, request: pb.LogoutRequest, context: Any) -> pb.LogoutReply:
        return pb.LogoutReply()

    def _tokens(self) -> pb.Tokens:
        return pb.Tokens(
            access_token=self.token, refresh_token="r", expires_in_s=self.token_lifetime_s,
            keeps_outcomes=self.keeps_outcomes,
        )  # fmt: skip

    async def _check(self, context: Any) -> None:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "expired")

    async def Session(self, batches: AsyncIterator[pb.ClientBatch], context: Any) -> AsyncIterator[Any]:
        await self._check(context)
        lanes: dict[int, LocalSession] = {}
        stopped: set[int] = set()
        try:
            async for batch in batches:
                self.batches += 1
                if batch.access_token:
                    self.tokens_seen.append(batch.access_token)
                stopped -= set(batch.error_seen)
                out = pb.ServerBatch()
                for request in batch.requests:
                    self.requests += 1
                    if self.cut_before(request):
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                    lane = lanes.get(request.lane) or lanes.setdefault(request.lane, self.store.session())
                    for response in self._answer(request, lane, stopped):
                        out.responses.append(response)
                        if response.HasField("rows"):
                            yield out
                            self.chunks_sent += 1
                            out = pb.ServerBatch()
                    if self.cut_after(request):
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                while self.hold is not None and not self.hold.is_set():
                    await asyncio.sleep(0.01)
                yield out
        finally:
            for lane in lanes.values():
                lane.close()

    async def Select(self, request: pb.Request, context: Any) -> AsyncIterator[Any]:
        await self._check(context)
        for response in self._answer(request, self.store.session(), set()):
            yield response
            self.chunks_sent += 1

    def _answer(self, request: pb.Request, lane: LocalSession, stopped: set[int]) -> Any:
        if request.lane in stopped:
            error = pb.Error(sqlstate="57014", message="skipped", skipped=True)
            yield pb.Response(id=request.id, last=True, error=error)
            return
        try:
            result = lane.execute(request)[-1]
        except Error as e:
            if request.on_error == pb.ON_ERROR_STOP:
                stopped.add(request.lane)
            yield pb.Response(id=request.id, last=True, error=encode_error(e))
            return
        if result.columns is not None:
            header = pb.RowsHeader(
                names=[c.name for c in result.columns], types=bytes(CODE_OF_TYPE[c.type] for c in result.columns)
            )
            yield pb.Response(id=request.id, rows_header=header)
            rows = iter(result.rows)
            while chunk := list(islice(rows, CHUNK)):
                encoded = encode_rows(chunk, len(result.columns))
                if self.garbled(request):
                    encoded.columns[0].types = b"\x63" * len(encoded.columns[0].types)
                yield pb.Response(id=request.id, rows=encoded)
        yield pb.Response(id=request.id, last=True, done=_done(result))


def _done(result: Result) -> pb.Done:
    done = pb.Done(row_count=result.row_count, revision=result.revision, namespace=result.namespace or "",
                   completed=result.completed, failed=result.failed)  # fmt: skip
    encode_notices(result.notices, done.notices)
    for error in result.errors:
        encode_error(error, done.errors.add())
    return done


class FaultyServer:
    """The service in a thread of its own, plain text on loopback."""

    def __init__(self) -> None:
        self.service = Service()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(WAIT_S)

    @property
    def url(self) -> str:
        return f"kvql://ann@127.0.0.1:{self.port}/main"

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_KvqlServicer_to_server(self.service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    def down(self) -> None:
        """Break all connections and listen no more."""
        asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result(WAIT_S)

    def up(self) -> None:
        """Listen again, on the same port, with the same store."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_S)

    def close(self) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()
