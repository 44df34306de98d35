"""The engines that are here, each against the whole contract."""

from __future__ import annotations

from typing import Any

from kvql_server.clock import ManualClock
from kvql_server.engines.base import Delete, Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.memory import MemoryEngine

from tests.engine.conformance import Conformance
from tests.engine.history_conformance import HistoryConformance


class TestMemory(Conformance, HistoryConformance):
    async def make(self, clock: ManualClock, tmp_path: Any) -> MemoryEngine:
        return MemoryEngine(clock)


class TestHashTables(Conformance, HistoryConformance):
    async def make(self, clock: ManualClock, tmp_path: Any) -> HashTableEngine:
        return HashTableEngine.open(tmp_path, clock=clock)


class TestHashTablesSyncedAtIntervals(Conformance):
    async def make(self, clock: ManualClock, tmp_path: Any) -> HashTableEngine:
        return HashTableEngine.open(tmp_path, clock=clock, sync="interval")

    async def test_status_and_compact(self, engine: Any) -> None:
        revision = await self.commit(engine, Put("a", "k", 1))
        await engine.synced(revision)
        assert engine.status()["revision"] == revision


class TestHashTablesFromACheckpoint(Conformance, HistoryConformance):
    """The same on a store that has been closed, opened and checkpointed before."""

    async def make(self, clock: ManualClock, tmp_path: Any) -> HashTableEngine:
        engine = HashTableEngine.open(tmp_path, clock=clock)
        await engine.commit_many([Transaction((), [Put("warm", "k", 1)])])
        engine.checkpoint()
        await engine.commit_many([Transaction((), [Delete("warm", "k")])])
        await engine.close()
        return HashTableEngine.open(tmp_path, clock=clock)
