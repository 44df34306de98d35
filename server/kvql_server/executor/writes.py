"""PUT, UPDATE, UPSERT: one statement, or a run of statements in one message (ADR 3).

Each statement of a run is a commit of its own. On an engine in process a run is judged against one snapshot and
handed to the engine in one ``commit_many``: nothing suspends in between, so what the snapshot said still holds, and
the guards that go along prove it. On any other engine each statement is carried out alone, like every statement
outside a run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

from kvql import errors
from kvql.errors import Error
from kvql.result import Result
from kvql_server import rules
from kvql_server.catalog import NAMESPACE, Namespace, encode
from kvql_server.engines import base
from kvql_server.engines.base import SYSTEM_NAMESPACE, Absent, Conflict, Put, Unchanged
from kvql_server.executor import retention
from kvql_server.executor.assignments import words_only
from kvql_server.executor.call import Call
from kvql_server.executor.keys import ERRORS_MAX, UPDATE_HINT, exists, missing
from kvql_server.executor.refusals import engine_error
from kvql_server.executor.runs import PUT, UPDATE, UPSERT, Run, access, compute, granted, judge, read
from kvql_server.transaction import Transaction

# ── inside a transaction ──────────────────────────────────────────────────────────────────────────────────────────


async def write(transaction: Transaction, call: Call) -> Result:
    """The command's statements as part of a transaction; the first error ends them (the transaction has failed
    then)."""
    return await _carry_out(transaction, call, read(call))


async def carry_out(transaction: Transaction, call: Call, run: Run, bounds: tuple[int, int]) -> Result:
    """The statement of a run that has these pairs, as if it had come alone."""
    return await _carry_out(transaction, call, run.only(*bounds))


async def _carry_out(transaction: Transaction, call: Call, run: Run) -> Result:
    namespace = call.namespace()
    record, new = await access(transaction, call, run, namespace)
    if new:
        transaction.put(SYSTEM_NAMESPACE, NAMESPACE + namespace, encode(record), None)
    await compute(call, run, transaction.time)
    failures = judge(run, words_only(call, record), record.fields)
    for index, (start, end) in enumerate(run.bounds()):
        error = failures.get(index) or await _write_statement(transaction, call, run, namespace, start, end)
        if error is not None:
            error.statement = index
            raise error
    return Result(row_count=len(run.keys), completed=run.count)


async def _write_statement(
    transaction: Transaction, call: Call, run: Run, namespace: str, start: int, end: int
) -> Error | None:
    expires_at = call.expires_at(run.ttl_ms)
    for item, at in enumerate(range(start, end), 1):
        key, value = run.keys[at], run.values[at]
        if run.mode == UPSERT:
            transaction.put(namespace, key, value, expires_at)
            continue
        entry = await transaction.get(namespace, key)
        if run.mode == PUT:
            if entry is not None:
                return exists(key, item)
            transaction.put(namespace, key, value, expires_at)
        else:
            if entry is None:
                return missing(key, item, UPDATE_HINT)
            transaction.put(namespace, key, value, entry.expires_at)
    return None


# ── outside a transaction, on an engine in process ────────────────────────────────────────────────────────────────


async def write_run(call: Call) -> Result:
    """The command outside BEGIN … COMMIT, each statement a commit of its own."""
    run = read(call)
    namespace = call.namespace()
    rules.check_comment(call.request.comment)
    await compute(call, run, call.clock.now())
    snapshot = Transaction(call.engine, call.principal.name, tracked=False)
    try:
        call.work.saw(snapshot.revision)
        batch = _Batch(call, run, namespace)
        try:
            record, new = await granted(snapshot, call, run, namespace)
        except Error as e:
            batch.refuse(e)
            return batch.result()
        batch.creates = record if new else None
        batch.failures = judge(run, words_only(call, record), record.fields)
        if run.mode == UPDATE:
            await _update(batch)
        else:
            await _put(batch, snapshot)
    finally:
        snapshot.close()
    return batch.result()


class _Batch:
    """A run on its way to the engine, and what became of its statements."""

    def __init__(self, call: Call, run: Run, namespace: str) -> None:
        self.call = call
        self.run = run
        self.namespace = namespace
        self.creates: Namespace | None = None
        self.failures: dict[int, Error] = {}
        self.completed = 0
        self.pairs = 0
        self.revisions: dict[int, int] | None = {} if call.request.write.tell_revisions else None
        """If asked for, what each statement committed, by its place in the run."""

    def refuse(self, error: Error) -> None:
        """None of the statements may write to the namespace; but one that breaks a rule is told that, as if alone."""
        wrong = judge(self.run, words=False)
        if self.run.stop or self.run.count == 1 or not wrong:
            raise wrong.get(0, error) from None
        self.failures = {index: wrong.get(index) or copy.copy(error) for index in range(self.run.count)}

    def give_up(self, indexes: Iterable[int], why: Error | base.StoreFull) -> None:
        """Nothing more can be committed: that is the run's error. But if something was, that stays, and each of the
        statements that are left has the error."""
        if not self.completed:
            raise why
        error = why if isinstance(why, Error) else engine_error(why)
        for index in indexes:
            self.failures.setdefault(index, copy.copy(error))

    async def commit(self, indexes: Sequence[int], transactions: list[base.Transaction]) -> list[int]:
        """Hand the statements over; returns the places (in ``indexes``) of those whose guards did not hold."""
        if not transactions:
            return []
        self.call.work.check()
        creates, self.creates = self.creates, None
        if creates is not None:
            transactions[0] = _creating(transactions[0], self.namespace, creates)
        outcomes = await self.call.engine.commit_many(transactions)
        if creates is not None and type(outcomes[0]) is int:
            retention.follow(self.call.engine, transactions[0].writes)
        last = outcomes[-1]
        if type(last) is int:
            self.call.work.saw(last)
        if Conflict not in set(map(type, outcomes)):
            self.completed += len(outcomes)
            self.pairs += len(outcomes) if self.run.sizes is None else sum(map(self.run.size, indexes))
            if self.revisions is not None:
                self.revisions.update(zip(indexes, outcomes, strict=True))  # type: ignore[arg-type]  # no conflict
            return []
        failed: list[int] = []
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, Conflict):
                failed.append(place)
                guard = outcome.guard
                if isinstance(guard, Absent):
                    self.failures[indexes[place]] = exists(guard.key, outcome.index + 1)
            else:
                self.call.work.saw(outcome)
                self.completed += 1
                self.pairs += self.run.size(indexes[place])
                if self.revisions is not None:
                    self.revisions[indexes[place]] = outcome
        # a refusal tells what others wrote: their commits must be durable before it leaves
        current = self.call.engine.snapshot()
        self.call.work.saw(current.revision)
        current.close()
        return failed

    def result(self) -> Result:
        """What the client is told; raises the error of the first failed statement where the run stops at it."""
        run = self.run
        for index, error in self.failures.items():
            error.statement = index
        if self.failures and (run.stop or run.count == 1):
            raise self.failures[min(self.failures)]
        told = [self.failures[index] for index in sorted(self.failures)[:ERRORS_MAX]]
        return Result(
            row_count=self.pairs, completed=self.completed, failed=len(self.failures), errors=told,
            revision=self.call.work.revision,
            revisions=[revision for _, revision in sorted((self.revisions or {}).items())],
        )  # fmt: skip


def _creating(transaction: base.Transaction, namespace: str, record: Namespace) -> base.Transaction:
    """The same statement, which also creates its namespace."""
    key = NAMESPACE + namespace
    return base.Transaction(
        (*transaction.guards, Absent(SYSTEM_NAMESPACE, key)),
        (*transaction.writes, Put(SYSTEM_NAMESPACE, key, encode(record))),
        transaction.user, transaction.comment, transaction.idempotency_key,
    )  # fmt: skip


async def _put(batch: _Batch, snapshot: Transaction) -> None:
    """PUT and UPSERT."""
    run, failures = batch.run, batch.failures
    expires_at = batch.call.expires_at(run.ttl_ms)
    if await _plain_puts(batch, run.count, expires_at):
        return
    if run.stop and run.count > 1:
        end = min(failures, default=run.count)
        if run.mode == PUT:
            end = await _first_existing(batch, snapshot, end)
        for later in [index for index in failures if index > end]:
            del failures[later]
    else:
        end = run.count
    namespace, user, comment = batch.namespace, batch.call.principal.name, batch.call.request.comment
    transactions: list[base.Transaction]
    indexes: Sequence[int] = range(end)
    if run.sizes is None and not any(index < end for index in failures):
        if run.mode == PUT:
            transactions = [
                base.Transaction((Absent(namespace, key),), (Put(namespace, key, value, expires_at),), user, comment)
                for key, value in zip(run.keys[:end], run.values, strict=False)
            ]
        else:
            transactions = [
                base.Transaction((), (Put(namespace, key, value, expires_at),), user, comment)
                for key, value in zip(run.keys[:end], run.values, strict=False)
            ]
    else:
        transactions, indexes = [], []
        for index, (first, last) in enumerate(run.bounds()):
            if index >= end:
                break
            if index in failures:
                continue
            keys = run.keys[first:last]
            guards = tuple([Absent(namespace, key) for key in keys]) if run.mode == PUT else ()
            writes = tuple(
                [
                    Put(namespace, key, value, expires_at)
                    for key, value in zip(keys, run.values[first:last], strict=True)
                ]
            )
            transactions.append(base.Transaction(guards, writes, user, comment))
            indexes.append(index)
    await batch.commit(indexes, transactions)


async def _plain_puts(batch: _Batch, end: int, expires_at: int | None) -> bool:
    """A run of single pairs with new keys, by the engine's quick way; false if it is not that."""
    run = batch.run
    if run.sizes is not None or end < 2 or expires_at is not None or batch.creates is not None or batch.failures:
        return False
    call = batch.call
    call.work.check()
    keys, values = run.keys[:end], run.values[:end]
    first = await call.engine.commit_puts(
        base.PutRun(batch.namespace, keys, values, call.principal.name, call.request.comment)
    )
    if first is None:
        return False
    call.work.saw(first + end - 1)
    batch.completed += end
    batch.pairs += end
    if batch.revisions is not None:
        batch.revisions = dict(enumerate(range(first, first + end)))
    return True


