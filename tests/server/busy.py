"""An executor as a server has it: with an event loop in which others want their turn; and programs made by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from kvql_server.auth import LOCAL
from kvql_server.engines.base import Engine
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, Pages, Work
from kvql_server.settings import Settings

from kvql.codec import encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb

GAP_MAX_S = 1.0
"""How long others may wait, in time of this process on a processor, which does not grow with what other processes do.
It is some 20 ms; it was up to half a minute."""


class BusyStore:
    """An executor as a server has it: with an event loop in which others want their turn."""

    def __init__(self, settings: Settings | None = None, engine: Engine | None = None) -> None:
        self.executor = Executor(engine or MemoryEngine(), settings=settings, start_namespace="t")
        self.lane = Lane("t")
        self.gap_s = self._before = 0.0

    async def _beat(self) -> None:
        while True:
            self._beaten()
            await asyncio.sleep(0.001)

    def _beaten(self) -> None:
        now = time.process_time()
        self.gap_s, self._before = max(self.gap_s, now - self._before), now

    async def _whole(self, request: pb.Request) -> Result:
        work: Work = self.executor.work(request.deadline_ms)
        work.yields = True
        result = await self.executor.execute(request, self.lane, LOCAL, work)
        if isinstance(result.rows, Pages):
            result.rows = [row async for page in result.rows for row in page]
        return result

    def run(self, request: pb.Request | str, parameters: Any = None) -> Result:
        """The result, while a heart beats."""
        if isinstance(request, str):
            request = compile_statement(parse(request)[0], parameters)
        prepared = request

        async def both() -> Result:
            heart = asyncio.create_task(self._beat())
            await asyncio.sleep(0.01)
            self.gap_s, self._before = 0.0, time.process_time()
            try:
                return await self._whole(prepared)
            finally:
                self._beaten()  # or who lets nobody have a turn would not be seen
                heart.cancel()

        return asyncio.run(both())

    def rows(self, request: pb.Request | str, parameters: Any = None) -> list[tuple[Any, ...]]:
        rows = self.run(request, parameters).rows
        assert isinstance(rows, list)
        assert self.gap_s < GAP_MAX_S
        return rows

    def refused(self, request: pb.Request | str, parameters: Any = None) -> Error:
        with pytest.raises(Error) as caught:
            self.run(request, parameters)
        assert self.gap_s < GAP_MAX_S
        assert len(caught.value.message) < 1000
        assert len(caught.value.hint or "") < 2000
        return caught.value


def op(name: str, arity: int = 0, argument: int = 0, flags: int = 0) -> pb.Step:
    return pb.Step(op=pb.Op.Value(f"OP_{name}"), arity=arity, argument=argument, flags=flags)


def select(*expressions: pb.Expression, **fields: Any) -> pb.Request:
    command = pb.SelectCommand(from_session=True, **fields)
    for number, expression in enumerate(expressions):
        command.projections.add(name=f"c{number}", expression=expression)
    return pb.Request(select=command)


def program(steps: list[pb.Step], *names: str, constants: tuple[Any, ...] = ()) -> pb.Expression:
    return pb.Expression(steps=steps, names=names, constants=encode_values(list(constants)))


COLUMN = op("COLUMN", 1)
