"""Power loss anywhere in a workload, and again anywhere in the recovery: the fast form, more than 10,000 disk states.

The long form is a soak: ``make soak ONLY=states``. ``KVQL_CRASH_SEEDS=20`` tries so many seeds of each mode here.
"""

from __future__ import annotations

import os
import random

import pytest
from kvql_server.engines.hashtable.log import SyncMode

from tests.engine import fates
from tests.engine.disk import Change, Disk, Inode
from tests.engine.powerloss import explore

SEEDS = range(int(os.environ.get("KVQL_CRASH_SEEDS", "2")))
STATES_MIN = 1_700
"""Of each of seven workloads."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["always", "interval", "checkpoint"])
def test_every_state_that_a_crash_can_leave(mode: SyncMode, seed: int) -> None:
    judged(seed, mode)


def test_every_state_where_the_mode_is_another_one_with_each_opening() -> None:
    judged(SEEDS[-1], None)


def judged(seed: int, mode: SyncMode | None) -> None:
    counts = explore(seed, mode, 40, whole=False)
    print(f"seed {seed}, sync {mode or 'of all kinds'}: {counts}")
    assert counts.all_states >= STATES_MIN and counts.kills > 100 and len(counts.shapes) > 20


def test_what_may_become_of_a_write() -> None:
    """The fates are what they claim to be: lost, torn at 1, 4, 8, 9, half and all but one, zeroed, a sector missing."""
    inode = Inode(b"A" * 500)
    inode.change(Change(500, b"B" * 600))
    found = fates.of_file(inode, random.Random(0))
    assert found[0] == b"A" * 500 and found[1] == b"A" * 500 + b"B" * 600
    assert b"A" * 500 + bytes(600) in found
    for cut in (1, 4, 8, 9, 300, 599):
        assert b"A" * 500 + b"B" * cut in found
        assert b"A" * 500 + b"B" * cut + bytes(600 - cut) in found
    assert b"A" * 500 + bytes(12) + b"B" * 588 in found, "its first sector is lost"
    assert b"A" * 500 + b"B" * 12 + bytes(512) + b"B" * 76 in found
    assert b"A" * 500 + b"B" * 524 + bytes(76) in found


def test_what_may_become_of_several_writes() -> None:
    """Any may be lost while later ones are there."""
    inode = Inode()
    for n, letter in enumerate((b"A", b"B", b"C")):
        inode.change(Change(n * 10, letter * 10))
    found = fates.of_file(inode, random.Random(0))
    for kept in range(8):
        parts = [letter * 10 if kept >> n & 1 else bytes(10) for n, letter in enumerate((b"A", b"B", b"C"))]
        assert any(data.ljust(30, b"\0") == b"".join(parts) for data in found), parts


def test_what_may_become_of_names() -> None:
    """Created, renamed and removed: each arrives or not, a rename as a whole."""
    disk = Disk.holding({"/old": b"1", "/gone": b"2"})
    disk.create("/new.tmp").write_at(b"3", 0)
    disk.rename("/new.tmp", "/old")
    disk.remove("/gone")
    seen: set[int] = set()
    found = list(fates.states(disk, random.Random(0), seen))
    names = {tuple(sorted(state)) for state in found}
    assert names == {
        ("/gone", "/old"), ("/gone", "/new.tmp", "/old"), ("/old",), ("/new.tmp", "/old"),
    }  # fmt: skip
    assert {state["/old"] for state in found} == {b"1", b"3", b"", b"\0"}
    disk.sync_folder("/")
    assert fates.worst(disk).names("/") == ["old"]
