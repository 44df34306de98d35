"""Every disk state of workloads of three modes and of all of them in turn, every recovery crashed at each of its
calls."""

from __future__ import annotations

import random
import time

from tests.engine.powerloss import Counts, explore
from tests.engine.workload import MODES


def soak(seconds: float, seed: int) -> str:
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    counts: list[Counts] = []
    while not counts or time.monotonic() < ends:
        # the whole of a long workload takes a minute, so a short turn takes a choice of a short one
        steps = rng.choice((24, 40, 40, 60)) if seconds >= 60 else 24
        for mode in (*MODES, None):
            workload = rng.randrange(2**32)
            counts.append(explore(workload, mode, steps, whole=seconds >= 60))
            print(f"seed {workload}, {steps} steps, sync {mode or 'of all kinds'}: {counts[-1]}", flush=True)
            if time.monotonic() >= ends:
                break
    states, openings = sum(each.all_states for each in counts), sum(each.openings for each in counts)
    return f"{len(counts)} workloads, {states:,} disk states, {openings:,} openings, 0 faults"
