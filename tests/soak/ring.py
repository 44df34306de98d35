"""A ring of keys under concurrent moves and kill -9, again and again: it stays one ring."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.isolation import ring
from tests.servers import Server


def soak(seconds: float, seed: int) -> str:
    rng = random.Random(seed)
    size = rng.choice([6, 12, 40])
    ends, kills = time.monotonic() + seconds, 0
    folder = Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    server = Server(folder, arguments=("--checkpoint-interval", "0.2"), keeps_port=rng.random() < 0.7).start()
    try:
        with server.connect() as connection:
            ring.make(connection, size)
        movers = ring.Movers(server, rng.randrange(2**32), size)
        movers.start()
        try:
            while not kills or time.monotonic() < ends:
                movers.wait(movers.moved + rng.randrange(1, 150))
                server.kill()
                kills += 1
                server.start()
        finally:
            movers.stop()
        assert not movers.faults, f"the folder is kept: {folder}\n{movers.faults}"
        with server.connect("t") as connection:
            told = ring.look(connection, rng, size)
        assert told is None, f"the folder is kept: {folder}\n{told}"
    finally:
        server.stop()
    shutil.rmtree(folder)
    return (
        f"{size} keys, {movers.moved:,} moves, {movers.conflicts:,} conflicts, {movers.looked:,} looks, {kills} kills, "
        "one ring"
    )
