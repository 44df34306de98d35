# Made by tools/make_sync.py from kvql/_async/cursor.py. Never edit: run `make sync`.
"""The outcome of a statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from kvql import ast
from kvql.client.rows import Row, Rows, as_python
from kvql.compiler import Given
from kvql.errors import InterfaceError, ProgrammingError
from kvql.result import Notice, Result, ResultColumn
from kvql.values import Type

if TYPE_CHECKING:
    from kvql._sync.connection import Connection

Description = tuple[tuple[str, "Type | None", None, None, None, None, None], ...]


class Cursor:
    """The outcome of a statement (PEP 249). Iterates without holding all rows."""

    lastrowid: Final = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self._result: Result | None = None
        self._rows: list[Row] = []
        self._place = 0
        """The next row in ``_rows``."""
        self._before = 0
        """Rows of a large answer that were here before those in ``_rows``."""
        self._stream: Rows | None = None
        self._count = -1
        self._closed = False

    # ── what came back ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def columns(self) -> tuple[ResultColumn, ...] | None:
        """Name and ``Type`` of each column (the type None where rows differ); None if there are no rows to fetch."""
        return None if self._result is None else self._result.columns

    @property
    def description(self) -> Description | None:
        """``columns`` in the seven parts that PEP 249 prescribes."""
        columns = self.columns
        return None if columns is None else tuple((c.name, c.type, None, None, None, None, None) for c in columns)

    @property
    def rowcount(self) -> int:
        """Pairs changed or rows returned; -1 where neither makes sense, or while rows are still coming."""
        return self._count if self._result is None else self._result.row_count

    @property
    def rownumber(self) -> int | None:
        """The 0-based index of the next row; None without rows."""
        return None if self.columns is None else self._before + self._place

    @property
    def notices(self) -> list[Notice]:
        """What the server had to say beside the result."""
        return [] if self._result is None else self._result.notices

    @property
    def revision(self) -> int:
        """The newest revision that the statement committed or saw; 0 if none."""
        return 0 if self._result is None else self._result.revision

    @property
    def rows(self) -> list[Row]:
        """All rows, fetched or not. InterfaceError for a large answer, which is never held whole."""
        if self._stream is not None or self._before:
            raise InterfaceError(
                "the rows of a large result come as they are read",
                sqlstate="HY010",
                hint="iterate, or call fetchall()",
            )
        return self._rows

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def execute(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        *,
        timeout: float | None = None,
        idempotency_key: bytes | str | None = None,
    ) -> Cursor:
        """Carry out one statement; returns the cursor itself. ``timeout`` is in seconds (57014 when it is over).

        ``idempotency_key`` (1 to 64 bytes) is for a write outside a transaction: with the same key it is carried out
        once within 24 hours, and a repeat, by whichever connection of the user, has the first outcome.
        """
        self._begin()
        self.take(self.connection._run(statement, parameters, timeout, idempotency_key))
        return self

    def take(self, result: Result) -> None:
        """Make ``result`` the outcome that this cursor is about."""
        self._result = result
        rows = result.rows
        if type(rows) is list:
            self._rows = as_python(rows)
        elif isinstance(rows, Rows):
            self._stream = rows

    def executemany(
        self, statement: str | ast.Statement, rows: Iterable[Given], *, timeout: float | None = None
    ) -> Cursor:
        """A write for every set of parameters, streamed in as few messages as possible.

        In autocommit each set has its own fate: the error that is raised at the end is that of the first that failed,
        which its message calls ``rows[7]``; the index alone is in ``statement``. In a transaction nothing after it is
        carried out.
        """
        self._begin()
        tally = self.connection._run_rows(statement, rows, timeout)
        self._count = tally.row_count
        if tally.error is not None:
            raise tally.told()
        return self

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing to do: values carry their types."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to do: values are never cut off."""

    def _begin(self) -> None:
        """Forget the statement before."""
        if self._closed:
            self._check_open()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._result = None
        self._rows = []
        self._place = self._before = 0
        self._count = -1

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def fetchone(self) -> Row | None:
        """The next row, or None."""
        if self._place == len(self._rows) and not self._more():
            return None
        row = self._rows[self._place]
        self._place += 1
        return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next ``size`` rows (``arraysize`` if not given); fewer at the end."""
        wanted = self.arraysize if size is None else size
        rows = self._take(wanted)
        while len(rows) < wanted and self._more():
            rows += self._take(wanted - len(rows))
        return rows

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        rows = self._take(len(self._rows))
        while (self._stream is not None or not rows) and self._more():
            rows += self._take(len(self._rows))
        return rows

    def _take(self, size: int) -> list[Row]:
        """The next ``size`` rows of those that are here."""
        rows = self._rows[self._place : self._place + max(size, 0)]
        self._place += len(rows)
        return rows

    def _more(self) -> bool:
        """Make the next rows of a large answer those that are here; false at the end."""
        stream = self._stream
        if stream is None:
            self._check_rows()
            return False
        self.connection._client.check_open()
        self._stream = None
        rows = stream.more()
        if rows:
            self._stream = stream
            self._before += len(self._rows)
            self._rows, self._place = as_python(rows), 0
        return bool(rows)

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
        self._begin()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed", sqlstate="24000")
        self.connection._check_open()

    def _check_rows(self) -> None:
        """24000 if there are no rows that could be fetched."""
        if self._result is None:
            self._check_open()
            raise ProgrammingError("no statement has been executed", sqlstate="24000")
        if self._result.columns is None:
            raise ProgrammingError("the last statement returned no rows", sqlstate="24000")

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if not self._closed and not self.connection.closed:
            self.close()