async def _first_existing(batch: _Batch, snapshot: Transaction, end: int) -> int:
    """The first of the statements before ``end`` that puts a key which is there by then, with its error; else
    ``end``."""
    run = batch.run
    entries = await snapshot.get_many(batch.namespace, run.keys)
    if not any(entries) and len(set(run.keys)) == len(run.keys):
        return end
    seen: set[str] = set()
    for index, (first, last) in enumerate(run.bounds()):
        if index == end:
            break
        for item, at in enumerate(range(first, last), 1):
            if entries[at] is not None or run.keys[at] in seen:
                batch.failures[index] = exists(run.keys[at], item)
                return index
        seen.update(run.keys[first:last])
    return end


async def _update(batch: _Batch) -> None:
    """UPDATE: in waves, because a key that a run names twice has another revision the second time."""
    waiting = list(enumerate(batch.run.bounds()))
    waiting.reverse()
    tries = batch.call.settings.conflict_retries_max
    while waiting:
        wave, ended = await _next_wave(batch, waiting)
        try:
            failed = await batch.commit([index for index, _ in wave], [transaction for _, transaction in wave])
        except (Error, base.StoreFull) as e:
            batch.give_up([index for index, _ in (*wave, *waiting)], e)
            return
        if failed:
            # a pair expired between the snapshot and the commit; statements that may be followed go alone (below)
            bounds = list(batch.run.bounds())
            waiting += [(wave[place][0], bounds[wave[place][0]]) for place in reversed(failed)]
            tries -= 1
            if tries < 0:
                why = errors.error(errors.CONFLICT, "could not serialize access: a pair kept changing")
                batch.give_up([index for index, _ in waiting], why)
                return
        elif ended:
            return


