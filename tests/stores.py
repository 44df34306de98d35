"""Hash-table stores for tests: an engine driven without an event loop, and a folder as ``kill -9`` leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, record

RECORDS = 8
"""The commits in the log of ``killed_store``."""


def step(coroutine: Any) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it suspended")


def commit(engine: HashTableEngine, *writes: Any, sync: bool = True) -> int:
    (revision,) = step(engine.commit_many([Transaction((), writes, "ann", "why")]))
    assert isinstance(revision, int)
    if sync:
        engine.sync(revision)
    return revision


def state_of(engine: HashTableEngine) -> dict[str, Any]:
    """What namespace ``a`` holds."""
    snapshot = engine.snapshot()
    table = snapshot.table("a")
    pairs = {} if table is None else dict(iter(table.page("", None, "key", 4096, snapshot.revision, snapshot.time)[0]))
    snapshot.close()
    return {key: entry.value for key, entry in pairs.items()}


def abandon(engine: HashTableEngine) -> None:
    """As kill -9 does: nothing more is written."""
    engine._log.stop()


def killed_store(folder: Path) -> Path:
    """``folder`` after kill -9: a checkpoint, then ``RECORDS`` commits in the log, each of two pairs."""
    engine = HashTableEngine.open(folder)
    commit(engine, Put("a", "base", 0))
    engine.checkpoint()
    for n in range(RECORDS):
        commit(engine, Put("a", "k", n), Put("a", f"k{n}", "x" * 50))
    abandon(engine)
    engine._log.segment.file.truncate(engine._log.segment.end)
    engine._lock.release()
    return folder


def expected(commits: int) -> dict[str, Any]:
    """The state of ``killed_store`` of which so many commits are left."""
    state: dict[str, Any] = {"base": 0, **{f"k{n}": "x" * 50 for n in range(commits)}}
    return {**state, "k": commits - 1} if commits else state


def log_of(folder: Path) -> Path:
    return max(folder.glob("log-*.kvl"))


def ends(data: bytes) -> list[int]:
    """Where each record of a segment ends."""
    out, at = [], record.SEGMENT_HEADER_BYTES
    while (read := record.read_record(data, at)) is not None:
        at = read.end
        out.append(at)
    return out
