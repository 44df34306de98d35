"""An engine's commits, asked for without waiting: what there is now, and what to wait for if there is nothing.

A watch must know that there is nothing up to a revision, to tell its client how far it has come; and in process the
engine is used under a lock that nobody may hold while he waits. An ``async for`` tells neither, so the engine's
iterator is stepped by hand here: a step either gives a commit or leaves a future to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kvql_server.engines.base import Commit, Engine


class Feed:
    """The commits of a namespace after a revision. Needs a running event loop; ``close`` it."""

    def __init__(self, engine: Engine, namespace: str, from_revision: int) -> None:
        self._engine = engine
        self._namespace = namespace
        self._begin(from_revision)

    def _begin(self, revision: int) -> None:
        self.revision = revision
        """All commits up to here have been given, or did not change the namespace."""
        self._commits: AsyncIterator[Commit] = self._engine.watch(self._namespace, revision)
        self._step: Any = None
        self._future: asyncio.Future[Any] | None = None

    def next(self) -> Commit | None:
        """The next commit; None if there is none now. Raises what the engine does."""
        while True:
            if self._future is not None and not self._future.done():
                return None
            if self._step is None:
                self._step = self._commits.__anext__()
            try:
                self._future = self._step.send(None)
            except StopIteration as done:
                self._step = self._future = None
                commit: Commit = done.value
                self.revision = commit.revision
                return commit
            except BaseException:
                self._step = self._future = None
                raise
            # without a future the engine only lets others have their turn, and goes on at once

    def skip(self, revision: int) -> None:
        """Go on behind ``revision``: somebody else has read what comes before."""
        self.close()
        self._begin(revision)

    def settle(self) -> Commit | None:
        """Look anew: the next commit, or None, and then ``revision`` is all that the engine shows."""
        revision = self.revision
        self.close()
        shown = self._engine.shown_revision
        self._begin(revision)
        commit = self.next()
        if commit is None:
            self.revision = max(revision, shown)
        return commit

    @property
    def waits_for(self) -> asyncio.Future[Any] | None:
        """Done when ``next`` may have more; None if it should be asked now."""
        return self._future

    def close(self) -> None:
        """Let go of the engine's iterator; repeatable."""
        step, self._step, self._future = self._step, None, None
        if step is not None:
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, StopIteration):
                step.throw(asyncio.CancelledError())
            return
        # it stands between two commits, where ending it waits for nothing
        ending = self._commits.aclose()  # type: ignore[attr-defined]  # an async generator, as engines make it
        with contextlib.suppress(StopIteration):
            ending.send(None)
