"""Ctrl-C while a statement runs: the statement is cancelled where it runs, the program lives on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final

from kvql import errors

_PATIENCE: Final = 3


class Interrupt:
    """A context in which SIGINT cancels instead of raising.

    The first one asks the server to stop. Who presses on (a server that does not answer) gets ``KeyboardInterrupt`` at
    the third.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._previous: Any = None
        self._mine = False
        self.count = 0

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._mine = True
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= _PATIENCE:
            raise KeyboardInterrupt
        self._cancel()

    def watch(self, rows: Iterable[Any]) -> Iterator[Any]:
        """``rows`` until SIGINT comes: rows that are here already must not be printed on and on."""
        for row in rows:
            if self.count:
                raise errors.cancelled()
            yield row
