"""INSERT INTO: rows by columns, what becomes of keys that exist, and keys that nobody named."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.names import listed, nearest, short
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql.values import type_of
from kvql_server import rules
from kvql_server.catalog import NAMESPACE, Namespace, encode
from kvql_server.engines.base import SYSTEM_NAMESPACE, WholeEntry
from kvql_server.executor import declared, expressions
from kvql_server.executor.assignments import Assignments, check_value, moment, stored, words_only
from kvql_server.executor.call import Call
from kvql_server.executor.explain import counted, explained
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.executor.keys import exists
from kvql_server.executor.pipeline import Stage
from kvql_server.executor.returning import Change, Returning
from kvql_server.executor.runs import DEFAULT_TTL
from kvql_server.executor.turns import aside
from kvql_server.transaction import Transaction

SEQUENCE: Final = "sequence/"
"""Keys of the reserved namespace that hold the last key which INSERT generated for a namespace."""
GENERATED_DIGITS: Final = 12
_SYSTEM_COLUMNS: Final = ("key", "value", "expires_at")


class _Rows:
    """The rows of the statement as what they would store, before anybody looks whether the keys exist."""

    def __init__(self, transaction: Transaction, call: Call, record: Namespace) -> None:
        command = call.request.insert
        self.base = 0
        self._work = call.work
        self._transaction = transaction
        self._record = record
        self._now = transaction.time
        self._steps_max = call.settings.expression_steps_max
        self._places = call.places
        self._words = words_only(call, record)
        self.columns = _columns(command, record)
        self._values = decode_values(command.values, expressions=True, intervals=False)
        width = command.width or len(self.columns)
        if not self._values or len(self._values) % width or width != len(self.columns):
            raise errors.error(errors.INVALID, "every row of INSERT needs as many values as there are columns")
        self.count = len(self._values) // width

    async def read(self) -> list[tuple[str | None, Any, int | None, bool]]:
        """(key or None, value, expires_at, whether the row said when it expires) of every row."""
        values = []
        for value in self._values:
            await self._work.breathe()
            if type(value) is pb.Expression:
                values.append(await aside(self._work, len(value.steps), partial(self._computed, value)))
            else:
                values.append(value)
        width = len(self.columns)
        rows = []
        for n in range(self.count):
            await self._work.breathe()
            rows.append(self._row(n + 1, values[n * width : (n + 1) * width]))
        return rows

    def _computed(self, value: pb.Expression) -> Any:
        scope = Scope(hint="the values of INSERT are computed without a pair; text stands in single quotes")
        builder = Builder(scope, self._now, self._steps_max, self._places)
        builder.clause = "VALUES"
        item = builder.program(value, self.base)
        self.base += len(value.steps)
        return builder.run(f"def value(k, e):\n return {item.code}\n", "value")(None, None)

    def _row(self, number: int, values: Sequence[Any]) -> tuple[str | None, Any, int | None, bool]:
        given = dict(zip(self.columns, values, strict=True))
        column = "key"
        try:
            key = given.pop("key", None)
            if key is not None:
                _check_key(key, number)
            elif "key" in self.columns or not self._record.fields:
                raise errors.error(errors.INVALID, "a key cannot be NULL", part=pb.PART_KEY)
            timed, column = "expires_at" in given, "expires_at"
            expires_at = moment(given.pop("expires_at", None))
            column = "value"
            value = given.pop("value", None)
            if self._record.fields:
                value = declared.conform(self._record.fields, value) if "value" in self.columns else declared.build(
                    self._record.fields, given
                )  # fmt: skip
            value = stored(value)
            check_value(value, self._words)
        except Error as e:
            self._blame(e, number, [*given][e.item - 1] if e.item and e.part == pb.PART_VALUE else column)
            raise
        return key, value, expires_at, timed

    def _blame(self, error: Error, number: int, column: str) -> None:
        """Keys are told by their rows, other values by their places among all values of the statement."""
        if column == "key":
            error.item, error.part = number, pb.PART_KEY
        else:
            place = self.columns.index(column) if column in self.columns else 0
            error.item, error.part = (number - 1) * len(self.columns) + place + 1, pb.PART_VALUE


def _check_key(key: Any, number: int) -> None:
    if type(key) is not str:
        raise errors.error(
            errors.TYPE_MISMATCH, f"a key must be TEXT, not {type_of(key).name}",
            hint="put it in single quotes, or cast it: CAST(… AS TEXT)", part=pb.PART_KEY,
        )  # fmt: skip
    error = rules.key_error(key, number)
    if error is not None:
        raise error


def _columns(command: pb.InsertCommand, record: Namespace) -> list[str]:
    """The columns that the values are for, by their exact names; 42703, 42701, 22023."""
    fields = [f.name for f in record.fields]
    if not command.columns:
        default = fields or ["key", "value"]
        if command.width > len(default):
            raise errors.error(
                errors.SYNTAX, "INSERT has more expressions than target columns",
                hint=f"the columns are {listed(default)}", item=len(default) + 1, part=pb.PART_VALUE,
            )  # fmt: skip
        return default[: command.width or len(default)]
    out: list[str] = []
    for item, given in enumerate(command.columns, 1):
        name = _column(given, fields, item)
        if name in out:
            raise errors.error(
                errors.DUPLICATE_COLUMN, f"column {name} specified more than once", item=item, part=pb.PART_COLUMN
            )
        out.append(name)
    if "value" in out and set(out) & set(fields):
        raise errors.error(errors.SYNTAX, "INSERT takes the value or its fields, not both", part=pb.PART_COLUMN, item=1)
    if not fields and "key" not in out:
        raise errors.error(
            errors.INVALID, "INSERT needs a key", hint="only namespaces with declared fields have generated keys",
            part=pb.PART_COLUMN, item=1,
        )  # fmt: skip
    return out


def _column(given: str, fields: list[str], item: int) -> str:
    if given in fields:
        return given
    lower = given.lower()
    for name in (*fields, *_SYSTEM_COLUMNS):
        if name.lower() == lower:
            return name
    known = [*fields, *_SYSTEM_COLUMNS]
    near = nearest(given, known)
    hint = f"did you mean {near}?" if near else f"INSERT sets {listed(known)}"
    raise errors.error(
        errors.UNKNOWN_COLUMN, f"column {short(given)} does not exist", hint=hint, item=item, part=pb.PART_COLUMN
    )


class _Conflicts:
    """ON CONFLICT: nothing said, DO NOTHING, or DO UPDATE SET … WHERE."""

    def __init__(self, transaction: Transaction, call: Call, namespace: str, record: Namespace, base: int) -> None:
        command = call.request.insert
        self.base = base
        self.ignores = command.HasField("on_conflict") and not command.on_conflict.assignments
        self.updates: Assignments | None = None
        self._words = words_only(call, record)
        conflict = command.on_conflict
        if [c.lower() for c in conflict.target] not in ([], ["key"]):
            raise errors.error(
                errors.INVALID, "ON CONFLICT is about the key", hint="write ON CONFLICT (key), or leave it out"
            )
        if not conflict.assignments:
            return
        scope = Scope(namespace, record.fields, {"excluded": ("o", False)}, strangers=frozenset(("old", "new")))
        builder = Builder(scope, transaction.time, call.settings.expression_steps_max, call.places)
        builder.clause = "ON CONFLICT"
        self.updates = Assignments(builder, conflict.assignments, record, base)
        self.base = self.updates.base
        condition = "True"
        if conflict.HasField("where"):
            condition = builder.program(conflict.where, self.base).truth
            self.base += len(conflict.where.steps)
        row = f"({self.updates.row} if {condition} else None)"
        self._work, self._steps = call.work, builder.steps
        self._function = expressions.change_function(builder, row)

    async def update(self, key: str, entry: Any, proposed: Any) -> tuple[Any, int | None] | None:
        """The value and ``expires_at`` that the existing pair gets; None if its WHERE says no."""
        assert self.updates is not None
        [values] = await aside(self._work, self._steps, lambda: self._function([(key, entry, proposed)]))
        return None if values is None else self.updates.apply(key, entry, values, self._words)


async def insert(transaction: Transaction, call: Call) -> Result:
    """INSERT INTO ns …: all rows in one commit, or none; creates the namespace if it is new."""
    started = time.perf_counter()
    command = call.request.insert
    if command.ttl_ms:
        rules.check_ttl(command.ttl_ms)
    namespace = call.namespace(command.namespace)
    record, new = await call.access.writable(transaction, call.principal, namespace)
    rows = _Rows(transaction, call, record)
    detail = f"{counted(rows.count, 'row')} into namespace {namespace}{_shown(command)}"
    if call.request.mode == pb.MODE_EXPLAIN:
        return explained([Stage("insert", detail)])
    proposed = await rows.read()

    def compiled() -> tuple[_Conflicts, Returning]:
        conflicts = _Conflicts(transaction, call, namespace, record, rows.base)
        return conflicts, Returning(
            transaction, call, namespace, record, command.returning, conflicts.base, old=("o", True), new=("e", False)
        )

    conflicts, returning = await aside(call.work, _steps(command), compiled)
    if new:
        transaction.put(SYSTEM_NAMESPACE, NAMESPACE + namespace, encode(record), None)
    ttl_ms = command.ttl_ms or record.options.get(DEFAULT_TTL, 0)
    # in a long transaction a time to live counts from the statement, as it does for PUT
    now = transaction.time if call.lane.transaction is None else call.clock.now()
    default = now + ttl_ms * 1000 if ttl_ms else None
    keys = await _keys(transaction, namespace, [key for key, *_ in proposed])
    changes, count = await _write(transaction, call, namespace, conflicts, keys, proposed, default)
    if returning.wanted:
        await returning.add(changes)
    if call.request.mode == pb.MODE_EXPLAIN_ANALYZE:
        return explained(
            [Stage("insert", detail, rows=count, time_s=time.perf_counter() - started)], pb.MODE_EXPLAIN_ANALYZE
        )
    return returning.result(count)


def _steps(command: pb.InsertCommand) -> int:
    """Of all that is compiled once for all rows."""
    assigned = [a.expression for a in command.on_conflict.assignments]
    expressions = [*assigned, command.on_conflict.where, *[p.expression for p in command.returning]]
    return sum([len(e.steps) for e in expressions])


def _shown(command: pb.InsertCommand) -> str:
    if not command.HasField("on_conflict"):
        return ""
    return ", updating those that exist" if command.on_conflict.assignments else ", leaving those that exist"


async def _write(
    transaction: Transaction, call: Call, namespace: str, conflicts: _Conflicts, keys: list[str],
    proposed: list[tuple[str | None, Any, int | None, bool]], default: int | None,
) -> tuple[list[Change], int]:  # fmt: skip
    """Puts the rows, or what ON CONFLICT says; (key, entry now, entry before) of each pair that changed."""
    before = await transaction.get_many(namespace, keys)
    changes: list[Change] = []
    seen: set[str] = set()
    for number, (key, entry, (_, value, expires_at, timed)) in enumerate(zip(keys, before, proposed, strict=True), 1):
        ends = expires_at if timed else default
        if key in seen and not conflicts.ignores:
            if conflicts.updates is None:
                raise exists(key, number)
            raise errors.error(
                errors.INVALID, "ON CONFLICT DO UPDATE cannot change a pair twice",
                hint=f"key {key} stands in two rows", item=number, part=pb.PART_KEY,
            )  # fmt: skip
        if key in seen:
            continue
        seen.add(key)
        if entry is None:
            transaction.put(namespace, key, value, ends)
            changes.append((key, None, None))
        elif conflicts.updates is not None:
            row = WholeEntry(value, 0, 1, transaction.time, transaction.time, transaction.user, "", ends)
            updated = await conflicts.update(key, entry, row)
            if updated is not None:
                transaction.put(namespace, key, *updated)
                changes.append((key, None, entry))
        elif not conflicts.ignores:
            raise exists(key, number)
        await call.work.breathe()
    now = await transaction.written(namespace, [key for key, *_ in changes])
    return [(key, entry, old) for (key, _, old), entry in zip(changes, now, strict=True)], len(changes)


async def _keys(transaction: Transaction, namespace: str, keys: list[str | None]) -> list[str]:
    """Keys for all rows: those that have none get the next numbers of the namespace, in order of insertion."""
    given = [key for key in keys if key is not None]
    if len(given) == len(keys):
        return given
    place = SEQUENCE + namespace
    entry = await transaction.get(SYSTEM_NAMESPACE, place)
    last: Any = 0 if entry is None else entry.value
    out: list[str] = []
    taken = {key for key in keys if key is not None}
    for key in keys:
        while key is None:
            last += 1
            candidate = f"{last:0{GENERATED_DIGITS}d}"
            if candidate not in taken and await transaction.get(namespace, candidate) is None:
                key = candidate
        out.append(key)
    transaction.put(SYSTEM_NAMESPACE, place, last, None)
    return out
