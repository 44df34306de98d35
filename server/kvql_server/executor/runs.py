"""A write command, decoded: what a run of statements is, which of them break a rule, and where it may write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.catalog import Field, Namespace
from kvql_server.executor import declared, expressions
from kvql_server.executor.assignments import stored
from kvql_server.executor.call import Call
from kvql_server.executor.keys import exists
from kvql_server.executor.turns import aside
from kvql_server.transaction import Transaction

DEFAULT_TTL: Final = "default_ttl"
"""The option of a namespace, in milliseconds, for pairs that are put without a TTL of their own."""

PUT, UPDATE, UPSERT = pb.WRITE_MODE_PUT, pb.WRITE_MODE_UPDATE, pb.WRITE_MODE_UPSERT


@dataclass(slots=True)
class Run:
    """A write command, decoded: ``sizes`` is None where each pair is a statement of its own."""

    mode: int
    keys: Sequence[str]
    values: list[Any]
    sizes: list[int] | None
    ttl_ms: int
    stop: bool
    not_computed: dict[int, Error] = field(default_factory=dict)
    """Statements with an expression that fails, and why."""

    @property
    def count(self) -> int:
        return len(self.keys) if self.sizes is None else len(self.sizes)

    def size(self, index: int) -> int:
        """The number of pairs of a statement."""
        return 1 if self.sizes is None else self.sizes[index]

    def bounds(self) -> Iterator[tuple[int, int]]:
        """(start, end) of each statement's pairs."""
        if self.sizes is None:
            yield from zip(range(len(self.keys)), range(1, len(self.keys) + 1), strict=True)
            return
        start = 0
        for size in self.sizes:
            yield start, start + size
            start += size

    def only(self, start: int, end: int) -> Run:
        """The single statement that has the pairs [start, end); what becomes of its values does not touch this run."""
        return Run(self.mode, self.keys[start:end], self.values[start:end], [end - start], self.ttl_ms, self.stop)


def read(call: Call) -> Run:
    """The command of the request; 22023 if its parts disagree."""
    command = call.request.write
    mode = command.mode
    keys = list(command.keys)
    values = decode_values(command.values, expressions=True, intervals=False)
    if mode not in (PUT, UPDATE, UPSERT):
        raise errors.error(errors.INVALID, f"unknown write mode {mode}")
    if len(keys) != len(values):
        raise errors.error(errors.INVALID, f"a write has {len(keys)} keys and {len(values)} values")
    if not keys:
        raise errors.error(errors.INVALID, "a statement needs at least one key")
    sizes = None if command.each else list(command.statement_sizes) or [len(keys)]
    if sizes is not None and (sum(sizes) != len(keys) or 0 in sizes):
        raise errors.error(errors.INVALID, "the sizes of the statements do not add up to the keys")
    if command.ttl_ms:
        rules.check_ttl(command.ttl_ms)
        if mode == UPDATE:
            raise errors.error(errors.INVALID, "UPDATE keeps the time to live", hint="EXPIRE sets it, PERSIST drops it")
    return Run(mode, keys, values, sizes, command.ttl_ms, call.request.on_error == pb.ON_ERROR_STOP)


# ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def judge(run: Run, words: bool, fields: Sequence[Field] = ()) -> dict[int, Error]:
    """Check every rule: which statements fail before anything is read, and why."""
    failures = dict(run.not_computed)
    if fields:
        _conform(run, fields, failures)
    fine = not failures and rules.keys_are_valid(run.keys) and rules.values_are_valid(run.values, words)
    if fine and (run.mode != PUT or run.sizes is None or len(set(run.keys)) == len(run.keys)):
        return failures
    for index, (start, end) in enumerate(run.bounds()):
        if index not in failures:
            error = _statement_error(run, start, end, words)
            if error is not None:
                failures[index] = error
    return failures


async def compute(call: Call, run: Run, now: int) -> None:
    """Give the expressions of a run their values; in turns, and before anything that must not be interrupted."""
    if pb.Expression not in set(map(type, run.values)):
        return
    for index, (start, end) in enumerate(run.bounds()):
        for at in range(start, end):
            value = run.values[at]
            if type(value) is pb.Expression:
                await call.work.breathe()
                try:
                    value_of = partial(expressions.constant, value, now, call.settings.expression_steps_max)
                    run.values[at] = stored(await aside(call.work, len(value.steps), value_of))
                except Error as e:
                    e.item, e.part = e.item or at - start + 1, e.part or pb.PART_VALUE
                    run.not_computed.setdefault(index, e)
                    run.values[at] = None


def _conform(run: Run, fields: Sequence[Field], failures: dict[int, Error]) -> None:
    """Bring values to the declared fields of the namespace."""
    for index, (start, end) in enumerate(run.bounds()):
        for at in range(start, end):
            try:
                run.values[at] = declared.conform(fields, run.values[at])
            except Error as e:
                e.item, e.part = e.item or at - start + 1, e.part or pb.PART_VALUE
                failures.setdefault(index, e)


def _statement_error(run: Run, start: int, end: int, words: bool) -> Error | None:
    seen: set[str] = set()
    for item, at in enumerate(range(start, end), 1):
        key = run.keys[at]
        error = rules.key_error(key, item) or rules.value_error(run.values[at], words, item)
        if error is not None:
            return error
        if run.mode == PUT and key in seen:
            return exists(key, item)
        seen.add(key)
    return None


# ── the namespace ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def access(transaction: Transaction, call: Call, run: Run, namespace: str) -> tuple[Namespace, bool]:
    """The namespace to write to, and whether this write creates it. UPDATE never creates: nothing is there to update.

    A statement that breaks a rule is told so, and not that its namespace is missing or another user's.
    """
    try:
        return await granted(transaction, call, run, namespace)
    except Error:
        await compute(call, run, transaction.time)
        failures = judge(run, words=False)
        if 0 in failures:
            raise failures[0] from None
        raise


async def granted(transaction: Transaction, call: Call, run: Run, namespace: str) -> tuple[Namespace, bool]:
    """``access`` without a look at the statements."""
    if run.mode == UPDATE:
        return await call.access.existing(transaction, call.principal, namespace), False
    record, new = await call.access.writable(transaction, call.principal, namespace)
    run.ttl_ms = run.ttl_ms or record.options.get(DEFAULT_TTL, 0)
    return record, new
