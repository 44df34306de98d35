"""UPDATE … SET, DELETE FROM, TRUNCATE: writes to the pairs that a condition names, one commit each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json
from kvql_server.catalog import Namespace
from kvql_server.executor import expressions, lists, turns
from kvql_server.executor.access_path import FULL, Path
from kvql_server.executor.assignments import Assignments, words_only
from kvql_server.executor.call import Call
from kvql_server.executor.explain import described, explained
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.executor.expressions import text as sql
from kvql_server.executor.pipeline import Stage
from kvql_server.executor.returning import Returning
from kvql_server.transaction import Transaction

_LONG_JSON: Final = 65_536
_STRANGERS: Final = frozenset(("old", "new", "excluded"))


class _Search:
    """The pairs that WHERE names, as pages of rows with what is computed for each."""

    def __init__(self, transaction: Transaction, call: Call, namespace: str, record: Namespace) -> None:
        self.transaction = transaction
        self.call = call
        self.namespace = namespace
        scope = Scope(namespace, record.fields, strangers=_STRANGERS)
        self.builder = Builder(scope, transaction.time, call.settings.expression_steps_max, call.places)
        self.path: Path = FULL
        self.condition = ""
        self.stages: list[Stage] = []

    def where(self, command: pb.UpdateRowsCommand | pb.DeleteRowsCommand, base: int) -> None:
        if command.HasField("where"):
            self.path, self.condition = expressions.condition_of(self.builder, command.where, base)
        if not self.call.request.mode:
            return  # nobody asks what the stages are
        self.stages = [Stage("read", described(self.path, self.namespace, "key"))]
        if self.condition:
            self.stages.append(Stage("filter", sql.text(command.where)))

    async def pages(self, row: str) -> AsyncIterator[list[Any]]:
        builder, work = self.builder, self.call.work
        function = await turns.aside(
            work, builder.steps, lambda: expressions.page_function(builder, row, self.condition)
        )  # fmt: skip
        read = lists.read(self.transaction, self.namespace, self.path)
        async for page in turns.in_turns(read, work, builder, self.transaction.kinds(self.namespace)):
            found = await turns.computed(function, page)
            if found:
                yield found


async def _target(transaction: Transaction, call: Call, named: str) -> tuple[str, Namespace]:
    namespace = call.namespace(named)
    return namespace, await call.access.existing(transaction, call.principal, namespace)


def _steps(command: pb.UpdateRowsCommand | pb.DeleteRowsCommand) -> int:
    return len(command.where.steps) + sum([len(p.expression.steps) for p in command.returning])


async def update(transaction: Transaction, call: Call) -> Result:
    """UPDATE ns SET …: every pair that matches, in one commit; unqualified columns of RETURNING are the new ones."""
    command = call.request.update_rows
    namespace, record = await _target(transaction, call, command.namespace)
    search = _Search(transaction, call, namespace, record)

    def compiled() -> tuple[Assignments, Returning]:
        search.builder.clause = "SET"
        assignments = Assignments(search.builder, command.assignments, record, 0)
        search.where(command, assignments.base)
        base = assignments.base + len(command.where.steps)
        return assignments, Returning(
            transaction, call, namespace, record, command.returning, base, old=("o", False), new=("e", False)
        )

    steps = sum([len(a.expression.steps) for a in command.assignments])
    assignments, returning = await turns.aside(call.work, steps + _steps(command), compiled)
    if call.request.mode:
        shown = ", ".join(f"{'.'.join(a.path)} = {sql.text(a.expression)}" for a in command.assignments)
        search.stages.append(Stage("update", shown))
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained(search.stages)
    started, count, words = time.perf_counter(), 0, words_only(call, record)
    async for page in search.pages(f"(k, e, {assignments.row})"):
        for key, entry, values in page:
            await call.work.breathe()
            if call.work.yields and type(entry.value) is Json and len(entry.value.text) > _LONG_JSON:
                # to take it apart and put it together again takes a tenth of a second for a megabyte
                value, expires_at = await asyncio.to_thread(assignments.apply, key, entry, values, words)
            else:
                value, expires_at = assignments.apply(key, entry, values, words)
            transaction.put(namespace, key, value, expires_at)
        if returning.wanted:
            now = await transaction.written(namespace, [key for key, _, _ in page])
            await returning.add([(k, n, e) for (k, e, _), n in zip(page, now, strict=True)])
        count += len(page)
    return _done(search, returning, count, started)


async def delete(transaction: Transaction, call: Call) -> Result:
    """DELETE FROM ns …: every pair that matches, in one commit."""
    command = call.request.delete_rows
    namespace, record = await _target(transaction, call, command.namespace)
    search = _Search(transaction, call, namespace, record)

    def compiled() -> Returning:
        search.where(command, 0)
        base = len(command.where.steps)
        return Returning(
            transaction, call, namespace, record, command.returning, base, old=("e", False), new=("o", True)
        )

    returning = await turns.aside(call.work, _steps(command), compiled)
    search.stages.append(Stage("delete", f"from namespace {namespace}"))
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained(search.stages)
    started, count = time.perf_counter(), 0
    async for page in search.pages("(k, e, None)"):
        for key, _, _ in page:
            transaction.delete(namespace, key)
        await returning.add(page)
        count += len(page)
    return _done(search, returning, count, started)


async def truncate(transaction: Transaction, call: Call) -> Result:
    """TRUNCATE NAMESPACE ns: every pair, without reading them."""
    namespace, _ = await _target(transaction, call, call.request.truncate.namespace)
    stage = Stage("truncate", f"every pair of namespace {namespace}")
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained([stage])
    started = time.perf_counter()
    count = await transaction.count(namespace)
    transaction.clear(namespace)
    if call.request.mode == pb.MODE_EXPLAIN_ANALYZE:
        return _analyzed([stage], count, started)
    return Result(row_count=count)


def _done(search: _Search, returning: Returning, count: int, started: float) -> Result:
    if search.call.request.mode == pb.MODE_EXPLAIN_ANALYZE:
        return _analyzed(search.stages, count, started)
    result = returning.result(count)
    result.notices = [*expressions.notices(search.builder), *result.notices]
    return result


def _analyzed(stages: list[Stage], count: int, started: float) -> Result:
    """The last stage with what the whole took: reading and writing go page by page."""
    stages[-1].rows, stages[-1].time_s = count, time.perf_counter() - started
    return explained(stages, pb.MODE_EXPLAIN_ANALYZE)
