"""WATCH: what is asked for, checked and compiled. What runs from then on is ``watcher``'s."""

from __future__ import annotations

from typing import Final

from kvql import errors
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.engines import base
from kvql_server.engines.base import Snapshot
from kvql_server.executor import events, turns
from kvql_server.executor.call import Call
from kvql_server.executor.watcher import Place, Watcher, Watching, compacted, dropped
from kvql_server.transaction import Transaction

_EVER: Final = -(2**63)
"""The time of a snapshot in which a pair is there until its expiry is a commit: an event, for who watches on."""


async def watch(transaction: Transaction, call: Call) -> Result:
    """The events, for as long as somebody asks for them."""
    command = call.request.watch
    if call.lane.transaction is not None:
        raise errors.error(
            errors.ACTIVE_TRANSACTION, "WATCH cannot run inside a transaction",
            hint="it shows what is committed; commit or roll back first",
        )  # fmt: skip
    namespace = call.namespace(command.namespace)
    record = await call.access.existing(transaction, call.principal, namespace)
    since = await call.access.catalog.since(transaction, namespace)
    _check_place(command, call, namespace, since, transaction.revision)
    where = command.where if command.HasField("where") else None
    condition = await turns.aside(
        call.work, len(command.where.steps),
        lambda: events.condition(call, namespace, record, where, transaction.time),
    )  # fmt: skip
    if command.initial:
        await turns.expiry(call)  # what is due is over, and no pair to begin with
    call.watches.check(call.principal.name, call.lane.group)  # and from here on nobody else has his turn
    snapshot = _snapshot(call, since) if command.initial else None
    place = _place(command, since, transaction, snapshot)
    call.work.saw(place.revision)
    watcher = Watcher(call, namespace, since, condition, place, snapshot)
    call.watches.enter(watcher)
    return Result(events.COLUMNS, Watching(watcher), -1)


def _check_place(command: pb.WatchCommand, call: Call, namespace: str, since: int, newest: int) -> None:
    """Where the watch is to begin must be a place in the history of this store and of this namespace."""
    if command.store and command.store != call.engine.store_id:
        raise errors.error(
            errors.COMPACTED, "the store is another one than the one that was watched",
            hint="revisions of one mean nothing in another; begin anew: WATCH … WITH INITIAL",
        )  # fmt: skip
    if command.since and command.since != since:
        raise dropped(namespace, again=since > 0)
    if command.from_revision > newest:
        raise errors.error(
            errors.INVALID, f"revision {command.from_revision} is in the future; the newest one is {newest}",
            hint="leave out FROM REVISION to see what happens from now on",
        )  # fmt: skip
    if command.after_key:
        rules.check_keys([command.after_key])
        if not command.HasField("from_revision"):
            raise errors.error(errors.INVALID, "after_key is a place in from_revision, which is missing")


def _snapshot(call: Call, since: int) -> Snapshot:
    """Of the initial pairs; before the namespace was created there were none, whatever one of its name held before."""
    command = call.request.watch
    if not command.HasField("from_revision"):
        return call.engine.snapshot(None, _EVER)
    try:
        return call.engine.snapshot(max(command.from_revision, since - 1), _EVER)
    except base.Compacted as e:
        raise compacted(e, begun=False) from e


def _place(command: pb.WatchCommand, since: int, transaction: Transaction, snapshot: Snapshot | None) -> Place:
    """Behind which the events begin."""
    if snapshot is not None:
        return Place(snapshot.revision, command.after_key)
    if not command.HasField("from_revision"):
        return Place(transaction.revision, named=False)
    if command.from_revision < since - 1:
        return Place(since - 1)  # what happened before belongs to an earlier namespace of this name
    return Place(command.from_revision, command.after_key)
