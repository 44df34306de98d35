"""RESTORE: pairs become again what they were, in one commit.

``RESTORE k, … AS OF``: the keys that are named. ``RESTORE FROM ns [WHERE e] AS OF``: the pairs for which e is TRUE then
or now, so that the answer to WHERE e is afterwards what it was; without WHERE the whole namespace. What was absent then
is deleted. A pair that has the value and the expiry that it had is left alone and not counted.

A pair comes back with the moment at which it was to expire. If that has passed, its time to live begins anew, because
neither to vanish at once nor to stay for ever is what it was put for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from kvql import errors
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.catalog import Namespace
from kvql_server.engines.base import Entry, Page
from kvql_server.executor import declared, expressions, lists, past, turns
from kvql_server.executor.access_path import FULL, Path, point
from kvql_server.executor.assignments import check_value, words_only
from kvql_server.executor.call import Call
from kvql_server.executor.explain import described, explained
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.executor.expressions import text as sql
from kvql_server.executor.expressions.generated import PageFunction
from kvql_server.executor.keys import RESTORE_HINT, missing
from kvql_server.executor.pipeline import Stage
from kvql_server.transaction import Transaction


class Difference(NamedTuple):
    """A key, and its pair at both moments."""

    key: str
    then: Entry | None
    now: Entry | None


async def restore(transaction: Transaction, call: Call) -> Result:
    """RESTORE k, … AS OF and RESTORE FROM ns … AS OF; the count is of pairs put back and deleted."""
    command = call.request.restore
    if command.keys and (command.namespace or command.HasField("where")):
        raise errors.error(errors.INVALID, "RESTORE has either keys or a namespace")
    if command.keys:
        rules.check_keys(command.keys)
    namespace = call.namespace(command.namespace)
    record = await call.access.existing(transaction, call.principal, namespace)
    restoring = _Restoring(transaction, call, namespace, record)
    if command.HasField("where"):
        await turns.aside(call.work, len(command.where.steps), restoring.compile)
    before = await past.as_of(transaction, call, namespace, record, command.as_of, len(command.where.steps))
    try:
        stages = restoring.stages(before) if call.request.mode else []
        if call.request.mode == pb.MODE_EXPLAIN:
            return explained(stages)
        started = time.perf_counter()
        if command.keys:
            await restoring.named(before, command.keys)
        else:
            await restoring.all(before)
    finally:
        before.close()
    if call.request.mode == pb.MODE_EXPLAIN_ANALYZE:
        stages[-1].rows, stages[-1].time_s = restoring.count, time.perf_counter() - started
        return explained(stages, pb.MODE_EXPLAIN_ANALYZE)
    return Result(row_count=restoring.count, notices=restoring.notices())


class _Restoring:
    """One RESTORE on its way through the pairs."""

    def __init__(self, transaction: Transaction, call: Call, namespace: str, record: Namespace) -> None:
        self.transaction = transaction
        self.call = call
        self.namespace = namespace
        self.record = record
        self.words = words_only(call, record)
        self.builder = Builder(
            Scope(namespace, record.fields), transaction.time, call.settings.expression_steps_max, call.places
        )
        keys = call.request.restore.keys
        self.path: Path = point(*keys) if keys else FULL
        self.condition = ""
        self.matching: PageFunction | None = None
        self.count = 0
        self.renewed = 0

    def compile(self) -> None:
        """WHERE: the keys that need to be compared, and what of it is left to check."""
        self.path, self.condition = expressions.condition_of(self.builder, self.call.request.restore.where, 0)
        if self.condition:
            self.matching = expressions.page_function(self.builder, "k", self.condition)

    def stages(self, before: past.AsOf) -> list[Stage]:
        stages = [Stage("read", described(self.path, self.namespace + past.told(before) + " and now", "key"))]
        if self.condition:
            stages.append(Stage("filter", sql.text(self.call.request.restore.where) + ", then or now"))
        return [*stages, Stage("restore", "what has changed since")]

    def notices(self) -> list[Notice]:
        out = expressions.notices(self.builder)
        if self.renewed:
            pairs = "1 pair has" if self.renewed == 1 else f"{self.renewed:,} pairs have"
            out.append(
                Notice(f"{pairs} expired since: the time to live begins anew", "PERSIST k keeps a pair for good")
            )
        return out

    # ── which ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def named(self, before: past.AsOf, keys: Sequence[str]) -> None:
        """RESTORE k, …; 02000 for a key that was absent then and is absent now. A key named twice is one."""
        places: dict[str, int] = {}
        for item, key in enumerate(keys, 1):
            places.setdefault(key, item)
        wanted = list(places)
        then = await before.get_many(self.namespace, wanted)
        now = await self.transaction.get_many(self.namespace, wanted)
        for difference in map(Difference, wanted, then, now):
            await self.call.work.breathe()
            if difference.then is None and difference.now is None:
                raise missing(difference.key, places[difference.key], RESTORE_HINT)
            if not _is_same(difference):
                self._write(difference, places[difference.key])

    async def all(self, before: past.AsOf) -> None:
        """RESTORE FROM ns."""
        then = lists.read(before, self.namespace, self.path)
        now = lists.read(self.transaction, self.namespace, self.path)
        async for found in _differences(then, now):
            await self.call.work.turn()
            wanted = await self._matching(found)
            for difference in found:
                if wanted is None or difference.key in wanted:
                    await self.call.work.breathe()
                    self._write(difference, 0)

    async def _matching(self, differences: Sequence[Difference]) -> set[str] | None:
        """The keys of those for which the condition is TRUE, then or now; None: of all."""
        if self.matching is None:
            return None
        out: set[str] = set()
        for page in (
            Page.of((d.key, d.then) for d in differences if d.then is not None),
            Page.of((d.key, d.now) for d in differences if d.now is not None),
        ):
            async for piece in turns.in_turns(turns.single(page), self.call.work, self.builder, None):
                out.update(await turns.computed(self.matching, piece))
        return out

    # ── what becomes of them ──────────────────────────────────────────────────────────────────────────────────

    def _write(self, difference: Difference, item: int) -> None:
        """``item`` is the key's place in the statement, from 1; 0 if it is not named there."""
        key, then, _ = difference
        expires_at = None if then is None else self._expires_at(then)
        if then is None or expires_at == 0:
            if difference.now is not None:
                self.transaction.delete(self.namespace, key)
                self.count += 1
            return
        try:
            check_value(then.value, self.words)
            value = declared.conform(self.record.fields, then.value) if self.record.fields else then.value
        except Error as e:
            e.message = f"key {key}: {e.message}"
            e.item, e.part = item, pb.PART_KEY if item else pb.PART_UNSPECIFIED
            raise
        self.transaction.put(self.namespace, key, value, expires_at)
        self.count += 1

    def _expires_at(self, then: Entry) -> int | None:
        """When the pair is to expire now; 0 if it was over when it was written, and nobody ever saw it."""
        expires_at, now = then.expires_at, self.call.clock.now()
        if expires_at is None or expires_at > now:
            return expires_at
        lives = expires_at - then.updated_at
        if lives <= 0:
            return 0
        self.renewed += 1
        return now + lives


