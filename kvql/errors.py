"""One error shape for every door: SQLSTATE, message, source span, hint (LANGUAGE §9).

The classes are PEP 249's; which one stands for a SQLSTATE is decided here and nowhere else (``error``). A message is in
lower case, has no full stop and quotes the input; the hint names the remedy. Nothing else may reach a user: a Python
exception's own text is never shown.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from kvql.span import Position, Span, position

SYNTAX: Final = "42601"
UNKNOWN_COLUMN: Final = "42703"
UNKNOWN_FUNCTION: Final = "42883"
UNDEFINED_PARAMETER: Final = "42P02"
DUPLICATE_COLUMN: Final = "42701"
TYPE_MISMATCH: Final = "42804"
GROUPING: Final = "42803"
INVALID_REFERENCE: Final = "42P10"
NO_SUCH_NAMESPACE: Final = "3F000"
DUPLICATE_NAMESPACE: Final = "42P06"
KEY_EXISTS: Final = "23505"
NOT_NULL: Final = "23502"
TOO_LONG: Final = "22001"
NO_SUCH_KEY: Final = "02000"
INVALID: Final = "22023"
INVALID_REGEX: Final = "2201B"
BAD_CAST: Final = "22P02"
OVERFLOW: Final = "22003"
DIVISION_BY_ZERO: Final = "22012"
NO_TRANSACTION: Final = "25P01"
TRANSACTION_ABORTED: Final = "25P02"
ACTIVE_TRANSACTION: Final = "25001"
READ_ONLY: Final = "25006"
NO_SUCH_SAVEPOINT: Final = "3B001"
ASSERTION_FAILED: Final = "P0004"
MORE_THAN_ONE_ROW: Final = "21000"
CONFLICT: Final = "40001"
OUTCOME_UNKNOWN: Final = "40003"
COMPACTED: Final = "72000"
PERMISSION_DENIED: Final = "42501"
LOGIN_FAILED: Final = "28P01"
TOKEN_INVALID: Final = "28000"
DISK_FULL: Final = "53100"
LIMIT: Final = "53400"
TOO_COMPLEX: Final = "54001"
CANCELLED: Final = "57014"
SHUTTING_DOWN: Final = "57P01"
CONNECTION_LOST: Final = "08006"
CANNOT_CONNECT: Final = "08001"
NOT_SUPPORTED: Final = "0A000"
CORRUPTED: Final = "XX001"
INTERNAL: Final = "XX000"


class Warning(Exception):
    """Important notices that are not errors (PEP 249)."""


class Error(Exception):
    """The base of every error that KVQL raises on purpose.

    ``message`` is the primary sentence without code or place; ``span`` counts in ``source``, the text of the statement
    (or script) that failed, when the two are known; ``statement`` is the 0-based index of the failed set of parameters
    in ``executemany`` or of the failed statement in a batch. ``item`` (from 1; 0 for none) and ``part`` (a ``Part`` of
    the wire: 1 key, 2 value, 3 namespace, 4 pattern, 5 TTL) say which operand a server that never saw the text blames;
    the client turns them into a span. ``skipped``: not carried out, because something before it failed. ``unsent``: the
    statement never reached the server, so a transaction that is open there knows nothing of it.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = INTERNAL,
        hint: str | None = None,
        span: Span | None = None,
        source: str | None = None,
        statement: int | None = None,
        item: int = 0,
        part: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.hint = hint
        self.span = span
        self.source = source
        self.statement = statement
        self.item = item
        self.part = part
        self.skipped = False
        self.unsent = False

    def at(self, span: Span | None, source: str | None = None) -> Error:
        """Fill in the place, where none is known yet; returns the error itself."""
        if self.span is None:
            self.span = span
        if self.source is None:
            self.source = source
        return self

    def render(self, *, where: str | None = None, first: Position | None = None) -> str:
        """The error as the shell prints it: code and message, the line with a caret, the hint.

        ``where`` names the file (and is printed with line and column), as in ``ERROR 42601 at shop.kvql:3:5: …``.
        ``first`` is where ``source`` starts in that file, if it is a piece of it.
        """
        place = ""
        lines: list[str] = []
        start = first or Position(1, 1)
        if self.span is not None and self.source is not None:
            line, column = position(self.source, self.span.start)
            shown = Position(start.line + line - 1, column + (start.column - 1 if line == 1 else 0))
            if where is not None:
                place = f" at {where}:{shown.line}:{shown.column}"
            lines = _caret(self.source, self.span, shown.line, column)
        elif where is not None:
            place = f" at {where}" if first is None else f" at {where}:{start.line}:{start.column}"
        out = [f"ERROR {self.sqlstate}{place}: {self.message}", *lines]
        if self.hint:
            out.append(f"HINT: {self.hint}")
        return "\n".join(out)

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(cls: type[Error], message: str, state: dict[str, object]) -> Error:
    made = cls(message)
    made.__dict__.update(state)
    return made


