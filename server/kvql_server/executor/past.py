"""Reading the past: FROM ns AS OF, FROM HISTORY OF ns, and what RESTORE goes back to.

Whoever reads pairs reads them from a :class:`Reader`: the transaction itself, the namespace at an earlier revision, or
all that is known of its pairs. The past does not change, so reading AS OF leaves no guards; a history goes up to the
present, so what is read of it is guarded. A transaction's own writes are no part of either. A namespace has no past
before it was created: ``catalog.Namespace.since``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import display, from_micros, timestamp_text, to_micros, type_of
from kvql_server.catalog import NAMESPACE, Namespace
from kvql_server.engines.base import SYSTEM_NAMESPACE, Compacted, Entry, Gone, Order, Page, Snapshot
from kvql_server.executor import casts, lists, retention, turns
from kvql_server.executor.access_path import Path
from kvql_server.executor.call import Call, Work
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.transaction import SharedSnapshot, Transaction

COMMANDS: Final = frozenset({"select", "restore", "assertion"})
"""Those that may read the past."""
_AS_COMMITTED: Final = -(2**63)
"""A time at which nothing has expired yet: at a revision, gone is what a commit removed."""
_KEYS_ONE_BY_ONE: Final = 16
"""To know the history of a key, all that is kept of the namespace's is gone through; that of a range costs no more."""


def is_asked(request: pb.Request, command: str) -> bool:
    """Whether the request, of one of ``COMMANDS``, reads the past."""
    if command == "restore":
        return True
    selects = [request.select] if command == "select" else request.assertion.subqueries
    return any(select.history or select.HasField("as_of") for select in selects)


# ── readers ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Reader(lists.Pairs, Protocol):
    """Where a SELECT reads the pairs of a namespace from."""

    async def count(self, namespace: str) -> int: ...

    def kinds(self, namespace: str) -> frozenset[type] | None: ...

    def share(self) -> SharedSnapshot: ...


class AsOf:
    """A namespace at an earlier revision; ``close`` it. ``since``: what is not after this is not shown; 0: all is."""

    def __init__(self, snapshot: Snapshot, since: int, record: Namespace, work: Work) -> None:
        self._snapshot = snapshot
        self._work = work
        self._shared = SharedSnapshot(snapshot)
        self._since = since
        self._record = record
        self.revision = snapshot.revision

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        """In the order of ``keys``."""
        try:
            found = await self._snapshot.get_many(namespace, keys)
        except Compacted as e:
            raise self._compacted(namespace, e) from None
        return [entry if entry is not None and entry.revision > self._since else None for entry in found]

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        since = self._since
        if order == "entries":
            order = "any"
        try:
            async for page in self._snapshot.scan(namespace, start, end, order):
                yield page if not since else Page.of(pair for pair in page if pair[1].revision > since)
        except Compacted as e:
            raise self._compacted(namespace, e) from None

    def _compacted(self, namespace: str, e: Compacted) -> Error:
        return compacted(namespace, self._record, f"revision {self.revision}", e.oldest)

    async def count(self, namespace: str) -> int:
        return await _counted(self.scan(namespace, order="any"), self._work)

    def kinds(self, namespace: str) -> frozenset[type] | None:
        try:
            return self._snapshot.kinds(namespace)
        except Compacted as e:
            raise self._compacted(namespace, e) from None

    def share(self) -> SharedSnapshot:
        self._shared.hold()
        return self._shared

    def close(self) -> None:
        self._shared.release()


