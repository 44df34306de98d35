"""A transaction as a block."""

from __future__ import annotations

import asyncio
import contextlib
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from kvql import ast, errors
from kvql.errors import Error

if TYPE_CHECKING:
    from kvql._async.connection import AsyncConnection

T = TypeVar("T")
C = TypeVar("C", bound="AsyncConnection", covariant=True)
_DOUBLED_MAX: Final = 8
"""How often the pause between attempts is doubled: the longest is half a second."""
_LEFT: Final = (
    "the loop over the attempts of a transaction was left while it was to be repeated (40001): nothing was committed; "
    "let the block end, without return or break, or use .run(function)"
)


class AsyncAttempts(Generic[C]):
    """BEGIN … COMMIT as a block, or ROLLBACK if it raises.

    ``async with con.transaction():`` runs the block once. Python cannot run a block again, so a transaction that should
    be repeated while others change what it read (40001) is a loop over attempts, or a function::

        async for attempt in con.transaction(retries=5):
            async with attempt:
                …
        await con.transaction(retries=5).run(work)

    The block is to be left by its end: ``return`` and ``break`` leave nobody to repeat a COMMIT that meets a conflict.
    Nothing is committed then, and a RuntimeWarning says so.

    Inside an open transaction a block is a savepoint: it is released at the end, and an error that leaves the block
    undoes the block alone, after which the transaction is usable again. Conflicts are the outermost block's to repeat.
    """

    def __init__(
        self, begin: Callable[[ast.Begin], Awaitable[tuple[C, ast.Name | None]]], *, retries: int, read_only: bool
    ) -> None:
        """``begin`` gives the connection that the statements of the block go through, and its savepoint if a
        transaction was open already."""
        self._begin = begin
        self._statement = ast.Begin(read_only)
        self._left = retries
        self._looped = False
        self._conflict = False
        """Whether the attempt is to be repeated: nothing of it was committed."""
        self._done = False
        self._connection: C | None = None
        self._savepoint: ast.Name | None = None

    async def __aiter__(self) -> AsyncIterator[AsyncAttempts[C]]:
        self._looped = True
        attempt = 0
        while not self._done:
            self._conflict = False
            try:
                yield self
            except GeneratorExit:
                if self._conflict:
                    warnings.warn(_LEFT, RuntimeWarning, stacklevel=2)
                raise
            attempt += 1
            if not self._done:
                await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, _DOUBLED_MAX)))

    async def run(self, work: Callable[[C], Awaitable[T]]) -> T:
        """What ``work(connection)`` gives inside a transaction, which is repeated as a whole on 40001."""
        async for attempt in self:
            async with attempt as connection:
                outcome = await work(connection)
        return outcome

    async def __aenter__(self) -> C:
        connection, self._savepoint = await self._begin(self._statement)
        self._connection = connection
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
        connection, savepoint = self._connection, self._savepoint
        assert connection is not None
        state = connection.transaction_state
        if savepoint is not None:
            await self._end_part(connection, savepoint, well)
        elif well and state == "open":
            await connection.commit()
        elif state != "none" and not connection.closed:
            await connection.rollback()
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the transaction was passed over; it was rolled back",
                    hint="let the error leave the block, or do not begin the transaction before it is settled",
                )

    async def _end_part(self, connection: AsyncConnection, savepoint: ast.Name, well: bool) -> None:
        """The end of a block inside another."""
        state = connection.transaction_state
        if well and state == "open":
            await connection._release(savepoint)
        elif state != "none" and not connection.closed:
            # what leaves the block says more than why the savepoint is gone; the transaction has failed then
            with contextlib.nullcontext() if well else contextlib.suppress(Error):
                await connection._back_to(savepoint)
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the block was passed over; what the block did was undone",
                    hint="let the error leave the block, or begin the block where it may leave it",
                )

    def _again(self, failure: Error) -> bool:
        if self._savepoint is None and failure.sqlstate == errors.CONFLICT:
            if not self._looped:
                failure.hint = "let the block be repeated: async for attempt in con.transaction(retries=5)"
            elif self._left > 0:
                self._left -= 1
                self._conflict = True
                return True
        self._done = True
        return False
