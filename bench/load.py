"""ROW=load, load200k, load1m: a script of PUTs through ``kvql run``, process start included, durable, over TLS."""

from __future__ import annotations

import runpy
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench import peers
from bench.measure import Figure, compare, seconds
from tests.golden.harness import KVQL
from tests.servers import Server

ROUNDS = 3
NAMESPACE = "bench"
EXAMPLE = Path(__file__).parents[1] / "examples" / "make_unicode.py"


def measure() -> list[Figure]:
    """The named characters of Unicode: values are texts."""
    example: dict[str, Any] = runpy.run_path(str(EXAMPLE))
    return _measure(list(example["pairs"]()), example["script"](NAMESPACE))


def integers(count: int) -> list[Figure]:
    """``PUT keyN N;``"""
    lines = (f"PUT key{n} {n};\n" for n in range(count))
    return _measure([(f"key{n}", str(n)) for n in range(count)], _with_use(lines))


def _with_use(lines: Iterable[str]) -> Iterator[str]:
    yield f"USE {NAMESPACE};\n"
    yield from lines


def _write_files(folder: Path, pairs: list[tuple[str, str]], lines: Iterable[str]) -> tuple[Path, Path, Path]:
    """The same pairs for each of the three: KVQL, RESP, SQL."""
    kvql, resp, sql = folder / "load.kvql", folder / "load.resp", folder / "load.sql"
    with kvql.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(lines)
    with resp.open("wb") as commands:
        commands.writelines(peers.resp(iter(pairs)))
    with sql.open("w", encoding="utf-8", newline="\n") as out:
        out.write("CREATE TABLE kv(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;\nBEGIN;\n")
        out.writelines(f"INSERT INTO kv VALUES('{k}','{v}');\n" for k, v in pairs)
        out.write("COMMIT;\n")
    return kvql, resp, sql


def _run(server: Server, script: Path) -> None:
    command = [str(KVQL), "run", str(script), server.url, *server.options]
    subprocess.run(command, env=server.environment, capture_output=True, check=True)


def _measure(pairs: list[tuple[str, str]], lines: Iterable[str]) -> list[Figure]:
    rounds: list[dict[str, float]] = []
    count = len(pairs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script, resp, sql = _write_files(folder, pairs, lines)
        first = folder / "first.kvql"
        first.write_text("SELECT 1;\n")
        server = Server(folder / "server").start()
        ours = partial(_run, server)
        try:
            ours(first)
            with peers.redis() as redis:
                for n in range(ROUNDS):
                    server.drop_namespaces()
                    redis.client().flushall()
                    times = {
                        "kvql": seconds(partial(ours, script)),
                        "redis-cli --pipe": seconds(partial(redis.pipe, resp)),
                        "sqlite3": seconds(partial(peers.sqlite, folder / f"{n}.db", sql)),
                    }
                    with server.connect(NAMESPACE) as connection:
                        assert connection.execute("COUNT").fetchall() == [(count,)]
                    assert redis.client().dbsize() == count
                    rounds.append({peer: count / t for peer, t in times.items()})
        finally:
            server.stop()
    return [compare(f"load {count:,} PUTs by `kvql run`", "statements/s", rounds, more_is_better=True)]
