"""One pair, as many tasks send it: the quick road for PUT and UPSERT."""

from __future__ import annotations

from typing import Any

from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.engines import base
from kvql_server.engines.base import Absent, Put
from kvql_server.executor.assignments import words_only
from kvql_server.executor.call import Call
from kvql_server.executor.idempotency import Key
from kvql_server.executor.keys import exists
from kvql_server.executor.runs import DEFAULT_TTL, PUT, UPSERT
from kvql_server.transaction import Transaction


def is_run(command: pb.WriteCommand) -> bool:
    """Whether the command is several statements."""
    return len(command.keys) > 1 if command.each else len(command.statement_sizes) > 1


async def write_pair(call: Call, outcome_key: Key | None = None) -> Result | None:
    """PUT or UPSERT of one pair of the two common types into a namespace that is there: what many tasks send.

    None: something is out of the ordinary; nothing has happened, and the general road finds out what.
    """
    command = call.request.write
    if len(command.keys) != 1 or command.mode not in (PUT, UPSERT) or command.ttl_ms:
        return None
    values = command.values
    types = values.types
    if types == b"\x03" and len(values.integers) == 1 and not values.texts:
        value: Any = values.integers[0]
    elif types == b"\x06" and len(values.texts) == 1 and not values.integers:
        value = values.texts[0]
    else:
        return None
    if values.floats or values.blobs or values.expressions or len(command.statement_sizes) > 1 or call.request.comment:
        return None
    key = command.keys[0]
    if not rules.keys_are_valid((key,)) or command.statement_sizes not in ([], [1]):
        return None
    namespace = call.namespace()
    user = call.principal.name
    snapshot = Transaction(call.engine, user, tracked=False)
    try:
        call.work.saw(snapshot.revision)
        if outcome_key is not None and (known := await outcome_key.outcome(snapshot)) is not None:
            return known
        record, new = await call.access.writable(snapshot, call.principal, namespace)
    finally:
        snapshot.close()
    if (
        new
        or record.fields
        or DEFAULT_TTL in record.options
        or not rules.values_are_valid((value,), words_only(call, record))
    ):
        return None
    call.work.check()
    guards = (Absent(namespace, key),) if command.mode == PUT else ()
    put = Put(namespace, key, value)
    result = Result(row_count=1, completed=1)
    # nothing suspends since the snapshot: what it said of the outcome still holds
    if outcome_key is None:
        transaction = base.Transaction(guards, (put,), user)
    else:
        transaction = base.Transaction(guards, (put, outcome_key.put(result, snapshot.time)), user, "", outcome_key.own)
    outcome = (await call.engine.commit_many((transaction,)))[0]
    if type(outcome) is not int:
        # the revision of the pair in the way lies at or before the snapshot's: nothing came in between
        raise exists(key, 1)
    call.work.saw(outcome)
    result.revision = outcome
    result.revisions = (outcome,) if command.tell_revisions else ()
    return result
