"""The asynchronous client: many tasks share one connection, each statement on its own.

What tasks submit while a batch is in flight leaves with the next one, so a hundred tasks cost hardly more round trips
than one. Every statement that runs at the same time as others has a lane of its own: none waits for another's, and a
transaction has its lane for itself.

::

    async with kvql.aio.connect("kvql://ann@localhost:7443/shop") as con:
        result = await con.execute("GET ?", ["a"])
        async with con.transaction() as tx:
            await tx.execute("PUT a 1")
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from kvql import ast, errors
from kvql.client.lane import Lane, TransactionState, located, whole_if_small
from kvql.client.opening import access_of
from kvql.client.pipeline import Pipeline
from kvql.client.texts import Texts
from kvql.compiler import Given, compile_statement
from kvql.errors import Error
from kvql.result import Notice, ResultColumn
from kvql.result import Result as _Raw
from kvql.transport import Exchange, Transport
from kvql.transport.target import parse_target
from kvql.values import Json

__all__ = ["Connection", "Result", "Transaction", "connect"]

T = TypeVar("T")
STATEMENTS_MAX: Final = 1024
"""At once on one connection; more wait their turn here, instead of filling the server's memory."""
_SESSION: Final = (ast.Use, ast.Begin, ast.Commit, ast.Rollback, ast.Savepoint, ast.Release)


class Result:
    """What a statement answered. ``async for row in result`` fetches as it goes; ``rows`` holds all that is there.

    ``columns`` is None for a statement without rows. ``rowcount`` counts pairs changed or rows returned, and is -1
    while a large answer is still coming.
    """

    __slots__ = ("_exchange", "_raw", "_rows", "_source")

    def __init__(self, raw: _Raw, exchange: Exchange, source: str | None) -> None:
        self._raw = raw
        self._exchange: Exchange | None = None if exchange.complete else exchange
        self._source = source
        self._rows = _out(raw.rows)

    @property
    def columns(self) -> tuple[ResultColumn, ...] | None:
        return self._raw.columns

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows, if they are all here; InterfaceError while a large answer is still coming."""
        if self._exchange is not None:
            raise errors.InterfaceError(
                "the rows of a large result are still coming",
                sqlstate="HY010",
                hint="write `async for row in result`, or `await result.fetchall()`",
            )
        return self._rows

    @property
    def rowcount(self) -> int:
        return self._raw.row_count

    @property
    def notices(self) -> list[Notice]:
        return self._raw.notices

    @property
    def revision(self) -> int:
        return self._raw.revision

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows, in memory."""
        rows = self._rows
        while chunk := await self._more():
            rows += chunk
        return rows

    async def _more(self) -> list[tuple[Any, ...]]:
        if self._exchange is None:
            return []
        try:
            chunk = _out(await self._exchange.more())
        except Error as e:
            self._exchange = None
            raise located(e, self._source) from None
        if self._exchange.complete:
            self._exchange = None
        return chunk

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        """Once; a reader that leaves early stops the server's work."""
        chunk, self._rows = self._rows, []
        try:
            while chunk:
                for row in chunk:
                    yield row
                chunk = await self._more()
        finally:
            self.close()

    def close(self) -> None:
        """Stop a large answer that nobody will read to its end."""
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None


