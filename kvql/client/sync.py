"""The synchronous client: one statement after the other, in the calling thread."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from kvql import ast, errors
from kvql.client.base import BaseClient
from kvql.client.drive import Drive, Loop, step
from kvql.client.events import AsyncEvents, Events
from kvql.client.lane import Lane
from kvql.client.messages import Outcome, Tally
from kvql.client.pipeline import Pipeline
from kvql.client.rows import AsyncRows, Row, Rows, computed, whole_if_small
from kvql.client.shield import Shield
from kvql.client.texts import Texts
from kvql.compiler import Given
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange, Transport, Watched, cancelled
from kvql.transport.fetching import Position
from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.parser import Columns
    from kvql.transport.wire import Access


class Client(BaseClient):
    """A connection for one thread: statements in, results out.

    Of all methods only ``cancel`` may be called from a signal handler or another thread.
    """

    def __init__(self, transport: Transport, drive: Drive) -> None:
        super().__init__(transport, Lane(1, transport.namespace), Texts())
        self._drive = drive
        self._direct = transport.direct
        self.shield = drive.shield if isinstance(drive, Loop) else Shield(transport.cancel)
        """Holds back what signal handlers raise; ``cancel`` inside it ends whatever statement is run in it."""
        self._loop: Loop | None = None
        self._foreign = False
        """Whether it belongs to the process that this one was forked off."""
        _CLIENTS.add(self)

    def _left_behind(self) -> None:
        """In a forked child: the sockets, the log and the lock are the parent's, who goes on using them."""
        self._foreign, self._direct = True, None

    def check_open(self) -> None:
        super().check_open()
        if self._foreign:
            raise errors.InterfaceError(
                "the connection was made before this process was forked",
                sqlstate="08003",
                hint="connect in each process",
            )

    @classmethod
    def in_process(cls, place: str, namespace: str | None = None) -> Client:
        """A client of a folder or ``:memory:``."""
        from kvql.transport.local import LocalTransport

        return cls(LocalTransport.open(place, namespace), step)

    @classmethod
    def over_network(cls, access: Access, namespace: str = "") -> Client:
        """A client of a server; logs in."""
        from kvql.transport.wire import WireTransport

        drive = Loop()
        with drive.shield:
            try:
                return cls(drive(WireTransport.open(access, namespace)), drive)
            except BaseException:
                drive.close()
                raise

    def sibling(self) -> Client:
        """A connection of its own, for the same user to the same store, in the same namespace; for another thread."""
        self.check_open()
        if isinstance(self._drive, Loop):
            drive = Loop()
            with drive.shield:
                try:
                    made = Client(drive(self._transport.sibling()), drive)
                except BaseException:
                    drive.close()
                    raise
        else:
            made = Client(step(self._transport.sibling()), step)
        made.namespace = self.namespace
        return made

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        timeout: float | None = None,
        source: str | None = None,
        key: bytes | str | None = None,
    ) -> Result:
        """Carry out one statement, given as text or as a syntax tree (then ``source`` is its text, for errors).

        ``timeout`` is in seconds; ``key`` is an idempotency key. The rows of the result are read once; what has not
        come yet is fetched while they are read. Raises ``errors.Error`` with the place in the source.
        """
        if isinstance(statement, str):
            statement, source = self.read(statement)
        with self.shield:
            request = self._request(statement, parameters, timeout, source, key)
            if request is None:
                return Result()
            watches = request.HasField("watch") and self._lane.transaction == "none"
            try:
                if self._direct is not None and not watches:
                    result = self._carry_out(self._direct, request, source)
                else:
                    self.check_open()
                    result = self._drive(self._exchange(statement, request, source))
            except Error as e:
                raise self._failed(statement, e, source) from None
            self._lane.done(statement, result)
            return result

    def _carry_out(self, direct: Callable[[pb.Request], Result], request: pb.Request, source: str | None) -> Result:
        if self.shield.cancelled or self.shield.pending is not None:
            raise cancelled()
        result = direct(request)
        if result.columns is not None and type(result.rows) is not list:
            rows = computed(iter(result.rows), source)
            if not isinstance(rows, list):
                rows = Rows(self._shielded(rows.more), rows.close)
            result.rows = rows
        return result

    def _shielded(self, more: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
        def shielded() -> list[Row]:
            with self.shield:
                return more()

        return shielded

    async def _exchange(self, statement: ast.Statement, request: pb.Request, source: str | None) -> Result:
        alone = self._lane.transaction == "none"
        exchange = self._transport.submit(request, apart=alone)
        if self.shield.cancelled:
            exchange.stop()
        if alone and not isinstance(statement, _CONTROL):
            result = await whole_if_small(exchange)
        else:
            result = await self._settled(exchange)
        if not exchange.complete:
            self._attach(exchange, result, source)
        return result

    async def _settled(self, exchange: Exchange) -> Result:
        """The outcome of what decides how a transaction stands: an interrupt stops it, but waits for its answer.

        The next interrupt does not; then the transaction is given up.
        """
        try:
            return await whole_if_small(exchange, leave=False)
        except asyncio.CancelledError:
            exchange.stop()
        try:
            return await whole_if_small(exchange)
        except asyncio.CancelledError:
            self._transport.end_lane(self._lane.number)
            self._lane.given_up()
            raise

    def _attach(self, exchange: Exchange, result: Result, source: str | None = None) -> None:
        rows = AsyncRows(exchange, list(result.rows), source)
        drive = self._waiting() if exchange.endless else self._drive

        def more() -> list[Row]:
            self.check_open()
            return drive(rows.more())

        result.rows = Rows(more, rows.close)

    def watch(self, statement: str | ast.Statement, parameters: Given = None, after: Position | None = None) -> Events:
        """The events of a WATCH, on a stream of their own."""
        request, source = self._watch_request(statement, parameters, after)
        events = AsyncEvents(
            lambda: cast(Watched, self._transport.submit(request, apart=True)), source, self.check_open
        )
        return Events(events, self._waiting())

    def _waiting(self) -> Loop:
        """An event loop for what happens later, which a store in process has no need of otherwise."""
        if isinstance(self._drive, Loop):
            return self._drive
        if self._loop is None:
            self._loop = Loop()
        return self._loop

    def run_many(
        self,
        statements: Iterable[tuple[ast.Statement, str | None] | Columns],
        *,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        carry_on: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Outcome]:
        """Carry out many statements (each with its text) without waiting for each: (index, result or error) in order.

        Ends after the first error, with nothing after that statement carried out; with ``carry_on`` goes on to the end.
        Statements are taken from the iterable some thousand ahead of the outcomes. The shell puts whole columns of them
        in (``kvql.parser.Columns``); then one outcome stands for as many as its ``completed`` says.
        """
        self.check_open()
        batches = self._pipeline(carry_on, timeout).run(statements, parameters)
        try:
            while (outcomes := self._shielded_drive(lambda: _next(batches))) is not None:
                yield from outcomes
        finally:
            self._shielded_drive(batches.aclose)

    def run_rows(
        self,
        statement: str | ast.Statement,
        rows: Iterable[Any],
        *,
        carry_on: bool = True,
        timeout: float | None = None,
        source: str | None = None,
    ) -> Tally:
        """Carry out one statement for every set of parameters in ``rows``; see ``Pipeline.rows``."""
        self.check_open()
        if isinstance(statement, str):
            statement, source = self.read(statement)
        with self.shield:
            return self._drive(self._pipeline(carry_on, timeout).rows(statement, rows, source))

    def _pipeline(self, carry_on: bool, timeout: float | None) -> Pipeline:
        pipeline = Pipeline(self._transport, self._lane, self._attach, carry_on=carry_on, timeout=timeout)
        pipeline.passing = self.shield.passing
        before = self.shield.cancels
        pipeline.cancelled = lambda: self.shield.cancels != before
        return pipeline

    def _shielded_drive(self, work: Callable[[], Any]) -> Any:
        with self.shield:  # from before the coroutine is made, or an interrupt would leave one that never ran
            return self._drive(work())

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        self.shield.cancels += 1
        super().cancel()

    def close(self) -> None:
        """End the connection and roll back an open transaction. Closing twice is fine."""
        with self.shield:
            if self.closed or self._foreign:
                return
            self._direct = None
            try:
                self._drive(self._transport.close())
            finally:
                for drive in (self._drive, self._loop):
                    if isinstance(drive, Loop):
                        drive.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


_CLIENTS: Final[weakref.WeakSet[Client]] = weakref.WeakSet()


def _after_fork() -> None:
    for client in _CLIENTS:
        client._left_behind()


if hasattr(os, "register_at_fork"):  # nothing has to be looked up at every call
    os.register_at_fork(after_in_child=_after_fork)

_CONTROL: Final = (ast.Use, ast.Begin, ast.Commit, ast.Rollback)


async def _next(batches: Any) -> list[Outcome] | None:
    return await anext(batches, None)
