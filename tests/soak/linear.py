"""Single keys under concurrent clients and kill -9, again and again: every history is linearizable."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.isolation.linear_clients import Clients, with_kills
from tests.servers import Server


def soak(seconds: float, seed: int) -> str:
    rng = random.Random(seed)
    ends, operations, unknown, kills, rounds = time.monotonic() + seconds, 0, 0, 0, 0
    folder = Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    server = Server(folder, arguments=("--checkpoint-interval", "0.2"), keeps_port=rng.random() < 0.7).start()
    try:
        while not rounds or time.monotonic() < ends:
            rounds += 1
            with server.connect() as connection:
                connection.execute("DROP NAMESPACE IF EXISTS t")
            clients = Clients(server, rng.randrange(2**32), clients=rng.choice([3, 5, 8]))
            with_kills(server, clients, kills=5, operations=rng.choice([100, 400, 1000]), rng=rng)
            faults = clients.faults()
            assert not faults, f"round {rounds}; the folder is kept: {folder}\n" + "\n".join(faults)
            operations += clients.count
            unknown += clients.unknown
            kills += 5
    finally:
        server.stop()
    shutil.rmtree(folder)
    return f"{rounds} histories, {operations:,} operations, {unknown} without an answer, {kills} kills, 0 faults"
