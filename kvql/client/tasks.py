"""The asynchronous client: many tasks, one transport, a lane for whoever must not wait for others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

from kvql import ast
from kvql.client.base import BaseClient
from kvql.client.events import AsyncEvents
from kvql.client.lane import Lane
from kvql.client.messages import Tally
from kvql.client.pipeline import Pipeline
from kvql.client.rows import AsyncRows, whole_if_small
from kvql.client.texts import Texts
from kvql.compiler import Given
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import Exchange, Transport, Watched
from kvql.transport.fetching import Position

STATEMENTS_MAX: Final = 1024
"""At once on one connection; more wait their turn here, instead of filling the server's memory."""


class Shared:
    """One transport and what its users share: parsed texts, free lanes, a bound on what is in flight."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.texts = Texts()
        self.places = asyncio.Semaphore(STATEMENTS_MAX)
        self._free: list[int] = []
        self._next = 0

    def __del__(self) -> None:
        self.transport.dropped()

    def take_lane(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next

    def give_back(self, lane: int) -> None:
        self._free.append(lane)


class AsyncClient(BaseClient):
    """A lane of a connection that tasks share: statements in, results out, in the order in which they came."""

    def __init__(self, shared: Shared, namespace: str) -> None:
        super().__init__(shared.transport, Lane(shared.take_lane(), namespace), shared.texts)
        self._shared = shared
        self._has_lane = True

    async def run(
        self,
        statement: str | ast.Statement,
        parameters: Given = None,
        timeout: float | None = None,
        source: str | None = None,
        key: bytes | str | None = None,
    ) -> Result:
        """Carry out one statement; see ``Client.run``. Rows that are still to come are ``AsyncRows``.

        Cancelling the task stops the statement in the server.
        """
        if isinstance(statement, str):
            statement, source = self.read(statement)
        request = self._request(statement, parameters, timeout, source, key)
        if request is None:
            return Result()
        async with self._shared.places:
            try:
                self.check_open()
                exchange = self._transport.submit(request, apart=self._lane.transaction == "none")
                result = await whole_if_small(exchange)
            except Error as e:
                raise self._failed(statement, e, source) from None
        self._lane.done(statement, result)
        if not exchange.complete:
            result.rows = AsyncRows(exchange, list(result.rows), source)  # type: ignore[assignment]  # rows still to come
        return result

    async def run_rows(
        self,
        statement: ast.Statement,
        rows: Iterable[Any],
        *,
        carry_on: bool = True,
        timeout: float | None = None,
        source: str | None = None,
    ) -> Tally:
        """Carry out one statement for every set of parameters in ``rows``; see ``Pipeline.rows``."""
        self.check_open()
        pipeline = Pipeline(self._transport, self._lane, _no_streams, carry_on=carry_on, timeout=timeout)
        return await pipeline.rows(statement, rows, source)

    def watch(
        self, statement: str | ast.Statement, parameters: Given = None, after: Position | None = None
    ) -> AsyncEvents:
        """The events of a WATCH, on a stream of their own."""
        request, source = self._watch_request(statement, parameters, after)
        return AsyncEvents(lambda: cast(Watched, self._transport.submit(request, apart=True)), source, self.check_open)

    def give_back(self) -> None:
        """Let others have the lane; nothing is open in it. Repeatable: two transactions in one lane would be one."""
        if self._has_lane:
            self._has_lane = False
            self._shared.give_back(self._lane.number)

    def give_up(self) -> None:
        """Let others have the lane, where it is not known what is open in it: that is rolled back."""
        self._lane.transaction = "none"
        self._transport.end_lane(self._lane.number)
        self.give_back()

    async def close(self) -> None:
        """End the connection for all its users; open transactions are rolled back. Closing twice is fine."""
        await self._transport.close()


def _no_streams(exchange: Exchange, result: Result) -> None:
    raise AssertionError("the rows of executemany are read to their end")
