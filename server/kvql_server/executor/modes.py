"""EXPLAIN and DRY RUN of statements that do not plan by themselves: the short forms."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from kvql import errors
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.executor import access_path, expressions, runs
from kvql_server.executor.access_path import FULL
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.explain import counted, described, explained
from kvql_server.executor.pipeline import Stage
from kvql_server.transaction import Transaction

Statement = Callable[[Transaction, Call], Awaitable[Result]]

PLANNED: Final = frozenset({"select", "insert", "update_rows", "delete_rows", "truncate", "restore"})
"""Commands that answer EXPLAIN and EXPLAIN ANALYZE themselves."""
READING: Final = frozenset({"get", "has", "list", "namespaces", "select"})
WRITING: Final = PLANNED - {"select"} | {"write", "delete", "expire"}

CHANGES: Final = (
    ResultColumn("change", Type.TEXT), ResultColumn("key", Type.TEXT), ResultColumn("old_value"),
    ResultColumn("new_value"),
)  # fmt: skip
_MODES: Final = {pb.WRITE_MODE_PUT: "put", pb.WRITE_MODE_UPDATE: "update", pb.WRITE_MODE_UPSERT: "upsert"}


def check(mode: int, command: str | None) -> None:
    """0A000 if a command cannot be carried out in this mode."""
    if mode not in pb.Mode.values():
        raise errors.error(errors.INVALID, f"unknown mode {mode}")
    if mode == pb.MODE_DRY_RUN:
        if command not in WRITING:
            raise errors.error(errors.NOT_SUPPORTED, "DRY RUN is for statements that write data")
    elif command not in READING | WRITING:
        raise errors.error(errors.NOT_SUPPORTED, "EXPLAIN is for statements that read or write data")


async def explain(statement: Statement, transaction: Transaction, call: Call, command: str) -> Result:
    """EXPLAIN [ANALYZE] of any statement."""
    if command in PLANNED:
        return await statement(transaction, call)
    stages = await _stages(transaction, call, command)
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained(stages)
    started = time.perf_counter()
    result = await statement(transaction, call)
    count = result.row_count
    if isinstance(result.rows, Pages):
        count = sum([len(page) async for page in result.rows])
    stages[-1].rows, stages[-1].time_s = count, time.perf_counter() - started
    return explained(stages, pb.MODE_EXPLAIN_ANALYZE)


async def _stages(transaction: Transaction, call: Call, command: str) -> list[Stage]:
    request = call.request
    if command == "namespaces":
        return [Stage("read", "the namespaces that you may read")]
    namespace = call.namespace(request.list.namespace if command == "list" else "")
    if command == "write":
        await runs.access(transaction, call, runs.read(call), namespace)
    else:
        await call.access.existing(transaction, call.principal, namespace)
    if command == "list":
        return _list_stages(request.list, namespace)
    keys = [request.expire.key] if command == "expire" else list(getattr(request, command).keys)
    read = Stage("read", described(access_path.point(*keys), namespace, "key"))
    if command in ("get", "has"):
        return [read]
    if command == "write":
        return [read, Stage("write", f"{_MODES.get(request.write.mode, 'write')} {counted(len(keys), 'pair')}")]
    what = {"delete": "delete", "expire": "set or drop the time to live of"}[command]
    return [read, Stage("write", f"{what} {counted(len(keys), 'pair')}")]


def _list_stages(command: pb.ListCommand, namespace: str) -> list[Stage]:
    path, test = FULL, ""
    if command.HasField("pattern"):
        like = expressions.compiled_like(command.pattern, "\\", False)
        path = expressions.like_path(like, command.pattern)
        test = "" if path.exact else f"key LIKE '{command.pattern}'"
    if command.what == pb.ListCommand.COUNT and path == FULL and not test:
        return [Stage("count", f"all pairs of namespace {namespace}")]
    stages = [Stage("read", described(path, namespace, "key"))]
    if test:
        stages.append(Stage("filter", test))
    if command.what == pb.ListCommand.COUNT:
        stages.append(Stage("aggregate", "count"))
    elif command.HasField("limit"):
        stages.append(Stage("limit", f"limit {command.limit}"))
    return stages


async def dry_run(statement: Statement, transaction: Transaction, call: Call) -> Result:
    """The pairs before and after a write, which is then taken back; what it would refuse is refused."""
    namespace = _namespace_of(call)
    mark = transaction.writes.mark()
    read_only, transaction.read_only = transaction.read_only, False  # nothing is left of it
    try:
        await statement(transaction, call)
        changes = await transaction.changes(namespace, mark, call.work.breathe)
    finally:
        transaction.read_only = read_only
        transaction.writes.back_to(mark)
        transaction.writes.forget()
    rows = [
        (
            "INSERT" if old is None else "DELETE" if new is None else "UPDATE",
            key, None if old is None else old.value, None if new is None else new.value,
        )
        for key, old, new in changes
    ]  # fmt: skip
    return Result(CHANGES, rows, len(rows))


def _namespace_of(call: Call) -> str:
    command = call.request.WhichOneof("command") or ""
    return call.namespace(getattr(getattr(call.request, command), "namespace", ""))
