"""A watch while it runs: the initial pairs, then the events of one commit after the other, and how far it has come.

What a watch holds is a place in the store's history, and at most the changes of one commit (a list of what the engine
keeps anyway): events are made when they are asked for, so a client that reads slowly costs nothing but its place. Who
falls so far behind that the history before him is gone is told so (72000).

Where many watch one namespace, each rests a little after it has looked, so that what happens meanwhile is one message.

Whether the watch is still allowed is asked before anything is shown, and every second while nothing is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from kvql import errors
from kvql.errors import Error
from kvql_server.engines import base
from kvql_server.engines.base import Page, Snapshot
from kvql_server.executor import events, lists
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.expressions.generated import placed
from kvql_server.executor.feed import Feed
from kvql_server.executor.refusals import engine_error
from kvql_server.executor.watches import Batch, may_rest
from kvql_server.transaction import Transaction

CHECK_S: Final = 1.0
"""How often a watch to which nothing happens is asked whether it may go on."""
EVENTS: Final = 512
"""Changes that are looked at, at a time."""


class Progress(NamedTuple):
    """See ``Progress`` in kvql.proto."""

    store: str
    since: int
    revision: int
    initial: bool = False
    key: str = ""


class Place(NamedTuple):
    """Where a watch begins: behind ``revision``; with ``after_key`` in the middle of it. ``named``: somebody else said
    so, who may be wrong."""

    revision: int
    after_key: str = ""
    named: bool = True


class Shown(NamedTuple):
    """What a watch has to tell: ``progress`` is true when ``rows`` have been taken in. The same ``events.Rows`` come
    with the same progress, whichever watch they are of."""

    rows: list[events.Row]
    progress: Progress | None


_NONE: Final = Batch(())


class Watcher:
    """One WATCH. Ask for ``page``; if there is none, ``wait``. All of it in one event loop."""

    def __init__(
        self, call: Call, namespace: str, since: int, where: events.Condition, place: Place, snapshot: Snapshot | None
    ) -> None:  # fmt: skip
        """``snapshot``: of the initial part, if there is one."""
        self._call = call
        self.namespace = namespace
        self._since = since
        self._where = where
        self._place = place
        self._snapshot = snapshot
        self._pairs: AsyncIterator[Page] | None = None
        self._feed: Feed | None = None
        self._batch = _NONE
        self._at = 0
        """Of the changes taken from the feed, those from here on are still to be told."""
        self._seen = place.revision
        self._told_at = 0.0
        self._rests_until = 0.0
        """Not before that it looks for what happened next: see ``Watches.rest_until``."""
        self._may_rest = False
        self._checked_at = 0.0
        self._failure: Error | None = None
        self._nudge: asyncio.Future[None] | None = None
        """Done when somebody outside wants to be heard."""
        self._closed = False
        call.work.on_cancel = self._wake

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────

    async def page(self) -> Shown | None:
        """What there is to be told now, at least a row or a progress; None for nothing."""
        work = self._call.work
        try:
            if self._failure is not None:
                raise self._failure
            if self._nudge is None:
                return await self._begin()
            work.check()
            if self._snapshot is not None:
                return await self._initial()
            shown = await self._changes()
            if shown is None and time.monotonic() - self._checked_at > CHECK_S:
                await self._check()
            return shown
        except base.Compacted as e:
            raise compacted(e, begun=not self._place.named or (self._told_at > 0 and self._snapshot is None)) from e
        except base.EngineError as e:
            raise engine_error(e) from e
        except Error as e:
            raise placed(e, self._call.places) from None

    async def _begin(self) -> Shown:
        """Find out whether the engine can begin there at all, and tell where that is."""
        self._nudge = asyncio.get_running_loop().create_future()
        place = self._place
        if self._snapshot is None:
            inside = place.revision - 1 if place.after_key else place.revision
            self._feed = Feed(self._call.engine, self.namespace, inside)
            self._take(self._feed.next())
            self._call.work.forever()
        self._told_at = time.monotonic()
        return Shown([], self.start)

    @property
    def start(self) -> Progress:
        """Where it began."""
        place, initial = self._place, self._snapshot is not None
        return Progress(self._call.engine.store_id, self._since, place.revision, initial, place.after_key)

    def _progress(self, revision: int) -> Progress:
        self._told_at = time.monotonic()
        return Progress(self._call.engine.store_id, self._since, revision)

    async def _initial(self) -> Shown:
        """The next of the initial pairs; after the last one LIVE."""
        assert self._snapshot is not None
        revision, work = self._place.revision, self._call.work
        if self._pairs is None:
            self._pairs = self._read(self._snapshot)
        async for page in self._pairs:
            await work.turn()
            rows = await events.initial(page, self._where, revision, work)
            if rows:
                await self._check()
                return Shown(rows, None)
        await self._check()
        self._snapshot.close()
        self._snapshot = self._pairs = None
        self._feed = Feed(self._call.engine, self.namespace, revision)
        work.forever()
        return Shown([events.live(revision)], self._progress(revision))

    def _read(self, snapshot: Snapshot) -> AsyncIterator[Page]:
        path, after = self._where.path, self._place.after_key
        if after and path.keys is not None:
            path = path._replace(keys=frozenset(key for key in path.keys if key > after))
        elif after:
            path = path._replace(start=max(path.start, after + "\0"))
        return lists.read(snapshot, self.namespace, path)

    async def _changes(self) -> Shown | None:
        feed = self._feed
        assert feed is not None
        while True:
            due = time.monotonic() - self._told_at > self._call.settings.watch_progress_s
            if self._at == len(self._batch.told):
                if time.monotonic() < self._rests_until:
                    return None
                self._batch, self._at = self._gather(feed), 0
            told = self._batch.told
            if not told:
                break
            rows = await self._next_rows()
            whole = self._at == len(told) or told[self._at][0].revision > self._seen
            if self._at == len(told) < EVENTS and self._may_rest:
                self._rests_until = self._call.watches.rest_until(self.namespace, told=bool(rows))
            if rows or (due and whole):
                await self._check()
                return Shown(rows, self._progress(self._seen) if whole else None)
            await self._call.work.turn()
        if not due:
            return None
        self._take(feed.settle())
        if self._batch.told:
            return await self._changes()
        await self._check()
        self._seen = feed.revision
        return Shown([], self._progress(self._seen))

    def _gather(self, feed: Feed) -> Batch:
        """The changes of some of the commits that are there."""
        watches, place = self._call.watches, (self.namespace, feed.revision)
        shared = watches.batch(place) if self._call.work.yields else None
        if shared is not None:
            feed.skip(shared.told[-1][0].revision)
            return shared
        told: list[events.Told] = []
        while len(told) < EVENTS and (commit := feed.next()) is not None:
            changes = list(commit.changes)
            if len(changes) == 1:
                told.append((commit, changes[0]))
            else:
                told += [(commit, change) for change in events.in_order(changes)]
        batch = Batch(told)
        if self._call.work.yields:
            watches.keep(place, batch)
        return batch

    def _take(self, commit: base.Commit | None) -> None:
        """The first commit of a feed that was begun: the rest of it, if the watch begins in its middle."""
        if commit is None:
            return
        changes = events.in_order(commit.changes)
        if commit.revision == self._place.revision:
            changes = events.behind(changes, self._place.after_key)
        self._batch, self._at = Batch([(commit, change) for change in changes]), 0

    async def _next_rows(self) -> list[events.Row]:
        """The events of the next changes; ``_seen`` is the commit of the last of them."""
        batch, where, at = self._batch, self._where, self._at
        told = batch.told[at : at + EVENTS]
        rows: list[events.Row] | None = batch.rows(self._since, where.asked, at)
        if rows is None:
            rows = await events.rows(told, where, self._call.work)
            if batch.shared:
                rows = batch.keep(self._since, where.asked, at, rows)
        self._at += len(told)
        self._seen = told[-1][0].revision
        return rows

    # ── whether it may go on ──────────────────────────────────────────────────────────────────────────────────

    async def _check(self) -> None:
        """Raise if the user may not read the namespace now, or if it is another one by now."""
        call = self._call
        self._checked_at = time.monotonic()
        transaction = Transaction(call.engine, call.principal.name, tracked=False, read_only=True)
        try:
            record = await call.access.existing(transaction, call.principal, self.namespace)
            self._may_rest = may_rest(record)
            since = await call.access.catalog.since(transaction, self.namespace)
            if self._since and since != self._since:
                raise dropped(self.namespace, again=since > 0)
            self._since = since
        except Error:
            call.work.saw(transaction.revision)
            raise
        finally:
            transaction.close()

    def end(self, error: Error) -> None:
        """End it from outside, with a reason for the client."""
        if self._failure is None:
            self._failure = error
            self._wake()

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────

    async def wait(self, seconds: float = CHECK_S) -> None:
        """Until there may be something to be told; not longer than ``seconds``."""
        nudge, feed = self._nudge, self._feed
        assert nudge is not None and feed is not None
        rest_s = self._rests_until - time.monotonic()
        if rest_s > 0:
            await asyncio.wait({nudge}, timeout=min(rest_s, seconds))
        elif feed.waits_for is None:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({feed.waits_for, nudge}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if nudge.done():
            self._nudge = asyncio.get_running_loop().create_future()

    def _wake(self) -> None:
        """From any thread, and from a signal handler."""
        if self._nudge is not None:
            with contextlib.suppress(RuntimeError):  # its event loop has ended
                self._nudge.get_loop().call_soon_threadsafe(_finish, self._nudge)

    def close(self) -> None:
        """Let go of the store; repeatable."""
        if self._closed:
            return
        self._closed = True
        self._call.work.on_cancel = None
        if self._snapshot is not None:
            self._snapshot.close()
        if self._feed is not None:
            self._feed.close()
        self._call.watches.leave(self)

    @property
    def user(self) -> str:
        return self._call.principal.name

    @property
    def group(self) -> object:
        return self._call.lane.group


class Watching(Pages):
    """The events as the rows of an answer that has no end. ``progress`` belongs to the page that was given last."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.progress: Progress | None = None
        super().__init__(self._forever(), watcher.close)

    async def _forever(self) -> AsyncIterator[list[events.Row]]:
        while True:
            shown = await self.watcher.page()
            if shown is None:
                await self.watcher.wait()
                continue
            self.progress = shown.progress
            yield shown.rows


def _finish(nudge: asyncio.Future[None]) -> None:
    if not nudge.done():
        nudge.set_result(None)


def compacted(error: base.Compacted, *, begun: bool) -> Error:
    """What is missing between where a watch stands and what the store still knows."""
    head = "the watch has fallen behind: " if begun else ""
    return errors.error(
        errors.COMPACTED, f"{head}{error}",
        hint="begin anew: WATCH … WITH INITIAL gives the present state, and every change after it",
    )  # fmt: skip


def dropped(namespace: str, *, again: bool) -> Error:
    """``again``: there is another one of this name."""
    hint = "there is another one of this name now; watch it WITH INITIAL" if again else None
    return errors.error(errors.NO_SUCH_NAMESPACE, f"namespace {namespace} was dropped", hint=hint)
