"""``kill -9`` at every system call of a workload; while there is time, of another one."""

from __future__ import annotations

import random
import time

from tests.engine.steps import HAS_STRACE, NO_STRACE, Steps


def soak(seconds: float, seed: int) -> str:
    if not HAS_STRACE:
        return f"NOTE: nothing was tried: {NO_STRACE}"
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    kills = whole = 0
    while not kills or time.monotonic() < ends:
        steps = Steps(rng.randrange(2**32), 24)
        print(f"seed {steps.seed}: {len(steps.kills)} places", flush=True)
        for kill in rng.sample(steps.kills, len(steps.kills)):
            if kills and time.monotonic() >= ends:
                break
            steps.kill(kill)
            kills += 1
        else:
            whole += 1
    return f"{kills} kills at system calls, {whole} workloads whole, 0 faults"
