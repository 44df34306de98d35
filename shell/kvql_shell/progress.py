"""How far a script is, on one line of the terminal that is written over and taken away at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

_INTERVAL_S: Final = 0.1
_CHECK_EVERY: Final = 256


class Progress:
    """Counts statements; writes at most ten times a second, and never where it is no terminal."""

    def __init__(self, out: TextIO, *, shown: bool, bytes_total: int | None = None) -> None:
        self._out = out
        self._shown = shown
        self._total = bytes_total
        self._start = time.monotonic()
        self._next = self._start + _INTERVAL_S
        self._dirty = False
        self.statements = 0
        self.position: Callable[[], int] | None = None
        """How many bytes of the text have been read, if that can be known."""

    def step(self, count: int = 1) -> None:
        """So many more statements are done."""
        looked = self.statements // _CHECK_EVERY
        self.statements += count
        if self._shown and self.statements // _CHECK_EVERY != looked and time.monotonic() >= self._next:
            self._draw()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def _draw(self) -> None:
        now = time.monotonic()
        self._next = now + _INTERVAL_S
        rate = self.statements / max(now - self._start, 1e-9)
        share = ""
        if self._total and self.position is not None:
            share = f", {min(99, self.position() * 100 // self._total)} % read"
        self._out.write(f"\r\x1b[K{self.statements:,} statements, {rate:,.0f}/s{share}")
        self._out.flush()
        self._dirty = True

    def clear(self) -> None:
        """Take the line away, before something else is written."""
        if self._dirty:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._dirty = False
