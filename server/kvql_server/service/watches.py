"""The Watch call: one watch on a stream of its own, whose flow control is the watch's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc

from kvql import errors
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import text
from kvql_server.auth import Principal
from kvql_server.executor import Lane, Watching, Work
from kvql_server.executor.events import Rows
from kvql_server.executor.watcher import Progress
from kvql_server.service.answers import chunks, fill_progress, fill_rows, header, write_in_time
from kvql_server.tokens import Claims

if TYPE_CHECKING:
    from kvql_server.service.calls import Service

Context = grpc.aio.ServicerContext
_SHARED_BYTES_MAX: Final = 256 * 1024
"""Of messages that are kept for the other watches that tell the same."""


class WatchCall:
    """From the request to the end of the call, which is always an error: the client's leaving is one, too."""

    def __init__(self, service: Service, context: Context[Any, Any], claims: Claims) -> None:
        self._service = service
        self._context = context
        self._claims = claims
        self._watching: Watching | None = None
        self._writing = False
        self._task = asyncio.current_task()

    async def run(self, request: pb.Request) -> None:
        service = self._service
        work = service.executor.work(request.deadline_ms)
        work.yields = True
        try:
            result = await self._begin(request, work)
            await self._show(request, result, work)
        except Error as e:
            service.note(self._claims.user, self._context.peer(), request, e)
            await service.durable(work.revision)
            raise
        finally:
            if self._watching is not None:
                self._watching.close()

    async def _begin(self, request: pb.Request, work: Work) -> Result:
        principal, executor = Principal(self._claims.user), self._service.executor
        if request.WhichOneof("command") == "text":
            statements = await text.requests_aside(request)
            if len(statements) != 1 or statements[0].request.WhichOneof("command") != "watch":
                raise _no_watch()
            result = await text.carry_out(executor, statements[0], Lane(), principal, work)
        elif request.WhichOneof("command") == "watch":
            result = await executor.execute(request, Lane(), principal, work)
        else:
            raise _no_watch()
        assert isinstance(result.rows, Watching)
        self._watching = result.rows
        return result

    async def _show(self, request: pb.Request, result: Result, work: Work) -> None:
        watching = self._watching
        assert watching is not None and result.columns is not None
        begun = False
        async for rows in watching:
            await self._service.durable(work.revision)  # of the initial pairs; events are durable already
            responses = self._responses(request, rows, watching.progress)
            if not begun:  # it is the place where the watch begins, no event
                responses[0].rows_header.CopyFrom(header(result.columns))
                begun = True
            for response in responses:
                await self._write(response, work)

    def _responses(self, request: pb.Request, rows: Sequence[Any], progress: Progress | None) -> list[pb.Response]:
        """What is shown together, in as few messages as it fits into; the last one has the progress."""
        if isinstance(rows, Rows) and rows.sent is not None and rows.sent[0] == request.id:
            shared: list[pb.Response] = rows.sent[1]
            return shared
        settings, out, size = self._service.settings, [], 0
        for chunk in chunks(rows, settings.rows_chunk_bytes) if rows else ():
            response = pb.Response(id=request.id)
            size += fill_rows(response, chunk, len(chunk[0]), settings.message_bytes_max)
            out.append(response)
        if progress is not None:
            if not out:
                out.append(pb.Response(id=request.id))
            fill_progress(out[-1], progress)
        if isinstance(rows, Rows) and rows.sent is None and size <= _SHARED_BYTES_MAX:
            rows.sent = request.id, out
        return out

    async def _write(self, response: pb.Response, work: Work) -> None:
        """A client that does not read holds the snapshot of the initial pairs no longer than a statement may take."""
        self._writing = True
        await write_in_time(self._context, response, work)
        self._writing = False

    def tick(self) -> None:
        """Once a second: a token that has ended ends the watch."""
        if self._watching is None:
            return
        try:
            self._service.tokens.check(self._claims)
        except Error as e:
            self._watching.watcher.end(e)
            if self._writing and self._task is not None:
                self._task.cancel()  # the client does not read, and would not hear why


def _no_watch() -> Error:
    return errors.error(errors.NOT_SUPPORTED, "Watch carries out one WATCH", hint="use Session, Execute or Select")
