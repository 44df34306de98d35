"""``kill -9`` at every system call that changes a store's folder, by strace, over a real process and a real disk.

strace kills the process as it enters the Nth call of a kind, N = 1, 2, 3 … until it lives to its end. What the process
had confirmed stands in its pipe; then the folder is opened, and must be the state of one revision, not before that.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine

from tests.engine.powerloss import Violation
from tests.engine.step_writer import branches
from tests.engine.workload import States, picture, which
from tests.stores import step

CALLS: Final = "pwrite64,fdatasync,fsync,fallocate,ftruncate,rename,renameat,renameat2,unlink,unlinkat"
# not with --seccomp-bpf: signals are then not injected
STRACE: Final = ("strace", "-f", "-q", "-s", "0")
ROOT: Final = Path(__file__).parents[2]
HAS_STRACE: Final = shutil.which("strace") is not None
NO_STRACE: Final = "strace is not installed (apt-get install strace): no call of the system can be made to fail"


class Kill(NamedTuple):
    call: str
    number: int


class Steps:
    """A workload of ``seed``, and where it can be killed."""

    def __init__(self, seed: int, steps: int) -> None:
        self.seed = seed
        self.steps = steps
        self.branches: list[States] = branches(seed, "always", steps)
        self.kills = self._count()

    def _writer(self, folder: Path) -> list[str]:
        return [sys.executable, "-m", "tests.engine.step_writer", str(folder), str(self.seed), str(self.steps)]

    def _count(self) -> list[Kill]:
        """Every call that the workload makes in its folder."""
        with tempfile.TemporaryDirectory(prefix="kvql-steps-") as name:
            trace = Path(name) / "trace"
            subprocess.run(
                [*STRACE, "-o", str(trace), "-e", f"trace={calls()}", *self._writer(Path(name) / "store")],
                check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=300,
            )  # fmt: skip
            counts = Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
        return [Kill(call, number + 1) for call, count in sorted(counts.items()) for number in range(count)]

    def kill(self, kill: Kill) -> int:
        """Run, die, recover; the revision that was there. :class:`Violation`."""
        with tempfile.TemporaryDirectory(prefix="kvql-steps-") as name, pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.root.manager, "disable", logging.CRITICAL)
            folder = Path(name) / "store"
            done = subprocess.run(
                [*STRACE, "-o", "/dev/null", "-e", f"trace={kill.call}",
                 "-e", f"inject={kill.call}:signal=KILL:when={kill.number}", *self._writer(folder)],
                check=False, cwd=ROOT, capture_output=True, timeout=300,
            )  # fmt: skip
            where = f"seed {self.seed}, killed at {kill.call} {kill.number}"
            if done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                raise Violation(f"{where}: it did not die of that, but with {done.returncode}: {done.stderr[-500:]!r}")
            told = done.stdout.decode().splitlines()
            branch, floor = map(int, told[-1].split()) if told else (0, 0)
            try:
                return self._recover(folder, branch, floor)
            except AssertionError as e:
                raise Violation(f"{where}, {floor} of opening {branch} was confirmed: {e}") from e

    def _recover(self, folder: Path, branch: int, floor: int) -> int:
        engine = HashTableEngine.open(folder, clock=ManualClock())
        revision, found = engine.status()["revision"], picture(engine)
        # the opening after the one that told something may have been under way
        possible = [which(states, found, revision) for states in self.branches[branch : branch + 2]]
        assert revision in possible, f"revision {revision} is there with pairs that it never had"
        assert revision >= floor, f"revision {revision} is there"
        (later,) = step(engine.commit_many([Transaction((), [Put("a", "life goes on", 1)])]))
        engine.sync(later)
        after = picture(engine)
        engine.close_now()
        again = HashTableEngine.open(folder, clock=ManualClock())
        assert picture(again) == after, "life does not go on"
        again.close_now()
        return int(revision)


def calls() -> str:
    """For strace; not every machine has all of them."""
    return ",".join(f"?{call}" for call in CALLS.split(","))


def sample(kills: list[Kill], count: int, rng: random.Random) -> list[Kill]:
    """At least one of each kind, and of the others a choice."""
    first = {kill.call: kill for kill in rng.sample(kills, len(kills))}
    rest = [kill for kill in kills if kill not in first.values()]
    return [*first.values(), *rng.sample(rest, min(max(count - len(first), 0), len(rest)))]
