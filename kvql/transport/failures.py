"""The errors that a connection makes itself: what never left, and what was lost on the way."""

from __future__ import annotations

from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb

REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024 - 1024


def too_long(size: int) -> Error:
    error = errors.error(
        errors.LIMIT,
        f"the statement is {size:,} bytes long; at most {REQUEST_BYTES_MAX:,} are sent at once",
        hint="split it into several statements",
    )
    error.unsent = True
    return error


def skipped() -> Error:
    error = errors.error(errors.CANCELLED, "not carried out: a statement before it failed")
    error.skipped = True
    return error


def outcome_unknown(why: str) -> Error:
    return errors.error(
        errors.OUTCOME_UNKNOWN,
        f"{why}; whether the statement was carried out is unknown",
        hint="look before you repeat it",
    )


def no_answer(*, reads: bool) -> Error:
    if reads:
        return errors.error(errors.CANCELLED, "the server did not answer within the timeout")
    return outcome_unknown("the server did not answer within the timeout")


def transaction_lost(cause: Error | None = None) -> Error:
    return errors.error(
        errors.CONNECTION_LOST,
        f"{cause.message if cause else 'the connection was lost'}; the open transaction was rolled back",
        hint="ROLLBACK, then run the whole transaction again",
    )


def commit_unknown(request: pb.Request, cause: Error) -> Error | None:
    """A COMMIT whose answer was lost may have happened."""
    if request.HasField("transaction") and request.transaction.action == pb.TransactionCommand.COMMIT:
        return errors.error(
            errors.OUTCOME_UNKNOWN,
            f"{cause.message}; whether the transaction was committed is unknown",
            hint="look before you repeat it",
        )
    return None
