"""BEGIN, COMMIT, ROLLBACK of a lane, and its savepoints."""

from __future__ import annotations

import time
from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.engines.base import SYSTEM_NAMESPACE, Conflict, Guard, RangeUnchanged
from kvql_server.executor import retention, turns
from kvql_server.executor.call import Call
from kvql_server.executor.idempotency import Key, fence, refused_inside
from kvql_server.transaction import Transaction, conflict_error

NONE_OPEN: Final = Notice("there is no transaction in progress", sqlstate=errors.NO_TRANSACTION)
_SAVEPOINTS: Final[dict[int, str]] = {
    pb.TransactionCommand.SAVEPOINT: "SAVEPOINT", pb.TransactionCommand.ROLLBACK_TO: "ROLLBACK TO",
    pb.TransactionCommand.RELEASE: "RELEASE",
}  # fmt: skip


async def act(call: Call) -> Result:
    """Carry out a transaction command; the lane holds at most one transaction."""
    command = call.request.transaction
    if call.request.idempotency_key and command.action != pb.TransactionCommand.COMMIT:
        rules.check_idempotency_key(call.request.idempotency_key)
        raise refused_inside()
    if command.action in _SAVEPOINTS:
        return _savepoint(call, command.action, command.name)
    if command.name:
        raise errors.error(errors.INVALID, "only a savepoint has a name")
    if command.action == pb.TransactionCommand.BEGIN:
        return await _begin(call, command.read_only)
    if command.action == pb.TransactionCommand.COMMIT:
        return await _commit(call)
    if command.action == pb.TransactionCommand.ROLLBACK:
        notices = [] if call.lane.transaction is not None else [NONE_OPEN]
        call.lane.rollback()
        return Result(notices=notices)
    raise errors.error(errors.INVALID, "unknown transaction command")


async def _begin(call: Call, read_only: bool) -> Result:
    if call.lane.transaction is not None:
        raise errors.error(
            errors.ACTIVE_TRANSACTION, "there is already a transaction in progress", hint="COMMIT or ROLLBACK ends it"
        )
    if not read_only:
        # or an expiry that was due before, and is carried out before COMMIT, would be a change to what this has read
        await turns.expiry(call)
    transaction = Transaction(call.engine, call.principal.name, tracked=not read_only, read_only=read_only)
    transaction.writes.writes_max = call.settings.transaction_writes_max
    transaction.writes.bytes_max = call.settings.transaction_bytes_max
    transaction.writes.savepoints_max = call.settings.savepoints_max
    transaction.last_used_s = time.monotonic()
    call.lane.transaction = transaction
    call.work.saw(transaction.revision)
    return Result(revision=transaction.revision)


def _savepoint(call: Call, action: int, name: str) -> Result:
    """SAVEPOINT, ROLLBACK TO, RELEASE. What was read stays read, whatever becomes of what was written."""
    transaction = call.lane.transaction
    if transaction is None:
        what = f"{_SAVEPOINTS[action]} can only be used in transaction blocks"
        raise errors.error(errors.NO_TRANSACTION, what, hint="BEGIN starts one")
    if transaction.failed and (action != pb.TransactionCommand.ROLLBACK_TO or transaction.failure):
        raise aborted(transaction)
    rules.check_savepoint(name)
    writes = transaction.writes
    try:
        if action == pb.TransactionCommand.SAVEPOINT:
            writes.savepoint(name)
        elif action == pb.TransactionCommand.RELEASE:
            writes.release(name)
        else:
            writes.back_to_savepoint(name)
            transaction.failed = False
    except Error as e:
        e.item, e.part = 1, pb.PART_NAME
        raise
    return Result(revision=transaction.revision)


async def _commit(call: Call) -> Result:
    transaction = call.lane.transaction
    key = Key.of(call)
    if transaction is None:
        return Result(notices=[NONE_OPEN]) if key is None else await _commit_again(call, key)
    if transaction.failed:
        raise aborted(transaction)
    call.work.check()
    if transaction.reads_ranges:  # it would be carried out before them, at once
        await turns.expiry(call)
    catalog = list(transaction.writes.of(SYSTEM_NAMESPACE).values())
    try:
        if key is not None and transaction.writes:
            if (known := await key.outcome_by_now(transaction)) is not None:
                call.work.saw(known.revision)
                return known
            key.remember(transaction, Result())
        outcome = await transaction.commit()
    finally:
        call.lane.rollback()
    if isinstance(outcome, Conflict):
        if key is not None and outcome.guard.namespace == SYSTEM_NAMESPACE and _is_of(outcome.guard, key):
            return await _commit_again(call, key)  # it was answered since this transaction began
        current = call.engine.snapshot()
        call.work.saw(current.revision)
        current.close()
        raise conflict_error(outcome)
    retention.follow(call.engine, catalog)
    call.work.saw(outcome)
    return Result(revision=outcome)


def _is_of(guard: Guard, key: Key) -> bool:
    return not isinstance(guard, RangeUnchanged) and guard.key == key.name


async def _commit_again(call: Call, key: Key) -> Result:
    """A COMMIT that finds no transaction: what became of the first one. If nothing did, nothing ever will: it may still
    be on its way on a connection that is not known to be broken, and whoever asks here is about to begin anew."""
    while True:
        transaction = Transaction(call.engine, call.principal.name)
        try:
            call.work.saw(transaction.revision)
            if (known := await key.outcome(transaction)) is not None:
                return known
            fence(key, transaction)
            call.work.check()
            outcome = await transaction.commit()
        finally:
            transaction.close()
        if not isinstance(outcome, Conflict):
            call.work.saw(outcome)
            raise errors.error(
                errors.NO_TRANSACTION, "there is no transaction in progress, and none was committed with this key",
                hint="run the transaction again, with a new key",
            )  # fmt: skip


def aborted(transaction: Transaction) -> errors.Error:
    """25P02, with the reason where no statement of the user's was it."""
    if transaction.failure:
        return errors.error(errors.TRANSACTION_ABORTED, transaction.failure, hint="ROLLBACK, then begin again")
    hint = "an earlier statement failed; nothing of the transaction is kept"
    if transaction.writes.has_savepoints:
        hint = "an earlier statement failed; ROLLBACK TO goes back to a savepoint, ROLLBACK ends the transaction"
    return errors.error(
        errors.TRANSACTION_ABORTED, "current transaction is aborted, commands ignored until ROLLBACK", hint=hint
    )
