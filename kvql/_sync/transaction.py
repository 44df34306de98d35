# Made by tools/make_sync.py from kvql/_async/transaction.py. Never edit: run `make sync`.
"""A transaction as a block."""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from kvql import ast, errors
from kvql.errors import Error

if TYPE_CHECKING:
    from kvql._sync.connection import Connection

T = TypeVar("T")
C = TypeVar("C", bound="Connection", covariant=True)
_DOUBLED_MAX: Final = 8
"""How often the pause between attempts is doubled: the longest is half a second."""
_LEFT: Final = (
    "the loop over the attempts of a transaction was left while it was to be repeated (40001): nothing was committed; "
    "let the block end, without return or break, or use .run(function)"
)


class Attempts(Generic[C]):
    """BEGIN … COMMIT as a block, or ROLLBACK if it raises.

    ``with con.transaction():`` runs the block once. Python cannot run a block again, so a transaction that should
    be repeated while others change what it read (40001) is a loop over attempts, or a function::

        for attempt in con.transaction(retries=5):
            with attempt:
                …
        con.transaction(retries=5).run(work)

    The block is to be left by its end: ``return`` and ``break`` leave nobody to repeat a COMMIT that meets a conflict.
    Nothing is committed then, and a RuntimeWarning says so.

    Inside an open transaction a block is a savepoint: it is released at the end, and an error that leaves the block
    undoes the block alone, after which the transaction is usable again. Conflicts are the outermost block's to repeat.
    """

    def __init__(
        self, begin: Callable[[ast.Begin], tuple[C, ast.Name | None]], *, retries: int, read_only: bool
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

    def __iter__(self) -> Iterator[Attempts[C]]:
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
                time.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, _DOUBLED_MAX)))

    def run(self, work: Callable[[C], T]) -> T:
        """What ``work(connection)`` gives inside a transaction, which is repeated as a whole on 40001."""
        for attempt in self:
            with attempt as connection:
                outcome = work(connection)
        return outcome

    def __enter__(self) -> C:
        connection, self._savepoint = self._begin(self._statement)
        self._connection = connection
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
        connection, savepoint = self._connection, self._savepoint
        assert connection is not None
        state = connection.transaction_state
        if savepoint is not None:
            self._end_part(connection, savepoint, well)
        elif well and state == "open":
            connection.commit()
        elif state != "none" and not connection.closed:
            connection.rollback()
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the transaction was passed over; it was rolled back",
                    hint="let the error leave the block, or do not begin the transaction before it is settled",
                )

    def _end_part(self, connection: Connection, savepoint: ast.Name, well: bool) -> None:
        """The end of a block inside another."""
        state = connection.transaction_state
        if well and state == "open":
            connection._release(savepoint)
        elif state != "none" and not connection.closed:
            # what leaves the block says more than why the savepoint is gone; the transaction has failed then
            with contextlib.nullcontext() if well else contextlib.suppress(Error):
                connection._back_to(savepoint)
            if well:
                raise errors.error(
                    errors.TRANSACTION_ABORTED,
                    "an error inside the block was passed over; what the block did was undone",
                    hint="let the error leave the block, or begin the block where it may leave it",
                )

    def _again(self, failure: Error) -> bool:
        if self._savepoint is None and failure.sqlstate == errors.CONFLICT:
            if not self._looped:
                failure.hint = "let the block be repeated: for attempt in con.transaction(retries=5)"
            elif self._left > 0:
                self._left -= 1
                self._conflict = True
                return True
        self._done = True
        return False
