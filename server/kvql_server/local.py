"""A store in this process: the same executor, stepped without an event loop.

``open_folder`` is what the entry point ``kvql.local`` names. A folder opened twice in one process is one engine, closed
with the last store that uses it. Statements of all sessions of an engine go one at a time through one lock, so sessions
may be used from several threads; a session itself from one at a time. A result is returned, and an error raised, only
when all that it tells of is durable.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from kvql import errors
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import text
from kvql_server.auth import LOCAL
from kvql_server.clock import SystemClock
from kvql_server.engines import base
from kvql_server.executor import Executor, Lane, Pages, Watching, Work, engine_error, step
from kvql_server.executor.watcher import Shown, Watcher

MEMORY: Final = ":memory:"
START_NAMESPACE: Final = "main"
TICK_STATEMENTS: Final = 64
"""``tick`` asks the clock and a few queues; once in so many statements is often enough in process."""
TICK_S: Final = 0.1
"""And for who watches: nobody else may be there to carry out what expires."""


class _Shared:
    """An engine of this process, its executor and its lock, with a count of the stores that use it."""

    def __init__(self, engine: Any, clock: SystemClock) -> None:
        self.engine = engine
        self.executor = Executor(engine, clock, start_namespace=START_NAMESPACE)
        step(self.executor.start())
        self.lock = threading.RLock()
        self.users = 0

    def sync(self, revision: int) -> None:
        """Wait until ``revision`` is durable."""
        try:
            self.engine.sync(revision)
        except base.EngineError as e:
            raise engine_error(e) from e


_open: dict[str, _Shared] = {}
_open_lock = threading.Lock()


def _forget_after_fork() -> None:
    """A child process must not write to its parent's files; it opens its own."""
    global _open_lock
    _open.clear()
    _open_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


def open_folder(target: str) -> LocalStore:
    """The store in the folder ``target``, created if there is none; or a new one in memory for ``:memory:``."""
    clock = SystemClock()
    if target == MEMORY:
        from kvql_server.engines.memory import MemoryEngine

        shared = _Shared(MemoryEngine(clock=clock), clock)
        shared.users = 1
        return LocalStore(shared, None)
    place = os.path.realpath(os.path.expanduser(target))
    with _open_lock:
        found = _open.get(place)
        if found is None:
            found = _open[place] = _Shared(_open_engine(place, clock), clock)
        found.users += 1
    return LocalStore(found, place)


def _open_engine(place: str, clock: SystemClock) -> Any:
    from kvql_server.engines.hashtable import HashTableEngine

    try:
        return HashTableEngine.open(place, clock=clock)
    except base.Locked as e:
        raise errors.error(
            errors.CANNOT_CONNECT,
            str(e),
            hint="another program has the folder open; a running server is reached by kvql://",
        ) from e
    except base.Corrupted as e:
        raise errors.error(errors.CORRUPTED, str(e)) from e
    except base.StoreFull as e:
        raise errors.error(errors.DISK_FULL, str(e)) from e
    except base.EngineError as e:
        raise errors.error(errors.CANNOT_CONNECT, str(e)) from e
    except OSError as e:
        raise errors.error(errors.CANNOT_CONNECT, f"cannot open the folder {place}: {e.strerror}") from e


class LocalStore:
    """A store that was opened in process; ``close`` it."""

    def __init__(self, shared: _Shared, place: str | None) -> None:
        self._shared = shared
        self._place = place
        self._closed = False

    def session(self) -> LocalSession:
        """One conversation: a namespace in use, at most one transaction."""
        return LocalSession(self._shared)

    def close(self) -> None:
        """Let go of the engine; the last store closes it. Repeatable."""
        if self._closed:
            return
        self._closed = True
        with _open_lock:
            self._shared.users -= 1
            if self._shared.users:
                return
            if self._place is not None and _open.get(self._place) is self._shared:
                del _open[self._place]
            with self._shared.lock:
                try:
                    step(self._shared.engine.close())
                except base.EngineError as e:
                    raise engine_error(e) from e

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LocalSession:
    """Carries out requests as the operating-system user, who is the administrator."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._lane = Lane(START_NAMESPACE)
        self._principal = LOCAL
        self._work: Work | None = None
        self._ticks = 0

    def execute(self, request: pb.Request) -> list[Result]:
        """The results of a request in order: one, or as many as a text has statements. Durable when it returns."""
        shared = self._shared
        work = self._work = shared.executor.work(request.deadline_ms)
        with shared.lock:
            self._tick()
            try:
                if request.WhichOneof("command") == "text":
                    return self._settle(self._text(request, work))
                return self._settle([step(shared.executor.execute(request, self._lane, self._principal, work))])
            finally:
                if work.revision:
                    self._sync(work.revision)

    def watch(self, request: pb.Request) -> tuple[Result, LocalWatch]:
        """Begin a WATCH: its columns, and where its events come from."""
        shared = self._shared
        work = self._work = shared.executor.work(request.deadline_ms)
        with shared.lock:
            result = step(shared.executor.execute(request, self._lane, self._principal, work))
        assert isinstance(result.rows, Watching)
        return result, LocalWatch(shared, result.rows.watcher, work)

    def _sync(self, revision: int) -> None:
        self._shared.sync(revision)

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks % TICK_STATEMENTS == 1:
            self._shared.engine.tick()

    def _text(self, request: pb.Request, work: Work) -> list[Result]:
        results: list[Result] = []
        for single in text.requests(request):
            results.append(step(text.carry_out(self._shared.executor, single, self._lane, self._principal, work)))
        return results

    def _settle(self, results: list[Result]) -> list[Result]:
        for result in results:
            if isinstance(result.rows, Watching):
                result.rows.close()
                raise errors.error(errors.NOT_SUPPORTED, "a watch in process is begun by watch()")
            if isinstance(result.rows, Pages):
                result.rows = self._rows(result.rows)
        return results

    def _rows(self, pages: Pages) -> Iterator[tuple[Any, ...]]:
        """Rows page by page, each page computed under the lock."""
        try:
            while True:
                with self._shared.lock:
                    page = pages.next_page()
                if page is None:
                    return
                yield from page
        finally:
            pages.close()

    def cancel(self) -> None:
        """Stop what is being carried out or read (57014); safe from a signal handler and from other threads."""
        if self._work is not None:
            self._work.cancel()

    def close(self) -> None:
        """Roll back what is open. Repeatable."""
        with self._shared.lock:
            self._lane.rollback()


class LocalWatch:
    """A watch in process. It uses the store under the lock, as statements do, and waits without it; so it needs an
    event loop, but any will do: also one that runs only while somebody asks for events."""

    def __init__(self, shared: _Shared, watcher: Watcher, work: Work) -> None:
        self._shared = shared
        self._watcher = watcher
        self._work = work
        self._ticked_s = 0.0
        self.start = watcher.start

    async def page(self) -> Shown:
        """The next rows, or how far the watch has come. Raises what ends it."""
        shared = self._shared
        while True:
            with shared.lock:
                if time.monotonic() - self._ticked_s > TICK_S:
                    shared.engine.tick()
                    self._ticked_s = time.monotonic()
                shown = step(self._watcher.page())
                if shown is not None:
                    shared.sync(self._work.revision)
                    return shown
            await self._watcher.wait(TICK_S)

    def cancel(self) -> None:
        """Let it end with 57014; safe from a signal handler and from other threads."""
        self._work.cancel()

    def close(self) -> None:
        """Let go of the store. Repeatable."""
        with self._shared.lock:
            self._watcher.close()
