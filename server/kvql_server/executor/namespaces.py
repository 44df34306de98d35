"""CREATE, ALTER, DROP and DESCRIBE NAMESPACE; USE."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from kvql import errors
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.names import nearest
from kvql.result import Notice, Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type, display, parse_interval, to_interval_micros
from kvql_server import rules
from kvql_server.auth import CREATES
from kvql_server.catalog import NAMESPACE, Namespace, encode
from kvql_server.engines.base import SYSTEM_NAMESPACE
from kvql_server.executor import declared
from kvql_server.executor.call import Call
from kvql_server.executor.insert import SEQUENCE
from kvql_server.transaction import Transaction

DESCRIPTION: Final = (
    ResultColumn("kind", Type.TEXT), ResultColumn("name", Type.TEXT), ResultColumn("value", Type.TEXT),
)  # fmt: skip


async def create(transaction: Transaction, call: Call) -> Result:
    """CREATE NAMESPACE [IF NOT EXISTS] n [WITH (…)]: the creator is the owner. A taken name is 42501."""
    command = call.request.create_namespace
    name = command.namespace
    options = {option: value for option, value in _options(command).items() if value is not None}
    fields = declared.read_fields(command)
    record, new = await call.access.writable(transaction, call.principal, name)
    if not new:
        if command.if_not_exists:
            return Result(notices=[Notice(f"namespace {name} already exists, skipping")])
        raise errors.error(errors.DUPLICATE_NAMESPACE, f"namespace {name} already exists", part=pb.PART_NAMESPACE)
    record = Namespace(record.owner, options, fields, record.since)
    transaction.put(SYSTEM_NAMESPACE, NAMESPACE + name, encode(record), None)
    return Result()


async def alter(transaction: Transaction, call: Call) -> Result:
    """ALTER NAMESPACE n SET (…): the options that are named, the others stay; NULL takes one back."""
    command = call.request.alter_namespace
    name, given = command.namespace, _options(command)
    record = await call.access.existing(transaction, call.principal, name)
    if await transaction.get(SYSTEM_NAMESPACE, NAMESPACE + name) is None:  # where a session in process starts
        raise await call.access.no_such(transaction, call.principal, name)
    options = {option: value for option, value in (record.options | given).items() if value is not None}
    record = msgspec.structs.replace(record, options=options)
    transaction.put(SYSTEM_NAMESPACE, NAMESPACE + name, encode(record), None)
    return Result()


async def drop(transaction: Transaction, call: Call) -> Result:
    """DROP NAMESPACE [IF EXISTS] n: the namespace and all its pairs, in one commit."""
    command = call.request.drop_namespace
    name, key = command.namespace, NAMESPACE + command.namespace
    found = await call.access.find(transaction, call.principal, name)
    # where a session in process starts can be read before there is a pair for it
    if found is None or await transaction.get(SYSTEM_NAMESPACE, key) is None:
        if command.if_exists:
            return Result(notices=[Notice(f"namespace {name} does not exist, skipping")])
        raise await call.access.no_such(transaction, call.principal, name)
    transaction.clear(name)
    transaction.delete(SYSTEM_NAMESPACE, key)
    if await transaction.get(SYSTEM_NAMESPACE, SEQUENCE + name) is not None:
        transaction.delete(SYSTEM_NAMESPACE, SEQUENCE + name)
    return Result()


async def describe(transaction: Transaction, call: Call) -> Result:
    """DESCRIBE n: its owner, its declared fields in their order, its settings."""
    name = call.namespace(call.request.describe.namespace)
    record = await call.access.existing(transaction, call.principal, name)
    rows: list[tuple[str, str | None, str]] = [("owner", None, record.owner)]
    for field in record.fields:
        arguments = f"({', '.join(map(str, field.arguments))})" if field.arguments else ""
        rows.append(("field", field.name, field.type + arguments + (" NOT NULL" if field.not_null else "")))
    rows += [("setting", option, _shown(option, value)) for option, value in sorted(record.options.items())]
    return Result(DESCRIPTION, rows, len(rows))


def _shown(option: str, value: Any) -> str:
    """As it could be written: durations are kept in milliseconds."""
    return display(timedelta(milliseconds=value)) if option in ("default_ttl", "history") else str(value)


async def use(transaction: Transaction, call: Call) -> Result:
    """USE n: never an error for a valid name; a notice if there is nothing to be seen there."""
    name = call.request.use.namespace
    notices = []
    if await call.access.find(transaction, call.principal, name) is None:
        near = await call.access.near(transaction, call.principal, name)
        hint = f"did you mean {near}? if not, {CREATES}" if near else CREATES
        notices = [Notice(f"namespace {name} does not exist yet", hint)]
    call.lane.namespace = name
    return Result(namespace=name, notices=notices)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _values(value: Any) -> str:
    if value in ("word", "any"):
        return str(value)
    raise errors.error(errors.INVALID, "option values is 'word' or 'any'")


def _duration_ms(name: str, least_ms: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is str:
            value = parse_interval(value)
        if type(value) is not timedelta:
            raise errors.error(errors.INVALID, f"option {name} is a duration", hint=f"write {name} = '1h'")
        ms = to_interval_micros(value) // 1000
        if not least_ms <= ms <= rules.TTL_MS_MAX:
            raise errors.error(errors.INVALID, f"option {name} is out of range")
        return ms

    return read


def _count(name: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or value < 0:
            raise errors.error(errors.INVALID, f"option {name} is a number, 0 or more")
        return value

    return read


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "values": _values,
    "default_ttl": _duration_ms("default_ttl", 1),
    "history": _duration_ms("history", 0),
    "history_bytes": _count("history_bytes"),
    "max_keys": _count("max_keys"),
    "max_bytes": _count("max_bytes"),
}
_IN_FORCE: Final = frozenset({"values", "default_ttl", "history", "history_bytes"})
"""Options that are carried out by now; the others are refused by name and not silently kept."""


def _options(command: pb.CreateNamespaceCommand | pb.AlterNamespaceCommand) -> dict[str, Any]:
    """The options by their names, checked; None for one that is NULL."""
    names = list(command.option_names)
    values = decode_values(command.option_values, intervals=True)
    if len(names) != len(values):
        raise errors.error(errors.INVALID, "every option needs one value")
    out: dict[str, Any] = {}
    for item, (name, value) in enumerate(zip(names, values, strict=True), 1):
        reader = _READERS.get(name.lower())
        if reader is None:
            raise _unknown(name, item)
        if name.lower() not in _IN_FORCE:
            raise _refused(f"option {name.lower()} is not supported yet", item, errors.NOT_SUPPORTED)
        if name.lower() in out:
            raise _refused(f"option {name.lower()} is given twice", item)
        try:
            out[name.lower()] = None if value is None else reader(value)
        except Error as e:
            e.item, e.part = item, pb.PART_OPTION_VALUE
            raise
    return out


def _unknown(name: str, item: int) -> Error:
    near = nearest(name, list(_READERS))
    shown = name if name.isidentifier() and len(name) <= 64 else "of that name"
    hint = f"did you mean {near}?" if near else f"the options are {', '.join(_READERS)}"
    return _refused(f"option {shown} does not exist", item, hint=hint)


def _refused(message: str, item: int, sqlstate: str = errors.INVALID, hint: str | None = None) -> Error:
    return errors.error(sqlstate, message, hint=hint, item=item, part=pb.PART_OPTION)
