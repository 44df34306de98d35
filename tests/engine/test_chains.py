"""A key that is written often while somebody reads keeps a chain of older states: what is freed in one go is freed by
recursion, and thousands of them are more than a thread's stack holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# a snapshot that stays open, and for each of many writes one that sees the state before it; then the end of all that
_CHAIN = """
import sys, threading
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Clear, Delete, Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from tests.stores import step
WRITES = 10_000
folder, end = sys.argv[1:]
engine = HashTableEngine.open(folder, clock=ManualClock(), sync="checkpoint")
engine.keep_history("a", 0, 0)
def commit(write):
    step(engine.commit_many([Transaction((), [write])]))
def main():
    others = 1_000 if end == "replaced" else 0  # more than is trimmed with a commit, and in the row before the chain
    for number in range(others):
        commit(Put("a", f"other{number}", 0))
    commit(Put("a", "k", 0))
    early = engine.snapshot()
    for number in range(others):
        commit(Put("a", f"other{number}", 1))
    if end == "crumbled":
        commit(Clear("a"))
    for number in range(WRITES):
        reader = engine.snapshot()
        commit(Put("a", "k", number))
        reader.close()
    if end == "deleted":
        reader = engine.snapshot()
        commit(Delete("a", "k"))
        reader.close()
    elif end == "crumbled":
        commit(Clear("a"))
        engine.checkpoint()
        engine.tick()
    early.close()
    commit(Put("a", "k", 1))
    engine.tick()
    engine.checkpoint()
    engine.close_now()
    print("done")
threading.stack_size(128 * 1024)
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("end", ["trimmed", "deleted", "crumbled", "replaced"])
def test_a_long_chain_of_states_ends_without_recursion(end: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _CHAIN, str(tmp_path), end], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
