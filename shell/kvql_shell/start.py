"""Where the command starts: before all that it imports.

A script makes ten objects a statement and no cycles: looking for some took 40 % of its time, and of the time that the
imports take 8 %.
"""

from __future__ import annotations

import gc


def main() -> int:
    """The command ``kvql``; see ``kvql_shell.main``."""
    gc.set_threshold(100_000, 20, 100)
    from kvql_shell.main import main

    return main()
