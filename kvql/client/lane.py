"""What a client knows of one lane, without any I/O: the namespace in use and how its transaction stands."""

from __future__ import annotations

import contextlib
from typing import Final, Literal

from kvql import ast, errors
from kvql.compiler import span_of
from kvql.compiler.places import STEP
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb

TransactionState = Literal["none", "open", "failed"]


class Lane:
    """One ordered conversation with the server.

    The server holds the truth; this is the client's copy, kept up to date by looking at what goes and comes. Every
    request names its namespace, so that nothing is lost with a connection but an open transaction: then ``lost`` is
    set, and the lane refuses everything until ROLLBACK, as it would after any other error in a transaction. ROLLBACK TO
    is refused as well, because the savepoints went down with the transaction. ``unsent`` is set by a statement of a
    transaction that failed before it reached the server, which would go on: here, too, only a rollback helps.
    """

    __slots__ = ("lost", "namespace", "number", "transaction", "unsent")

    def __init__(self, number: int, namespace: str = "") -> None:
        self.number = number
        self.namespace = namespace
        self.transaction: TransactionState = "none"
        self.lost = False
        self.unsent = False

    def prepare(self, request: pb.Request, timeout: float | None = None) -> None:
        """Address ``request``; 25P02 if the transaction that it would belong to went down with its connection."""
        if self.lost and not _is_end(request):
            raise errors.error(
                errors.TRANSACTION_ABORTED,
                "the transaction was rolled back when the connection was lost; commands are ignored until ROLLBACK",
                hint="ROLLBACK, then begin again",
            )
        if self.unsent and not _is_rollback(request):
            raise errors.error(
                errors.TRANSACTION_ABORTED,
                "current transaction is aborted, commands ignored until ROLLBACK",
                hint="an earlier statement failed before it was sent; nothing of the transaction is kept",
            )
        request.lane = self.number
        request.namespace = self.namespace
        if timeout is not None:
            request.deadline_ms = deadline_ms(timeout)

    def settled_here(self, statement: ast.Statement) -> Result | None:
        """The answer to the end of a transaction that the server has already forgotten; None if it must be asked."""
        if not self.lost or not ends_transaction(statement):
            return None
        self.lost, self.unsent, self.transaction = False, False, "none"
        if isinstance(statement, ast.Commit):
            raise errors.error(
                errors.CONNECTION_LOST,
                "the transaction was rolled back when the connection was lost; nothing is committed",
                hint="run the whole transaction again",
            )
        return Result()

    def done(self, statement: ast.Statement, result: Result) -> None:
        """Take note of a statement that went well."""
        kind = type(statement)
        if kind in _PASSIVE:
            return
        if isinstance(statement, ast.Use):
            self.namespace = result.namespace or statement.namespace.text
        elif ends_transaction(statement):
            self.transaction, self.unsent = "none", False
        elif kind is ast.Begin or kind is ast.Rollback:
            self.transaction, self.unsent = "open", False

    def given_up(self) -> None:
        """Nobody knows how the transaction stood; it has been told to roll back."""
        if self.transaction != "none":
            self.transaction, self.lost, self.unsent = "failed", True, False

    def failed(self, statement: ast.Statement, error: Error) -> None:
        """Take note of a statement that the server, or the way to it, refused."""
        if self.transaction == "none":
            return
        if ends_transaction(statement) and error.sqlstate not in _GOES_ON:
            self.transaction, self.lost, self.unsent = "none", False, False
            return
        self.transaction = "failed"
        self.unsent |= error.unsent
        if error.sqlstate == errors.CONNECTION_LOST:
            self.lost = True


_GOES_ON: Final = frozenset({errors.TRANSACTION_ABORTED, errors.CANCELLED})
"""Errors of a COMMIT or ROLLBACK that was not carried out at all."""
_PASSIVE: Final = frozenset({ast.Get, ast.Put, ast.Upsert, ast.UpdateKey, ast.Has, ast.DeleteKeys})


def ends_transaction(statement: ast.Statement) -> bool:
    """Whether no transaction is open after ``statement``: COMMIT, and ROLLBACK unless it is one TO a savepoint."""
    return isinstance(statement, ast.Commit) or (isinstance(statement, ast.Rollback) and statement.savepoint is None)


def _is_end(request: pb.Request) -> bool:
    return request.WhichOneof("command") == "transaction" and request.transaction.action in (
        pb.TransactionCommand.COMMIT,
        pb.TransactionCommand.ROLLBACK,
    )


def _is_rollback(request: pb.Request) -> bool:
    return request.WhichOneof("command") == "transaction" and request.transaction.action in (
        pb.TransactionCommand.ROLLBACK,
        pb.TransactionCommand.ROLLBACK_TO,
    )


def deadline_ms(timeout: float) -> int:
    """A timeout in seconds for the wire; 22023 if it is none."""
    try:
        lasts = timeout > 0
    except TypeError:
        raise errors.InterfaceError(
            f"a timeout is a number of seconds, not {type(timeout).__name__}", sqlstate=errors.INVALID
        ) from None
    if not lasts:
        raise errors.error(errors.INVALID, f"a timeout must be longer than 0 seconds, not {timeout}")
    return round(min(max(1, timeout * 1000), 2**32 - 1))


def located(error: Error, source: str | None) -> Error:
    """``error`` with its place in ``source``: a server that never saw the text says which operand it means."""
    if source is None:
        return error
    if error.source is None:
        error.source = source
    if error.span is None and (error.item or error.part):
        from kvql.parser import locate, parse

        if error.part >= STEP:
            with contextlib.suppress(Error):
                error.span = span_of(parse(source)[0], error.item, error.part)
        else:
            error.span = locate(source, error.item, error.part)
    return error
