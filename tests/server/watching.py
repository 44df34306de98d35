"""A store in process, watched: what the tests of WATCH share."""

from __future__ import annotations

import asyncio
from typing import Any

from kvql_server.clock import ManualClock
from kvql_server.engines.memory import MemoryEngine
from kvql_server.local import LocalStore, _Shared, open_folder

from kvql._sync import Connection
from kvql._sync.watch import Watch
from kvql.client import Client
from kvql.client.drive import step
from kvql.client.events import Event
from kvql.transport.local import LocalTransport
from kvql.values import from_python

EVER = -(2**63)
"""The time of a snapshot that shows pairs until their expiry is a commit."""
GONE = ("DELETE", "EXPIRE", "LEAVE")


class Watched:
    """A store, its engine, and a connection in autocommit."""

    def __init__(self, target: str, clock: ManualClock | None = None) -> None:
        """``clock``: for a store in memory whose time is the test's."""
        if clock is None:
            self.store: LocalStore = open_folder(target)
        else:
            assert target == ":memory:"
            shared = _Shared(MemoryEngine(clock=clock), clock)
            shared.users = 1
            self.store = LocalStore(shared, None)
        self.engine: Any = self.store._shared.engine
        self.connection = Connection(Client(LocalTransport(self.store), step), autocommit=True)
        self.run = self.connection.execute

    def state(self, revision: int, namespace: str = "main") -> dict[str, Any]:
        """The pairs as they were: key -> entry."""
        snapshot = self.engine.snapshot(revision, EVER)
        try:
            return asyncio.run(_all(snapshot, namespace))
        finally:
            snapshot.close()

    def close(self) -> None:
        self.connection.close()


async def _all(snapshot: Any, namespace: str) -> dict[str, Any]:
    return {key: entry async for page in snapshot.scan(namespace) for key, entry in page}


class Folded:
    """What somebody knows who sees nothing but the events; each must be possible after those before it."""

    def __init__(self) -> None:
        self.pairs: dict[str, Any] = {}
        self.revision = 0
        self.live = False

    def take(self, event: Event) -> None:
        key, pairs = event.key, self.pairs
        assert event.revision >= self.revision, event
        self.revision = event.revision
        if key is None:
            assert event.event == "LIVE" and not self.live
            self.live = True
            return
        assert (event.event == "INITIAL") is not self.live, event
        if event.event in GONE:
            assert from_python(event.old_value) == pairs.pop(key), event
            return
        assert (event.event == "UPDATE") is (key in pairs), event
        if event.event == "UPDATE":
            assert from_python(event.old_value) == pairs[key], event
        pairs[key] = from_python(event.value)


def events(watch: Watch, seconds: float = 0.3) -> list[Event]:
    """All until nothing comes for so long: in two waits, as a machine may be away for one."""
    out, silent = [], 0
    while silent < 2:
        event = watch.next(seconds / 2)
        silent = silent + 1 if event is None else 0
        if event is not None:
            out.append(event)
    return out
