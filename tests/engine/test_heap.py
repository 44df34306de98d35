"""Memory that was freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# every tenth of many blocks stays, so that glibc cannot give the rest back by itself
_HOLES = """
from kvql_server.engines.hashtable.heap import give_back
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
blocks = [bytearray(b"x" * 65_536) for _ in range(1_600)]
kept = blocks[::10]
del blocks
before = resident()
give_back()
print(before, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and only there is it given back")
def test_what_lies_between_blocks_that_stay_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert before - after > 50_000, "of the 90 MiB (in KiB) that are free"
