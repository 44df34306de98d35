"""One Session call: lanes, their order, cancelling, stopping after errors, and answers that leave only when durable.

The reader carries quick requests out at once, one after the other, so a batch costs no task switch; requests that may
take long (scans, texts) and whatever waits behind them run in a task of their lane. Everything answered goes into one
outgoing message; the writer takes it, waits once until all that it tells of is durable, and sends. While a message is
on its way the next one fills: that is the group commit as the client sees it.

A client that does not read stops its own scans: lane tasks wait for room, the reader stops reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import grpc

from kvql import errors
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import text
from kvql_server.auth import Principal
from kvql_server.engines import base
from kvql_server.executor import Pages, Watching, Work, engine_error
from kvql_server.executor.watcher import Progress
from kvql_server.service.answers import chunks, fill_done, fill_error, fill_progress, fill_rows, header, skipped
from kvql_server.service.lanes import LaneState, is_long
from kvql_server.service.status import unforeseen
from kvql_server.tokens import Claims

if TYPE_CHECKING:
    from kvql_server.service.calls import Service

ROOM_BYTES: Final = 2 * 1024 * 1024
"""What may wait to be sent before scans stop."""
MESSAGE_BYTES: Final = 1024 * 1024
"""An outgoing message that has reached this is closed and another begun."""
TURN_S: Final = 0.005
"""After this long the reader lets other sessions have their turn."""
FLUSH_S: Final = 2.0
"""How long the end of a session waits for its last answers to leave."""
_ANSWER_BYTES: Final = 24
_SPARE_BYTES: Final = 65_536


class Session:
    """See the module's text."""

    def __init__(
        self, service: Service, context: grpc.aio.ServicerContext[Any, Any], claims: Claims, peer: str
    ) -> None:
        self._service = service
        self._context = context
        self._executor = service.executor
        self._engine = service.engine
        self._settings = service.settings
        self.claims = claims
        self.peer = peer
        self._principal = Principal(claims.user)
        self._lanes: dict[int, LaneState] = {}
        self._works: dict[int, Work] = {}
        self._out: deque[pb.ServerBatch] = deque()
        self._filling = pb.ServerBatch()
        self._filling_bytes = 0
        self._out_bytes = 0
        self._revision = 0
        self._wake_writer = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._sending = False
        self._task: asyncio.Task[Any] | None = None
        self._end_error: Error | None = None

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Until the client half-closes, the token ends, or the server stops. Open transactions are rolled back."""
        self._task = asyncio.current_task()
        writer = asyncio.create_task(self._write())
        writer.add_done_callback(self._writer_ended)
        try:
            while True:
                batch = await self._context.read()
                if batch is grpc.aio.EOF:
                    break
                await self._receive(batch)
            await self._finish(writer)
        except asyncio.CancelledError:
            if self._end_error is None:
                raise
            await self._flush(writer)
            raise self._end_error from None
        except Error:
            await self._flush(writer)
            raise
        finally:
            self._close(writer)

    def end(self, error: Error) -> None:
        """End the session from outside, with a reason for the client."""
        if self._end_error is None:
            self._end_error = error
            if self._task is not None:
                self._task.cancel()

    @property
    def busy(self) -> bool:
        """Whether something is being carried out or waits to be sent."""
        return bool(self._works or self._out or self._filling_bytes or self._sending)

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        failure = None if writer.cancelled() else writer.exception()
        if failure is not None and not self._closing:
            gone = errors.error(errors.CONNECTION_LOST, "the client is gone")
            self.end(failure if isinstance(failure, Error) else gone)

    async def _finish(self, writer: asyncio.Task[None]) -> None:
        """The client has said all: let the lanes end, and the writer send what is left."""
        tasks = [state.task for state in self._lanes.values() if state.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        self._closing = True
        self._wake_writer.set()
        await writer

    async def _flush(self, writer: asyncio.Task[None]) -> None:
        """Before the status that ends the call: gRPC sends one thing at a time, and a status is one."""
        self._closing = True
        self._wake_writer.set()
        await asyncio.wait({writer}, timeout=FLUSH_S)

    def _close(self, writer: asyncio.Task[None]) -> None:
        self._closing = True
        writer.cancel()
        for work in self._works.values():
            work.cancel()
        for state in self._lanes.values():
            if state.task is not None:
                state.task.cancel()
            state.lane.rollback()

    def tick(self, now_s: float) -> None:
        """Once a second: a token that has ended, transactions that nobody uses."""
        try:
            self._service.tokens.check(self.claims)
        except Error as e:
            self.end(e)
            return
        for state in self._lanes.values():
            transaction = state.lane.transaction
            if transaction is None or state.task is not None or transaction.failure:
                continue
            if now_s - transaction.last_used_s > self._settings.transaction_idle_s:
                transaction.abandon("the transaction was idle for too long and has been rolled back")

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _receive(self, batch: pb.ClientBatch) -> None:
        if batch.access_token:
            self._authenticate_again(batch.access_token)
        else:
            self._service.tokens.check(self.claims)
        for identifier in batch.cancel:
            self._cancel(identifier)
        for number in batch.error_seen:
            state = self._lanes.get(number)
            if state is not None:
                state.stopped = False
        turn_ends = time.monotonic() + TURN_S
        for request in batch.requests:
            await self._accept(request)
            if not self._room.is_set():
                self._wake_writer.set()
                await self._room.wait()
            if time.monotonic() > turn_ends:
                self._wake_writer.set()
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN_S
        if len(self._lanes) > 1024:
            for number in [n for n, state in self._lanes.items() if state.forgettable]:
                del self._lanes[number]
        self._wake_writer.set()

    def _authenticate_again(self, token: str) -> None:
        claims = self._service.tokens.verify(token)
        if claims.user != self.claims.user:
            raise errors.error(errors.TOKEN_INVALID, "the new access token is another user's")
        self.claims = claims

    def _cancel(self, identifier: int) -> None:
        work = self._works.get(identifier)
        if work is not None:
            work.cancel()

    async def _accept(self, request: pb.Request) -> None:
        state = self._lanes.get(request.lane)
        if state is None:
            if len(self._lanes) >= self._settings.lanes_max and not self._forget_one():
                self._refuse(
                    request, errors.error(errors.LIMIT, f"a session has at most {self._settings.lanes_max:,} lanes")
                )
                return
            state = self._lanes[request.lane] = LaneState(self)
        if state.stopped:
            self._refuse(request, skipped())
            return
        if self._service.stopping:
            self._refuse(request, errors.error(errors.SHUTTING_DOWN, "the server is shutting down"))
            return
        work = self._executor.work(request.deadline_ms)
        if state.task is None and not is_long(request) and not self._executor.is_behind(request, state.lane):
            await self._carry_out(state, request, work)
            return
        if (refusal := self._not_in_flight(request)) is not None:
            self._refuse(request, refusal)
            state.refused(request)
            return
        work.yields = True
        self._works[request.id] = work
        state.waiting.append((request, work))
        if state.task is None:
            state.task = asyncio.create_task(self._run_lane(state))

    def _not_in_flight(self, request: pb.Request) -> Error | None:
        """Why the request cannot wait for its turn."""
        if request.id in self._works:
            return errors.error(errors.INVALID, f"request {request.id} is in flight already", hint="number them anew")
        if len(self._works) >= self._settings.requests_in_flight_max:
            limit = f"a session has at most {self._settings.requests_in_flight_max:,} requests in flight"
            return errors.error(errors.LIMIT, limit)
        return None

    def _forget_one(self) -> bool:
        for number, state in self._lanes.items():
            if state.forgettable:
                del self._lanes[number]
                return True
        return False

    # ── carrying out ──────────────────────────────────────────────────────────────────────────────────────────

    async def _run_lane(self, state: LaneState) -> None:
        """What waits in a lane, one after the other."""
        try:
            while state.waiting:
                next_one = state.waiting.popleft()
                if next_one is None:
                    state.failed()
                    continue
                request, work = next_one
                try:
                    await self._carry_out(state, request, work)
                finally:
                    self._works.pop(request.id, None)
                self._wake_writer.set()
                await asyncio.sleep(0)
        finally:
            state.task = None

    async def _carry_out(self, state: LaneState, request: pb.Request, work: Work) -> None:
        """One request and all of its answer."""
        asked = request
        try:
            work.check()
            if request.WhichOneof("command") == "text":
                statements = await text.requests_aside(request)
                for number, one in enumerate(statements):
                    asked = one.request
                    result = await text.carry_out(self._executor, one, state.lane, self._principal, work)
                    self._service.note(self._principal.name, self.peer, asked, None)
                    await self._answer(state, request, work, result, number, number == len(statements) - 1)
            else:
                result = await self._executor.execute(request, state.lane, self._principal, work)
                self._service.note(self._principal.name, self.peer, request, None)
                await self._answer(state, request, work, result, 0, True)
        except Error as e:
            self._service.note(self._principal.name, self.peer, asked, e)
            self._fail(state, request, work, e)
        except Exception:  # noqa: BLE001 - logged under an id
            self._fail(state, request, work, unforeseen("a request"))

    def _fail(self, state: LaneState, request: pb.Request, work: Work, error: Error) -> None:
        self._saw(work)
        self._refuse(request, error)
        state.failed()  # also by what was stopped before the executor saw it
        if request.on_error == pb.ON_ERROR_STOP:
            state.stopped = True
            waiting = [one for one in state.waiting if one is not None]
            state.waiting.clear()
            for later, _ in waiting:
                self._works.pop(later.id, None)
                self._refuse(later, skipped())

    def _refuse(self, request: pb.Request, error: Error) -> None:
        response = self._filling.responses.add(id=request.id, last=True)
        fill_error(response, error)
        self._filled(64 + len(error.message))

    async def _answer(
        self, state: LaneState, request: pb.Request, work: Work, result: Result, number: int, last: bool
    ) -> None:
        columns, rows = result.columns, result.rows
        if columns is None or (type(rows) is list and len(rows) <= 1):
            if columns is not None and not self._room.is_set():
                await self._rest(work)
            self._saw(work)
            response = self._filling.responses.add(id=request.id, last=last, statement=number)
            size = _ANSWER_BYTES
            if columns is not None:
                try:
                    response.rows_header.CopyFrom(header(columns))
                    size += fill_rows(response, rows, len(columns), self._settings.message_bytes_max)  # type: ignore[arg-type]  # a list
                except Error:
                    del self._filling.responses[-1]
                    raise
                response = self._in_its_own(response, size)
            fill_done(response, result, result.row_count, state.lane.transaction_state)
            self._filled(size)
            return
        try:
            count = await self._stream(request, work, result, number)
        finally:
            if isinstance(rows, Pages):
                rows.close()
        response = self._filling.responses.add(id=request.id, last=last, statement=number)
        fill_done(response, result, count, state.lane.transaction_state)
        self._filled(_ANSWER_BYTES)

    async def _stream(self, request: pb.Request, work: Work, result: Result, number: int) -> int:
        """Header and rows, chunk by chunk, as fast as the client takes them; how many rows there were."""
        columns, rows = result.columns, result.rows
        assert columns is not None
        self._saw(work)
        response = self._filling.responses.add(id=request.id, statement=number)
        response.rows_header.CopyFrom(header(columns))
        self._filled(_ANSWER_BYTES)
        if not isinstance(rows, Pages):
            assert isinstance(rows, list)
            for chunk in chunks(rows, self._settings.rows_chunk_bytes):
                await self._send_chunk(request, work, chunk, len(columns), number)
            return len(rows)
        count = 0
        async for page in rows:
            count += len(page)
            for chunk in chunks(page, self._settings.rows_chunk_bytes):
                await self._send_chunk(request, work, chunk, len(columns), number)
            if isinstance(rows, Watching):
                self._tell_progress(request, rows.progress, number)
        return count

    def _tell_progress(self, request: pb.Request, progress: Progress | None, number: int) -> None:
        if progress is not None:
            fill_progress(self._filling.responses.add(id=request.id, statement=number), progress)
            self._filled(_ANSWER_BYTES)
            self._wake_writer.set()

    async def _send_chunk(self, request: pb.Request, work: Work, rows: Any, width: int, number: int) -> None:
        if not self._room.is_set():
            self._wake_writer.set()
            await self._wait_for_room(work)
        response = self._filling.responses.add(id=request.id, statement=number)
        try:
            size = fill_rows(response, rows, width, self._settings.message_bytes_max)
        except Error:
            del self._filling.responses[-1]
            raise
        self._in_its_own(response, size)
        self._filled(size)
        self._wake_writer.set()
        work.check()

    async def _wait_for_room(self, work: Work) -> None:
        """Until the client has read; a cancelled or overdue request does not wait on."""
        while not self._room.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await self._room.wait()
            except TimeoutError:
                work.check()

    async def _rest(self, work: Work) -> None:
        """Until the client has read, or the request's time is up: what was carried out is told in either case."""
        self._wake_writer.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(work.left_s):
                while not self._room.is_set():
                    await self._room.wait()

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────

    def _saw(self, work: Work) -> None:
        if work.revision > self._revision:
            self._revision = work.revision

    def _in_its_own(self, response: pb.Response, size: int) -> pb.Response:
        """The response that was just put into the outgoing message; a message begins with it if the two are too large
        to leave together."""
        if self._filling_bytes + size <= self._settings.message_bytes_max - _SPARE_BYTES:
            return response
        alone = pb.Response()
        alone.CopyFrom(response)
        del self._filling.responses[-1]
        self._out.append(self._filling)
        self._filling = pb.ServerBatch(responses=[alone])
        self._filling_bytes = 0
        return self._filling.responses[0]

    def _filled(self, size: int) -> None:
        """A response was put into the outgoing message."""
        self._filling_bytes += size
        self._out_bytes += size
        if self._filling_bytes >= MESSAGE_BYTES:
            self._out.append(self._filling)
            self._filling = pb.ServerBatch()
            self._filling_bytes = 0
        if self._out_bytes >= ROOM_BYTES:
            self._room.clear()

    async def _write(self) -> None:
        """Send what has been answered, each message after all that it tells of is durable."""
        while True:
            if not (self._out or self._filling_bytes):
                if self._closing:
                    return
                self._wake_writer.clear()
                await self._wake_writer.wait()
                continue
            if self._out:
                message = self._out.popleft()
            else:
                message, self._filling, self._filling_bytes = self._filling, pb.ServerBatch(), 0
            revision = self._revision
            self._sending = True
            if revision:
                try:
                    await self._engine.synced(revision)
                except base.EngineError as e:
                    self._service.engine_failed(e)
                    raise engine_error(e) from e
            await self._context.write(message)
            self._sending = False
            if self._out or self._filling_bytes:
                self._out_bytes = sum(map(pb.ServerBatch.ByteSize, self._out)) + self._filling_bytes
            else:
                self._out_bytes = 0
            if self._out_bytes < ROOM_BYTES:
                self._room.set()
