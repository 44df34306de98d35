"""ROW=start: ``kvql -c 'GET k'`` from start to end, over TLS with a login."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import peers
from bench.measure import Figure, compare, seconds
from tests.golden.harness import KVQL
from tests.servers import Server

ROUNDS = 15


def measure() -> list[Figure]:
    rounds = []
    with tempfile.TemporaryDirectory() as name, peers.redis() as redis:
        server = Server(Path(name)).start()
        try:
            with server.connect("bench") as connection:
                connection.execute("PUT k 1")
            redis.client().set("k", 1)
            ours = [str(KVQL), f"{server.url}/bench", *server.options, "-c", "GET k"]
            theirs = ["redis-cli", "-p", str(redis.port), "GET", "k"]
            for _ in range(ROUNDS):
                rounds.append(
                    {
                        "kvql": _run(ours, server.environment) * 1000,
                        "kvql :memory:": _run([str(KVQL), ":memory:", "-c", "PUT k 1"], server.environment) * 1000,
                        "redis-cli": _run(theirs, os.environ) * 1000,
                    }
                )
        finally:
            server.stop()
    return [compare("`kvql -c 'GET k'`, start to end", "ms", rounds, more_is_better=False)]


def _run(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds, with compiled modules kept as on a user's machine, whatever the environment says of them."""
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return seconds(subprocess.run, command, env=environment, capture_output=True, check=True)
