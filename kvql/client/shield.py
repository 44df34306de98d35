"""Interrupts: what a signal's handler raises waits until the client is whole again.

Python runs signal handlers between any two instructions of the main thread, and ``KeyboardInterrupt`` comes out there:
in the middle of a commit in process, in the event loop's own code, in the task that keeps a connection alive, or in a
callback of gRPC's that throws it away. So while a client works, a shield stands in for the handlers. It calls them at
once (one that calls ``cancel`` works as ever), and what they raise is kept, the work is stopped, and the exception goes
on when everything is in order. ``asyncio.Runner`` does the same for SIGINT alone.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

T = TypeVar("T")

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGBREAK")
"""Signals whose handlers raise: to end a program, or what takes too long."""
_NUMBERS: Final = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))
# the functions beneath the module's own, which look each handler up in an enumeration first: 0.4 µs instead of 4.6
_beneath: Final[Any] = getattr(signal, "_signal", signal)
_get: Final[Callable[[int], Any]] = _beneath.getsignal
_set: Final[Callable[[int, Any], Any]] = _beneath.signal


class Shield:
    """A context in which no handler's exception comes out; at its end the last of them does. May be nested.

    Outside the main thread there is nothing to hold back: Python runs handlers there only.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        """``stop`` makes the work end soon; it is called from a signal handler."""
        self.pending: BaseException | None = None
        self.cancels = 0
        """How often the user has asked to stop."""
        self._cancels_before = 0
        self._stop = stop
        self._depth = 0
        self._passing = False
        self._saved: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._handler: Final = self._handle

    @property
    def cancelled(self) -> bool:
        """Whether the user has asked to stop since the context began, when there may have been nothing to stop yet."""
        return self.cancels != self._cancels_before

    def __enter__(self) -> Shield:
        if self._depth:
            self._depth += 1
            return self
        self.pending = None
        self._cancels_before = self.cancels
        try:
            self._depth = 1
            if threading.get_ident() == threading.main_thread().ident:
                for number in _NUMBERS:
                    handler = _get(number)
                    if callable(handler) and handler is not self._handler:
                        self._saved[number] = handler
                        _set(number, self._handler)
        except BaseException:  # of a handler that is not replaced yet
            self._restore()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self._depth > 1:
            self._depth -= 1
            return
        self._restore()
        if self.pending is not None:
            pending, self.pending = self.pending, None
            raise pending from pending.__cause__

    def _restore(self) -> None:
        try:
            for number in tuple(self._saved):
                if _get(number) is self._handler:  # else whoever was called in between has set another
                    _set(number, self._saved[number])
                del self._saved[number]
        finally:
            # a handler that is back already may have raised; those that are not pass everything on from now
            self._depth = 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        handler = self._saved[number]
        if self._passing or not self._depth:
            handler(number, frame)
            return
        try:
            handler(number, frame)
        except BaseException as e:  # noqa: BLE001 - kept, and raised when the context ends
            self.pending = e
            self._stop()

    def passing(self, items: Iterable[T]) -> Iterator[T]:
        """``items``, which are the user's to make: while one is waited for, nothing is held back.

        ``KeyboardInterrupt`` and ``SystemExit`` would tear the event loop down on their way; they are kept as well.
        """
        source = iter(items)
        while True:
            try:
                self._passing = True
                item = next(source)
            except StopIteration:
                return
            except (KeyboardInterrupt, SystemExit) as e:
                self.pending = e
                raise asyncio.CancelledError from None
            finally:
                self._passing = False
            yield item
