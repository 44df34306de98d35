"""The long forms of the proofs, in turn, until the time is over (``make soak SECONDS=1800``).

A *soak* is a module with one function::

    def soak(seconds: float, seed: int) -> str

It works for about ``seconds`` (it may end earlier when there is nothing left to try, and finishes what it is at), draws
everything that it draws from ``seed``, and returns its counts as one line. A fault is an exception, best an
AssertionError that says what was seen and what was expected. It may print what it does; it leaves nothing behind.

To add one: write the module in ``tests/soak`` and a line in ``SOAKS``. Each turn is a process of its own, with a seed
of its own that is printed, so a turn can be repeated::

    python -m tools.soak --only states --seconds 60 --turn-seed 123456
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from typing import Final, NamedTuple

TURN_S: Final = 90.0
"""Longest turn of one soak; the next one follows, so that a short run has tried everything."""
GRACE_S: Final = 300.0
"""A turn that takes this much longer than it was given hangs, which is a fault."""


class Soak(NamedTuple):
    module: str
    what: str
    weight: float = 1.0
    """Of the turns' lengths to each other."""


SOAKS: Final[dict[str, Soak]] = {
    "states": Soak("tests.soak.states", "every disk state after a power loss, in recovery too", 2.0),
    "damage": Soak("tests.soak.damage", "changed bits, cuts and zeros anywhere in a store's files"),
    "steps": Soak("tests.soak.steps", "kill -9 at every system call, by strace"),
    "server-steps": Soak("tests.soak.server_steps", "kill -9 of the server at system calls, under four writers"),
    "kill": Soak("tests.soak.kill", "kill -9 of the server under four writers"),
    "appends": Soak("tests.soak.appends", "transactions over append lists: serializable, also across kills"),
    "linear": Soak("tests.soak.linear", "single keys under concurrent clients and kills: linearizable"),
    "ring": Soak("tests.soak.ring", "a ring of keys under concurrent moves and kills: stays one"),
    "model": Soak("tests.soak.model", "both engines against dictionaries, by hypothesis", 0.5),
    "machine": Soak("tests.soak.machine", "the whole server against dictionaries, by hypothesis"),
}


class Turn(NamedTuple):
    name: str
    seconds: float
    seed: int
    fault: bool
    counts: str


def turn(name: str, seconds: float, seed: int) -> Turn:
    """One turn in a process of its own; what it prints goes through."""
    command = [sys.executable, "-m", "tools.soak", "--only", name, "--seconds", str(seconds), "--turn-seed", str(seed)]
    print(f"── {name}: seed {seed}, {seconds:.0f} s", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(seconds + GRACE_S, process.kill)
    watchdog.start()
    last = ""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            print(f"   {line}", end="", flush=True)
            last = line.strip() or last
    code = process.wait()
    watchdog.cancel()
    took = time.monotonic() - began
    if code < 0:
        last = f"ended by signal {-code}" + (": it hangs" if took >= seconds + GRACE_S else "")
    return Turn(name, took, seed, code != 0, last)


def alone(name: str, seconds: float, seed: int) -> int:
    """Run a soak in this process."""
    module = importlib.import_module(SOAKS[name].module)
    # what stores in this process say of the ends that are made for them would hide what matters
    logging.getLogger("kvql_server").addHandler(logging.NullHandler())
    try:
        print(module.soak(seconds, seed), flush=True)
    except Exception:  # noqa: BLE001 - whatever it is, it is a fault, and is shown whole
        traceback.print_exc(file=sys.stdout)
        print(f"FAULT in {name}, seed {seed}", flush=True)
        return 1
    return 0


def in_turn(names: list[str], seconds: float, seed: int) -> list[Turn]:
    """All soaks again and again until the time is over; at least once each, and no further after a fault."""
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    turns: list[Turn] = []
    while not turns or time.monotonic() < ends:
        weights = {name: SOAKS[name].weight for name in names}
        left = max(ends - time.monotonic(), 1.0)
        unit = min(TURN_S, left / sum(weights.values()))
        for name in names:
            if turns and len(turns) >= len(names) and time.monotonic() >= ends:
                break
            turns.append(turn(name, max(unit * weights[name], 1.0), rng.randrange(2**32)))
            if turns[-1].fault:
                return turns
    return turns


def main() -> int:
    parser = argparse.ArgumentParser(description="the long forms of the proofs, in turn, until the time is over")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the seeds of all turns")
    parser.add_argument("--only", choices=sorted(SOAKS), action="append", help="this soak; repeatable")
    parser.add_argument("--turn-seed", type=int, default=None, help="one turn of one soak, with this seed")
    options = parser.parse_args()
    names = options.only or list(SOAKS)
    if options.turn_seed is not None:
        if len(names) != 1:
            parser.error("--turn-seed needs one --only")
        return alone(names[0], options.seconds, options.turn_seed)
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}, {options.seconds:.0f} s: {', '.join(names)}", flush=True)
    turns = in_turn(names, options.seconds, seed)
    print("\nturns:")
    for each in turns:
        mark = "FAULT" if each.fault else "ok"
        print(f"{mark:5} {each.name:12} {each.seconds:6.0f} s  seed {each.seed:<10}  {each.counts}")
    faults = sum(each.fault for each in turns)
    print(f"seed {seed}: {len(turns)} turns, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
