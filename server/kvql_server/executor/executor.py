"""The one place where requests meet the store: dispatch, autocommit, and the state of a lane's transaction."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.auth import Access, Principal
from kvql_server.catalog import Catalog
from kvql_server.clock import Clock, SystemClock
from kvql_server.engines import base
from kvql_server.engines.base import SYSTEM_NAMESPACE, Conflict, Engine
from kvql_server.executor import (
    assertions,
    changes,
    idempotency,
    insert,
    keys,
    lists,
    modes,
    namespaces,
    past,
    restore,
    retention,
    runs,
    select,
    single,
    transactions,
    turns,
    watch,
    writes,
)
from kvql_server.executor.call import Call, Lane, Work
from kvql_server.executor.expressions.generated import placed
from kvql_server.executor.idempotency import Key, Overtaken, Remembered, Step
from kvql_server.executor.refusals import engine_error
from kvql_server.executor.watches import Watches
from kvql_server.settings import Settings
from kvql_server.transaction import Transaction, conflict_error

Statement = Callable[[Transaction, Call], Awaitable[Result]]

READS: Final[dict[str, Statement]] = {
    "get": keys.get, "has": keys.has, "list": lists.show, "namespaces": lists.show_namespaces, "use": namespaces.use,
    "select": select.select, "describe": namespaces.describe, "assertion": assertions.check,
    "watch": watch.watch,
}  # fmt: skip
WRITES: Final[dict[str, Statement]] = {
    "write": writes.write, "delete": keys.delete, "expire": keys.expire,
    "insert": insert.insert, "update_rows": changes.update, "delete_rows": changes.delete,
    "truncate": changes.truncate, "restore": restore.restore, "create_namespace": namespaces.create,
    "alter_namespace": namespaces.alter, "drop_namespace": namespaces.drop,
}  # fmt: skip

_WRITE_NOTHING: Final = (pb.MODE_EXPLAIN, pb.MODE_DRY_RUN)
TRIES_IN_TURN: Final = 4
"""Conflicts after which a statement no longer lets others have their turn while it reads."""


class Executor:
    """Carries out typed requests for whoever is named, one at a time a lane.

    The caller keeps one promise: nothing of an answer, an error included, leaves the process before the engine has
    synced ``work.revision``. The text command is not for here: ``text.run`` turns it into typed requests.
    """

    def __init__(
        self, engine: Engine, clock: Clock | None = None, settings: Settings | None = None, start_namespace: str = ""
    ) -> None:
        self.engine = engine
        self.clock = SystemClock() if clock is None else clock
        self.settings = Settings() if settings is None else settings
        self.catalog = Catalog()
        self.access = Access(self.catalog, self.settings.create_namespaces, start_namespace)
        self.watches = Watches(self.settings)

    async def start(self) -> None:
        """Tell the engine, once after its opening, what is in force in the store."""
        await retention.begin(self.engine, self.catalog)

    def work(self, deadline_ms: int = 0) -> Work:
        return Work(self.settings.statement_timeout_s, deadline_ms)

    async def execute(self, request: pb.Request, lane: Lane, principal: Principal, work: Work) -> Result:
        """The result of one typed request; raises ``Error``, and never anything else that a request can cause."""
        call = Call(request, lane, principal, work, self.engine, self.clock, self.access, self.settings, self.watches)
        try:
            return await self._dispatch(call, request.WhichOneof("command"))
        except base.EngineError as e:
            lane.rollback()
            raise engine_error(e) from e
        except Error as e:
            raise placed(e, call.places) from None

    def is_behind(self, request: pb.Request, lane: Lane) -> bool:
        """Whether so much expiry must be carried out before ``request`` that others should have their turn meanwhile;
        a page of it was carried out now."""
        if request.WhichOneof("command") != "transaction":
            return False
        command, transaction = request.transaction, lane.transaction
        if command.action == pb.TransactionCommand.BEGIN:
            waits = transaction is None and not command.read_only
        else:
            ends = command.action == pb.TransactionCommand.COMMIT
            waits = ends and transaction is not None and transaction.reads_ranges
        return waits and self.engine.expire_due()

    async def _dispatch(self, call: Call, command: str | None) -> Result:
        transaction = call.lane.transaction
        if transaction is not None:
            transaction.last_used_s = time.monotonic()
        if command == "transaction":
            try:
                if call.request.mode:
                    modes.check(call.request.mode, command)
                return await transactions.act(call)
            except Error:
                if call.lane.transaction is not None:
                    call.lane.transaction.failed = True
                raise
        if command in past.COMMANDS and past.is_asked(call.request, command):
            await turns.expiry(call)  # or what is due would still be there as of the newest revision
        if transaction is not None:
            return await self._inside(transaction, call, command)
        if call.request.mode:
            modes.check(call.request.mode, command)
            return await self._in_mode(call, command or "")
        if command == "write":
            return await self._write(call)
        if command in READS:
            return await self._read(call, READS[command])
        if command in WRITES:
            return await self._autocommit(call, WRITES[command], Key.of(call))
        raise _unknown(command)

    async def _write(self, call: Call) -> Result:
        request = call.request
        key = Key.of(call) if request.idempotency_key or request.repeat_key else None
        if self.engine.in_process and len(request.write.keys) == 1:
            result = await single.write_pair(call, key)
            if result is not None:
                return result
        run = single.is_run(request.write)
        if key is None or (run and not request.idempotency_key):
            return await (writes.write_run(call) if self.engine.in_process else self._run_one_by_one(call))
        if not run:
            return await self._autocommit(call, writes.write, key)
        return await self._keyed_run(call, key)

    async def _in_mode(self, call: Call, command: str) -> Result:
        """EXPLAIN, EXPLAIN ANALYZE, DRY RUN outside a transaction."""
        if call.request.idempotency_key and command in WRITES:
            raise errors.error(errors.NOT_SUPPORTED, "an idempotency key is for what is carried out")
        statement = _in_mode(READS.get(command) or WRITES[command], call, command)
        if call.request.mode == pb.MODE_EXPLAIN_ANALYZE and command in WRITES:
            return await self._autocommit(call, statement)
        if call.request.mode != pb.MODE_DRY_RUN:
            return await self._read(call, statement)
        transaction = Transaction(self.engine, call.principal.name, tracked=False)
        transaction.writes.bytes_max = self.settings.statement_bytes_max
        try:
            call.work.saw(transaction.revision)
            return await statement(transaction, call)
        finally:
            transaction.close()

    async def _inside(self, transaction: Transaction, call: Call, command: str | None) -> Result:
        """A statement of an open transaction; any error leaves only ROLLBACK."""
        if transaction.failed:
            raise transactions.aborted(transaction)
        try:
            statement = READS.get(command or "") or WRITES.get(command or "")
            if statement is None:
                raise _unknown(command)
            if call.request.mode:
                modes.check(call.request.mode, command)
                statement = _in_mode(statement, call, command or "")
            if command in WRITES and call.request.idempotency_key:
                rules.check_idempotency_key(call.request.idempotency_key)
                raise idempotency.refused_inside()
            if command in WRITES and transaction.read_only and call.request.mode not in _WRITE_NOTHING:
                raise errors.error(errors.READ_ONLY, "cannot write in a read-only transaction")
            rules.check_comment(call.request.comment)
            if command in WRITES and call.request.mode in (pb.MODE_RUN, pb.MODE_EXPLAIN_ANALYZE):
                transaction.writes.comment = call.request.comment or transaction.writes.comment
            call.work.saw(transaction.revision)
            call.work.check()
            result = await statement(transaction, call)
        except BaseException:
            transaction.failed = True
            raise
        result.revision = transaction.revision
        return result

    async def _read(self, call: Call, statement: Statement) -> Result:
        transaction = Transaction(self.engine, call.principal.name, tracked=False, read_only=True)
        try:
            call.work.saw(transaction.revision)
            result = await statement(transaction, call)
            result.revision = transaction.revision
            return result
        finally:
            transaction.close()

    async def _autocommit(self, call: Call, statement: Statement, key: Remembered | None = None) -> Result:
        """A statement as a transaction of its own, on a fresh snapshot for as long as others come in between."""
        rules.check_comment(call.request.comment)
        yields = call.work.yields
        try:
            return await self._repeated(call, statement, key)
        finally:
            call.work.yields = yields

    async def _repeated(self, call: Call, statement: Statement, key: Remembered | None) -> Result:
        tries = self.settings.conflict_retries_max
        while True:
            if call.work.yields:  # a statement over many pairs, before which all that is due must have been carried out
                await turns.expiry(call)
            transaction = Transaction(self.engine, call.principal.name)
            transaction.writes.bytes_max = self.settings.statement_bytes_max
            transaction.writes.comment = call.request.comment
            try:
                call.work.saw(transaction.revision)
                if key is not None and (known := await key.outcome(transaction)) is not None:
                    return known
                result = await statement(transaction, call)
                if key is not None:
                    key.remember(transaction, result)
                call.work.check()
                # or it would never end where pairs expire all the time: with others in between it begins anew
                outcome = await transaction.commit(at_once=self.engine.in_process and not call.work.yields)
            finally:
                transaction.close()
            if not isinstance(outcome, Conflict):
                retention.follow(self.engine, transaction.writes.of(SYSTEM_NAMESPACE).values())
                call.work.saw(outcome)
                result.revision = outcome
                return result
            tries -= 1
            if tries < 0:
                raise conflict_error(outcome)
            if self.settings.conflict_retries_max - tries >= TRIES_IN_TURN:
                # a statement over many pairs never ends where others keep writing; now nobody gets a turn in between
                await turns.expiry(call)
                call.work.yields = False

    async def _run_one_by_one(self, call: Call) -> Result:
        """A run of writes on an engine that is not in process: each statement as if it had come alone."""
        run = runs.read(call)
        total, revisions = Result(row_count=0), list[int]()
        for index, bounds in enumerate(run.bounds()):
            await self._one_of_run(call, run, index, bounds, total, None, revisions)
        if call.request.write.tell_revisions:
            total.revisions = revisions
        return total

    async def _one_of_run(
        self, call: Call, run: runs.Run, index: int, bounds: tuple[int, int], total: Result, key: Step | None,
        revisions: list[int],
    ) -> None:  # fmt: skip
        """Carry out a statement of a run and add it to the total; raises its error where the run ends with it."""
        try:
            await call.work.breathe()
            result = await self._autocommit(call, partial(writes.carry_out, run=run, bounds=bounds), key)
        except Error as e:
            e.statement = index
            if run.stop or run.count == 1:
                raise
            total.failed += 1
            if len(total.errors) < keys.ERRORS_MAX:
                total.errors.append(e)
            return
        total.row_count += result.row_count
        total.completed += 1
        total.revision = result.revision
        revisions.append(result.revision)

    async def _keyed_run(self, call: Call, key: Key) -> Result:
        """A run of writes under a key. Each commit says how far the run is, so a repeat goes on where it ended."""
        run = runs.read(call)
        bounds = list(run.bounds())
        while True:
            transaction = Transaction(self.engine, call.principal.name, tracked=False)
            try:
                call.work.saw(transaction.revision)
                total, index = await idempotency.progress(key, transaction)
            finally:
                transaction.close()
            if index == idempotency.WHOLE:
                return total
            try:
                for at in range(index, run.count):
                    await self._one_of_run(call, run, at, bounds[at], total, Step(key, at, total), [])
                return await self._autocommit(call, _settled(total), key)
            except Overtaken:
                continue


def _settled(total: Result) -> Statement:
    """What there is left to do of a run when all its statements are decided: nothing, under its key."""

    async def nothing(transaction: Transaction, call: Call) -> Result:
        return total

    return nothing


def _in_mode(statement: Statement, call: Call, command: str) -> Statement:
    """The statement as EXPLAIN or DRY RUN carries it out."""
    if call.request.mode == pb.MODE_DRY_RUN:
        return lambda transaction, call: modes.dry_run(statement, transaction, call)
    return lambda transaction, call: modes.explain(statement, transaction, call, command)


def _unknown(command: str | None) -> Error:
    what = "an empty request" if command is None else f"command {command}"
    return errors.error(errors.NOT_SUPPORTED, f"{what} is not supported here")