class History:
    """Every known state of a namespace's pairs; a page names a key as often as it has states."""

    def __init__(self, transaction: Transaction, since: int, work: Work) -> None:
        self._transaction = transaction
        self._work = work
        self._shared = transaction.share()
        self._since = since

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        raise AssertionError("history has more than one state of a key")

    async def scan(
        self, namespace: str, start: str = "", end: str | None = None, order: Order = "key"
    ) -> AsyncIterator[Page]:
        """In the order of keys and then of revisions, whatever ``order`` says."""
        since = self._since
        self._transaction.guard(namespace, start, end)
        pages = self._shared.snapshot.history(namespace, start, end)
        if not since:
            async for page in pages:
                yield page
            return
        shown: str | None = None
        async for page in pages:
            pairs = []
            for key, state in page:
                # a removal of what was there before the namespace is no news of this one
                if state.revision > since and (type(state) is not Gone or key == shown):
                    shown = key
                    pairs.append((key, state))
            yield Page.of(pairs)

    async def read(self, namespace: str, path: Path) -> AsyncIterator[Page]:
        """The states of the keys that a path names."""
        if path.keys is None:
            async for page in self.scan(namespace, path.start, path.end):
                yield page
        elif len(path.keys) <= _KEYS_ONE_BY_ONE:
            for key in sorted(path.keys):
                async for page in self.scan(namespace, key, key + "\0"):
                    yield page
        else:
            wanted = path.keys
            async for page in self.scan(namespace, min(wanted), max(wanted) + "\0"):
                yield Page.of(pair for pair in page if pair[0] in wanted)

    async def count(self, namespace: str) -> int:
        return await _counted(self.scan(namespace), self._work)

    def kinds(self, namespace: str) -> frozenset[type] | None:
        return None

    def share(self) -> SharedSnapshot:
        self._shared.hold()
        return self._shared

    def close(self) -> None:
        self._shared.release()


async def _counted(pages: AsyncIterator[Page], work: Work) -> int:
    """The past has no number that could be asked for."""
    total = 0
    async for page in pages:
        await work.turn()
        total += len(page)
    return total


Past: TypeAlias = AsOf | History


def read(reader: Reader, namespace: str, path: Path, order: Order = "key") -> AsyncIterator[Page]:
    """The pairs, or their states, that a path names."""
    if isinstance(reader, History):
        return reader.read(namespace, path)
    return lists.read(reader, namespace, path, order)


async def of_select(transaction: Transaction, call: Call, namespace: str, record: Namespace, base: int) -> Past | None:
    """Where the SELECT of the call reads from, to be closed; None if that is the present. ``base``: see ``as_of``."""
    command = call.request.select
    if command.HasField("as_of"):
        if command.history:
            raise errors.error(errors.INVALID, "the history has no AS OF", hint="put a condition on revision")
        return await as_of(transaction, call, namespace, record, command.as_of, base)
    return History(transaction, record.since, call.work) if command.history else None


def told(reader: Reader) -> str:
    """What EXPLAIN says behind the namespace."""
    if isinstance(reader, AsOf):
        return f" as of revision {reader.revision}"
    return ", all states" if isinstance(reader, History) else ""


# ── moments ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def as_of(
    transaction: Transaction, call: Call, namespace: str, record: Namespace, point: pb.AsOf, base: int
) -> AsOf:
    """The namespace at the moment that AS OF names; 22023 if that is none, or lies ahead, 72000 if it is not known.

    ``base``: where the steps of its expression start among the statement's.
    """
    kind = point.WhichOneof("point")
    if kind is None:
        raise errors.error(errors.INVALID, "AS OF needs a revision or a time")
    program = getattr(point, kind)
    value = await turns.aside(call.work, len(program.steps), lambda: _value(transaction, call, program, base))
    try:
        if kind == "revision":
            revision, time = _revision(transaction, call, namespace, record, value), _AS_COMMITTED
        else:
            revision, time = await _revision_at(transaction, call, namespace, record, value)
    except Error as e:
        if not e.item:
            e.item, e.part = base + len(program.steps), pb.PART_STEP
        raise
    since = record.since
    if since:
        entry = await transaction.get(SYSTEM_NAMESPACE, NAMESPACE + namespace)
        if entry is not None and 0 < entry.revision <= revision:
            since = 0  # what an older namespace left was gone by then
    return AsOf(call.engine.snapshot(revision, time), since, record, call.work)


