"""GET, HAS, DELETE, EXPIRE, PERSIST: statements that name their keys. PUT, UPDATE and UPSERT are in ``writes``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server import rules
from kvql_server.executor.call import Call
from kvql_server.transaction import Transaction

ERRORS_MAX: Final = 100
"""How many failures of a run are told in full; the rest are counted."""
READ_HINT: Final = "HAS asks whether a key is there, SHOW KEYS lists them"
UPDATE_HINT: Final = "PUT inserts a pair, UPSERT puts or replaces"
DELETE_HINT: Final = "DELETE FROM … WHERE key IN (…) removes those that are there"
RESTORE_HINT: Final = "it was absent then, too"
KEY_VALUE: Final = (ResultColumn("key", Type.TEXT), ResultColumn("value", None))
KEY_EXISTS: Final = (ResultColumn("key", Type.TEXT), ResultColumn("exists", Type.BOOLEAN))


async def get(transaction: Transaction, call: Call) -> Result:
    """The pairs, a row for each key named, in that order; 02000 if one is missing."""
    keys = call.request.get.keys
    if call.request.get.each:
        return await _get_each(transaction, call, keys)
    rules.check_keys(keys)
    namespace = call.namespace()
    await call.access.existing(transaction, call.principal, namespace)
    if len(keys) == 1:
        entry = await transaction.get(namespace, keys[0])
        if entry is None:
            raise missing(keys[0], 1)
        return Result(KEY_VALUE, [(keys[0], entry.value)], 1)
    rows = []
    for item, (key, entry) in enumerate(zip(keys, await transaction.get_many(namespace, keys), strict=True), 1):
        if entry is None:
            raise missing(key, item)
        rows.append((key, entry.value))
    return Result(KEY_VALUE, rows, len(rows))


async def _get_each(transaction: Transaction, call: Call, keys: Sequence[str]) -> Result:
    """A run of statements of one key each: the rows of those that are there, and an error for each other one."""
    failures: dict[int, Error] = {}
    if not keys:
        rules.check_keys(keys)
    if not rules.keys_are_valid(keys):
        wrong = [(index, rules.key_error(key, 1)) for index, key in enumerate(keys)]
        failures = {index: error for index, error in wrong if error is not None}
    try:
        namespace = call.namespace()
        await call.access.existing(transaction, call.principal, namespace)
    except Error as e:
        if not failures:
            raise
        failures = {index: failures.get(index) or copy.copy(e) for index in range(len(keys))}
    rows = []
    if len(failures) < len(keys):
        for index, (key, entry) in enumerate(zip(keys, await transaction.get_many(namespace, keys), strict=True)):
            if entry is not None:
                rows.append((key, entry.value))
            elif index not in failures:
                failures[index] = missing(key, 1)
    for index, error in failures.items():
        error.statement = index
    if failures and (call.lane.transaction is not None or call.request.on_error == pb.ON_ERROR_STOP):
        raise failures[min(failures)]
    told = [failures[index] for index in sorted(failures)[:ERRORS_MAX]]
    return Result(KEY_VALUE, rows, len(rows), completed=len(rows), failed=len(failures), errors=told)


async def has(transaction: Transaction, call: Call) -> Result:
    """For each key whether it is there."""
    keys = call.request.has.keys
    rules.check_keys(keys)
    namespace = call.namespace()
    await call.access.existing(transaction, call.principal, namespace)
    entries = await transaction.get_many(namespace, keys)
    rows = [(key, entry is not None) for key, entry in zip(keys, entries, strict=True)]
    return Result(KEY_EXISTS, rows, len(rows))


async def delete(transaction: Transaction, call: Call) -> Result:
    """Removes the pairs and returns them; all or nothing, so a key named twice does not exist the second time."""
    keys = call.request.delete.keys
    rules.check_keys(keys)
    namespace = call.namespace()
    await call.access.existing(transaction, call.principal, namespace)
    rows = []
    size = 0
    for item, key in enumerate(keys, 1):
        entry = await transaction.get(namespace, key)
        if entry is None:
            raise missing(key, item, DELETE_HINT)
        transaction.delete(namespace, key)
        rows.append((key, entry.value))
        size += len(key) + (len(entry.value) if isinstance(entry.value, str | bytes) else 32)
    call.work.check_reply(rows)
    if size > call.settings.transaction_bytes_max:
        raise errors.error(
            errors.LIMIT, "the deleted pairs are too large to be returned", hint="delete fewer keys in one statement"
        )
    return Result(KEY_VALUE, rows, len(rows))


async def expire(transaction: Transaction, call: Call) -> Result:
    """EXPIRE sets the time to live, PERSIST (0) drops it."""
    command = call.request.expire
    rules.check_keys([command.key])
    if command.ttl_ms:
        rules.check_ttl(command.ttl_ms)
    namespace = call.namespace()
    await call.access.existing(transaction, call.principal, namespace)
    entry = await transaction.get(namespace, command.key)
    if entry is None:
        raise missing(command.key, 1)
    transaction.put(namespace, command.key, entry.value, call.expires_at(command.ttl_ms))
    return Result(row_count=1)


def missing(key: str, item: int, hint: str = READ_HINT) -> Error:
    return errors.error(errors.NO_SUCH_KEY, f"key does not exist: {key}", hint=hint, item=item, part=pb.PART_KEY)


def exists(key: str, item: int) -> Error:
    return errors.error(
        errors.KEY_EXISTS, f"key already exists: {key}",
        hint="UPDATE replaces a value, UPSERT puts or replaces", item=item, part=pb.PART_KEY,
    )  # fmt: skip
