"""A transaction as a block."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from kvql import ast, errors
from kvql.errors import Error

if TYPE_CHECKING:
    from kvql._async.connection import AsyncConnection

T = TypeVar("T")
C = TypeVar("C", bound="AsyncConnection", covariant=True)


class AsyncAttempts(Generic[C]):
    """BEGIN … COMMIT as a block, or ROLLBACK if it raises.

    ``async with con.transaction():`` runs the block once. Python cannot run a block again, so a transaction that should
    be repeated while others change what it read (40001) is a loop over attempts, or a function::

        async for attempt in con.transaction(retries=5):
            async with attempt:
                …
        await con.transaction(retries=5).run(work)
    """

    def __init__(self, begin: Callable[[ast.Begin], Awaitable[C]], *, retries: int, read_only: bool) -> None:
        """``begin`` gives the connection that the statements of the block go through."""
        self._begin = begin
        self._statement = ast.Begin(read_only)
        self._left = retries
        self._looped = False
        self._done = False
        self._connection: C | None = None

    async def __aiter__(self) -> AsyncIterator[AsyncAttempts[C]]:
        self._looped = True
        attempt = 0
        while not self._done:
            yield self
            attempt += 1
            if not self._done:
                await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))

    async def run(self, work: Callable[[C], Awaitable[T]]) -> T:
        """What ``work(connection)`` gives inside a transaction, which is repeated as a whole on 40001."""
        async for attempt in self:
            async with attempt as connection:
                outcome = await work(connection)
        return outcome

    async def __aenter__(self) -> C:
        self._connection = connection = await self._begin(self._statement)
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> bool:
        try:
            await self._end(kind is None)
        except Error as failure:
            if self._again(failure):
                return True
            raise
        if isinstance(e, Error) and self._again(e):
            return True
        self._done = True
        return False

    async def _end(self, well: bool) -> None:
        connection = self._connection
        assert connection is not None
        state = connection.transaction_state
        if well and state == "open":
            await connection.commit()
        elif state != "none" and not connection.closed:
            await connection.rollback()
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the transaction was passed over; it was rolled back",
                    hint="let the error leave the block, or do not begin the transaction before it is settled",
                )

    def _again(self, failure: Error) -> bool:
        if failure.sqlstate == errors.CONFLICT:
            if not self._looped:
                failure.hint = "let the block be repeated: async for attempt in con.transaction(retries=5)"
            elif self._left > 0:
                self._left -= 1
                return True
        self._done = True
        return False
