"""ROW=checkpoint, snapshots: what background work and old snapshots cost those who read and write meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure import Figure, compare
from tests.servers import Server

PAIRS = 1_000_000
SECONDS = 3.0
SNAPSHOTS = 10
ROUNDS = 3


@contextmanager
def _loaded(*arguments: str) -> Iterator[Server]:
    with TemporaryDirectory() as name:
        server = Server(Path(name), arguments=arguments).start()
        try:
            with server.connect("bench") as connection:
                connection.executemany("PUT ? ?", ((f"key{i:07d}", i) for i in range(PAIRS)))
            yield server
        finally:
            server.stop()


def _times_us(work: Callable[[int], Any], until: Callable[[], bool]) -> list[float]:
    times = []
    i = 0
    while not until():
        start = time.perf_counter_ns()
        work(i)
        times.append((time.perf_counter_ns() - start) / 1000)
        i += 1
    return times


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] if len(times) >= 100 else max(times)


def _for_seconds() -> Callable[[], bool]:
    end = time.monotonic() + SECONDS
    return lambda: time.monotonic() > end


def checkpoint() -> list[Figure]:
    """One commit at a time while a checkpoint of a million pairs is written, against one at a time without."""
    rounds: list[dict[str, float]] = []
    with _loaded("--checkpoint-interval", "10") as server, server.connect("bench") as connection:
        data = server.data

        def write(i: int) -> None:
            connection.execute("UPSERT ? ?", [f"key{i % PAIRS:07d}", i])

        _times_us(write, _for_seconds())
        while len(rounds) < ROUNDS:
            quiet: list[float] = []
            busy: list[float] = []
            while len(busy) < 100 or len(quiet) < 1000:
                running = _is_written(data)
                (sample,) = _times_us(write, _once())
                if running == _is_written(data):
                    (busy if running else quiet).append(sample)
            rounds.append({"kvql": _p99(busy), "without": _p99(quiet)})
    return [
        compare(
            f"one commit at a time, p99, during a checkpoint of {PAIRS:,} pairs", "µs", rounds, more_is_better=False
        )
    ]


def _is_written(data: Path) -> bool:
    """Whether a checkpoint is being written: its file has not got its name yet."""
    return any(data.glob("checkpoint-*.tmp"))


def _once() -> Callable[[], bool]:
    done = iter((False,))
    return lambda: next(done, True)


def snapshots() -> list[Figure]:
    """Ten transactions hold as many snapshots, with writes between them, while others read and write."""
    reads: list[dict[str, float]] = []
    writes: list[dict[str, float]] = []
    with _loaded() as server, server.connect("bench") as connection:

        def read(i: int) -> None:
            connection.execute("GET ?", [f"key{i * 7919 % PAIRS:07d}"]).fetchall()

        def write(i: int) -> None:
            connection.execute("UPSERT ? ?", [f"key{i * 7919 % PAIRS:07d}", i])

        _times_us(read, _for_seconds())
        for _ in range(ROUNDS):
            free = _p50(read), _p50(write)
            with _held(server, write):
                held = _p50(read), _p50(write)
            reads.append({"kvql": held[0], "without": free[0]})
            writes.append({"kvql": held[1], "without": free[1]})
    return [
        compare(f"one GET at a time, p50, with {SNAPSHOTS} open snapshots", "µs", reads, more_is_better=False),
        compare(f"one UPSERT at a time, p50, with {SNAPSHOTS} open snapshots", "µs", writes, more_is_better=False),
    ]


def _p50(work: Callable[[int], Any]) -> float:
    return statistics.median(_times_us(work, _for_seconds()))


@contextmanager
def _held(server: Server, write: Callable[[int], None]) -> Iterator[None]:
    """``SNAPSHOTS`` open transactions, each of a revision of its own."""
    connections = []
    for number in range(SNAPSHOTS):
        connection = server.connect("bench")
        connection.execute("BEGIN READ ONLY")
        connection.execute("GET key0000000").fetchall()
        connections.append(connection)
        write(number)
    try:
        yield
    finally:
        for connection in connections:
            connection.execute("ROLLBACK")
            connection.close()