async def _next_wave(
    batch: _Batch, waiting: list[tuple[int, tuple[int, int]]]
) -> tuple[list[tuple[int, base.Transaction]], bool]:
    """Takes from ``waiting`` the statements that can be committed together; and whether the run ends after them."""
    run, namespace, request = batch.run, batch.namespace, batch.call.request
    snapshot = batch.call.engine.snapshot()
    wave: list[tuple[int, base.Transaction]] = []
    taken: set[str] = set()
    try:
        while waiting:
            index, (first, last) = waiting[-1]
            keys = run.keys[first:last]
            if not taken.isdisjoint(keys):
                return wave, False
            error = batch.failures.get(index)
            entries = [] if error else await snapshot.get_many(namespace, keys)
            if None in entries:
                at = entries.index(None)
                error = batch.failures[index] = missing(keys[at], at + 1, UPDATE_HINT)
            if error is not None:
                waiting.pop()
                if run.stop:
                    waiting.clear()
                    for later in [other for other in batch.failures if other > index]:
                        del batch.failures[later]
                    return wave, True
                continue
            expires = any(entry is not None and entry.expires_at is not None for entry in entries)
            if expires and wave:
                return wave, False
            waiting.pop()
            taken.update(keys)
            pairs = list(zip(keys, run.values[first:last], entries, strict=True))
            guards = tuple([Unchanged(namespace, key, entry.revision) for key, _, entry in pairs if entry is not None])
            writes = tuple(
                [Put(namespace, k, value, entry.expires_at) for k, value, entry in pairs if entry is not None]
            )
            transaction = base.Transaction(guards, writes, batch.call.principal.name, request.comment)
            wave.append((index, transaction))
            if expires:
                return wave, False
        return wave, True
    finally:
        snapshot.close()
