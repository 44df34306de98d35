"""A watch on a stream of its own, taken up again where it broke off: no event is missing, and none comes twice.

What has come is known by its place: the revision, within a commit the key. A connection that breaks, a server that
shuts down and a token that ends are overcome; what the server says about the watch itself (the namespace is gone, it
fell too far behind, a condition cannot be computed) ends it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from kvql import errors
from kvql.codec import TYPE_OF_CODE, decode_error, decode_rows
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.transport import cancelled
from kvql.transport.fetching import Fetching, Position, Rows, resumed
from kvql.transport.status import connection_lost, error_of
from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.transport.wire import WireTransport

PATIENCE_S: Final = 60.0
"""How long a server that cannot be reached is tried again."""
_PAUSE_S: Final = 0.05
_PAUSE_MAX_S: Final = 2.0
_OVERCOME: Final = frozenset(
    {errors.CONNECTION_LOST, errors.CANNOT_CONNECT, errors.SHUTTING_DOWN, errors.TOKEN_INVALID, errors.CANCELLED,
     errors.LIMIT}
)  # fmt: skip
"""After these the watch goes on: of a limit the one that it broke off from may still have had its share."""


class WatchExchange(Fetching):
    """See ``Watched``."""

    endless: Final = True

    def __init__(self, transport: WireTransport, request: pb.Request) -> None:
        super().__init__()
        self._transport = transport
        self._request = request
        request.lane = 0
        self._call: Any = None
        self._stub: Any = None
        self._columns: tuple[ResultColumn, ...] | None = None
        self._first: Rows = []
        self._stopped = False
        self._failures = 0
        self._heard_s = time.monotonic()
        """When the server was heard last; after a failure, when it was missed first."""
        self.complete = False

    async def result(self) -> Result:
        """The columns, when the server has said where the watch begins."""
        while self._place is None:
            try:
                await self._begin(self._request)
                self._first = await self._next()
            except Error as e:
                # before anything was shown: once again, as any other read
                if self._stopped or self._failures or e.sqlstate not in (errors.CONNECTION_LOST, errors.TOKEN_INVALID):
                    self._finish()
                    raise
                self._failures += 1
                await self._overcome(e)
        self.position = self._place
        return Result(self._columns, self._first)

    async def _begin(self, request: pb.Request) -> None:
        stub, metadata = await self._transport.ready()
        if self._stopped:
            raise cancelled()
        self._stub = stub
        self._call = stub.Watch(request, metadata=metadata)

    async def _fetch(self) -> Rows:
        while True:
            try:
                rows = await self._next()
            except Error as e:
                await self._resume(e)
                continue
            if rows:
                return rows
            self.position = self._place

    async def _next(self) -> Rows:
        """What the next response has; often nothing but how far the watch has come."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as e:
            raise cancelled() if self._stopped else error_of(e, self._transport.address) from None
        except asyncio.CancelledError:
            if not (self._stopped or self._transport.has_given_up(self._stub)):
                self._call.cancel()
                raise
            raise (cancelled() if self._stopped else connection_lost(self._transport.address)) from None
        if response is grpc.aio.EOF:
            raise connection_lost(self._transport.address)
        self._heard_s, self._failures = time.monotonic(), 0
        return self._take(response)

    def _take(self, response: pb.Response) -> Rows:
        if response.HasField("rows_header"):
            header = response.rows_header
            self._columns = tuple(
                ResultColumn(name, TYPE_OF_CODE.get(code))
                for name, code in zip(header.names, header.types, strict=False)
            )
        if response.HasField("error"):
            raise decode_error(response.error)
        rows = decode_rows(response.rows) if response.HasField("rows") else []
        if rows and self._place is not None:
            self._place = self._place.behind(rows[-1])
        if response.HasField("progress"):
            told = response.progress
            self._place = Position(told.store, told.since, told.revision, told.key, told.initial)
        return rows

    async def _resume(self, cause: Error) -> None:
        """Begin again behind what has come; raises ``cause``, or what is in the way, if that is not to be."""
        while True:
            if self._stopped or cause.sqlstate not in _OVERCOME or self._lost_patience():
                self._finish()
                raise cause
            try:
                await self._overcome(cause)
                assert self._place is not None
                return await self._begin(resumed(self._request, self._place))
            except Error as e:
                cause = e

    def _lost_patience(self) -> bool:
        # without a failure yet it was not missed: whoever reads the events may have taken long over the last one
        return self._failures > 0 and time.monotonic() - self._heard_s > PATIENCE_S

    async def _overcome(self, cause: Error) -> None:
        if self._failures:
            await asyncio.sleep(min(_PAUSE_S * 2**self._failures, _PAUSE_MAX_S))
        else:
            self._heard_s = time.monotonic()
        self._failures += 1
        if cause.sqlstate == errors.TOKEN_INVALID:
            self._transport.refused()
        elif cause.sqlstate in (errors.CONNECTION_LOST, errors.SHUTTING_DOWN):
            await self._transport.lost(self._stub)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        self._stopped = True
        if self._call is not None and not self.complete:
            self._call.cancel()
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()

    def abandon(self) -> None:
        self.stop()
        self._finish()
        self._drop()

    async def ended(self) -> None:
        """After ``stop``: wait until nothing is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _finish(self) -> None:
        self.complete = True
        self._transport.forget(self)
