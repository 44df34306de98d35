"""A store in this process: no network, no login, no event loop.

The server's package is named by its entry point and nowhere else; without it, folders and ``:memory:`` are refused by
name. Answers are Python rows already, so nothing is decoded.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator
from getpass import getuser
from itertools import islice
from typing import Any, Final, Protocol

from kvql import errors
from kvql.compiler.points import Point
from kvql.errors import Error
from kvql.result import Result
from kvql.transport import cancelled, warn_unclosed
from kvql.transport.fetching import Fetching, Position, Rows
from kvql.v1 import kvql_pb2 as pb

ENTRY_POINT_GROUP: Final = "kvql.local"
NAMESPACE: Final = "main"
CHUNK_ROWS: Final = 1000


class LocalSession(Protocol):
    """What the server's package gives for one connection."""

    def execute(self, request: pb.Request) -> list[Result]: ...
    def watch(self, request: pb.Request) -> Any: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class LocalStore(Protocol):
    """What the entry point gives for a target."""

    def session(self) -> LocalSession: ...
    def close(self) -> None: ...


def opener() -> Callable[[str], LocalStore]:
    """The entry point's function; 0A000 if the server's part is not installed."""
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP, name="open")
    for point in found:
        try:
            loaded: Callable[[str], LocalStore] = point.load()
        except ModuleNotFoundError as e:
            raise _missing(f"stores in process need the package {e.name}") from None
        return loaded
    raise _missing("stores in process are not installed")


def _missing(message: str) -> Error:
    return errors.error(errors.NOT_SUPPORTED, message, hint="run: pip install kvql[server]")


class LocalTransport:
    """Sessions of a store in process, one for each lane; see ``Transport``. The first owner closes the store."""

    point: Callable[[Point, str, int], Future[Result]] | None = None

    def __init__(self, store: LocalStore, namespace: str | None = None, *, owner: bool = True) -> None:
        self._store = store
        self._owner = owner
        self._session = store.session()
        self._lanes: dict[int, LocalSession] = {1: self._session}
        self._stopped: set[int] = set()
        self._open: set[LocalExchange | LocalWatched] = set()
        self._closed = False
        self.namespace = NAMESPACE if namespace is None else namespace
        self.user = getuser()
        self.direct: Callable[[pb.Request], Result] | None = self._direct

    @classmethod
    def open(cls, target: str, namespace: str | None = None) -> LocalTransport:
        """Open a folder or ``:memory:``."""
        store = opener()(target)
        try:
            return cls(store, namespace)
        except BaseException:
            store.close()
            raise

    @property
    def closed(self) -> bool:
        return self._closed

    async def sibling(self) -> LocalTransport:
        """A connection of its own to the same store."""
        return LocalTransport(self._store, self.namespace, owner=False)

    def _direct(self, request: pb.Request) -> Result:
        return self._session.execute(request)[-1]

    def submit(self, request: pb.Request, *, apart: bool = False) -> LocalExchange | LocalWatched:
        """Carry out ``request`` at once; an error waits for whoever asks for the result."""
        lane = request.lane
        if apart and request.HasField("watch"):
            return LocalWatched(self, self._store.session(), request)
        if lane in self._stopped:
            return LocalExchange(self, _skipped())
        session = self._lanes.get(lane)
        if session is None:
            session = self._lanes[lane] = self._store.session()
        try:
            outcome: Result | Error = session.execute(request)[-1]
        except Error as e:
            outcome = e
            if request.on_error == pb.ON_ERROR_STOP:
                self._stopped.add(lane)
        return LocalExchange(self, outcome)

    def error_seen(self, lane: int) -> None:
        self._stopped.discard(lane)

    def end_lane(self, lane: int) -> None:
        self._stopped.discard(lane)
        session = self._lanes.pop(lane, None)
        if session is not None:
            session.close()

    def cancel(self) -> None:
        for session in list(self._lanes.values()):
            session.cancel()
        for exchange in list(self._open):
            exchange.stop()

    def read(self, exchange: LocalExchange | LocalWatched) -> None:
        self._open.add(exchange)

    def done(self, exchange: LocalExchange | LocalWatched) -> None:
        self._open.discard(exchange)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.direct = None
        for exchange in list(self._open):
            exchange.abandon()
        for session in self._lanes.values():
            session.close()
        if self._owner:
            self._store.close()

    def dropped(self) -> None:
        if not self._closed:
            warn_unclosed("a store in process", self)


class LocalExchange:
    """See ``Exchange``."""

    endless: Final = False

    def __init__(self, transport: LocalTransport, outcome: Result | Error) -> None:
        self._transport = transport
        self._outcome = outcome
        self._rows: Iterator[Any] | None = None
        self.cancelled = False

    async def result(self) -> Result:
        outcome = self._outcome
        if isinstance(outcome, Error):
            raise outcome
        if outcome.columns is not None and not isinstance(outcome.rows, list):
            self._rows = iter(outcome.rows)
            self._transport.read(self)
            outcome.rows = await self.more()
        return outcome

    @property
    def complete(self) -> bool:
        return self._rows is None

    async def more(self) -> list[tuple[object, ...]]:
        if self._rows is None:
            return []
        if self.cancelled:
            self.abandon()
            raise cancelled()
        rows = list(islice(self._rows, CHUNK_ROWS))
        if len(rows) < CHUNK_ROWS:
            self.abandon()
        return rows

    def stop(self) -> None:
        self.cancelled = True

    def abandon(self) -> None:
        self._rows = None
        self._transport.done(self)


class LocalWatched(Fetching):
    """See ``Watched``. To begin takes no event loop; what happens is waited for in one."""

    endless: Final = True

    def __init__(self, transport: LocalTransport, session: LocalSession, request: pb.Request) -> None:
        super().__init__()
        self._transport = transport
        self._session = session
        self._request = request
        self._watch: Any = None
        self.complete = False

    async def result(self) -> Result:
        result, self._watch = self._session.watch(self._request)
        self._transport.read(self)
        self.position = self._place = _position(*self._watch.start)
        return Result(result.columns, [])

    async def _fetch(self) -> Rows:
        while True:
            try:
                rows, progress = await self._watch.page()
            except Error:
                self._end()
                raise
            if rows and self._place is not None:
                self._place = self._place.behind(rows[-1])
            if progress is not None:
                self._place = _position(*progress)
            if rows:
                return list(rows)
            self.position = self._place

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def abandon(self) -> None:
        self._drop()
        self._end()

    def _end(self) -> None:
        self.complete = True
        if self._watch is not None:
            self._watch.close()
        self._session.close()
        self._transport.done(self)


def _position(store: str, since: int, revision: int, initial: bool, key: str) -> Position:
    return Position(store, since, revision, key, initial)


def _skipped() -> Error:
    error = errors.error(errors.CANCELLED, "not carried out: a statement before it failed")
    error.skipped = True
    return error