def _is_same(difference: Difference) -> bool:
    """Whether the pair has the value and the expiry that it had."""
    then, now = difference.then, difference.now
    if then is None or now is None or then.revision == now.revision:
        return then is now or (then is not None and now is not None)
    return then.expires_at == now.expires_at and _is_same_value(then.value, now.value)


def _is_same_value(a: Any, b: Any) -> bool:
    """Not only equal: 1, 1.0 and TRUE are three values, and so are 0.10 and 0.1."""
    if type(a) is not type(b):
        return False
    return str(a) == str(b) if isinstance(a, Decimal | float) else bool(a == b)


async def _differences(then: AsyncIterator[Page], now: AsyncIterator[Page]) -> AsyncIterator[list[Difference]]:
    """What the two have not in common, in the order of keys, in which both come; a list for each page at most, so that
    others get their turn."""
    before, after = _Side(then), _Side(now)
    while True:
        await before.fill()
        await after.fill()
        if before.page is not None and after.page is not None and before.page.keys == after.page.keys:
            # most pages of a namespace that hardly changed
            pairs = zip(before.page.keys, before.page.entries, after.page.entries, strict=True)
            differences = [Difference(key, a, b) for key, a, b in pairs if a is not b]
            before.page = after.page = None
            yield [found for found in differences if not _is_same(found)]
            continue
        before.unfold()
        after.unfold()
        if not before.waiting and not after.waiting:
            return
        yield [found for found in _merged(before, after) if not _is_same(found)]


class _Side:
    """One of two streams of pages: a whole page, or what is left of one in ``waiting``, to be taken from the end."""

    def __init__(self, pages: AsyncIterator[Page]) -> None:
        self._pages = pages
        self.page: Page | None = None
        self.waiting: list[tuple[str, Any]] = []
        self.ended = False

    async def fill(self) -> None:
        """Have something, unless the stream has ended."""
        while not self.waiting and not self.ended and (self.page is None or not len(self.page)):
            self.page = await anext(self._pages, None)
            self.ended = self.page is None

    def unfold(self) -> None:
        if self.page is not None:
            self.waiting, self.page = [*self.page][::-1], None


def _merged(before: _Side, after: _Side) -> Iterator[Difference]:
    """The keys of both, until one of them must be filled."""
    then, now = before.waiting, after.waiting
    while (then or before.ended) and (now or after.ended) and (then or now):
        a = then[-1][0] if then else None
        b = now[-1][0] if now else None
        if b is None or (a is not None and a < b):
            key, entry = then.pop()
            yield Difference(key, entry, None)
        elif a is None or b < a:
            key, entry = now.pop()
            yield Difference(key, None, entry)
        else:
            yield Difference(a, then.pop()[1], now.pop()[1])