def _out(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as Python hands them out: JSON as dict and list."""
    out = list(rows)
    for row in out:
        for value in row:
            if type(value) is Json:
                return [tuple(v.to_python() if type(v) is Json else v for v in r) for r in out]
    return out


class _Shared:
    """One transport and what its users share: parsed texts, free lanes, a bound on what is in flight."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.texts = Texts()
        self.places = asyncio.Semaphore(STATEMENTS_MAX)
        self._free: list[int] = []
        self._next = 1

    def take_lane(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next

    def give_back(self, lane: int) -> None:
        self._free.append(lane)

    async def carry_out(
        self, lane: Lane, statement: ast.Statement, parameters: Given, timeout: float | None, source: str | None
    ) -> Result:
        try:
            settled = lane.settled_here(statement)
            if settled is not None:
                return Result(settled, _Settled(), source)
            request = compile_statement(statement, parameters)
        except Error as e:
            raise located(e, source) from None
        async with self.places:
            exchange: Exchange | None = None
            result: _Raw | None = None
            try:
                lane.prepare(request, timeout)
                exchange = self.transport.submit(request, apart=lane.transaction == "none")
                result = await whole_if_small(exchange)
            except Error as e:
                lane.failed(statement, e)
                raise located(e, source) from None
            finally:
                if result is None and exchange is not None:
                    exchange.abandon()
        lane.done(statement, result)
        return Result(result, exchange, source)


class _Settled:
    """The exchange of an answer that needed none."""

    complete = True

    async def result(self) -> _Raw:
        return _Raw()

    async def more(self) -> list[tuple[object, ...]]:
        return []

    def stop(self) -> None: ...
    def abandon(self) -> None: ...


class Connection:
    """A connection for many tasks, in autocommit: every statement is its own transaction.

    USE and BEGIN as text are refused, because they would change what other tasks' statements mean: ``use`` gives a view
    with another namespace, ``transaction`` a lane of its own.
    """

    def __init__(self, shared: _Shared, namespace: str) -> None:
        self._shared = shared
        self._namespace = namespace

    @property
    def namespace(self) -> str:
        return self._namespace

    @property
    def user(self) -> str:
        return self._shared.transport.user

    def use(self, namespace: str) -> Connection:
        """The same connection with ``namespace`` in use; nothing is sent, and this one stays as it is."""
        return Connection(self._shared, namespace)

    async def execute(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        *,
        timeout: float | None = None,
    ) -> Result:
        """Carry out one statement. Cancelling the task stops it in the server; ``timeout`` is in seconds."""
        shared = self._shared
        source = statement if isinstance(statement, str) else None
        parsed = shared.texts.one(statement) if isinstance(statement, str) else statement
        if isinstance(parsed, _SESSION):
            raise _refused(parsed, source)
        number = shared.take_lane()
        try:
            return await shared.carry_out(Lane(number, self._namespace), parsed, parameters, timeout, source)
        finally:
            shared.give_back(number)

    async def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> int:
        """``statement`` for each of ``rows``, as few messages as possible; the number of pairs changed.

        Each has its own fate. If some fail, the first error is raised after all were carried out, with its index in
        ``statement``.
        """
        number = self._shared.take_lane()
        try:
            return await _many(self._shared, Lane(number, self._namespace), statement, rows, timeout)
        finally:
            self._shared.give_back(number)

    def transaction(self, *, read_only: bool = False) -> Transaction:
        """``async with con.transaction() as tx``: BEGIN … COMMIT, or ROLLBACK if the block raises."""
        return Transaction(self._shared, self._namespace, read_only=read_only)

    async def run_transaction(self, work: Callable[[Transaction], Awaitable[T]], *, retries: int = 5) -> T:
        """``await work(tx)`` in a transaction, repeated as a whole while others change what it read (40001)."""
        for attempt in range(retries + 1):
            try:
                async with self.transaction() as tx:
                    return await work(tx)
            except Error as e:
                if e.sqlstate != errors.CONFLICT or attempt == retries:
                    raise
                await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """End the connection for all its views; open transactions are rolled back."""
        await self._shared.transport.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class Transaction:
    """A transaction on a lane of its own; see ``Connection.transaction``."""

    def __init__(self, shared: _Shared, namespace: str, *, read_only: bool) -> None:
        self._shared = shared
        self._lane = Lane(shared.take_lane(), namespace)
        self._begin = ast.Begin(read_only)
        self._ended = False

    @property
    def state(self) -> TransactionState:
        return self._lane.transaction

    async def execute(
        self, statement: str | ast.Statement, parameters: Given = None, *, timeout: float | None = None
    ) -> Result:
        """Carry out one statement as a part of the transaction."""
        source = statement if isinstance(statement, str) else None
        parsed = self._shared.texts.one(statement) if isinstance(statement, str) else statement
        if isinstance(parsed, ast.Begin | ast.Use):
            raise _refused(parsed, source)
        self._check_open()
        return await self._shared.carry_out(self._lane, parsed, parameters, timeout, source)

    async def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> int:
        """``statement`` for each of ``rows``, all or nothing with the rest of the transaction."""
        self._check_open()
        return await _many(self._shared, self._lane, statement, rows, timeout, carry_on=False)

    def use(self, namespace: str) -> None:
        """Let later statements of this transaction mean ``namespace``."""
        self._lane.namespace = namespace

    async def commit(self) -> None:
        await self._end(ast.Commit())

    async def rollback(self) -> None:
        await self._end(ast.Rollback())

    async def _end(self, statement: ast.Commit | ast.Rollback) -> None:
        self._check_open()
        try:
            await self._shared.carry_out(self._lane, statement, None, None, None)
        finally:
            if self._lane.transaction == "none":
                self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            raise errors.InterfaceError("the transaction has ended", sqlstate=errors.NO_TRANSACTION)

    async def __aenter__(self) -> Transaction:
        await self._shared.carry_out(self._lane, self._begin, None, None, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if self._lane.transaction == "none":
                return
            if kind is None and self._lane.transaction == "open":
                await self.commit()
            else:
                await self.rollback()
                if kind is None:
                    raise errors.error(
                        errors.TRANSACTION_ABORTED,
                        "an error inside the transaction was passed over; it was rolled back",
                        hint="let the error leave the block, or do not begin the transaction before it is settled",
                    )
        finally:
            self._ended = True
            self._shared.transport.end_lane(self._lane.number)
            self._shared.give_back(self._lane.number)


async def _many(
    shared: _Shared,
    lane: Lane,
    statement: str | ast.Statement,
    rows: Iterable[Given],
    timeout: float | None,
    *,
    carry_on: bool = True,
) -> int:
    source = statement if isinstance(statement, str) else None
    parsed = shared.texts.one(statement) if isinstance(statement, str) else statement
    if isinstance(parsed, _SESSION):
        raise _refused(parsed, source)
    pipeline = Pipeline(shared.transport, lane, _no_streams, carry_on=carry_on, timeout=timeout)
    tally = await pipeline.rows(parsed, rows, source)
    if tally.error is not None:
        raise tally.error
    return tally.row_count


def _no_streams(exchange: Exchange, result: _Raw) -> None:
    raise AssertionError("the rows of executemany are read to their end")


def _refused(statement: ast.Statement, source: str | None) -> Error:
    name = type(statement).__name__.upper()
    hint = {
        ast.Use: "con.use(namespace) gives a view with another namespace",
        ast.Begin: "write: async with con.transaction() as tx",
    }.get(type(statement), "it belongs inside: async with con.transaction() as tx")
    return errors.error(
        errors.NOT_SUPPORTED,
        f"{name} is refused on a connection that tasks share",
        hint=hint,
        span=statement.span,
        source=source,
    )


class _Opening:
    """What ``connect`` returns: to be awaited, or entered."""

    def __init__(self, opening: Callable[[], Awaitable[Connection]]) -> None:
        self._opening = opening
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, Any, Connection]:
        return self._opening().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._opening()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()


def connect(
    target: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    insecure: bool = False,
    timeout: float = 10.0,
) -> _Opening:
    """``async with kvql.aio.connect(url) as con`` or ``con = await kvql.aio.connect(url)``.

    Arguments and errors are those of ``kvql.client.connect``. A folder or ``:memory:`` works too; its statements run in
    the loop's thread, each to its end.
    """

    async def opening() -> Connection:
        place = parse_target(target)
        transport: Transport
        if place.remote:
            from kvql.transport.wire import WireTransport

            access = access_of(place, user=user, password=password, ca=ca, insecure=insecure, timeout=timeout)
            transport = await WireTransport.open(access, namespace or place.namespace or "")
        else:
            from kvql.transport.local import LocalTransport

            transport = LocalTransport.open(place.place, namespace or place.namespace)
        return Connection(_Shared(transport), transport.namespace)

    return _Opening(opening)


def __dir__() -> Sequence[str]:
    return __all__