def _value(transaction: Transaction, call: Call, program: pb.Expression, base: int) -> Any:
    scope = Scope(hint="a moment of the past is computed without a pair")
    builder = Builder(scope, transaction.time, call.settings.expression_steps_max, call.places)
    builder.clause = "AS OF"
    item = builder.program(program, base)
    return builder.run(f"def moment(k, e):\n return {item.code}\n", "moment")(None, None)


def _revision(transaction: Transaction, call: Call, namespace: str, record: Namespace, value: Any) -> int:
    if type(value) is not int:
        raise errors.error(
            errors.INVALID, f"a revision is an INTEGER, not {type_of(value).name}",
            hint="the column revision of a pair, or of FROM HISTORY OF, has them",
        )  # fmt: skip
    if value < 0:
        raise errors.error(errors.INVALID, f"revision {value} is negative")
    if value > transaction.revision:
        whose = "this transaction sees" if call.lane.transaction is transaction else "the newest one is"
        raise errors.error(
            errors.INVALID, f"revision {value} is in the future", hint=f"{whose} revision {transaction.revision}"
        )
    if record.since and value <= record.since:
        raise _before(namespace, record, f"at revision {value}")
    oldest = call.engine.oldest(namespace)
    if value < oldest:
        raise compacted(namespace, record, f"revision {value}", oldest)
    return value


async def _revision_at(
    transaction: Transaction, call: Call, namespace: str, record: Namespace, value: Any
) -> tuple[int, int]:
    """The revision to read for a point in time, and that time in microseconds."""
    if type(value) is str:
        value = casts.caster("timestamp", ())(value)
    if type(value) is not datetime:
        raise errors.error(
            errors.INVALID, f"AS OF TIMESTAMP needs a TIMESTAMP, not {type_of(value).name}",
            hint="for example TIMESTAMP '2026-01-02T03:04:05Z' or (now() - 5m)",
        )  # fmt: skip
    time = to_micros(value)
    shown = timestamp_text(value)
    if time > transaction.time:
        raise errors.error(
            errors.INVALID, f"{shown} is in the future", hint=f"it is {timestamp_text(from_micros(transaction.time))}"
        )
    if record.since:
        # None: of the namespace in which a session in process starts, before it is created
        created = await transaction.get(SYSTEM_NAMESPACE, NAMESPACE + namespace)
        if created is None or not created.revision or time < created.created_at:
            raise _before(namespace, record, f"at {shown}")
    if time == transaction.time:
        return transaction.revision, time  # also where no history is kept, and time has gone on
    try:
        revision = min(call.engine.revision_at(namespace, time), transaction.revision)
    except Compacted as e:
        raise compacted(namespace, record, f"the state at {shown}", e.oldest) from None
    return max(revision, record.since + 1) if record.since else revision, time


def _before(namespace: str, record: Namespace, when: str) -> Error:
    return errors.error(
        errors.COMPACTED, f"namespace {namespace} did not exist {when}",
        hint=f"it was created after revision {record.since}",
    )  # fmt: skip


def compacted(namespace: str, record: Namespace, what: str, oldest: int) -> Error:
    """72000: ``what`` of the namespace is older than its history. Tells what is kept, and where that is set."""
    keep_us, bytes_max = retention.of(record)
    if not keep_us or not bytes_max:
        hint = f"namespace {namespace} keeps no history; ALTER NAMESPACE {namespace} SET (history = '1h') begins to"
    else:
        first = max(oldest, record.since + 1 if record.since else 0)
        kept = f"{display(timedelta(microseconds=keep_us))}, {bytes_max:,} bytes at most"
        hint = (
            f"the oldest revision kept is {first}; namespace {namespace} keeps {kept}: "
            f"ALTER NAMESPACE {namespace} SET (history = …, history_bytes = …)"
        )
    return errors.error(errors.COMPACTED, f"{what} has been compacted", hint=hint)
