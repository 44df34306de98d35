"""The synchronous client: one statement after the other, in the calling thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from kvql import ast, errors
from kvql.client.drive import Drive, Loop, step
from kvql.client.lane import Lane, TransactionState, located, whole_if_small
from kvql.client.pipeline import Outcome, Pipeline, Tally
from kvql.client.texts import Texts
from kvql.compiler import Given, compile_statement
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange, Transport
from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.transport.wire import Access


class Client:
    """A connection for one thread: statements in, results out.

    Of all methods only ``cancel`` may be called from a signal handler or another thread.
    """

    def __init__(self, transport: Transport, drive: Drive) -> None:
        self._transport = transport
        self._drive = drive
        self._direct = transport.direct
        self._lane = Lane(1, transport.namespace)
        self._texts = Texts()
        self._closed = False

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
        self._check_open()
        if isinstance(self._drive, Loop):
            drive = Loop()
            try:
                made = Client(drive(self._transport.sibling()), drive)
            except BaseException:
                drive.close()
                raise
        else:
            made = Client(step(self._transport.sibling()), step)
        made._lane.namespace = self.namespace
        return made

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def user(self) -> str:
        return self._transport.user

    @property
    def namespace(self) -> str:
        """The namespace in use; empty for none."""
        return self._lane.namespace

    @property
    def transaction_state(self) -> TransactionState:
        """``none``, ``open``, or ``failed``: an error has ended it and only ROLLBACK is accepted."""
        return self._lane.transaction

    @property
    def closed(self) -> bool:
        return self._closed

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
        if type(statement) is str:
            source = statement
            statement = self._texts.one(statement)
        lane = self._lane
        direct = self._direct
        try:
            if lane.lost and (settled := lane.settled_here(statement)):  # type: ignore[arg-type]
                return settled
            request = compile_statement(statement, parameters)  # type: ignore[arg-type]
        except Error as e:
            raise located(e, source) from None
        try:
            lane.prepare(request, timeout)
            if direct is not None:
                result = direct(request)
                if source is not None and type(result.rows) is not list and result.columns is not None:
                    result.rows = _located_rows(result.rows, source)
            else:
                self._check_open()
                result = self._drive(self._exchange(request, source))
        except Error as e:
            lane.failed(statement, e)  # type: ignore[arg-type]
            raise located(e, source) from None
        lane.done(statement, result)  # type: ignore[arg-type]
        return result

    def run_begun(
        self, statement: str | ast.Statement, parameters: Given = None, timeout: float | None = None
    ) -> Result:
        """``run`` in a new transaction; a statement about transactions itself begins none, and USE takes no part.

        A statement that cannot be compiled leaves no transaction behind.
        """
        source = statement if isinstance(statement, str) else None
        parsed = self._texts.one(statement) if isinstance(statement, str) else statement
        if not isinstance(parsed, _BEGIN_NONE):
            try:
                compile_statement(parsed, parameters)
            except Error as e:
                raise located(e, source) from None
            self.run(_BEGIN)
        return self.run(parsed, parameters, timeout, source)

    def parse_one(self, text: str) -> ast.Statement:
        """The statement that ``text`` is; 42601 if it is none or several."""
        return self._texts.one(text)

    async def _exchange(self, request: pb.Request, source: str | None) -> Result:
        exchange = self._transport.submit(request, apart=self._lane.transaction == "none")
        done = False
        try:
            result = await whole_if_small(exchange)
            done = True
        finally:
            if not done:
                exchange.abandon()
        if not exchange.complete:
            self._attach(exchange, result, source)
        return result

    def _attach(self, exchange: Exchange, result: Result, source: str | None = None) -> None:
        result.rows = self._pull(exchange, list(result.rows), source)

    def _pull(self, exchange: Exchange, rows: list[Any], source: str | None) -> Iterator[tuple[Any, ...]]:
        """The rows of a result whose end is not here yet; stops the work if nobody reads on."""
        try:
            yield from rows
            while rows := self._drive(exchange.more()):
                yield from rows
        except Error as e:
            raise located(e, source) from None
        finally:
            if not exchange.complete and not self._closed:
                exchange.abandon()

    def run_many(
        self,
        statements: Iterable[tuple[ast.Statement, str | None]],
        *,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        carry_on: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Outcome]:
        """Carry out many statements (each with its text) without waiting for each: (index, result or error) in order.

        Ends after the first error, with nothing after that statement carried out; with ``carry_on`` goes on to the end.
        Statements are taken from the iterable some thousand ahead of the outcomes.
        """
        self._check_open()
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
        self._check_open()
        if isinstance(statement, str):
            source, statement = statement, self._texts.one(statement)
        pipeline = Pipeline(self._transport, self._lane, self._attach, carry_on=carry_on, timeout=timeout)
        return self._drive(pipeline.rows(statement, rows, source))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """Stop what runs: it ends with 57014, the connection stays usable. From any thread or signal handler."""
        self._transport.cancel()

    def close(self) -> None:
        """End the connection and roll back an open transaction. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._direct = None
        try:
            self._drive(self._transport.close())
        finally:
            if isinstance(self._drive, Loop):
                self._drive.close()

    def _check_open(self) -> None:
        if self._closed:
            raise errors.InterfaceError("the connection is closed", sqlstate="08003", hint="connect again")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _located_rows(rows: Iterable[Any], source: str) -> Iterator[Any]:
    """Rows that are computed while they are read; an error among them gets its place in the text."""
    try:
        yield from rows
    except Error as e:
        raise located(e, source) from None


_BEGIN: Final = ast.Begin()
_BEGIN_NONE: Final = (ast.Begin, ast.Commit, ast.Rollback, ast.Use)


async def _next(batches: Any) -> list[Outcome] | None:
    return await anext(batches, None)
