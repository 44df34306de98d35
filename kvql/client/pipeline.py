"""Many statements without waiting for each: a script, or the rows of ``executemany``.

Runs of writes become messages of typed columns, a few messages are in flight, and outcomes come out in order, one for
each statement. With ``carry_on`` false the server skips everything after the first failure, also what is in flight
already, so the outcome is exactly that of sending one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kvql import ast, errors
from kvql.client.lane import Lane, located
from kvql.client.messages import Message, Outcome, Stretch, Tally
from kvql.compiler import RowRuns, Run, compile_statement
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange, Refused, Transport, cancelled
from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.parser import Columns

MESSAGES_MAX: Final = 64
STATEMENTS_MAX: Final = 12_000
"""In flight. Six full messages of a bulk load keep both sides busy, also while the disk takes its time (with four a
load of a million takes 6 % more time); more makes other clients wait."""
ERRORS_TOLD_MAX: Final = 100
"""A run of writes that goes on after errors names at most so many (``pb.Done.errors``), so such runs are no longer."""

Attach = Callable[[Exchange, Result], None]


class Pipeline:
    """The window of one lane; used once."""

    def __init__(
        self, transport: Transport, lane: Lane, attach: Attach, *, carry_on: bool, timeout: float | None = None
    ) -> None:
        """``attach`` gives a result the rows that are still to come, in the way of whoever reads them."""
        self._transport = transport
        self._attach = attach
        self._lane = lane
        self._carry_on = carry_on
        self._timeout = timeout
        self._flight: deque[Message] = deque()
        self._statements = 0
        self._stopped = False
        self._run = Run(ERRORS_TOLD_MAX) if carry_on else Run()
        self._parts: list[str | Stretch | None] = []
        """The texts of the statements of the run."""
        self.passing: Callable[[Iterable[Any]], Iterator[Any]] = iter
        """What the user's statements or rows are taken through."""
        self.cancelled: Callable[[], bool] = lambda: False
        """Whether what has not been sent yet should not be."""
        self._next = 0
        """The index of the statement that comes next; those of the run stand right before it."""

    # ── scripts ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self,
        statements: Iterable[tuple[ast.Statement, str | None] | Columns],
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> AsyncGenerator[list[Outcome], None]:
        """Outcomes in order, in lists of what came together. Ends after the first error unless it carries on.

        Columns are as many statements as they have pairs; they are for a script that ends at its first error.
        """
        item: tuple[ast.Statement, str | None] | Columns
        try:
            for item in self.passing(statements):
                size = 1 if isinstance(item, tuple) else len(item)
                taken = self._gather(item, 0)
                while taken < size:
                    self._send_run()
                    while self._full():
                        yield await self._take()
                    if self._stopped:
                        return
                    more = self._gather(item, taken)
                    if not more and isinstance(item, tuple):
                        async for outcomes in self._single(*item, parameters):
                            yield outcomes
                        if self._stopped:
                            return
                        more = 1
                    taken += more
            self._send_run()
            while self._flight and not self._stopped:
                yield await self._take()
        finally:
            await self._end()

    def _gather(self, item: tuple[ast.Statement, str | None] | Columns, start: int) -> int:
        """Add to the run what it has room for: a statement, or of columns those from ``start`` on. How many it took."""
        if isinstance(item, tuple):
            statement, source = item
            if not self._run.add(statement):
                return 0
            self._parts.append(source)
            self._next += 1
            return 1
        assert not self._carry_on
        taken = self._run.take(item.kind, item.keys, item.values, start)
        if taken:
            self._parts.append(Stretch(taken, item, start))
            self._next += taken
        return taken

    def _send_run(self) -> None:
        """Send what is in the run, if anything, and begin another."""
        run = self._run
        if run:
            message = Message(self._next - len(run), len(run), _WRITE, self._parts, run.sizes)
            self._send(message, run.request())
            self._run, self._parts = Run(run.statements_max), []

    async def _single(
        self, statement: ast.Statement, source: str | None, parameters: Any
    ) -> AsyncIterator[list[Outcome]]:
        """A statement that is no part of a run."""
        index = self._next
        self._next += 1
        request: pb.Request | None = None
        outcome: Result | Error | None = None
        try:
            outcome = self._lane.settled_here(statement)
            request = None if outcome else compile_statement(statement, parameters)
        except Error as e:
            outcome = located(e, source)
        alone = isinstance(statement, _ALONE)
        while self._flight and (alone or outcome is not None) and not self._stopped:
            yield await self._take()
        if self._stopped:
            return
        if request is None:
            assert outcome is not None
            self._stopped = isinstance(outcome, Error) and not self._carry_on
            yield [(index, outcome)]
            return
        self._send(Message(index, 1, statement, [source]), request, apart=alone and self._lane.transaction == "none")
        if alone:
            yield await self._take(alone=True)

    # ── executemany ───────────────────────────────────────────────────────────────────────────────────────────────

    async def rows(self, statement: ast.Statement, rows: Iterable[Any], source: str | None = None) -> Tally:
        """``statement`` once for each of ``rows``; the first error is in the tally, with its index."""
        tally = Tally()
        try:
            for message in self.passing(RowRuns(statement, rows)):
                if isinstance(message, Error):
                    tally.blame(located(message, source), message.statement or 0)
                    if not self._carry_on:
                        break
                    continue
                while self._full():
                    await self._count(tally)
                if self._stopped:
                    break
                part = Stretch(message.size) if message.merged else source
                sizes = () if message.merged else None
                self._send(Message(message.first, message.size, statement, [part], sizes), message.request)
            while self._flight and not self._stopped:
                await self._count(tally)
        finally:
            await self._end()
        return tally

    async def _count(self, tally: Tally) -> None:
        """Take the oldest message into the tally; of a run nobody asks for the outcome of each statement."""
        message, result = await self._oldest()
        if isinstance(result, Error):
            for index, outcome in self._failed(message, result):
                if isinstance(outcome, Error):
                    tally.blame(outcome, index)
                else:
                    tally.row_count += max(0, outcome.row_count)
            return
        tally.row_count += max(0, result.row_count)
        tally.notices += result.notices
        if result.failed:
            # the server tells the first of them in full, and of the rest the number
            first = min(result.errors, key=lambda e: e.statement or 0)
            place = first.statement or 0
            tally.blame(message.blamed(place, first), message.first + place)
            tally.failed += result.failed - 1
            self._lane.failed(message.statement, first)

    # ── the window ────────────────────────────────────────────────────────────────────────────────────────────────

    def _full(self) -> bool:
        return bool(self._flight) and (
            self._stopped or len(self._flight) >= MESSAGES_MAX or self._statements >= STATEMENTS_MAX
        )

    def _send(self, message: Message, request: pb.Request, *, apart: bool = False) -> None:
        self._lane.prepare(request, self._timeout)
        if not self._carry_on:
            request.on_error = pb.ON_ERROR_STOP
        message.exchange = Refused(cancelled()) if self.cancelled() else self._transport.submit(request, apart=apart)
        self._flight.append(message)
        self._statements += message.size

    async def _take(self, *, alone: bool = False) -> list[Outcome]:
        """Wait for the oldest message; an error stops the pipeline unless it carries on."""
        message, result = await self._oldest(alone=alone)
        if isinstance(result, Error):
            return self._failed(message, result)
        if message.sizes is None:
            return [(message.first, result)]
        if result.errors:
            self._lane.failed(message.statement, result.errors[0])
        return message.all_outcomes(result)

    async def _oldest(self, *, alone: bool = False) -> tuple[Message, Result | Error]:
        """The message that was sent first, and what became of it."""
        message = self._flight.popleft()
        self._statements -= message.size
        exchange = message.exchange
        assert exchange is not None
        try:
            result = await exchange.result()
            if not exchange.complete:
                if alone:
                    self._attach(exchange, result)
                else:
                    result.rows = [*result.rows, *await _rest(exchange)]
        except Error as e:
            return message, e
        self._lane.done(message.statement, result)
        return message, result

    def _failed(self, message: Message, error: Error) -> list[Outcome]:
        self._stopped = not self._carry_on
        self._lane.failed(message.statement, error)
        if error.sqlstate == errors.OUTCOME_UNKNOWN and message.size > 1:
            behind = f"this and the {message.size - 1:,} statements after it were"
            error.message = error.message.replace("the statement was", behind)
        if message.sizes is None:
            return [(message.first, message.blamed(0, error))]
        place = min(error.statement or 0, message.size - 1)
        return [*message.outcomes(place), (message.first + place, message.blamed(place, error))]

    async def _end(self) -> None:
        """Wait until nothing is in flight, stopping what still runs, and free the lane."""
        if not self._flight and not self._stopped:
            return
        if not self._stopped:  # left early, by whoever reads the outcomes
            for message in self._flight:
                message.sent.stop()
        try:
            while self._flight:
                try:
                    await self._flight[0].sent.result()
                except Error as e:
                    if not e.skipped:
                        self._lane.failed(_ANY, e)
                self._flight.popleft()
        finally:
            for message in self._flight:  # the user has no patience left
                message.sent.abandon()
            self._transport.error_seen(self._lane.number)


_ANY: Final = ast.Get(())
_WRITE: Final = ast.Put(())
"""Stands for the statements of a run."""
_ALONE: Final = (
    ast.Use, ast.Begin, ast.Commit, ast.Rollback, ast.Select, ast.ShowKeys, ast.ShowData, ast.Watch,
)  # fmt: skip
"""Statements that others wait for: what they change decides how the next are sent, or their answer may be large."""


async def _rest(exchange: Exchange) -> list[Any]:
    rows: list[Any] = []
    while chunk := await exchange.more():
        rows += chunk
    return rows
