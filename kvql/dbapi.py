"""The Python Database API 2.0 (PEP 249) over the synchronous client.

A transaction begins before the first statement, as PEP 249 asks; with ``autocommit=True`` every statement is its own.
Parameters are ``?``, ``?2`` or ``:name``, given as a list or a dict. Values come out as Python's: JSON as dict and
list, TIMESTAMP as an aware datetime.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, TypeVar

from kvql import ast, errors
from kvql.client import Client
from kvql.client import connect as open_client
from kvql.client.lane import TransactionState
from kvql.compiler import Given
from kvql.dbapi_types import BINARY as BINARY
from kvql.dbapi_types import DATETIME as DATETIME
from kvql.dbapi_types import NUMBER as NUMBER
from kvql.dbapi_types import ROWID as ROWID
from kvql.dbapi_types import STRING as STRING
from kvql.dbapi_types import Binary as Binary
from kvql.dbapi_types import Date as Date
from kvql.dbapi_types import DateFromTicks as DateFromTicks
from kvql.dbapi_types import Time as Time
from kvql.dbapi_types import TimeFromTicks as TimeFromTicks
from kvql.dbapi_types import Timestamp as Timestamp
from kvql.dbapi_types import TimestampFromTicks as TimestampFromTicks
from kvql.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)
from kvql.result import Notice, Result
from kvql.values import Json, Type

apilevel: Final = "2.0"
threadsafety: Final = 1
paramstyle: Final = "qmark"

T = TypeVar("T")
Row = tuple[Any, ...]
Description = tuple[tuple[str, "Type | None", None, None, None, None, None], ...]


# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────────


def connect(
    target: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    autocommit: bool = False,
    insecure: bool = False,
    timeout: float = 10.0,
) -> Connection:
    """Open a server (``kvql://ann@localhost:7443/shop``), a folder in this process, or ``:memory:``.

    The arguments are those of ``kvql.client.connect``. A connection belongs to one thread at a time; connect after a
    fork, not before.
    """
    client = open_client(
        target, user=user, password=password, ca=ca, namespace=namespace, insecure=insecure, timeout=timeout
    )
    return Connection(client, autocommit=autocommit)


class Connection:
    """A connection (PEP 249). As a context manager it commits, or rolls back after an error, and closes."""

    Warning: ClassVar = Warning
    Error: ClassVar = Error
    InterfaceError: ClassVar = InterfaceError
    DatabaseError: ClassVar = DatabaseError
    DataError: ClassVar = DataError
    OperationalError: ClassVar = OperationalError
    IntegrityError: ClassVar = IntegrityError
    InternalError: ClassVar = InternalError
    ProgrammingError: ClassVar = ProgrammingError
    NotSupportedError: ClassVar = NotSupportedError

    def __init__(self, client: Client, *, autocommit: bool = False) -> None:
        self._client = client
        self._autocommit = autocommit

    @property
    def autocommit(self) -> bool:
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if self._client.transaction_state != "none":
            raise errors.error(
                errors.ACTIVE_TRANSACTION, "autocommit cannot change inside a transaction", hint="commit or roll back"
            )
        self._autocommit = value

    @property
    def closed(self) -> bool:
        return self._client.closed

    @property
    def user(self) -> str:
        return self._client.user

    @property
    def namespace(self) -> str:
        """The namespace in use; empty for none."""
        return self._client.namespace

    @property
    def transaction_state(self) -> TransactionState:
        """``none``, ``open``, or ``failed`` (only a rollback helps)."""
        return self._client.transaction_state

    def cursor(self) -> Cursor:
        self._check_open()
        return Cursor(self)

    def execute(
        self, statement: str | ast.Statement, parameters: Given = None, *, timeout: float | None = None
    ) -> Cursor:
        """A new cursor with the outcome of one statement. ``timeout`` is in seconds (57014 when it is over)."""
        return Cursor(self).execute(statement, parameters, timeout=timeout)

    def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> Cursor:
        """A new cursor with the outcome of a write for each of ``rows``; see ``Cursor.executemany``."""
        return Cursor(self).executemany(statement, rows, timeout=timeout)

    def commit(self) -> None:
        """Make what was done since the first statement last; without a transaction there is nothing to do."""
        self._check_open()
        if self._client.transaction_state != "none":
            self._client.run(_COMMIT)

    def rollback(self) -> None:
        self._check_open()
        if self._client.transaction_state != "none":
            self._client.run(_ROLLBACK)

    def transaction(self, *, retries: int = 0) -> Attempts:
        """BEGIN … COMMIT as a block, or ROLLBACK if it raises; see ``Attempts`` for ``retries``."""
        self._check_open()
        return Attempts(self, retries)

    def cancel(self) -> None:
        """Stop the running statement (57014). The one method for signal handlers and other threads."""
        self._client.cancel()

    def close(self) -> None:
        """End the connection; what was not committed is rolled back. Any later use is an error, another close too."""
        self._check_open()
        self._client.close()

    def _check_open(self) -> None:
        if self._client.closed:
            raise InterfaceError("the connection is closed", sqlstate="08003", hint="connect again")

    def _run(self, statement: str | ast.Statement, parameters: Given, timeout: float | None) -> Result:
        client = self._client
        if not self._autocommit and client.transaction_state == "none":
            self._check_open()
            return client.run_begun(statement, parameters, timeout)
        return client.run(statement, parameters, timeout)

    def __enter__(self) -> Connection:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self._client.closed:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            self._client.close()


_BEGIN: Final = ast.Begin()
_COMMIT: Final = ast.Commit()
_ROLLBACK: Final = ast.Rollback()


class Attempts:
    """A transaction as a block.

    ``with con.transaction():`` runs the block once. Python cannot run a block again, so a transaction that should be
    repeated while others change what it read (40001) is a loop over attempts, or a function::

        for attempt in con.transaction(retries=5):
            with attempt:
                …
        con.transaction(retries=5).run(lambda con: …)
    """

    def __init__(self, connection: Connection, retries: int) -> None:
        self._connection = connection
        self._left = retries
        self._looped = False
        self._done = False

    def __iter__(self) -> Iterator[Attempts]:
        self._looped = True
        attempt = 0
        while not self._done:
            yield self
            attempt += 1
            if not self._done:
                time.sleep(random.uniform(0, 0.002 * 2**attempt))

    def run(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)`` inside a transaction, repeated on 40001."""
        for attempt in self:
            with attempt:
                outcome = work(self._connection)
        return outcome

    def __enter__(self) -> Connection:
        client = self._connection._client
        if client.transaction_state != "none":
            raise errors.error(
                errors.ACTIVE_TRANSACTION,
                "a transaction is open already",
                hint="commit or roll back first, or connect with autocommit=True",
            )
        client.run(_BEGIN)
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> bool:
        client = self._connection._client
        try:
            if kind is not None:
                if client.transaction_state != "none" and not client.closed:
                    client.run(_ROLLBACK)
            elif client.transaction_state != "none":
                client.run(_COMMIT)
        except Error as failure:
            if self._again(failure):
                return True
            raise
        if isinstance(e, Error) and self._again(e):
            return True
        self._done = True
        return False

    def _again(self, failure: Error) -> bool:
        if failure.sqlstate != errors.CONFLICT:
            self._done = True
            return False
        if not self._looped:
            failure.hint = "run the block again, or let it be repeated: for attempt in con.transaction(retries=5)"
        if self._looped and self._left > 0:
            self._left -= 1
            return True
        self._done = True
        return False


# ── cursors ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Cursor:
    """The outcome of a statement (PEP 249). Iterates without holding all rows."""

    lastrowid: Final = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self._result: Result | None = None
        self._rows: Iterator[Row] | None = None
        self._count = -1
        self._number = 0
        self._closed = False

    # ── what came back ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def description(self) -> Description | None:
        """Name and ``Type`` of each column (the type None where rows differ); None if there are no rows to fetch."""
        if self._result is None or self._result.columns is None:
            return None
        return tuple((c.name, c.type, None, None, None, None, None) for c in self._result.columns)

    @property
    def rowcount(self) -> int:
        """Pairs changed or rows returned; -1 where neither makes sense, or while rows are still coming."""
        return self._count if self._result is None else self._result.row_count

    @property
    def rownumber(self) -> int | None:
        """The 0-based index of the next row; None without rows."""
        return None if self._rows is None else self._number

    @property
    def notices(self) -> list[Notice]:
        """What the server had to say beside the result."""
        return [] if self._result is None else self._result.notices

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def execute(
        self, statement: str | ast.Statement, parameters: Given = None, *, timeout: float | None = None
    ) -> Cursor:
        """Carry out one statement; returns the cursor itself."""
        if self._closed:
            self._check_open()
        self._result = self._rows = None
        self._number = 0
        self._result = result = self.connection._run(statement, parameters, timeout)
        if result.columns is not None:
            self._rows = _out(result.rows)
        return self

    def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> Cursor:
        """A write for every set of parameters, streamed in as few messages as possible.

        In autocommit each set has its own fate: the error that is raised at the end is that of the first that failed,
        with its index in ``statement``. In a transaction nothing after it is carried out.
        """
        self._check_open()
        self._result = self._rows = None
        connection = self.connection
        client = connection._client
        parsed = client.parse_one(statement) if isinstance(statement, str) else statement
        if isinstance(parsed, _READS):
            raise errors.error(
                errors.NOT_SUPPORTED,
                "executemany is for writes; a statement that returns rows is executed once for each result",
                span=parsed.span,
                source=statement if isinstance(statement, str) else None,
            )
        if not connection._autocommit and client.transaction_state == "none":
            client.run(_BEGIN)
        carry_on = client.transaction_state == "none"
        source = statement if isinstance(statement, str) else None
        tally = client.run_rows(parsed, rows, carry_on=carry_on, timeout=timeout, source=source)
        self._count = tally.row_count
        if tally.error is not None:
            if tally.failed > 1 and tally.error.hint is None:
                tally.error.hint = f"{tally.failed:,} sets of parameters failed; this is the first"
            raise tally.error
        return self

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing to do: values carry their types."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to do: values are never cut off."""

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def fetchone(self) -> Row | None:
        """The next row, or None."""
        if self._rows is None:
            raise self._no_rows()
        row = next(self._rows, None)
        if row is not None:
            self._number += 1
        return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next ``size`` rows (``arraysize`` if not given); fewer at the end."""
        rows: list[Row] = []
        for _ in range(self.arraysize if size is None else size):
            row = self.fetchone()
            if row is None:
                break
            rows.append(row)
        if self._rows is None:
            raise self._no_rows()
        return rows

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        if self._rows is None:
            raise self._no_rows()
        rows = list(self._rows)
        self._number += len(rows)
        return rows

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Let go of the result; the server stops sending it."""
        self._check_open()
        self._closed = True
        if self._rows is not None and hasattr(self._rows, "close"):
            self._rows.close()
        self._result = self._rows = None

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed", sqlstate="24000")
        self.connection._check_open()

    def _no_rows(self) -> Error:
        self._check_open()
        if self._result is None:
            return ProgrammingError("no statement has been executed", sqlstate="24000")
        return ProgrammingError("the last statement returned no rows", sqlstate="24000")

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if not self._closed and not self.connection.closed:
            self.close()


_READS: Final = (ast.Get, ast.Has, ast.Count, ast.ShowKeys, ast.ShowData, ast.ShowNamespaces, ast.Select)


def _out(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows as Python hands them out: JSON as dict and list."""
    if type(rows) is list:
        for row in rows:
            for value in row:
                if type(value) is Json:
                    return map(_row_out, rows)
        return iter(rows)
    return map(_row_out, rows)


def _row_out(row: Row) -> Row:
    for value in row:
        if type(value) is Json:
            return tuple([v.to_python() if type(v) is Json else v for v in row])
    return row
