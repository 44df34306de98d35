"""BEGIN, COMMIT, ROLLBACK of a lane."""

from __future__ import annotations

import time

from kvql import errors
from kvql.result import Notice, Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server.engines.base import Conflict
from kvql_server.executor.call import Call
from kvql_server.transaction import Transaction, conflict_error

NONE_OPEN = Notice("there is no transaction in progress", sqlstate=errors.NO_TRANSACTION)


async def act(call: Call) -> Result:
    """Carry out a transaction command; the lane holds at most one transaction."""
    command = call.request.transaction
    if command.action == pb.TransactionCommand.BEGIN:
        return _begin(call, command.read_only)
    if command.action == pb.TransactionCommand.COMMIT:
        return await _commit(call)
    if command.action == pb.TransactionCommand.ROLLBACK:
        notices = [] if call.lane.transaction is not None else [NONE_OPEN]
        call.lane.rollback()
        return Result(notices=notices)
    raise errors.error(errors.INVALID, "unknown transaction command")


def _begin(call: Call, read_only: bool) -> Result:
    if call.lane.transaction is not None:
        raise errors.error(
            errors.ACTIVE_TRANSACTION, "there is already a transaction in progress", hint="COMMIT or ROLLBACK ends it"
        )
    transaction = Transaction(call.engine, call.principal.name, read_only=read_only)
    transaction.writes_max = call.settings.transaction_writes_max
    transaction.bytes_max = call.settings.transaction_bytes_max
    transaction.last_used_s = time.monotonic()
    call.lane.transaction = transaction
    call.work.saw(transaction.revision)
    return Result(revision=transaction.revision)


async def _commit(call: Call) -> Result:
    transaction = call.lane.transaction
    if transaction is None:
        return Result(notices=[NONE_OPEN])
    if transaction.failed:
        raise aborted(transaction)
    call.work.check()
    try:
        outcome = await transaction.commit()
    finally:
        call.lane.rollback()
    if isinstance(outcome, Conflict):
        current = call.engine.snapshot()
        call.work.saw(current.revision)
        current.close()
        raise conflict_error(outcome)
    call.work.saw(outcome)
    return Result(revision=outcome)


def aborted(transaction: Transaction) -> errors.Error:
    """25P02, with the reason where no statement of the user's was it."""
    if transaction.failure:
        return errors.error(errors.TRANSACTION_ABORTED, transaction.failure, hint="ROLLBACK, then begin again")
    return errors.error(
        errors.TRANSACTION_ABORTED,
        "current transaction is aborted, commands ignored until ROLLBACK",
        hint="an earlier statement failed; nothing of the transaction is kept",
    )
