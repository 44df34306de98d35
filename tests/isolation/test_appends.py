"""Transactions over append lists are strictly serializable on both engines, and the checker sees it when not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kvql_server.engines import memory
from kvql_server.engines.hashtable import snapshots, table
from kvql_server.engines.hashtable.entries import visible
from kvql_server.engines.hashtable.store import Store as Tables
from kvql_server.engines.memory import MemoryEngine

import kvql
from tests.isolation.append_clients import History, Lane, in_turns, over_killed_server, over_network
from tests.isolation.appends import check
from tests.isolation.stores import ENGINES, open_store
from tests.servers import ADMIN, PASSWORD, Server

SEED = 20_000


def shown(anomalies: list[Any]) -> str:
    return "\n".join(f"{a.name}: {a.text}" for a in anomalies[:10])


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
@pytest.mark.parametrize("engine", ENGINES)
def test_transactions_in_turns(engine: str, seed: int, tmp_path: Path) -> None:
    """5,000 transactions of eight clients, statement by statement in a drawn order: 20,000 in the four runs."""
    print(f"seed {seed}")
    history, store = History(), open_store(engine, tmp_path)
    in_turns(store, history, 5_000, seed)
    assert store.engine.status()["open_snapshots"] == 0
    store.close()
    anomalies = check(history.transactions)
    assert not anomalies, shown(anomalies)
    committed = sum(t.outcome == "committed" for t in history.transactions)
    assert committed > 3_000 and history.conflicts > 500, "it was not worth its name"


@pytest.mark.parametrize("engine", ENGINES)
def test_concurrent_clients_over_tls(engine: str, server_of: Callable[[str], Server]) -> None:
    server = server_of(engine)
    server.drop_namespaces()
    history = History()

    async def run() -> None:
        """Four connections; the tasks of one share it, each transaction on a lane of its own."""
        url = f"kvql://{ADMIN}@localhost:{server.port}/t"
        shared = [await kvql.aio.connect(url, password=PASSWORD, ca=str(server.ca)) for _ in range(4)]
        opened = count()

        async def lane() -> Lane:
            return Lane(shared[next(opened) % 4])

        await over_network(lane, history, 1_000, SEED)
        for connection in shared:
            await connection.close()

    asyncio.run(run())
    anomalies = check(history.transactions)
    assert not anomalies, shown(anomalies)
    assert sum(t.outcome == "committed" for t in history.transactions) > 400


def test_across_kills(tmp_path: Path) -> None:
    """Clients ask by themselves what became of a COMMIT without an answer, and some never learn it; what was
    acknowledged is there once, in an order that explains every read."""
    print(f"seed {SEED}")
    server = Server(tmp_path / "server", arguments=("--checkpoint-interval", "0.2"), keeps_port=True).start()
    history = History()
    try:
        kills = asyncio.run(over_killed_server(server, history, 800, SEED))
    finally:
        server.stop()
    anomalies = check(history.transactions)
    assert not anomalies, shown(anomalies)
    assert kills > 0, "nobody was killed"


# ── a store that does not validate ────────────────────────────────────────────────────────────────────────────────

NO_GUARDS = {"memory": (MemoryEngine, "_holds", True), "hashtable": (Tables, "broken", None)}
NO_RANGES = {"memory": (MemoryEngine, "_range_holds", True), "hashtable": (Tables, "_range_holds", True)}


@pytest.mark.parametrize("engine", ENGINES)
def test_without_guards_updates_are_lost(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, answer = NO_GUARDS[engine]
    monkeypatch.setattr(owner, name, lambda *_: answer)
    assert {"lost", "incompatible order"} <= names_of_a_run(engine, tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_ranges_there_are_phantoms(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, answer = NO_RANGES[engine]
    monkeypatch.setattr(owner, name, lambda *_: answer)
    found = names_of_a_run(engine, tmp_path)
    assert "G2" in found
    assert found.isdisjoint({"lost", "incompatible order", "G0", "G1a", "G1b", "G1c"}), "keys were validated"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_snapshot_that_moves_is_seen(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read from the newest state: READ COMMITTED, as far as readers go. What also writes is still validated."""
    if engine == "memory":
        at = memory._Namespace.at
        monkeypatch.setattr(memory._Namespace, "at", lambda self, key, _, time: at(self, key, 2**62, time))
    else:
        for module in (snapshots, table):
            monkeypatch.setattr(module, "visible", lambda entry, _, time: visible(entry, 2**62, time))
    assert names_of_a_run(engine, tmp_path) & {"internal", "G-single"}


def names_of_a_run(engine: str, folder: Path) -> set[str]:
    history, store = History(), open_store(engine, folder)
    in_turns(store, history, 1_000, SEED)
    store.close()
    return {anomaly.name for anomaly in check(history.transactions)}
