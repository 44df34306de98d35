"""``python -m bench ROW…``: measure, print, and append to HISTORY.md."""

from __future__ import annotations

import compileall
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import history, language, load, local, network, peers, queries, record, start, together, watching
from bench.measure import Figure

LOADED = "durable (sync = always) over TLS, process start included; redis AOF everysec, plain TCP."
ROWS: dict[str, tuple[Callable[[], list[Figure]], str]] = {
    "load": (load.measure, LOADED),
    "load200k": (partial(load.integers, 200_000), LOADED),
    "load1m": (partial(load.integers, 1_000_000), LOADED),
    "gets": (network.gets, "over TLS with authorisation; etcd over TLS by a bare gRPC stub, without; redis plain TCP."),
    "put64": (network.put64, "durable over TLS; redis AOF everysec, plain TCP; both on uvloop."),
    "get64": (network.get64, "over TLS; redis plain TCP; both on uvloop."),
    "executemany": (network.executemany, "durable over TLS; redis-py pipeline of 1,000, AOF everysec."),
    "parse": (language.parse, "no two statements of one shape."),
    "shape": (language.shape, "the same tokens with other literals; sqlglot parses each anew."),
    "inprocess": (local.inprocess, "1,000 pairs."),
    "reopen": (local.reopen, "folder to first answer; redis from process start to PING."),
    "memory": (local.memory, "resident memory after reopening; redis after loading."),
    "history": (
        history.measure,
        "resident memory of the store in process; keys and values of the present not counted.",
    ),
    "checkpoint": (together.checkpoint, "durable over TLS; below 1: how many times longer it takes meanwhile."),
    "snapshots": (together.snapshots, "over TLS; below 1: how many times longer it takes meanwhile."),
    "count": (queries.count, "over TLS with authorisation; sqlite3 in process, from a file; redis plain TCP."),
    "prefix": (queries.prefix, "SELECT … WHERE key LIKE over TLS; ratio: how much longer it takes among a million."),
    "where": (queries.where, "ratio of the first: time for a fifth of the terms, so 0.2 is linear."),
    "stream": (queries.stream, "peak of resident memory while all rows are read over TLS."),
    "watch": (watching.measure, "durable over TLS; the peer of the last rows is the same load with nobody watching."),
    "start": (start.measure, "median of 15; ratio below 1 means that the peer starts faster."),
}


def main(names: list[str]) -> int:
    chosen = list(ROWS) if not names or names == ["all"] else names
    unknown = [n for n in chosen if n not in ROWS]
    if unknown:
        print(f"no row {', '.join(unknown)}; there are: {', '.join(ROWS)}", file=sys.stderr)
        return 1
    if missing := peers.have("redis-server", "redis-cli", "sqlite3", *(["etcd"] if "gets" in chosen else [])):
        print(f"not installed: {', '.join(missing)}; the peers belong to the measurement", file=sys.stderr)
        return 1
    _compile()
    for name in chosen:
        measure, note = ROWS[name]
        figures = measure()
        print(record.table(figures), flush=True)
        record.append(name, figures, note)
    return 0


def _compile() -> None:
    """As an installer does; where PYTHONDONTWRITEBYTECODE is set, every start would compile a checkout anew (0.1 s)."""
    root = Path(__file__).parent.parent
    for package in ("kvql", "server", "shell"):
        compileall.compile_dir(root / package, quiet=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
