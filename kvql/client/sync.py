"""The synchronous client: one statement after the other, in the calling thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from kvql import ast
from kvql.client.base import BaseClient
from kvql.client.drive import Drive, Loop, step
from kvql.client.events import AsyncEvents, Events
from kvql.client.lane import Lane
from kvql.client.messages import Outcome, Tally
from kvql.client.pipeline import Pipeline
from kvql.client.rows import AsyncRows, Row, Rows, computed, whole_if_small
from kvql.client.texts import Texts
from kvql.compiler import Given
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange, Transport, Watched
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
        self._loop: Loop | None = None

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
    ) -> Result:
        """Carry out one statement, given as text or as a syntax tree (then ``source`` is its text, for errors).

        ``timeout`` is in seconds. The rows of the result are read once; what has not come yet is fetched while they are
        read. Raises ``errors.Error`` with the place in the source.
        """
        if isinstance(statement, str):
            statement, source = self.read(statement)
        request = self._request(statement, parameters, timeout, source)
        if request is None:
            return Result()
        try:
            if self._direct is not None and not (request.HasField("watch") and self._lane.transaction == "none"):
                result = self._direct(request)
                if result.columns is not None and type(result.rows) is not list:
                    result.rows = computed(iter(result.rows), source)
            else:
                self.check_open()
                result = self._drive(self._exchange(request, source))
        except Error as e:
            raise self._failed(statement, e, source) from None
        self._lane.done(statement, result)
        return result

    async def _exchange(self, request: pb.Request, source: str | None) -> Result:
        exchange = self._transport.submit(request, apart=self._lane.transaction == "none")
        result = await whole_if_small(exchange)
        if not exchange.complete:
            self._attach(exchange, result, source)
        return result

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
        pipeline = Pipeline(self._transport, self._lane, self._attach, carry_on=carry_on, timeout=timeout)
        batches = pipeline.run(statements, parameters)
        try:
            while (outcomes := self._drive(_next(batches))) is not None:
                yield from outcomes
        finally:
            self._drive(batches.aclose())

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
        pipeline = Pipeline(self._transport, self._lane, self._attach, carry_on=carry_on, timeout=timeout)
        return self._drive(pipeline.rows(statement, rows, source))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """End the connection and roll back an open transaction. Closing twice is fine."""
        if self.closed:
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


async def _next(batches: Any) -> list[Outcome] | None:
    return await anext(batches, None)
