"""``tools/soak_kill.py`` for as long as there is time."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from tools.soak_kill import Soak


def soak(seconds: float, seed: int) -> str:
    folder = Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    soak = Soak(folder, random.Random(seed))
    soak.prepare()
    ends, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < ends:
        rounds += 1
        soak.round(rounds)
        assert not soak.faults, f"{soak.faults}; the folder is kept: {folder}"
    soak.finish()
    assert not soak.faults, f"{soak.faults}; the folder is kept: {folder}"
    shutil.rmtree(folder)
    return f"{rounds} kills, {soak.writes} confirmed writes, {soak.unknown} without an answer, 0 faults"
