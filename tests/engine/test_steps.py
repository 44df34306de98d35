"""``kill -9`` at system calls of a real process, a choice of them here, every one in ``make soak ONLY=steps``; and the
order of the calls, which an in-memory disk cannot tell."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.steps import HAS_STRACE, NO_STRACE, ROOT, STRACE, Steps, calls, sample

pytestmark = pytest.mark.skipif(not HAS_STRACE, reason=NO_STRACE)


def test_killed_at_a_choice_of_system_calls() -> None:
    seed = int(os.environ.get("KVQL_STEPS_SEED", random.SystemRandom().randrange(2**32)))
    print(f"seed {seed}; KVQL_STEPS_SEED={seed} repeats it")
    rng = random.Random(seed)
    steps = Steps(1, 24)
    chosen = sample(steps.kills, 20, rng)
    assert len(steps.kills) > 100 and {kill.call for kill in chosen} >= {"pwrite64", "fdatasync", "fsync"}
    reached = [steps.kill(kill) for kill in chosen]
    print(f"{len(chosen)} of {len(steps.kills)} places, recovered at revisions {sorted(set(reached))}")


def test_the_order_of_the_system_calls(tmp_path: Path) -> None:
    """What is confirmed was synced, a name is synced before anything rests on it: on the real file layer."""
    store = tmp_path / "store"
    trace = tmp_path / "trace"
    subprocess.run(
        [*STRACE, "-y", "-o", str(trace), "-e", f"trace={calls()},write", sys.executable, "-m",
         "tests.engine.step_writer", str(store), "1", "24"],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    written: set[str] = set()
    names = confirmed = 0
    for line in trace.read_text().splitlines():
        found = re.match(r"\d+ +(\w+)\((?:(\d+)<([^>]*)>)?", line)
        if found is None:
            continue
        call, descriptor, path = found.groups()
        if call == "pwrite64" and not path.endswith("LOCK"):
            written.add(path)
        elif call in ("fdatasync", "fsync"):
            written.discard(path)
            names = 0 if path == str(store) else names
        elif call.startswith("rename"):
            assert not any(path.endswith(".tmp") for path in written), f"renamed before it was synced: {line}"
            names += 1
        elif call.startswith("unlink"):
            assert not names, f"removed before the new names are durable: {line}"
        elif call == "write" and descriptor == "1":
            assert not written and not names, f"confirmed too early: {line}, {written} not synced, {names} names not"
            confirmed += 1
    assert confirmed > 5
