# Made by tools/make_sync.py from kvql/_async/connection.py. Never edit: run `make sync`.
"""A connection: when a transaction begins and ends, and what a statement goes through."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import ClassVar, Final

from kvql import ast, errors
from kvql._sync.cursor import Cursor
from kvql._sync.transaction import Attempts
from kvql._sync.watch import Watch
from kvql.client.lane import TransactionState
from kvql.client.messages import Tally
from kvql.client.sync import Client
from kvql.compiler import Given
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
from kvql.result import Result
from kvql.transport.fetching import Position


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
        self._savepoints = 0
        """Set so far by ``transaction``: their names must differ, whatever the user does in between."""

    @property
    def autocommit(self) -> bool:
        """Whether every statement is a transaction of its own; else one begins before the first statement."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if self.transaction_state != "none":
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

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def cursor(self) -> Cursor:
        self._check_open()
        return Cursor(self)

    def execute(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        *,
        timeout: float | None = None,
        idempotency_key: bytes | str | None = None,
    ) -> Cursor:
        """A new cursor with the outcome of one statement; see ``Cursor.execute``."""
        cursor = Cursor(self)
        cursor.take(self._run(statement, parameters, timeout, idempotency_key))
        return cursor

    def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> Cursor:
        """A write for each of ``rows``; see ``Cursor.executemany``."""
        cursor = Cursor(self).executemany(statement, rows, timeout=timeout)
        return cursor

    def _run(
        self,
        statement: str | ast.Statement,
        parameters: Given,
        timeout: float | None,
        key: bytes | str | None = None,
    ) -> Result:
        client = self._client
        if self._autocommit or client.transaction_state != "none":
            return client.run(statement, parameters, timeout, key=key)
        self._check_open()
        parsed, source = client.read(statement)
        if not isinstance(parsed, _BEGIN_NONE):
            client.check(parsed, parameters, source)  # so that it leaves no transaction behind
            client.run(_BEGIN)
        return client.run(parsed, parameters, timeout, source, key)

    def _run_rows(self, statement: str | ast.Statement, rows: Iterable[Given], timeout: float | None) -> Tally:
        self._check_open()
        client = self._client
        parsed, source = client.read(statement)
        if isinstance(parsed, _NOT_MANY):
            raise errors.error(
                errors.NOT_SUPPORTED,
                "executemany is for writes; a statement that returns rows is executed once for each result",
                span=parsed.span,
                source=source,
            )
        if not self._autocommit and client.transaction_state == "none":
            client.run(_BEGIN)
        carry_on = client.transaction_state == "none"
        return client.run_rows(parsed, rows, carry_on=carry_on, timeout=timeout, source=source)

    def watch(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        *,
        timeout: float | None = None,
        after: Position | None = None,
    ) -> Watch:
        """The changes that ``WATCH …`` shows, as they happen; see ``Watch``.

        ``SELECT * FROM ns WHERE e`` is the watch of what it selects. ``timeout`` is how many seconds an iteration waits
        for the next event before it ends. ``after`` is a position that was kept, to go on from.
        """
        events = self._client.watch(statement, parameters, after)
        return Watch(events, timeout).open()

    # ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, *, idempotency_key: bytes | str | None = None) -> None:
        """Make what was done since the first statement last; without a transaction there is nothing to do.

        With a key there is: the outcome of the transaction that was committed with it, by whichever connection.
        """
        self._check_open()
        if self.transaction_state != "none" or idempotency_key is not None:
            self._run(_COMMIT, None, None, idempotency_key)

    def rollback(self) -> None:
        """Undo what was done since the first statement; without a transaction there is nothing to do."""
        self._check_open()
        if self.transaction_state != "none":
            self._run(_ROLLBACK, None, None)

    def transaction(self, *, read_only: bool = False, retries: int = 0) -> Attempts[Connection]:
        """BEGIN … COMMIT as a block, or ROLLBACK if it raises; see ``Attempts`` for ``retries``.

        Inside an open transaction the block is a part of it: a savepoint, to which an error in the block goes back.
        """
        self._check_open()
        return Attempts(self._begin, retries=retries, read_only=read_only)

    def _begin(self, statement: ast.Begin) -> tuple[Connection, ast.Name | None]:
        """Begin a transaction, or set a savepoint in the one that is open; the connection and the savepoint."""
        if self.transaction_state == "none":
            self._client.run(statement)
            return self, None
        if statement.read_only:
            raise errors.error(
                errors.ACTIVE_TRANSACTION,
                "a transaction is open already, and a part of it cannot be read-only",
                hint="ask for read_only=True in the outermost block, or commit before this one",
            )
        self._savepoints += 1
        savepoint = ast.Name(f"kvql_{self._savepoints}")
        self._client.run(ast.Savepoint(savepoint))
        return self, savepoint

    def _release(self, savepoint: ast.Name) -> None:
        """The end of a block that went well."""
        self._client.run(ast.Release(savepoint))

    def _back_to(self, savepoint: ast.Name) -> None:
        """The end of a block that went wrong: the transaction goes on without what was done in it."""
        self._client.run(ast.Rollback(savepoint))
        self._client.run(ast.Release(savepoint))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """Stop what runs (57014). The one method for signal handlers and other threads."""
        self._client.cancel()

    def close(self) -> None:
        """End the connection; what was not committed is rolled back. Any later use is an error, another close too."""
        self._check_open()
        self._client.close()

    def _check_open(self) -> None:
        self._client.check_open()

    def __enter__(self) -> Connection:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self.closed:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            self._client.close()


_BEGIN: Final = ast.Begin()
_COMMIT: Final = ast.Commit()
_ROLLBACK: Final = ast.Rollback()
_BEGIN_NONE: Final = (ast.Begin, ast.Commit, ast.Rollback, ast.Release, ast.Use, ast.Watch)
SESSION: Final = (ast.Use, ast.Begin, ast.Commit, ast.Rollback, ast.Savepoint, ast.Release)
"""What changes the meaning of the statements after it."""
_NOT_MANY: Final = (
    ast.Get, ast.Has, ast.Count, ast.ShowKeys, ast.ShowData, ast.ShowNamespaces, ast.Select, ast.Watch, *SESSION,
)  # fmt: skip
