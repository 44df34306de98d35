"""Changed bits, cuts and zeros at random places of many stores."""

from __future__ import annotations

import random
import time

from tests.engine.damage import Counts, harm


def soak(seconds: float, seed: int) -> str:
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    counts: list[Counts] = []
    while not counts or time.monotonic() < ends:
        counts.append(harm(rng.randrange(2**32), 4000))
    total = Counts(*(sum(getattr(each, name) for each in counts) for name in ("changed", "refused", "cut", "harmless")))
    return f"{len(counts)} stores, {total}, 0 wrong answers"
