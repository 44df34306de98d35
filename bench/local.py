"""ROW=inprocess, reopen, memory: the store without a network."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kvql
from bench import peers
from bench.measure import Figure, compare, seconds

ROUNDS = 5
PAIRS = 1_000_000


def inprocess() -> list[Figure]:
    """One GET through the language against sqlite3 by primary key, both in this process."""
    rounds = []
    keys = [f"k{i}" for i in range(1000)]
    rng = random.Random(1)
    asked = rng.choices(keys, k=20_000)
    with tempfile.TemporaryDirectory() as name:
        database = sqlite3.connect(Path(name) / "peer.db")
        database.execute("CREATE TABLE kv(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
        database.executemany("INSERT INTO kv VALUES(?, ?)", [(k, i) for i, k in enumerate(keys)])
        database.commit()
        with kvql.connect(str(Path(name) / "store"), autocommit=True) as connection:
            connection.executemany("PUT ? ?", [(k, i) for i, k in enumerate(keys)])

            def ours() -> None:
                execute = connection.execute
                for key in asked:
                    execute("GET ?", [key]).fetchone()

            def theirs() -> None:
                execute = database.execute
                for key in asked:
                    execute("SELECT v FROM kv WHERE k = ?", [key]).fetchone()

            for _ in range(ROUNDS):
                times = {"kvql": seconds(ours), "sqlite3": seconds(theirs)}
                rounds.append({p: t / len(asked) * 1e6 for p, t in times.items()})
        database.close()
    return [compare("one GET in process, through the language", "µs", rounds, more_is_better=False)]


# What runs in a process of its own, so that its memory and its start are nobody else's.
FILL = """
import sys, kvql
with kvql.connect(sys.argv[1], autocommit=True) as con:
    pairs = ((f"key{i:09d}", i if sys.argv[3] == "int" else f"{i:0100d}") for i in range(int(sys.argv[2])))
    con.executemany("PUT ? ?", pairs)
"""
OPEN = """
import sys, time, json, kvql, gc
import kvql_server.local, kvql_server.engines.hashtable
base = [l for l in open("/proc/self/status") if l.startswith("VmRSS")][0].split()[1]
start = time.perf_counter()
con = kvql.connect(sys.argv[1], autocommit=True)
(found,) = con.execute("GET key000000001").fetchall()
took = time.perf_counter() - start
rss = [l for l in open("/proc/self/status") if l.startswith("VmRSS")][0].split()[1]
((count,),) = con.execute("COUNT").fetchall()
print(json.dumps([took, (int(rss) - int(base)) * 1024, count]))
con.close()
"""


def _fill(folder: Path, kind: str) -> None:
    subprocess.run([sys.executable, "-c", FILL, str(folder), str(PAIRS), kind], check=True)


def _open(folder: Path) -> tuple[float, int]:
    """Seconds until the first answer, and bytes of memory; the store must be whole."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], check=True, capture_output=True, text=True)
    took, size, count = json.loads(done.stdout)
    assert count == PAIRS, count
    return took, size


def _redis_filled(folder: Path, kind: str) -> int:
    """A redis with the same pairs, saved as an RDB in ``folder``; the bytes of memory that the pairs take."""
    with peers.redis(folder, "--save", "", "--appendonly", "no") as server:
        before = server.rss_bytes()
        values = (str(i) if kind == "int" else f"{i:0100d}" for i in range(PAIRS))
        file = folder / "pairs.resp"
        file.write_bytes(b"".join(peers.resp((f"key{i:09d}", v) for i, v in enumerate(values))))
        server.pipe(file)
        file.unlink()
        size = server.rss_bytes() - before
        server.client().save()
    return size


def _redis_loading(folder: Path) -> float:
    start = time.perf_counter()
    with peers.redis(folder, "--save", "", "--appendonly", "no") as server:
        assert server.client().dbsize() == PAIRS
        return time.perf_counter() - start


def reopen() -> list[Figure]:
    """A million pairs from disk to the first answer, against redis with its RDB."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name) / "ours", Path(name) / "theirs"
        theirs.mkdir()
        _fill(ours, "int")
        _redis_filled(theirs, "int")
        rounds = [{"kvql": _open(ours)[0], "redis (RDB)": _redis_loading(theirs)} for _ in range(3)]
    return [compare("reopen 1,000,000 pairs", "s", rounds, more_is_better=False)]


def memory() -> list[Figure]:
    """Bytes a pair, at integers of 8 bytes and at texts of 100."""
    out = []
    for kind, name in (("int", "8-byte integers"), ("text", "texts of 100 bytes")):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
            theirs.mkdir()
            _fill(ours, kind)
            sizes = {"kvql": _open(ours)[1] / PAIRS, "redis": _redis_filled(theirs, kind) / PAIRS}
        out.append(compare(f"memory a pair, {name}", "B", [sizes], more_is_better=False))
    return out
