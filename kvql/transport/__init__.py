"""How requests travel: over gRPC, or by a call into a store that lives in this process.

In order of control flow: ``target`` reads what the user wrote, ``login`` gets tokens, ``session`` is the conversation
without any I/O (ids, batches, what becomes of requests when a connection breaks), ``wire`` drives it over grpc.aio,
``probe`` finds out why a connection could not be made, ``local`` opens a store in process.

The caller sees only this face. Methods are coroutines because a network is; in process they never suspend, so that they
can be stepped without an event loop, and ``direct`` skips even that.
"""

from __future__ import annotations

import os
import warnings
from asyncio import Future
from collections.abc import Callable
from typing import Protocol

from kvql import errors
from kvql.compiler.points import Point
from kvql.errors import Error
from kvql.result import Result
from kvql.transport.fetching import Position
from kvql.v1 import kvql_pb2 as pb

# gRPC's C core writes its own lines to standard error unless it is told before it is first imported not to; what is
# worth knowing of them reaches the user as an error with a sentence of ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class Exchange(Protocol):
    """One request on its way."""

    @property
    def endless(self) -> bool:
        """The rows are events that come when they happen: ``more`` waits for them, and nobody waits for the end."""

    async def result(self) -> Result:
        """The outcome as soon as it or the first rows are here; raises the statement's ``errors.Error``.

        ``rows`` is then a list of what has come so far; the rest comes from ``more`` until ``complete``. The counts and
        notices of the result are final only then.
        """

    @property
    def complete(self) -> bool:
        """No more rows will come."""

    async def more(self) -> list[tuple[object, ...]]:
        """The next chunk of rows; empty at the end. Raises what ended the statement early."""

    def stop(self) -> None:
        """Stop the work if it still runs; its outcome (57014) is still asked for."""

    def abandon(self) -> None:
        """Nobody will ask again: stop the work if it still runs, and drop what comes."""


class Watched(Exchange, Protocol):
    """A watch on its way."""

    position: Position | None
    """Behind all that ``more`` has given; None before ``result``."""

    async def ready(self, seconds: float | None) -> bool:
        """Whether ``more`` has something to give within so many seconds; None: wait until it does."""


class Refused:
    """The exchange of a request that never leaves; see ``Exchange``."""

    complete = True
    endless = False

    def __init__(self, error: Error) -> None:
        self._error = error

    async def result(self) -> Result:
        raise self._error

    async def more(self) -> list[tuple[object, ...]]:
        return []

    def stop(self) -> None:
        """Nothing runs."""

    abandon = stop


def cancelled() -> Error:
    """57014 as the server words it, for what never reached it."""
    error = errors.cancelled()
    error.unsent = True
    return error


class Transport(Protocol):
    """A connection. Requests of one lane are carried out in the order submitted."""

    user: str
    namespace: str
    """The namespace that a new client starts in; empty for none."""
    direct: Callable[[pb.Request], Result] | None
    """If not None: carry out a request now, without a coroutine."""
    point: Callable[[Point, str, int], Future[Result]] | None
    """If not None: carry out a statement about one pair in a namespace, with a deadline in milliseconds (0 for none).

    It belongs to no lane, and shares a command with others that leave in the same batch. Cancelling the future takes
    it back if it has not left yet.
    """

    @property
    def closed(self) -> bool:
        """``close`` has been called."""

    def submit(self, request: pb.Request, *, apart: bool = False) -> Exchange:
        """Send ``request`` when the next batch leaves; its lane, namespace and deadline are set by the caller.

        ``apart``: nothing before it in its lane matters to it (no transaction, nothing in flight), so a large answer
        may travel on a stream of its own. WATCH is then ``Watched``.
        """

    def error_seen(self, lane: int) -> None:
        """The lane may go on after a failure with ``ON_ERROR_STOP``."""

    def cancel(self) -> None:
        """Stop everything in flight (57014). Safe in a signal handler and in any thread."""

    def end_lane(self, lane: int) -> None:
        """Roll back what may be open in ``lane``, without waiting; whoever uses the number next finds it empty."""

    async def sibling(self) -> Transport:
        """A connection of its own to the same store, for the same user."""

    async def close(self) -> None:
        """End the connection; open transactions are rolled back. Closing twice is fine."""

    def dropped(self) -> None:
        """Nobody holds the connection any more: say so if nobody has closed it. From any thread, at any time."""


def warn_unclosed(place: str, transport: Transport) -> None:
    """As Python warns of files and sockets that are left open: with ``-X dev`` or ``-W default``."""
    warnings.warn(
        f"unclosed connection to {place}: await its close(), or enter it with async with", ResourceWarning, 2, transport
    )
