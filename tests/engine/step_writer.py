"""The workload on real files, as a process that may be killed at any system call.

    python -m tests.engine.step_writer FOLDER SEED STEPS

It prints a line for each revision that is confirmed, ``branch floor``: the journal that outlives it, for whoever holds
the other end of the pipe. A branch begins with each opening.
"""

from __future__ import annotations

import os
import sys

from kvql_server.clock import ManualClock
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.log import SyncMode

from tests.engine.workload import States, Workload
from tests.stores import abandon


class Writer(Workload):
    """Told the same seed, it does what the workload in memory does."""

    def __init__(self, folder: str, seed: int, mode: SyncMode, steps: int) -> None:
        super().__init__(seed, mode, steps, lambda photo: None)
        self._folder = folder
        self._branch = 0

    def open(self) -> HashTableEngine:
        return HashTableEngine.open(self._folder, clock=ManualClock(self.now), sync=self.mode)

    def kill(self) -> None:
        abandon(self.engine)
        # the lock would go with the process
        os.close(self.engine._lock._fd)
        self.engine._lock._fd = -1

    def start(self) -> None:
        super().start()
        self._branch += 1
        self._tell()

    def confirmed(self) -> None:
        super().confirmed()
        self._tell()

    def _tell(self) -> None:
        os.write(1, f"{self._branch} {self.floor}\n".encode())


def branches(seed: int, mode: SyncMode, steps: int) -> list[States]:
    """All states that the writer makes, by branch; branch 0 is an empty store."""
    found: list[States] = [{0: {}}]

    class Noting(Workload):
        def start(self) -> None:
            super().start()
            found.append(self.states)

    Noting(seed, mode, steps, lambda photo: None).run()
    return found


if __name__ == "__main__":
    Writer(sys.argv[1], int(sys.argv[2]), "always", int(sys.argv[3])).run()
