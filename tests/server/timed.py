"""A store in process whose time is the test's: statements as text, on either engine, closed and opened again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvql_server import text
from kvql_server.auth import LOCAL, Principal
from kvql_server.clock import ManualClock
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, Pages, step

from kvql.codec import encode_values
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb

ENGINES = ("memory", "hashtable")


class TickingClock(ManualClock):
    """A clock that may go on by itself, a little with every look at it."""

    ticking_us = 0

    def now(self) -> int:
        self._now += self.ticking_us
        return self._now


class TimedStore:
    """One session of an administrator; ``session`` gives more."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.kind = engine
        self.folder = folder
        self.clock = TickingClock()
        self.engine: Any
        self.executor: Executor
        self.open()

    def open(self) -> None:
        self.engine = (
            MemoryEngine(clock=self.clock)
            if self.kind == "memory"
            else HashTableEngine.open(self.folder / "store", clock=self.clock)
        )
        self.executor = Executor(self.engine, self.clock, start_namespace="main")
        step(self.executor.start())
        self.engine.tick()
        self.first = self.session()

    def session(self, principal: Principal = LOCAL, namespace: str = "main") -> Session:
        return Session(self, principal, namespace)

    def reopen(self) -> None:
        assert self.kind == "hashtable", "nothing else outlives the process"
        self.engine.close_now()
        self.open()

    def close(self) -> None:
        step(self.engine.close())

    @property
    def revision(self) -> int:
        snapshot = self.engine.snapshot()
        try:
            return int(snapshot.revision)
        finally:
            snapshot.close()

    def __call__(self, statements: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.first(statements, parameters)


class Session:
    def __init__(self, store: TimedStore, principal: Principal, namespace: str) -> None:
        self.store = store
        self.principal = principal
        self.lane = Lane(namespace)

    def result(self, statements: str, parameters: Sequence[Any] = ()) -> Result:
        """Of the last statement, its rows read."""
        store = self.store
        request = pb.Request(text=pb.TextCommand(text=statements, parameters=encode_values(list(parameters))))
        work = store.executor.work()
        result = Result()
        for one in text.requests(request):
            result = step(text.carry_out(store.executor, one, self.lane, self.principal, work))
            if isinstance(result.rows, Pages):
                result.rows = list(result.rows)
        return result

    def __call__(self, statements: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        return list(self.result(statements, parameters).rows)

    def refusal(self, statements: str, parameters: Sequence[Any] = ()) -> Error:
        try:
            self.result(statements, parameters)
        except Error as e:
            return e
        raise AssertionError("it was not refused")
