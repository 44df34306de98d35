"""The conversation over gRPC: one bidirectional stream, driven by two tasks of the caller's event loop.

The *supervisor* opens a session when there is something to send, writes batches and renews the token; its *reader*
takes in what the server sends, but no more than the callers take out: a reader that stops stops the server. When a
session breaks, the conversation decides what is sent again, and the supervisor connects anew when the next statement
comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import grpc

from kvql import errors
from kvql.compiler.points import GET, Point
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import warn_unclosed
from kvql.transport.channel import Channel
from kvql.transport.failures import no_answer
from kvql.transport.login import Access, Login
from kvql.transport.points import Waiting
from kvql.transport.session import PATIENCE_S, Conversation, SessionExchange
from kvql.transport.status import connection_lost, error_of
from kvql.transport.stream import StreamExchange, may_be_large
from kvql.transport.watch import WatchExchange
from kvql.v1 import kvql_pb2 as pb

__all__ = ["Access", "WireTransport"]

CHUNKS_MAX: Final = 8
"""Chunks read ahead of the callers."""
SESSIONS_MAX: Final = 3
"""One after the other without a single answer; then those who wait are told why."""
_FAREWELL_S: Final = 2.0
_FRESH_S: Final = 0.001


class WireTransport:
    """A connection to a server; see ``Transport``. Belongs to the event loop that opened it."""

    direct: Callable[[pb.Request], Result] | None = None
    point: Callable[[Point, str, int], asyncio.Future[Result]] | None

    def __init__(self, access: Access, namespace: str) -> None:
        self._access = access
        self.user = access.user or ""
        self.namespace = namespace
        self._login = Login(access)
        self._channel = Channel(access)
        self._conversation = conversation = Conversation()
        self._streams: set[StreamExchange | WatchExchange] = set()
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        conversation.wake_writer, conversation.wake_reader = self._wanted.set, self._room.set
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._answered = False
        self._heard_s = 0.0
        """When the server last said something."""
        self._supervisor: asyncio.Task[None] | None = None
        self._unheld = False
        """Whether it was dropped by everybody before anybody closed it."""
        self.point = self._point

    @classmethod
    async def open(cls, access: Access, namespace: str = "") -> WireTransport:
        """Connect and log in; 08001 or 28P01."""
        self = cls(access, namespace)
        try:
            await self.ready()
        except BaseException:
            await self._channel.close()
            raise
        self._conversation.repeats.on = self._login.keeps_outcomes
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def sibling(self) -> WireTransport:
        return await WireTransport.open(self._access, self.namespace)

    @property
    def batches(self) -> int:
        """Messages sent so far."""
        return self._conversation.batches

    # ── the face ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> bool:
        return self._closing

    def submit(self, request: pb.Request, *, apart: bool = False) -> SessionExchange | StreamExchange | WatchExchange:
        if self._closing:
            raise closed()
        if apart and request.HasField("watch"):
            watch = WatchExchange(self, request)
            self._streams.add(watch)
            return watch
        if apart and may_be_large(request):
            exchange = StreamExchange(self, request)
            self._streams.add(exchange)
            return exchange
        queued = self._conversation.add(request)
        self._wanted.set()
        return queued

    def _point(self, point: Point, namespace: str, deadline_ms: int) -> asyncio.Future[Result]:
        if self._closing:
            raise closed()
        future: asyncio.Future[Result] = self._loop.create_future()
        waiting = Waiting(point, namespace, deadline_ms, future)
        if deadline_ms:
            patience_s = deadline_ms / 1000 + PATIENCE_S
            timer = self._loop.call_later(patience_s, waiting.fail, no_answer(reads=point.mode == GET))
            future.add_done_callback(lambda _: timer.cancel())
        self._conversation.add_point(waiting)
        self._wanted.set()
        return future

    def error_seen(self, lane: int) -> None:
        self._conversation.error_seen(lane)
        self._wanted.set()

    def end_lane(self, lane: int) -> None:
        """Only the server knows whether anything is open there; nobody waits for its answer."""
        if not self._closing:
            request = pb.Request(lane=lane)
            request.transaction.action = pb.TransactionCommand.ROLLBACK
            self._conversation.add(request)
            self._wanted.set()

    def cancel(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._cancel_now)
        except RuntimeError:
            return  # the loop is closed, and so is everything that could be stopped

    def _cancel_now(self) -> None:
        self._conversation.cancel_all()
        for stream in list(self._streams):
            stream.stop()
        self._wanted.set()

    def forget(self, stream: StreamExchange | WatchExchange) -> None:
        self._streams.discard(stream)

    async def close(self) -> None:
        if self._closing:
            return
        self._end()
        await self._end_streams()
        try:
            if self._supervisor is not None:
                await asyncio.wait([self._supervisor], timeout=_FAREWELL_S)
            if self._channel.is_ready:
                await self._login.logout(self._channel.stub, _FAREWELL_S)
        finally:
            if self._supervisor is not None:
                self._supervisor.cancel()
            await self._channel.close()

    def _end(self) -> None:
        self._closing = True
        self._wanted.set()
        self._room.set()

    async def _end_streams(self) -> None:
        for stream in list(self._streams):
            stream.stop()
            if isinstance(stream, WatchExchange):
                await stream.ended()

    def dropped(self) -> None:
        if self._closing:
            return
        warn_unclosed(self.address, self)
        self._unheld = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end)

    async def _leave(self) -> None:
        """What ``close`` does, where nobody calls it."""
        try:
            await self._end_streams()
            if self._channel.is_ready:
                await self._login.logout(self._channel.stub, _FAREWELL_S)
        finally:
            await self._channel.close()

    # ── the session ───────────────────────────────────────────────────────────────────────────────────────────────

    async def ready(self) -> tuple[Any, tuple[tuple[str, str], ...]]:
        """A stub on a connection that stands, and the metadata of a token that lives; class 08 or 28."""
        async with self._lock:
            await self._channel.connect()
            if self._login.due:
                await self._login.renew(self._channel.stub)
            return self._channel.stub, self._login.metadata()

    def refused(self) -> None:
        """The server did not accept our token."""
        self._login.refused()

    async def lost(self, stub: Any) -> None:
        """A call by ``stub`` found the connection broken. Another one may stand by now, with other calls on it."""
        async with self._lock:
            if stub is self._channel.stub:
                await self._channel.drop()

    def has_given_up(self, stub: Any) -> bool:
        """After a CancelledError in a call by ``stub``: whether gRPC raised it because the connection was given up, by
        whoever found it broken first. Otherwise the task was cancelled, and what it does must end."""
        task = asyncio.current_task()
        return stub is not self._channel.stub and (task is None or not task.cancelling())

    @property
    def address(self) -> str:
        return self._access.target.address

    async def _supervise(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            # The loop ends. An answer that came now would be for a loop that is gone, and gRPC has no other place to
            # say so than standard error: nothing may be left on its way.
            if not self._closing and not self._unheld:
                warn_unclosed(self.address, self)
            self._give_up()
            await self._leave()
            raise
        finally:
            self._give_up()
        if self._unheld:
            await self._leave()

    def _give_up(self) -> None:
        """Whatever ended the session, nobody waits for what will not come."""
        self._closing = True
        self._conversation.broken(connection_lost(self.address))
        self._conversation.refuse_all(connection_lost(self.address), for_good=True)

    async def _serve(self) -> None:
        fruitless = 0
        while not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            if not self._conversation.has_work:
                continue
            try:
                stub, metadata = await self.ready()
            except Error as e:
                await self._refuse(_as_lost(e))
                continue
            self._conversation.token = ""
            self._conversation.repeats.on = self._login.keeps_outcomes
            cause, untouched = await self._session(stub, metadata)
            if not self._answered or cause.sqlstate == errors.TOKEN_INVALID:
                # a call that died before its first write does not always say that the token was the reason
                self._login.refused()
            if cause.sqlstate != errors.TOKEN_INVALID and not self._closing:
                await self.lost(stub)
            self._conversation.broken(cause, untouched=untouched)
            fruitless = 0 if self._answered else fruitless + 1
            if fruitless >= SESSIONS_MAX:
                await self._refuse(cause)
                fruitless = 0
            self._wanted.set()

    async def _refuse(self, cause: Error) -> None:
        """No session can be had now. What may have been carried out already is asked for again a little later."""
        if self._conversation.refuse_all(cause, for_good=cause.sqlstate == errors.LOGIN_FAILED):
            await asyncio.sleep(random.uniform(0.05, 0.2))
            self._wanted.set()

    async def _session(self, stub: Any, metadata: Any) -> tuple[Error, bool]:
        """Write until the session ends; why it did, and whether the server carried out nothing of it."""
        call = stub.Session(metadata=metadata)
        reader = asyncio.create_task(self._read(call))
        try:
            while not reader.done() and not self._closing:
                await self._renew_in_place()
                batch = self._conversation.batch()
                if batch is None:
                    await self._wanted.wait()
                    self._wanted.clear()
                    await self._look_up()
                    continue
                try:
                    await call.write(batch)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    # gRPC's promise: a write that fails has not gone to the wire, because the call is dead already
                    self._conversation.unsend(batch)
                    break
            if self._closing and not reader.done():
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.done_writing()
                self._room.set()
                await asyncio.wait([reader], timeout=_FAREWELL_S)
        except asyncio.CancelledError:
            call.cancel()
            await asyncio.wait([reader])
            if not self.has_given_up(stub):
                raise
        finally:
            if not reader.done() and self._closing:
                call.cancel()
        return await reader

    async def _look_up(self) -> None:
        """After a pause, see first whether the session still stands: what never left need not be called unknown.

        The news of its end may lie in the loop's queue, which ran last when the statement before this one did. Right
        after an answer there is none yet.
        """
        if self._loop.time() - self._heard_s > _FRESH_S:
            for _ in range(3):
                await asyncio.sleep(0)

    async def _renew_in_place(self) -> None:
        if not (self._conversation.has_work and self._login.due):
            return
        try:
            async with self._lock:
                await self._login.renew(self._channel.stub)
        except Error:
            return  # the session ends when its token does, and the next one says why
        self._conversation.token = self._login.token

    async def _read(self, call: Any) -> tuple[Error, bool]:
        conversation = self._conversation
        self._answered = False
        try:
            while (batch := await call.read()) is not grpc.aio.EOF:
                self._answered = True
                self._heard_s = self._loop.time()
                conversation.receive(batch)
                if conversation.has_work:
                    self._wanted.set()
                while conversation.buffered > CHUNKS_MAX and not conversation.waiting and not self._closing:
                    # whoever needs the next chunk, or another answer, opens the way again
                    self._room.clear()
                    await self._room.wait()
            cause, untouched = connection_lost(self.address), False
        except grpc.aio.AioRpcError as e:
            cause = error_of(e, self.address)
            untouched = not self._answered and e.code() in _REFUSALS
        except asyncio.CancelledError:
            cause, untouched = connection_lost(self.address), False
        self._wanted.set()
        return cause, untouched


_REFUSALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)


def closed() -> Error:
    return errors.InterfaceError("the connection is closed", sqlstate="08003", hint="connect again")


def _as_lost(e: Error) -> Error:
    """A connection that stood once is lost, whatever the reason that it cannot be had again."""
    if e.sqlstate != errors.CANNOT_CONNECT:
        return e
    return errors.error(errors.CONNECTION_LOST, f"the connection was lost: {e.message}", hint=e.hint)
