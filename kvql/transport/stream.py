"""A large answer on a stream of its own: its reader may stop without stopping anybody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from kvql import errors
from kvql.codec import TYPE_OF_CODE, decode_error, decode_notices, decode_rows
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.transport import cancelled
from kvql.transport.session import is_one_key
from kvql.transport.status import connection_lost, error_of
from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.transport.wire import WireTransport

LIMIT_SMALL: Final = 200


def may_be_large(request: pb.Request) -> bool:
    """Whether an answer deserves a stream: the rows of a namespace, unless a small LIMIT or one key bounds them."""
    match request.WhichOneof("command"):
        case "list":
            listing = request.list
            counted = listing.what == pb.ListCommand.COUNT
            return not counted and not (listing.HasField("limit") and listing.limit <= LIMIT_SMALL)
        case "select":
            select = request.select
            if not (select.namespace or select.from_session):
                return False
            return not (select.HasField("limit") and select.limit <= LIMIT_SMALL) and not is_one_key(select.where)
    return False


class StreamExchange:
    """A read by a call of its own; see ``Exchange``."""

    endless: Final = False

    def __init__(self, transport: WireTransport, request: pb.Request) -> None:
        self._transport = transport
        self._request = request
        request.lane = 0
        self._call: Any = None
        self._stub: Any = None
        self._result = Result()
        self._stopped = False
        self.complete = False

    async def result(self) -> Result:
        try:
            await self._begin()
        except Error as e:
            if e.sqlstate not in (errors.CONNECTION_LOST, errors.TOKEN_INVALID) or self._stopped:
                raise
            # a read that has shown nothing yet may be repeated, once
            if e.sqlstate == errors.TOKEN_INVALID:
                self._transport.refused()
            else:
                await self._transport.lost(self._stub)
            await self._begin()
        return self._result

    async def _begin(self) -> None:
        stub, metadata = await self._transport.ready()
        self._stub = stub
        if self._stopped:
            raise cancelled()
        self._result = Result()
        self.complete = False
        self._call = stub.Select(self._request, metadata=metadata)
        rows: list[Any] = []
        while not rows and not self.complete:
            rows += await self._next()
        if self._result.columns is not None:
            self._result.rows = rows

    async def more(self) -> list[tuple[object, ...]]:
        while not self.complete:
            rows = await self._next()
            if rows:
                return rows
        return []

    async def _next(self) -> list[tuple[object, ...]]:
        """Rows of the next response, if it has any."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as e:
            self._finish()
            raise cancelled() if self._stopped else error_of(e, self._transport.address) from None
        except asyncio.CancelledError:
            if not (self._stopped or self._transport.has_given_up(self._stub)):
                raise
            self._finish()
            raise (cancelled() if self._stopped else connection_lost(self._transport.address)) from None
        if response is grpc.aio.EOF:
            self._finish()
            raise connection_lost(self._transport.address)
        return self._take(response)

    def _take(self, response: pb.Response) -> list[tuple[object, ...]]:
        result = self._result
        if response.HasField("rows_header"):
            header = response.rows_header
            result.columns = tuple(
                ResultColumn(name, TYPE_OF_CODE.get(code))
                for name, code in zip(header.names, header.types, strict=False)
            )
        if response.last:
            self._finish()
        match response.WhichOneof("outcome"):
            case "error":
                self._finish()
                raise decode_error(response.error)
            case "done":
                result.row_count, result.revision = response.done.row_count, response.done.revision
                result.notices += decode_notices(response.done.notices)
        return decode_rows(response.rows) if response.HasField("rows") else []

    def stop(self) -> None:
        self._stopped = True
        if self._call is not None and not self.complete:
            self._call.cancel()

    def abandon(self) -> None:
        self.stop()
        self._finish()

    def _finish(self) -> None:
        self.complete = True
        self._transport.forget(self)