class InterfaceError(Error):
    """The driver was used wrongly (a closed connection, a fetch without a result)."""


class DatabaseError(Error):
    """The server refused or failed."""


class DataError(DatabaseError):
    """The data is at fault (class 22): an invalid key or value, overflow, division by zero."""


class OperationalError(DatabaseError):
    """The surroundings are at fault: connection, login, conflict, limits, cancelled, disk full."""


class IntegrityError(DatabaseError):
    """The data are not what was demanded of them: a key exists already (class 23), an ASSERT does not hold (P0004)."""


class InternalError(DatabaseError):
    """The store or the transaction is in a state that does not allow the statement."""


class ProgrammingError(DatabaseError):
    """The statement is at fault (classes 21, 42 and 3F): syntax, unknown names, no permission."""


class NotSupportedError(DatabaseError):
    """KVQL does not do this (0A000)."""


_CLASSES: Final[dict[str, type[Error]]] = {
    "02": DatabaseError,
    "08": OperationalError,
    "0A": NotSupportedError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "25": InternalError,
    "28": OperationalError,
    "3B": InternalError,
    "3F": ProgrammingError,
    "40": OperationalError,
    "42": ProgrammingError,
    "53": OperationalError,
    "54": OperationalError,
    "57": OperationalError,
    "72": OperationalError,
    "P0": IntegrityError,
    "XX": InternalError,
}


def error(
    sqlstate: str,
    message: str,
    *,
    hint: str | None = None,
    span: Span | None = None,
    source: str | None = None,
    statement: int | None = None,
    item: int = 0,
    part: int = 0,
) -> Error:
    """The error of the class that PEP 249 and psycopg give to ``sqlstate``."""
    cls = _CLASSES.get(sqlstate[:2], DatabaseError)
    return cls(
        message, sqlstate=sqlstate, hint=hint, span=span, source=source, statement=statement, item=item, part=part
    )


def cancelled() -> Error:
    """57014 of what was stopped on somebody's request, wherever it was by then."""
    return error(CANCELLED, "canceling statement due to user request")


_LINE_LENGTH_MAX: Final = 160


def _width(text: str) -> int:
    """Terminal columns of ``text``; wide East Asian characters take two, marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _caret(source: str, span: Span, line: int, column: int) -> list[str]:
    """The line of ``source`` that holds ``span`` and a line of carets below it."""
    start = span.start - (column - 1)
    end = source.find("\n", span.start)
    text = source[start : end if end >= 0 else len(source)].rstrip("\r")
    first, last = column - 1, max(column, min(span.end - start, len(text)))
    if len(text) > _LINE_LENGTH_MAX:
        cut = max(0, first - _LINE_LENGTH_MAX // 2)
        window = text[cut : cut + _LINE_LENGTH_MAX]
        lead = "..." if cut else ""
        tail = "..." if cut + _LINE_LENGTH_MAX < len(text) else ""
        first, last = first - cut + len(lead), min(last - cut, len(window)) + len(lead)
        text = lead + window + tail
    # a control character (a tab, an escape sequence in a hostile key) must not move the caret or reach the terminal
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf") else c for c in text)
    head = f"LINE {line}: "
    return [head + text, " " * (len(head) + _width(text[:first])) + "^" * max(1, _width(text[first:last]))]
