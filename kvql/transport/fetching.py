"""What a watch in process and one over the network share: the place of its events, and waiting for the next ones."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

from kvql import errors
from kvql.v1 import kvql_pb2 as pb

Rows = list[tuple[Any, ...]]


class Position(NamedTuple):
    """Up to where the events of a watch have been taken in. It can be kept, and a watch begun ``after`` it: in the same
    store, and in the same namespace (``since`` is the revision in which it was created).

    Everything up to ``revision`` is behind it; with a ``key``, of that revision only what comes up to the key.
    ``initial``: what was taken in are the first of the pairs that were there at ``revision``.
    """

    store: str
    since: int
    revision: int
    key: str = ""
    initial: bool = False

    def behind(self, row: tuple[Any, ...]) -> Position:
        """The position when this event has been taken in, too."""
        event, revision, key = row[:3]
        if key is None:
            return self._replace(revision=revision, key="", initial=False)
        return self._replace(revision=revision, key=key, initial=event == "INITIAL")


def resumed(request: pb.Request, position: Position) -> pb.Request:
    """The request that goes on behind ``position``."""
    again = pb.Request()
    again.CopyFrom(request)
    watch = again.watch
    watch.store, watch.since, watch.after_key, watch.initial = (
        position.store, position.since, position.key, position.initial,
    )  # fmt: skip
    watch.from_revision = position.revision
    return again


class Fetching:
    """Asking for rows with a limit to the patience: what was asked for and has not come yet stays asked for."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Rows] | None = None
        self._place: Position | None = None
        """Behind all that has come."""
        self.position: Position | None = None
        """Behind all that ``more`` has given."""

    def _fetch(self) -> Coroutine[Any, Any, Rows]:
        """The next rows, at least one; they move ``_place``, and nothing else does without moving ``position``."""
        raise NotImplementedError

    async def ready(self, seconds: float | None) -> bool:
        """Whether ``more`` has an answer, within so many seconds (None: however long it takes)."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._fetch())
            self._task.add_done_callback(_heard)
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return bool(done)

    async def more(self) -> Rows:
        """The next events. Raises what ends the watch."""
        await self.ready(None)
        task, self._task = self._task, None
        assert task is not None
        try:
            rows = task.result()
            self.position = self._place
            return rows
        except asyncio.CancelledError:
            raise errors.cancelled() from None

    def _drop(self) -> asyncio.Task[Rows] | None:
        """Ask for nothing any more."""
        task, self._task = self._task, None
        if task is not None and not task.get_loop().is_closed():
            task.cancel()
        return task


def _heard(task: asyncio.Task[Rows]) -> None:
    """What ended it may be nobody's business any more."""
    if not task.cancelled():
        task.exception()
