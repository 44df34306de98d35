"""ROW=history: what keeping an hour of history costs in memory, and that `history_bytes` bounds it.

The clock is set forward by hand, so that an hour of updates passes in as long as they take; nothing else is pretended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from bench.measure import Figure

RATES = (1_000, 5_000, 20_000)
UPDATES_MAX = 4_000_000
"""An hour at the slowest rate, and some; what a faster one would take in an hour follows from the bytes a change."""
UNBOUNDED = 1 << 40
DEFAULT = 64 << 20

# In a process of its own, so that its memory is nobody else's.
UPDATE = """
import asyncio, json, sys
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine

folder, rate, updates, bound = sys.argv[1], *map(int, sys.argv[2:])
KEYS, BATCH = 100_000, rate // 10

def rss():
    return int([l for l in open("/proc/self/status") if l.startswith("VmRSS")][0].split()[1]) * 1024

async def main():
    clock = ManualClock()
    engine = HashTableEngine.open(folder, clock=clock, sync="checkpoint", checkpoint_interval_s=1e9)
    engine.keep_history("a", 0, 0)
    async def write(n):
        clock.advance(BATCH / rate)
        puts = [Transaction((), (Put("a", f"key{i % KEYS:07d}", i),)) for i in range(n, n + BATCH)]
        await engine.commit_many(puts)
        engine.tick()
    for n in range(0, 3 * KEYS, BATCH):
        await write(n)
    before = rss()
    began = clock.now()
    engine.keep_history("a", 3600 * 1_000_000, bound)
    for n in range(0, updates, BATCH):
        await write(n)
    grown = rss() - before
    figures = engine.status()["history"]["a"]
    reach = (clock.now() - (figures["oldest_time"] or began)) / 1e6
    print(json.dumps([grown, figures["changes"], figures["bytes"], reach]))
    engine.close_now()

asyncio.run(main())
"""


def _update(rate: int, updates: int, bound: int) -> tuple[int, int, int, float]:
    """Bytes of memory that it took, changes kept, bytes that the store says, seconds that history reaches back."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", UPDATE, folder, str(rate), str(updates), str(bound)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, changes, said, reach = json.loads(done.stdout)
    return grown, changes, said, reach


def measure() -> list[Figure]:
    """At each rate, updates of 8-byte integers: an hour of them without a bound, and what the default bound leaves."""
    out: list[Figure] = []
    for rate in RATES:
        hour = rate * 3600
        updates = min(hour, UPDATES_MAX)
        grown, changes, said, _ = _update(rate, updates, UNBOUNDED)
        how = "measured" if updates == hour else f"from {updates:,} changes"
        name = f"an hour at {rate:,} updates/s without a bound ({how}; status says {said / changes:.0f} B a change)"
        out.append(Figure(name, grown / changes * hour / 2**20, "MiB"))
        grown, _, _, reach = _update(rate, min(updates, 2_000_000), DEFAULT)
        out.append(
            Figure(
                f"the same with history_bytes = 64 MiB, the default: reaches back {reach:,.0f} s", grown / 2**20, "MiB"
            )
        )
    return out
