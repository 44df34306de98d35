"""``kill -9`` of the real server, under four writers, as one of its threads enters a system call drawn at random."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import kvql
from tests.engine.steps import HAS_STRACE, NO_STRACE, STRACE
from tools.soak_kill import Soak

CALLS: Final = {"pwrite64": 120, "fdatasync": 120, "fsync": 6, "rename": 5, "unlink": 4, "ftruncate": 4, "fallocate": 4}
"""And up to which of them, by thread: the log's goes on for ever, each checkpoint's makes a few."""
LIFE_S: Final = 2.0


class Steps(Soak):
    """A round's server is started under strace; the start after it is not, and judges."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        super().__init__(folder, rng)
        self.died: Counter[str] = Counter()
        self.call = ""

    def start(self) -> None:
        # a server that may die at its start cannot be asked: whatever it did there is judged by the next one
        self.prefix = []
        super().start()
        with contextlib.closing(self.connect("main")):
            self.judge()
        self.kill()
        self.call, last = self.rng.choice(list(CALLS.items()))
        number = self.rng.randint(1, last)
        self.prefix = [
            *STRACE, "-D", "-o", "/dev/null", "-e", f"trace={self.call}",
            "-e", f"inject={self.call}:signal=KILL:when={number}",
        ]  # fmt: skip
        with contextlib.suppress(SystemExit):
            super().start()
            return
        self.died[f"{self.call} at the start"] += 1
        self.prefix = []
        super().start()

    def let_live(self) -> None:
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LIFE_S)
            self.died[self.call] += 1


def soak(seconds: float, seed: int) -> str:
    if not HAS_STRACE:
        return f"NOTE: nothing was tried: {NO_STRACE}"
    folder = Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    steps = Steps(folder, random.Random(seed))
    steps.prepare()
    ends, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < ends:
        rounds += 1
        try:
            steps.round(rounds)
        except kvql.Error:
            # it died between its start and the first write of all of them; a server without strace must not
            if not steps.prefix:
                raise
            steps.died[f"{steps.call} before anybody wrote"] += 1
        assert not steps.faults, f"{steps.faults}; the folder is kept: {folder}"
    shutil.rmtree(folder)
    died = ", ".join(f"{call} {count}" for call, count in sorted(steps.died.items()))
    return f"{rounds} rounds, killed at: {died}; {steps.writes} confirmed writes, 0 faults"
