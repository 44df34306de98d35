"""The whole server against dictionaries, with many more and longer runs than a test has time for."""

from __future__ import annotations

import random
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.isolation.test_machine import WholeServer

EXAMPLES = 100


def soak(seconds: float, seed: int) -> str:
    return run(WholeServer, seconds, seed)


def run(machine: type[RuleBasedStateMachine], seconds: float, seed: int) -> str:
    """A soak of any state machine."""
    rng = random.Random(seed)
    ends, runs = time.monotonic() + seconds, 0
    wanted = settings(
        max_examples=EXAMPLES, stateful_step_count=60, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    while not runs or time.monotonic() < ends:
        turn_seed = rng.randrange(2**32)

        # a class of its own, because the seed is kept at the class
        one = type("Run", (machine,), {})
        try:
            run_state_machine_as_test(seeded(turn_seed)(one), settings=wanted)
        except BaseException:
            print(f"hypothesis seed {turn_seed}")
            raise
        runs += EXAMPLES
    return f"{runs:,} runs of at most 60 steps, 0 faults"
