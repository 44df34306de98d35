"""Time, injected: the store asks a clock and never the system, so that tests can move it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970 UTC; never smaller than an answer given before."""

    def advance_to(self, micros: int) -> None:
        """Never answer less than this: recovery passes the newest time in the store."""


class SystemClock:
    """The system's time, held still while the system's clock runs backwards."""

    def __init__(self, not_before: int = 0) -> None:
        self._last = not_before

    def now(self) -> int:
        self._last = max(self._last, time.time_ns() // 1000)
        return self._last

    def advance_to(self, micros: int) -> None:
        """Never answer less than this: recovery passes the newest time in the store."""
        self._last = max(self._last, micros)


class ManualClock:
    """A clock for tests that moves only when told."""

    def __init__(self, micros: int = 1_767_322_245_000_000) -> None:  # 2026-01-02T02:50:45Z
        self._now = micros

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._now += round(seconds * 1_000_000)

    def advance_to(self, micros: int) -> None:
        self._now = max(self._now, micros)
