"""Transactions over append lists: in turns in this process on both engines, and by tasks against a server that is
killed; each history is judged whole."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.isolation.append_clients import History, in_turns, over_killed_server
from tests.isolation.appends import check
from tests.isolation.stores import ENGINES, open_store
from tests.servers import Server

IN_TURNS = 4_000
OVER_NETWORK = 2_000


def soak(seconds: float, seed: int) -> str:
    rng = random.Random(seed)
    ends, total, conflicts, kills, rounds = time.monotonic() + seconds, 0, 0, 0, 0
    folder = Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    while not rounds or time.monotonic() < ends:
        rounds += 1
        history, turn_seed = History(), rng.randrange(2**32)
        if rounds % 3 != 1:
            store = open_store(ENGINES[rounds % 2], folder / f"store-{rounds}")
            in_turns(store, history, IN_TURNS, turn_seed, clients=rng.choice([2, 5, 12]))
            store.close()
        else:
            often = ("--checkpoint-interval", "0.2")
            server = Server(folder / f"server-{rounds}", arguments=often, keeps_port=rng.random() < 0.7).start()
            try:
                kills += asyncio.run(over_killed_server(server, history, OVER_NETWORK, turn_seed))
            finally:
                server.stop()
        wrong = check(history.transactions)
        told = "\n".join(f"{a.name}: {a.text}" for a in wrong[:10])
        assert not wrong, f"round {rounds}, seed {turn_seed}; the folder is kept: {folder}\n{told}"
        total += len(history.transactions)
        conflicts += history.conflicts
    shutil.rmtree(folder)
    return f"{rounds} rounds, {total:,} transactions, {conflicts:,} conflicts, {kills} kills, 0 anomalies"
