# Made by tools/make_sync.py from kvql/_async/transaction.py. Never edit: run `make sync`.
"""A transaction as a block."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from kvql import ast, errors
from kvql.errors import Error

if TYPE_CHECKING:
    from kvql._sync.connection import Connection

T = TypeVar("T")
C = TypeVar("C", bound="Connection", covariant=True)


class Attempts(Generic[C]):
    """BEGIN … COMMIT as a block, or ROLLBACK if it raises.

    ``with con.transaction():`` runs the block once. Python cannot run a block again, so a transaction that should
    be repeated while others change what it read (40001) is a loop over attempts, or a function::

        for attempt in con.transaction(retries=5):
            with attempt:
                …
        con.transaction(retries=5).run(work)
    """

    def __init__(self, begin: Callable[[ast.Begin], C], *, retries: int, read_only: bool) -> None:
        """``begin`` gives the connection that the statements of the block go through."""
        self._begin = begin
        self._statement = ast.Begin(read_only)
        self._left = retries
        self._looped = False
        self._done = False
        self._connection: C | None = None

    def __iter__(self) -> Iterator[Attempts[C]]:
        self._looped = True
        attempt = 0
        while not self._done:
            yield self
            attempt += 1
            if not self._done:
                time.sleep(random.uniform(0, 0.002 * 2**attempt))

    def run(self, work: Callable[[C], T]) -> T:
        """What ``work(connection)`` gives inside a transaction, which is repeated as a whole on 40001."""
        for attempt in self:
            with attempt as connection:
                outcome = work(connection)
        return outcome

    def __enter__(self) -> C:
        self._connection = connection = self._begin(self._statement)
        return connection

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> bool:
        try:
            self._end(kind is None)
        except Error as failure:
            if self._again(failure):
                return True
            raise
        if isinstance(e, Error) and self._again(e):
            return True
        self._done = True
        return False

    def _end(self, well: bool) -> None:
        connection = self._connection
        assert connection is not None
        state = connection.transaction_state
        if well and state == "open":
            connection.commit()
        elif state != "none" and not connection.closed:
            connection.rollback()
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the transaction was passed over; it was rolled back",
                    hint="let the error leave the block, or do not begin the transaction before it is settled",
                )

    def _again(self, failure: Error) -> bool:
        if failure.sqlstate == errors.CONFLICT:
            if not self._looped:
                failure.hint = "let the block be repeated: for attempt in con.transaction(retries=5)"
            elif self._left > 0:
                self._left -= 1
                return True
        self._done = True
        return False
