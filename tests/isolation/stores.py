"""Stores to try isolation on: any engine in this process, and connections to it that one thread uses in turns."""

from __future__ import annotations

from typing import Any

from kvql_server import local
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.memory import MemoryEngine

import kvql
from kvql.client.drive import step
from kvql.client.sync import Client
from kvql.transport.local import LocalTransport

ENGINES = ("memory", "hashtable")


class Store:
    """An engine with what ``kvql.connect`` builds around it; ``connect`` opens one more session."""

    def __init__(self, engine: Any, clock: Any) -> None:
        self.engine = engine
        shared = local._Shared(engine, clock)
        shared.users = 1
        self._store = local.LocalStore(shared, None)

    def connect(self, namespace: str = "t", *, autocommit: bool = True) -> kvql.Connection:
        transport = LocalTransport(self._store, namespace, owner=False)
        return kvql.Connection(Client(transport, step), autocommit=autocommit)

    def close(self) -> None:
        self._store.close()


def open_store(engine: str, folder: Any) -> Store:
    """On real files if ``engine`` is the hash tables; they need not be durable, because no process dies here."""
    from kvql_server.clock import SystemClock

    clock = SystemClock()
    if engine == "memory":
        return Store(MemoryEngine(clock), clock)
    return Store(HashTableEngine.open(folder, clock=clock, sync="checkpoint"), clock)
