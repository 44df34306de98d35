"""A ring of keys stays one ring: under concurrent transactions, across kill -9, on both engines; and the test of it
sees a store that does not validate."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from kvql_server.engines.hashtable.store import Store as Tables
from kvql_server.engines.memory import MemoryEngine

from kvql.errors import Error
from tests.isolation import ring
from tests.isolation.stores import ENGINES, Store, open_store
from tests.servers import Server

SEED, SIZE = 1729, 12


@pytest.mark.parametrize(
    ("following", "wrong"),
    [
        ({"n0": "n1", "n1": "n2", "n2": "n0"}, None),
        ({"n0": "n1", "n1": "n0", "n2": "n2"}, "has 2 keys of 3"),
        ({"n0": "n1", "n1": "n2", "n2": "n1"}, "does not come back"),
        ({"n0": "n1", "n1": "n7", "n2": "n0"}, "does not come back"),
        ({"n0": "n1", "n1": "n0"}, "2 keys instead of 3"),
    ],
)
def test_what_is_a_ring(following: dict[str, str], wrong: str | None) -> None:
    told = ring.fault(following, 3)
    assert told is None if wrong is None else told is not None and wrong in told


def test_across_kills(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    server = Server(tmp_path / "server", arguments=("--checkpoint-interval", "0.2"), keeps_port=True).start()
    try:
        with server.connect() as connection:
            ring.make(connection, SIZE)
        movers = ring.Movers(server, SEED, SIZE)
        movers.start()
        try:
            for _ in range(4):
                movers.wait(movers.moved + rng.randrange(10, 50))
                server.kill()
                server.start()
            movers.wait(movers.moved + 50)
            while movers.looked <= 5 or not movers.conflicts:  # or it was not worth its name
                movers.wait(movers.moved + 10)
        finally:
            movers.stop()
        assert not movers.faults, movers.faults
        assert movers.moved > 80
        with server.connect("t") as connection:
            assert ring.look(connection, rng, SIZE) is None
    finally:
        server.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_concurrent_transactions(engine: str, server_of: Callable[[str], Server]) -> None:
    server = server_of(engine)
    server.drop_namespaces()
    with server.connect() as connection:
        ring.make(connection, SIZE)
    movers = ring.Movers(server, SEED, SIZE)
    movers.start()
    try:
        movers.wait(200)
    finally:
        movers.stop()
    assert not movers.faults, movers.faults


GUARDS = {"memory": (MemoryEngine, "_holds", True), "hashtable": (Tables, "broken", None)}


@pytest.mark.parametrize("engine", ENGINES)
def test_without_guards_the_ring_breaks(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(engine, tmp_path)
    assert in_process(store, 300) is None
    owner, name, answer = GUARDS[engine]
    monkeypatch.setattr(owner, name, lambda *_: answer)
    assert in_process(store, 300) is not None
    store.close()


def in_process(store: Store, moves: int) -> str | None:
    """Two clients in turns: one moves a key in the middle of the other's move."""
    rng = random.Random(SEED)
    a, b = store.connect(), store.connect()
    ring.make(a, SIZE)
    conflicts = 0
    for _ in range(moves):
        a.execute("BEGIN")
        first = f"n{rng.randrange(SIZE)}"
        chain = [first]
        for _ in range(3):
            chain.append(a.execute("GET ?", [chain[-1]]).fetchall()[0][1])
        ring.move(b, rng, SIZE)
        for key, following in ((chain[0], chain[2]), (chain[2], chain[1]), (chain[1], chain[3])):
            a.execute("UPDATE ? ?", [key, following])
        try:
            a.execute("COMMIT")
        except Error as e:
            assert e.sqlstate == "40001"
            conflicts += 1
        try:
            told = ring.look(b, rng, SIZE)
        except Error as e:
            told = str(e)
        if told is not None:
            return told
    assert conflicts > 0
    return None
