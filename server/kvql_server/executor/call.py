"""What a statement is carried out with: the request, who asked, how long it may take, and where its revisions add
up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kvql import errors
from kvql.codec import encode_rows
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql_server.auth import Access, Principal
from kvql_server.clock import Clock
from kvql_server.engines.base import Engine
from kvql_server.settings import Settings
from kvql_server.transaction import Transaction

if TYPE_CHECKING:
    from kvql_server.executor.watches import Watches

T = TypeVar("T")

_BREATH_S: Final = 0.005


class Work:
    """One request's allowance, and the newest revision that it saw: nothing of it may leave before that is durable."""

    __slots__ = ("_deadline_s", "_turned_s", "cancelled", "on_cancel", "reply_bytes_max", "revision", "yields")

    def __init__(self, limit_s: float, deadline_ms: int = 0) -> None:
        self._deadline_s = time.monotonic() + (min(limit_s, deadline_ms / 1000) if deadline_ms else limit_s)
        self._turned_s = 0.0
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        """Wakes who waits for something else than the engine; safe from a signal handler and from other threads."""
        self.revision = 0
        self.reply_bytes_max: int | None = None
        """What the answer to a write may take on the wire, where all of it must be one message; asked before commit."""
        self.yields = False
        """Whether an event loop is there to give others their turn (never in process)."""

    async def turn(self) -> None:
        """Between two pages: ``check``, and let others go on."""
        self.check()
        if self.yields:
            await asyncio.sleep(0)
            self._turned_s = time.monotonic()

    async def breathe(self) -> None:
        """``turn``, if the last one is a few milliseconds ago: between rows, where nobody knows how long they take."""
        if time.monotonic() - self._turned_s > _BREATH_S:
            await self.turn()
            self._turned_s = time.monotonic()

    def cancel(self) -> None:
        """Let it end with 57014; safe from a signal handler and from other threads."""
        self.cancelled = True
        if self.on_cancel is not None:
            self.on_cancel()

    def forever(self) -> None:
        """From here on it may take as long as it likes."""
        self._deadline_s = float("inf")

    def check(self) -> None:
        """57014 if the request was cancelled or its time is up. Called between pages and before each commit."""
        if self.cancelled:
            raise errors.cancelled()
        if time.monotonic() > self._deadline_s:
            raise overdue()

    @property
    def left_s(self) -> float | None:
        """Until its time is up; None if it never is."""
        return None if self._deadline_s == float("inf") else max(0.0, self._deadline_s - time.monotonic())

    def check_reply(self, rows: Sequence[tuple[Any, ...]], before: int = 0) -> int:
        """The size of these rows, ``before`` included; 54001 if the answer cannot hold them. Nothing is committed."""
        if self.reply_bytes_max is None or not rows:
            return before
        size = before + int(encode_rows(rows, len(rows[0])).ByteSize())
        if size > self.reply_bytes_max:
            raise errors.error(
                errors.TOO_COMPLEX, "the answer does not fit into one message",
                hint="nothing was written; use Session, or return less",
            )  # fmt: skip
        return size

    def saw(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision


def overdue() -> Error:
    return errors.error(errors.CANCELLED, "canceling statement due to statement timeout")


class Lane:
    """An ordered row of requests: its namespace in use, and its transaction if one is open."""

    __slots__ = ("group", "namespace", "transaction")

    def __init__(self, namespace: str = "", group: object = None) -> None:
        self.namespace = namespace
        self.group = self if group is None else group
        """What stands for the session that the lane belongs to, where what a session may have is counted."""
        self.transaction: Transaction | None = None

    @property
    def transaction_state(self) -> int:
        if self.transaction is None:
            return pb.TRANSACTION_STATE_NONE
        return pb.TRANSACTION_STATE_FAILED if self.transaction.failed else pb.TRANSACTION_STATE_OPEN

    def rollback(self) -> None:
        """End the open transaction, if there is one; nothing of it happened."""
        if self.transaction is not None:
            self.transaction.close()
            self.transaction = None


class Call:
    """One request on its way through the executor."""

    __slots__ = ("access", "clock", "engine", "lane", "places", "principal", "request", "settings", "watches", "work")

    def __init__(
        self, request: pb.Request, lane: Lane, principal: Principal, work: Work, engine: Engine, clock: Clock,
        access: Access, settings: Settings, watches: Watches,
    ) -> None:  # fmt: skip
        self.watches = watches
        self.request = request
        self.lane = lane
        self.principal = principal
        self.work = work
        self.engine = engine
        self.clock = clock
        self.access = access
        self.settings = settings
        self.places: dict[str, int] = {}
        """See ``expressions.Builder.places``."""

    def namespace(self, named: str = "") -> str:
        """The namespace that the statement works on: the one it names, else the one in use; else 3F000."""
        name = named or self.request.namespace or self.lane.namespace
        if not name:
            raise errors.error(errors.NO_SUCH_NAMESPACE, "no namespace in use", hint="choose one first: USE shop")
        return name

    def expires_at(self, ttl_ms: int) -> int | None:
        """When a pair written now with this time to live ends, in microseconds since 1970; None without one."""
        return self.clock.now() + ttl_ms * 1000 if ttl_ms else None


class Pages:
    """Rows that are computed page by page while they are read; once, by one reader.

    Read with ``async for`` (pages) in the server, or with ``for`` (rows) in process, where the engine never suspends.
    Close it: it holds the snapshot that it reads.
    """

    def __init__(self, pages: AsyncIterator[list[tuple[Any, ...]]], release: Callable[[], None]) -> None:
        self._pages = pages
        self._release: Callable[[], None] | None = release
        self.at_end: Callable[[], None] | None = None
        """Called once when all rows are read, for what is known only then (notices)."""
        self.on_error: Callable[[Error], Error] | None = None
        """Called with an error that a row raised, to give it its place."""

    async def __aiter__(self) -> AsyncIterator[list[tuple[Any, ...]]]:
        try:
            while (page := await self._next()) is not None:
                yield page
        finally:
            self.close()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        try:
            while (page := self.next_page()) is not None:
                yield from page
        finally:
            self.close()

    def next_page(self) -> list[tuple[Any, ...]] | None:
        """The next page of an engine in process; None after the last."""
        return step(self._next())

    async def _next(self) -> list[tuple[Any, ...]] | None:
        try:
            page = await anext(self._pages, None)
        except Error as e:
            raise e if self.on_error is None else self.on_error(e) from None
        if page is None and self.at_end is not None:
            self.at_end()
            self.at_end = None
        return page

    def close(self) -> None:
        """Let the snapshot go; repeatable."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


_SUSPENDED: Final = "a statement in process waited for something; the engine is not in process"


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError(_SUSPENDED)
