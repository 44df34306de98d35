"""Operations on single keys are linearizable: by concurrent clients over TLS, on both engines, and across kill -9."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kvql_server.engines.hashtable.store import Store as Tables
from kvql_server.engines.memory import MemoryEngine

from kvql.errors import Error
from tests.isolation.linear import Operation, explain
from tests.isolation.linear_clients import Clients, carry_out, with_kills
from tests.isolation.stores import ENGINES, open_store
from tests.servers import Server

SEED = 417


@pytest.fixture
def killed_often(tmp_path: Path) -> Iterator[Server]:
    """A server that takes checkpoints all the time, so that kills meet them."""
    made = Server(tmp_path / "server", arguments=("--checkpoint-interval", "0.2"), keeps_port=True).start()
    yield made
    made.stop()


@pytest.mark.parametrize("keeps_port", [True, False])
def test_across_kills(killed_often: Server, keeps_port: bool) -> None:
    """On the same port clients ask by themselves what became of a write; on another one they are left without an
    answer."""
    killed_often.keeps_port = keeps_port
    print(f"seed {SEED}")
    clients = Clients(killed_often, SEED)
    kills, unknown = (4, 0) if keeps_port else (1, 1)
    with_kills(killed_often, clients, kills, operations=400, rng=random.Random(SEED), unknown=unknown)
    faults = clients.faults()
    assert not faults, "\n".join(faults)
    assert clients.count > 500


@pytest.mark.parametrize("engine", ENGINES)
def test_concurrent_clients(engine: str, server_of: Callable[[str], Server]) -> None:
    server = server_of(engine)
    server.drop_namespaces()
    clients = Clients(server, SEED, clients=6)
    with_kills(server, clients, kills=0, operations=2_000, rng=random.Random(SEED))
    faults = clients.faults()
    assert not faults, "\n".join(faults)


GUARDS = {"memory": (MemoryEngine, "_holds", True), "hashtable": (Tables, "broken", None)}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_checker_catches_a_store_without_guards(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compare-and-set of two steps in a transaction, validated by nobody: two may win."""
    store = open_store(engine, tmp_path)
    assert compare_and_set_in_two_steps(store) is None
    owner, name, answer = GUARDS[engine]
    monkeypatch.setattr(owner, name, lambda *_: answer)
    told = compare_and_set_in_two_steps(store)
    assert told is not None and told.startswith("not linearizable")
    store.close()


def compare_and_set_in_two_steps(store: Any) -> str | None:
    """Two clients add one to the same number, each by reading, comparing and writing in a transaction."""
    a, b = store.connect(), store.connect()
    a.execute("UPSERT k 0")
    history = [Operation(0, "upsert", 0, "ok", 0, 1)]
    for connection in (a, b):
        connection.execute("BEGIN")
        assert carry_out(connection, "cas", "k", (0, 1 if connection is a else 2), by_sql=True)
    for number, connection in enumerate((a, b)):
        try:
            connection.execute("COMMIT")
            won = True
        except Error as e:
            assert e.sqlstate == "40001"
            won = False
            connection.execute("ROLLBACK")
        if won:
            history.append(Operation(number, "cas", (0, number + 1), True, 2, 10))
    history.append(Operation(0, "get", None, carry_out(a, "get", "k", None, by_sql=False), 11, 12))
    return explain(history)
