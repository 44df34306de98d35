"""ROW=count, prefix, where, stream: asking by value, by prefix, with long conditions, and for everything."""

from __future__ import annotations

import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kvql
from bench import peers
from bench.measure import Figure, compare, seconds
from tests.servers import Server

PAIRS = 1_000_000
UPDATES = 200_000
ROUNDS = 7
SLOW_ROUNDS = 3
_THEIRS = "SELECT count(*) FROM kv WHERE v > ?"


def shuffled(count: int, seed: int = 1) -> list[int]:
    numbers = list(range(count))
    random.Random(seed).shuffle(numbers)
    return numbers


@contextmanager
def _served(count: int) -> Iterator[tuple[Server, Any]]:
    """A server whose namespace ``bench`` holds ``count`` integers under shuffled keys."""
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name)).start()
        try:
            with server.connect("bench") as connection:
                connection.executemany("PUT ? ?", ((f"key{i:07d}", i) for i in shuffled(count)))
                yield server, connection
        finally:
            server.stop()


def _sqlite(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "peer.db")
    database.execute("CREATE TABLE kv(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    with database:
        database.executemany("INSERT INTO kv VALUES(?, ?)", ((f"key{i:07d}", i) for i in shuffled(PAIRS)))
    return database


def _redis_count(client: Any, limit: int) -> int:
    """What a redis user does: SCAN, MGET, and the condition in Python."""
    cursor, found = 0, 0
    while True:
        cursor, keys = client.scan(cursor, count=10_000)
        if keys:
            found += sum(int(v) > limit for v in client.mget(keys))
        if not cursor:
            return found


def count() -> list[Figure]:
    """``SELECT count(*) WHERE value > n`` over a million pairs; again after 200,000 random updates."""
    out = []
    half = PAIRS // 2
    with tempfile.TemporaryDirectory() as name, peers.redis() as redis, _served(PAIRS) as (_, connection):
        database = _sqlite(Path(name))
        file = Path(name) / "pairs.resp"
        file.write_bytes(b"".join(peers.resp((f"key{i:07d}", str(i)) for i in shuffled(PAIRS))))
        redis.pipe(file)
        client = redis.client()

        def ours(n: int) -> None:
            ((found,),) = connection.execute("SELECT count(*) WHERE value > ?", [half - 1 - n]).fetchall()
            assert abs(found - half) <= n + UPDATES

        def theirs(n: int) -> None:
            database.execute(_THEIRS, [half - 1 - n]).fetchall()

        def measure(title: str) -> Figure:
            rounds = []
            for n in range(ROUNDS):
                times = {
                    "kvql": seconds(ours, n),
                    "sqlite3": seconds(theirs, n),
                }
                if n < SLOW_ROUNDS:
                    times["redis scan + client filter"] = seconds(lambda: _redis_count(client, half))
                rounds.append({p: t * 1000 for p, t in times.items()})
            slow = statistics.median(r["redis scan + client filter"] for r in rounds[:SLOW_ROUNDS])
            return compare(
                title, "ms", [{"redis scan + client filter": slow, **r} for r in rounds], more_is_better=False
            )

        title = f"SELECT count(*) WHERE value > n over {PAIRS:,} pairs"
        out.append(measure(title))
        changed = random.Random(2).choices(range(PAIRS), k=UPDATES)
        connection.executemany("UPDATE ? ?", ((f"key{i:07d}", i) for i in changed))
        with database:
            database.executemany("UPDATE kv SET v = ? WHERE k = ?", ((i, f"key{i:07d}") for i in changed))
        out.append(measure(f"{title}, after {UPDATES:,} random updates"))
        database.close()
    return out


def prefix() -> list[Figure]:
    """A prefix of 100 keys over the network, among a million and among a thousand."""
    rounds: list[dict[str, float]] = [{} for _ in range(ROUNDS)]
    for size, label in ((PAIRS, "kvql"), (1_000, "the same among 1,000")):
        with _served(size) as (_, connection):
            # a load leaves new keys unsorted; they find their places when they are read, or while nobody is in a hurry
            connection.execute("SHOW KEYS").fetchall()
            groups = [f"key{i:05d}%" for i in range(size // 100)]
            rng = random.Random(3)
            for n in range(ROUNDS):
                asked = rng.choices(groups, k=200)
                times = []
                for pattern in asked:
                    start = time.perf_counter()
                    rows = connection.execute("SELECT key, value WHERE key LIKE ?", [pattern]).fetchall()
                    times.append(time.perf_counter() - start)
                    assert len(rows) == 100
                rounds[n][label] = statistics.median(times) * 1e6
    return [compare(f"a prefix of 100 keys among {PAIRS:,}, p50", "µs", rounds, more_is_better=False)]


def where() -> list[Figure]:
    """A flat condition of 5,000 terms against one of 1,000: five times the work if time is linear; and a hard LIKE."""
    rounds, likes = [], []
    with kvql.connect(":memory:", autocommit=True) as connection:
        connection.execute("PUT a 1")
        connection.execute("PUT ? ?", ["long", "a" * 10_000])

        def like(pattern: str) -> None:
            connection.execute("SELECT key WHERE value LIKE ?", [pattern]).fetchall()

        for n in range(5):

            def ask(terms: int, n: int = n) -> float:
                text = "SELECT key WHERE " + " OR ".join(f"value = {i + n * 10_000}" for i in range(terms))
                return seconds(lambda: connection.execute(text).fetchall()) * 1000

            rounds.append({"kvql": ask(5_000), "1,000 terms": ask(1_000)})
            pattern = "%a%a%a%a%b" + "%" * n
            likes.append({"kvql": seconds(like, pattern) * 1000})
    return [
        compare("a flat WHERE of 5,000 terms, in process", "ms", rounds, more_is_better=False),
        compare("LIKE '%a%a%a%a%b' on 10,000 characters, in process", "ms", likes, more_is_better=False),
    ]


_READ = """
import resource, sys, kvql
con = kvql.connect(sys.argv[1], password=sys.argv[2], ca=sys.argv[3], autocommit=True)
con.execute("SELECT * FROM bench LIMIT 10").fetchall()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = sum(1 for _ in con.execute("SELECT * FROM bench"))
assert n == int(sys.argv[4]), n
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def stream() -> list[Figure]:
    """What ``SELECT *`` over a million pairs adds to the memory of server and client."""
    from tests.servers import PASSWORD

    with _served(PAIRS) as (server, connection):
        assert server.process is not None
        connection.execute("SELECT * LIMIT 10").fetchall()
        _reset_peak(server.process.pid)
        before = _peak_bytes(server.process.pid)
        done = subprocess.run(
            [sys.executable, "-c", _READ, server.url, PASSWORD, str(server.ca), str(PAIRS)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        grown = _peak_bytes(server.process.pid) - before
    mebibyte = 1024 * 1024
    return [
        Figure(f"SELECT * over {PAIRS:,} pairs: growth of the server", grown / mebibyte, "MiB"),
        Figure(f"SELECT * over {PAIRS:,} pairs: growth of the client", int(done.stdout) * 1024 / mebibyte, "MiB"),
    ]


def _reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} tells no VmHWM")
