"""The asynchronous twin of ``kvql.dbapi``, and what only tasks need: sharing one connection.

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

import os
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from kvql import ast, errors
from kvql._async import AsyncAttempts as Attempts
from kvql._async import AsyncConnection
from kvql._async import AsyncCursor as Cursor
from kvql._async.connection import SESSION
from kvql._async.watch import AsyncWatch
from kvql.client.events import Event
from kvql.client.lane import TransactionState, deadline_ms, ends_transaction, located
from kvql.client.messages import Tally
from kvql.client.opening import access_of
from kvql.client.tasks import AsyncClient, Shared
from kvql.compiler import Given
from kvql.errors import Error
from kvql.result import Result as _Raw
from kvql.transport import Transport
from kvql.transport.fetching import Position
from kvql.transport.target import parse_target

__all__ = ["Attempts", "Connection", "Cursor", "Event", "Position", "Result", "Transaction", "Watch", "connect"]

Result = Cursor
"""What ``await con.execute(…)`` gives: rows, columns, rowcount, notices."""
T = TypeVar("T")


class Connection(AsyncConnection):
    """A connection of PEP 249's shape, for many tasks: every statement is its own transaction, on a lane of its own.

    USE and BEGIN as text are refused then, because they would change what other tasks' statements mean: ``use`` gives a
    view with another namespace, ``transaction`` a lane of its own. With ``autocommit=False`` the connection is one
    task's: its statements share one lane and a transaction, which begins before the first and ends with ``commit`` or
    ``rollback``, and USE and BEGIN are welcome.
    """

    def __init__(self, shared: Shared, namespace: str, *, autocommit: bool = True) -> None:
        super().__init__(AsyncClient(shared, namespace), autocommit=autocommit)
        self._shared = shared

    def use(self, namespace: str) -> Connection:
        """The same connection with ``namespace`` in use; nothing is sent, and this one stays as it is."""
        return Connection(self._shared, namespace, autocommit=self._autocommit)

    def watch(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        *,
        timeout: float | None = None,
        after: Position | None = None,
    ) -> Watch:
        """``async for event in con.watch("WATCH shop")``; see ``Watch`` for how to begin it earlier than that."""
        return Watch(self._client.watch(statement, parameters, after), timeout)

    async def _run(
        self,
        statement: str | ast.Statement,
        parameters: Given,
        timeout: float | None,
        key: bytes | str | None = None,
    ) -> _Raw:
        if not self._autocommit:
            return await super()._run(statement, parameters, timeout, key)
        submit = None if key is not None else self._shared.transport.point
        point = None if submit is None else self._client.point(statement, parameters)
        if submit is not None and point is not None:
            try:
                return await submit(point, self.namespace, 0 if timeout is None else deadline_ms(timeout))
            except Error as e:
                raise located(e, statement if isinstance(statement, str) else None) from None
        parsed, source = self._client.read(statement)
        if isinstance(parsed, SESSION):
            raise _refused(parsed, source)
        client = AsyncClient(self._shared, self.namespace)
        try:
            return await client.run(parsed, parameters, timeout, source, key)
        finally:
            client.give_back()

    async def _run_rows(self, statement: str | ast.Statement, rows: Iterable[Given], timeout: float | None) -> Tally:
        if not self._autocommit:
            return await super()._run_rows(statement, rows, timeout)
        client = AsyncClient(self._shared, self.namespace)
        try:
            return await AsyncConnection(client, autocommit=True)._run_rows(statement, rows, timeout)
        finally:
            client.give_back()

    def transaction(self, *, read_only: bool = False, retries: int = 0) -> Attempts[Transaction]:
        """``async with con.transaction() as tx``: BEGIN … COMMIT on a lane of its own, or ROLLBACK if it raises."""
        self._check_open()
        return Attempts(self._begin_apart, retries=retries, read_only=read_only)

    async def _begin_apart(self, statement: ast.Begin) -> tuple[Transaction, None]:
        client = AsyncClient(self._shared, self.namespace)
        try:
            await client.run(statement)
        except BaseException:
            client.give_up()
            raise
        return Transaction(client), None

    async def run_transaction(self, work: Callable[[Transaction], Awaitable[T]], *, retries: int = 5) -> T:
        """``await work(tx)`` in a transaction, repeated as a whole while others change what it read (40001)."""
        return await self.transaction(retries=retries).run(work)

    async def close(self) -> None:
        """End the connection for all its views; open transactions are rolled back. Closing twice is fine."""
        await self._client.close()


class Watch(AsyncWatch):
    """The changes of a namespace as they happen: see ``AsyncWatch``. It begins with the first event asked for, or, so
    that nothing before that is missed, with ``async with con.watch(…) as watch`` or ``watch = await con.watch(…)``."""

    def __await__(self) -> Generator[Any, Any, Watch]:
        return self._begun().__await__()

    async def _begun(self) -> Watch:
        await self.open()
        return self


class Transaction(AsyncConnection):
    """A transaction that is open on a lane of its own; see ``Connection.transaction``."""

    def __init__(self, client: AsyncClient) -> None:
        super().__init__(client, autocommit=True)
        self._ending = False
        """Whether COMMIT or ROLLBACK is on its way: what came behind it would be carried out outside."""

    @property
    def state(self) -> TransactionState:
        return self.transaction_state

    def use(self, namespace: str) -> None:
        """Let later statements of this transaction mean ``namespace``."""
        self._client.namespace = namespace

    async def _run(
        self,
        statement: str | ast.Statement,
        parameters: Given,
        timeout: float | None,
        key: bytes | str | None = None,
    ) -> _Raw:
        parsed, source = self._client.read(statement)
        if isinstance(parsed, ast.Begin | ast.Use):
            raise _refused(parsed, source)
        self._check_open()
        ends = ends_transaction(parsed)
        self._ending |= ends
        answered = False
        try:
            result = await self._client.run(parsed, parameters, timeout, source, key)
            answered = True
            return result
        except Error:
            answered = True
            raise
        finally:
            if ends:
                self._ending = False
            if self.transaction_state == "none":
                self._client.give_back()
            elif ends and not answered:
                self._client.give_up()

    async def close(self) -> None:
        """Roll back, unless the transaction has ended."""
        if self.transaction_state != "none":
            await self.rollback()

    def _check_open(self) -> None:
        super()._check_open()
        if self._ending or self.transaction_state == "none":
            raise errors.InterfaceError("the transaction has ended", sqlstate=errors.NO_TRANSACTION)


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
            await self._connection.__aexit__(kind, e, tb)


def connect(
    target: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    autocommit: bool = True,
    insecure: bool = False,
    timeout: float = 10.0,
) -> _Opening:
    """``async with kvql.aio.connect(url) as con`` or ``con = await kvql.aio.connect(url)``.

    Arguments and errors are those of ``kvql.client.connect``; see ``Connection`` for ``autocommit``. A folder or
    ``:memory:`` works too; its statements run in the loop's thread, each to its end.
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
        return Connection(Shared(transport), transport.namespace, autocommit=autocommit)

    return _Opening(opening)


def __dir__() -> Sequence[str]:
    return __all__
