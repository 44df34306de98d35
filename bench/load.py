"""ROW=load: the named characters of Unicode through ``kvql run``, process start included, durable, over TLS."""

from __future__ import annotations

import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench import peers
from bench.measure import Figure, compare, seconds
from tests.golden.harness import KVQL
from tests.servers import Server

ROUNDS = 3
EXAMPLE = Path(__file__).parents[1] / "examples" / "make_unicode.py"


def write_files(folder: Path) -> tuple[int, Path, Path, Path]:
    """The same pairs for each of the three: KVQL, RESP, SQL."""
    example: dict[str, Any] = runpy.run_path(str(EXAMPLE))
    kvql, resp, sql = folder / "unicode.kvql", folder / "unicode.resp", folder / "unicode.sql"
    kvql.write_text("".join(example["script"]("unicode")), encoding="utf-8")
    resp.write_bytes(b"".join(peers.resp(example["pairs"]())))
    lines = [f"INSERT INTO kv VALUES('{k}','{v}');\n" for k, v in example["pairs"]()]
    head = "CREATE TABLE kv(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;\nBEGIN;\n"
    sql.write_text(head + "".join(lines) + "COMMIT;\n", encoding="utf-8")
    return len(lines), kvql, resp, sql


def run(server: Server, script: Path) -> None:
    subprocess.run(
        [str(KVQL), "run", str(script), server.url, *server.options],
        env=server.environment, capture_output=True, check=True,
    )  # fmt: skip


def measure() -> list[Figure]:
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count, script, resp, sql = write_files(folder)
        server = Server(folder / "server").start()
        try:
            with peers.redis() as redis:
                for n in range(ROUNDS):
                    server.drop_namespaces()
                    redis.client().flushall()
                    times = {
                        "kvql": seconds(lambda: run(server, script)),
                        "redis-cli --pipe": seconds(lambda: redis.pipe(resp)),
                        "sqlite3": seconds(lambda n=n: peers.sqlite(folder / f"{n}.db", sql)),  # type: ignore[misc]
                    }
                    with server.connect("unicode") as connection:
                        assert connection.execute("COUNT").fetchall() == [(count,)]
                    assert redis.client().dbsize() == count
                    rounds.append({peer: count / t for peer, t in times.items()})
        finally:
            server.stop()
    return [compare(f"load {count:,} PUTs by `kvql run`", "statements/s", rounds, more_is_better=True)]
