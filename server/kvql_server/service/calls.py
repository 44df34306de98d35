"""The gRPC service: Login, Refresh, Logout, Session, Execute, Select, Watch. Who calls is settled here, before anything
else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any, Final

import grpc

from kvql import errors
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc
from kvql_server import audit, text
from kvql_server.auth import Principal
from kvql_server.catalog import User
from kvql_server.engines import base
from kvql_server.engines.base import Engine
from kvql_server.executor import WRITES, Executor, Lane, Pages, Watching, engine_error
from kvql_server.passwords import Throttle, Verifier
from kvql_server.service.answers import chunks, fill_done, fill_error, fill_rows, header, write_in_time
from kvql_server.service.session import Session
from kvql_server.service.watches import WatchCall
from kvql_server.settings import Settings
from kvql_server.tokens import Claims, Tokens, invalid
from kvql_server.transaction import Transaction

_LOG: Final = logging.getLogger("kvql.server")
_BEARER: Final = "Bearer "
_AUDITED: Final = frozenset({"create_namespace", "alter_namespace", "drop_namespace"})
_SPARE_BYTES: Final = 131_072
"""Of a message, for what is not rows."""
_NO_READS: Final = frozenset({*WRITES, "transaction", "text", "use", "assertion", "watch", None})
Context = grpc.aio.ServicerContext


class Service(kvql_pb2_grpc.KvqlServicer):
    """See ``kvql.proto`` for what each call means."""

    def __init__(self, engine: Engine, executor: Executor, tokens: Tokens, settings: Settings) -> None:
        self.engine = engine
        self.executor = executor
        self.tokens = tokens
        self.settings = settings
        self.stopping = False
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set with a sentence when the engine has stopped for good: the process must end."""
        self._verifier = Verifier(settings.login_threads, settings.login_queue_max)
        self._throttle = Throttle()
        self._sessions: set[Session] = set()
        self._sessions_of: Counter[str] = Counter()
        self._watches: set[WatchCall] = set()

    # ── who calls ─────────────────────────────────────────────────────────────────────────────────────────────

    def _claims(self, context: Context[Any, Any]) -> Claims:
        """What the call's access token says; 28000 without a valid one."""
        found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        if len(found) != 1 or not isinstance(found[0], str) or not found[0].startswith(_BEARER):
            raise invalid()
        return self.tokens.verify(found[0][len(_BEARER) :])

    async def Login(self, request: pb.LoginRequest, context: Context[Any, Any]) -> pb.Tokens:
        user, peer = request.user, context.peer()
        place = _host(peer)
        try:
            self._throttle.check(user, place)
            record = await self._user(user)
            if not await self._verifier.verify(request.password, None if record is None else record.hash):
                self._throttle.failed(user, place)
                raise errors.error(errors.LOGIN_FAILED, "wrong user or password")
            assert record is not None
        except Error as e:
            audit.event("login", "denied", actor=user, peer=peer, what=e.sqlstate)
            raise
        self._throttle.succeeded(user, place)
        tokens, revision = await self.tokens.log_in(user, record)
        await self.durable(revision)
        audit.event("login", "ok", actor=user, peer=peer)
        return tokens

    async def _user(self, name: str) -> User | None:
        transaction = Transaction(self.engine, name, tracked=False)
        try:
            return await self.executor.catalog.user(transaction, name)
        finally:
            transaction.close()

    async def Refresh(self, request: pb.RefreshRequest, context: Context[Any, Any]) -> pb.Tokens:
        try:
            tokens, user, revision = await self.tokens.refresh(request.refresh_token)
        except Error:
            audit.event("refresh", "denied", peer=context.peer())
            raise
        await self.durable(revision)
        audit.event("refresh", "ok", actor=user, peer=context.peer())
        return tokens

    async def Logout(self, request: pb.LogoutRequest, context: Context[Any, Any]) -> pb.LogoutReply:
        claims = self._claims(context)
        revision = await self.tokens.log_out(claims, request.refresh_token)
        await self.durable(revision)
        audit.event("logout", "ok", actor=claims.user, peer=context.peer())
        self._look_after_sessions()
        return pb.LogoutReply()

    # ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────

    async def Session(self, request_iterator: Any, context: Context[Any, Any]) -> None:  # type: ignore[override]  # the stub knows only generators
        claims = self._claims(context)
        self._check_serving()
        if len(self._sessions) >= self.settings.sessions_max:
            raise errors.error(errors.LIMIT, f"the server has at most {self.settings.sessions_max:,} sessions")
        if self._sessions_of[claims.user] >= self.settings.sessions_per_user_max:
            raise errors.error(errors.LIMIT, f"a user has at most {self.settings.sessions_per_user_max:,} sessions")
        session = Session(self, context, claims, context.peer())
        self._sessions.add(session)
        self._sessions_of[claims.user] += 1
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._sessions_of[claims.user] -= 1
            if not self._sessions_of[claims.user]:
                del self._sessions_of[claims.user]

    def _check_serving(self) -> None:
        if self.stopping:
            raise errors.error(errors.SHUTTING_DOWN, "the server is shutting down")

    # ── single calls ──────────────────────────────────────────────────────────────────────────────────────────

    async def Execute(self, request: pb.Request, context: Context[Any, Any]) -> pb.ExecuteReply:
        """One request, its whole answer. A transaction lives within one text only."""
        principal = Principal(self._claims(context).user)
        self._check_serving()
        work, lane = self.executor.work(request.deadline_ms), Lane()
        work.yields = True
        reply, asked = pb.ExecuteReply(), request
        try:
            if request.WhichOneof("command") == "text":
                for number, one in enumerate(await text.requests_aside(request)):
                    asked = one.request
                    work.reply_bytes_max = self.settings.message_bytes_max - _SPARE_BYTES - reply.ByteSize()
                    result = await text.carry_out(self.executor, one, lane, principal, work)
                    await self._reply(reply, result, lane, number)
                    self.note(principal.name, context.peer(), asked, None)
            else:
                if request.WhichOneof("command") == "transaction":
                    raise errors.error(
                        errors.NOT_SUPPORTED, "a transaction needs a session", hint="use Session, or one text command"
                    )
                work.reply_bytes_max = self.settings.message_bytes_max - _SPARE_BYTES
                result = await self.executor.execute(request, lane, principal, work)
                await self._reply(reply, result, lane, 0)
                self.note(principal.name, context.peer(), asked, None)
        except Error as e:
            self.note(principal.name, context.peer(), asked, e)
            complete = sum(response.HasField("done") for response in reply.responses)
            while reply.responses and reply.responses[-1].statement == complete:
                del reply.responses[-1]  # what there was of the failed statement's rows
            if not complete:
                await self.durable(work.revision)
                raise
            fill_error(reply.responses.add(statement=complete), e)
        finally:
            lane.rollback()
        reply.responses[-1].last = True
        await self.durable(work.revision)
        return reply

    async def _reply(self, reply: pb.ExecuteReply, result: Result, lane: Lane, number: int) -> None:
        if isinstance(result.rows, Watching):
            result.rows.close()
            raise errors.error(errors.NOT_SUPPORTED, "the events of WATCH have no end", hint="use Watch or Session")
        response = reply.responses.add(statement=number)
        count = result.row_count
        if result.columns is not None:
            response.rows_header.CopyFrom(header(result.columns))
            pages = result.rows if isinstance(result.rows, Pages) else _one_page(result.rows)
            count, size = 0, 0
            async for page in pages:
                for chunk in chunks(page, self.settings.rows_chunk_bytes):
                    count += len(chunk)
                    target = response if count == len(chunk) else reply.responses.add(statement=number)
                    size += fill_rows(target, chunk, len(result.columns), self.settings.message_bytes_max)
                    if size > self.settings.message_bytes_max - 65_536:
                        raise errors.error(
                            errors.TOO_COMPLEX, "the answer does not fit into one message", hint="use Select or Session"
                        )
            response = reply.responses[-1]
        fill_done(response, result, count, lane.transaction_state)

    async def Select(self, request: pb.Request, context: Context[Any, Any]) -> None:  # type: ignore[override]  # the stub knows only generators
        """One read, its rows in chunks; a client that stops reading stops the scan."""
        principal = Principal(self._claims(context).user)
        self._check_serving()
        if request.WhichOneof("command") in _NO_READS:
            raise errors.error(errors.NOT_SUPPORTED, "Select carries out reads only", hint="use Session or Execute")
        work, lane = self.executor.work(request.deadline_ms), Lane()
        work.yields = True
        try:
            result = await self.executor.execute(request, lane, principal, work)
        except Error as e:
            self.note(principal.name, context.peer(), request, e)
            await self.durable(work.revision)
            raise
        await self.durable(work.revision)
        assert result.columns is not None
        pages = result.rows if isinstance(result.rows, Pages) else _one_page(result.rows)
        try:
            first = pb.Response(id=request.id)
            first.rows_header.CopyFrom(header(result.columns))
            await context.write(first)
            count = 0
            async for page in pages:
                for chunk in chunks(page, self.settings.rows_chunk_bytes):
                    work.check()
                    response = pb.Response(id=request.id)
                    fill_rows(response, chunk, len(result.columns), self.settings.message_bytes_max)
                    await write_in_time(context, response, work)
                    count += len(chunk)
            last = pb.Response(id=request.id, last=True)
            fill_done(last, result, count, 0)
            await context.write(last)
        finally:
            if isinstance(result.rows, Pages):
                result.rows.close()

    async def Watch(self, request: pb.Request, context: Context[Any, Any]) -> None:  # type: ignore[override]  # the stub knows only generators
        claims = self._claims(context)
        self._check_serving()
        call = WatchCall(self, context, claims)
        self._watches.add(call)
        try:
            await call.run(request)
        finally:
            self._watches.discard(call)

    # ── what the parts share ──────────────────────────────────────────────────────────────────────────────────

    async def durable(self, revision: int) -> None:
        if revision:
            try:
                await self.engine.synced(revision)
            except base.EngineError as e:
                self.engine_failed(e)
                raise engine_error(e) from e

    def engine_failed(self, error: base.EngineError) -> None:
        """The engine has stopped: nothing may be written any more, and the process ends."""
        if isinstance(error, base.OutcomeUnknown | base.Corrupted):
            self._end(str(error))

    def _end(self, why: str) -> None:
        if not self.failed.done():
            self.failed.set_result(why)

    def note(self, user: str, peer: str, request: pb.Request, error: Error | None) -> None:
        """The audit's share of a request: DDL, refusals, and a stopped engine."""
        command = request.WhichOneof("command")
        if command in _AUDITED:
            named = getattr(request, command).namespace
            audit.event(
                command, "ok" if error is None else f"failed {error.sqlstate}", actor=user, peer=peer, what=named
            )
        elif error is not None and error.sqlstate == errors.PERMISSION_DENIED:
            audit.event(command or "request", "denied", actor=user, peer=peer, what=request.namespace)
        if error is not None and error.sqlstate == errors.OUTCOME_UNKNOWN:
            self._end(str(error.__cause__ or error.message))

    async def tick(self) -> None:
        """Drive the engine ten times a second, and look after the sessions once a second; until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(0.1)
            turn += 1
            try:
                self.engine.tick()  # type: ignore[attr-defined]  # upkeep: the contract does not ask for it
            except base.EngineError as e:
                self.engine_failed(e)
            except Exception:  # noqa: BLE001 - logged, and tried again
                _LOG.exception("the engine's upkeep failed; it is tried again")
            if self.engine.failed is not None:  # where nobody waits for a commit, nobody else would find out
                self._end(self.engine.failed)
            if turn % 10 == 0:
                self._look_after_sessions()

    def _look_after_sessions(self) -> None:
        for session in list(self._sessions):
            session.tick(time.monotonic())
        for watch in list(self._watches):
            watch.tick()

    def stop_serving(self) -> None:
        """No new work, and no more events: whoever watches takes it up again elsewhere, or later."""
        self.stopping = True
        self.executor.watches.end_all(errors.error(errors.SHUTTING_DOWN, "the server is shutting down"))

    def end_sessions(self) -> None:
        """The grace is over: what is still open ends."""
        for session in list(self._sessions):
            session.end(errors.error(errors.SHUTTING_DOWN, "the server is shutting down"))

    @property
    def busy(self) -> bool:
        """Whether a request is being carried out, or an answer has not been sent."""
        return any(session.busy for session in self._sessions)

    def close(self) -> None:
        self._verifier.close()


async def _one_page(rows: Any) -> Any:
    yield list(rows)


def _host(peer: str) -> str:
    """The place that a peer calls from, without its port."""
    return peer.rsplit(":", 1)[0]
