"""Many statements without waiting for each: a script, or the rows of ``executemany``.

Runs of writes become messages of typed columns, a few messages are in flight, and outcomes come out in order, one for
each statement. With ``carry_on`` false the server skips everything after the first failure, also what is in flight
already, so the outcome is exactly that of sending one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kvql import ast, errors
from kvql.client.lane import Lane, located
from kvql.compiler import RowRuns, Run, compile_statement
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.transport import Exchange, Transport
from kvql.v1 import kvql_pb2 as pb

MESSAGES_MAX: Final = 64
STATEMENTS_MAX: Final = 8000
"""In flight. Four full messages of a bulk load keep both sides busy; more only makes other clients wait."""
ERRORS_TOLD_MAX: Final = 100
"""A run of writes that goes on after errors names at most so many (``pb.Done.errors``), so such runs are no longer."""

Outcome = tuple[int, Result | Error]
Attach = Callable[[Exchange, Result], None]


@dataclass(slots=True)
class _Message:
    """One request in flight: ``size`` statements from the statement ``first`` on.

    ``sources`` are their texts, where known; ``sizes`` the pairs of each if they are a run, else None.
    """

    first: int
    size: int
    statement: ast.Statement
    sources: Sequence[str | None]
    sizes: Sequence[int] | None = None
    exchange: Exchange | None = None


@dataclass(slots=True)
class Tally:
    """What became of many sets of parameters: the pairs changed, the first error, how many failed."""

    row_count: int = 0
    failed: int = 0
    error: Error | None = None
    notices: list[Notice] = field(default_factory=list)

    def blame(self, error: Error, index: int) -> None:
        if error.skipped:
            return
        self.failed += 1
        error.statement = index
        # a row that could not even be sent is known before those that were sent ahead of it are answered
        if self.error is None or index < (self.error.statement or 0):
            self.error = error


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
        self._flight: deque[_Message] = deque()
        self._statements = 0
        self._stopped = False

    # ── scripts ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self,
        statements: Iterable[tuple[ast.Statement, str | None]],
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> AsyncGenerator[list[Outcome], None]:
        """Outcomes in order, in lists of what came together. Ends after the first error unless it carries on."""
        run = Run(ERRORS_TOLD_MAX) if self._carry_on else Run()
        sources: list[str | None] = []
        index = -1
        try:
            for index, (statement, source) in enumerate(statements):
                if run.add(statement):
                    sources.append(source)
                    last = statement
                    continue
                if sources:
                    self._send_run(run, index, last, sources)
                    run, sources = Run(run.statements_max), []
                while self._full():
                    yield await self._take()
                if self._stopped:
                    return
                if run.add(statement):
                    sources.append(source)
                    last = statement
                    continue
                async for outcomes in self._single(index, statement, source, parameters):
                    yield outcomes
                if self._stopped:
                    return
            if sources:
                self._send_run(run, index + 1, last, sources)
            while self._flight and not self._stopped:
                yield await self._take()
        finally:
            await self._end()

    def _send_run(self, run: Run, end: int, statement: ast.Statement, sources: list[str | None]) -> None:
        message = _Message(end - len(sources), len(sources), statement, sources, run.sizes)
        self._send(message, run.request())

    async def _single(
        self, index: int, statement: ast.Statement, source: str | None, parameters: Any
    ) -> AsyncIterator[list[Outcome]]:
        """A statement that is no part of a run."""
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
        self._send(_Message(index, 1, statement, [source]), request, apart=alone and self._lane.transaction == "none")
        if alone:
            yield await self._take(alone=True)

    # ── executemany ───────────────────────────────────────────────────────────────────────────────────────────────

    async def rows(self, statement: ast.Statement, rows: Iterable[Any], source: str | None = None) -> Tally:
        """``statement`` once for each of ``rows``; the first error is in the tally, with its index."""
        tally = Tally()
        try:
            for message in RowRuns(statement, rows):
                if isinstance(message, Error):
                    tally.blame(located(message, source), message.statement or 0)
                    if not self._carry_on:
                        break
                    continue
                while self._full():
                    await self._count(tally)
                if self._stopped:
                    break
                sizes = _Ones(message.size) if message.merged else None
                sources = [source] if source is not None and sizes is None else []
                self._send(_Message(message.first, message.size, statement, sources, sizes), message.request)
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
            tally.blame(_blamed(message, first.statement or 0, first), message.first + (first.statement or 0))
            tally.failed += result.failed - 1
            self._lane.failed(message.statement, first)

    # ── the window ────────────────────────────────────────────────────────────────────────────────────────────────

    def _full(self) -> bool:
        return bool(self._flight) and (
            self._stopped or len(self._flight) >= MESSAGES_MAX or self._statements >= STATEMENTS_MAX
        )

    def _send(self, message: _Message, request: pb.Request, *, apart: bool = False) -> None:
        self._lane.prepare(request, self._timeout)
        if not self._carry_on:
            request.on_error = pb.ON_ERROR_STOP
        message.exchange = self._transport.submit(request, apart=apart)
        self._flight.append(message)
        self._statements += message.size

    async def _take(self, *, alone: bool = False) -> list[Outcome]:
        """Wait for the oldest message; an error stops the pipeline unless it carries on."""
        message, result = await self._oldest(alone=alone)
        if isinstance(result, Error):
            return self._failed(message, result)
        return [(message.first, result)] if message.sizes is None else self._split(message, message.sizes, result)

    async def _oldest(self, *, alone: bool = False) -> tuple[_Message, Result | Error]:
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

    def _split(self, message: _Message, sizes: Sequence[int], result: Result) -> list[Outcome]:
        """The outcome of each statement of a run."""
        failed = {e.statement or 0: e for e in result.errors}
        shared = {size: Result(row_count=size, revision=result.revision) for size in set(sizes)}
        outcomes: list[Outcome] = [
            (message.first + place, shared[size] if place not in failed else _blamed(message, place, failed[place]))
            for place, size in enumerate(sizes)
        ]
        if failed:
            self._lane.failed(message.statement, result.errors[0])
        first = next((i for i, (_, o) in enumerate(outcomes) if isinstance(o, Result)), None)
        if result.notices and first is not None:
            told = Result(row_count=sizes[first], revision=result.revision, notices=result.notices)
            outcomes[first] = (message.first + first, told)
        return outcomes

    def _failed(self, message: _Message, error: Error) -> list[Outcome]:
        self._stopped = not self._carry_on
        self._lane.failed(message.statement, error)
        if error.sqlstate == errors.OUTCOME_UNKNOWN and message.size > 1:
            behind = f"this and the {message.size - 1:,} statements after it were"
            error.message = error.message.replace("the statement was", behind)
        place = min(error.statement or 0, message.size - 1) if message.sizes is not None else 0
        sizes = message.sizes or ()
        outcomes: list[Outcome] = [(message.first + i, Result(row_count=sizes[i])) for i in range(place)]
        outcomes.append((message.first + place, _blamed(message, place, error)))
        return outcomes

    async def _end(self) -> None:
        """Wait until nothing is in flight, stopping what still runs, and free the lane."""
        if not self._flight and not self._stopped:
            return
        if not self._stopped:  # left early, by whoever reads the outcomes
            for message in self._flight:
                message.exchange.stop()  # type: ignore[union-attr]
        while self._flight:
            try:
                await self._flight.popleft().exchange.result()  # type: ignore[union-attr]
            except Error as e:
                if not e.skipped:
                    self._lane.failed(_ANY, e)
        self._transport.error_seen(self._lane.number)


_ANY: Final = ast.Get(())
_ALONE: Final = (
    ast.Use, ast.Begin, ast.Commit, ast.Rollback, ast.Select, ast.ShowKeys, ast.ShowData,
)  # fmt: skip
"""Statements that others wait for: what they change decides how the next are sent, or their answer may be large."""


def _blamed(message: _Message, place: int, error: Error) -> Error:
    """``error`` as that of one statement of a message."""
    error.statement = message.first + place
    return located(error, message.sources[place]) if place < len(message.sources) else error


async def _rest(exchange: Exchange) -> list[Any]:
    rows: list[Any] = []
    while chunk := await exchange.more():
        rows += chunk
    return rows


class _Ones(Sequence[int]):
    """``size`` ones, without holding them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: Any) -> Any:
        return range(1, self._size + 1)[place] and 1
