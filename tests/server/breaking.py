"""An executor without a server, on an engine whose commits fail where a test says so."""

from __future__ import annotations

from collections.abc import Sequence

from kvql_server.auth import LOCAL
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.memory import MemoryEngine
from kvql_server.executor import Executor, Lane, step

from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import command


class Breaking(MemoryEngine):
    """An engine that is full at the commits that a test says."""

    full_at: Sequence[int] = ()
    commits = 0

    async def commit_many(self, transactions: Sequence[base.Transaction]) -> list[base.CommitOutcome]:
        self.commits += 1
        if self.commits in self.full_at:
            raise base.StoreFull("no space left")
        return await super().commit_many(transactions)


class Store:
    """An executor without a server."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = Breaking(clock=self.clock)
        self.executor = Executor(self.engine, self.clock)

    def run(self, sent: pb.Request) -> Result:
        return step(self.executor.execute(sent, Lane(), LOCAL, self.executor.work()))

    def keys(self) -> list[str]:
        rows = self.run(command("SHOW KEYS", "shop")).rows
        return [key for (key,) in rows]
