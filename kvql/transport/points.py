"""Statements about one pair that leave in one batch: one command for all of them, and each gets its own answer.

Every point is a statement of its own, without a lane: nobody waits for it but whoever sent it, and it waits for nobody.
So those of a batch may be carried out in any order, and as columns of one GET or one write, where the server gives each
the fate that it would have had alone.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final

from kvql import errors
from kvql.codec import decode_error, decode_rows, encode_values
from kvql.compiler.points import GET, Point
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type

RUN_MAX: Final = 100
"""Points of a command: the server names at most so many failures one by one (``pb.Done.errors``)."""
GET_LANE, WRITE_LANE = 2**32 - 2, 2**32 - 1
"""Lanes that no client counts up to; a lost connection repeats what was in flight in a lane only if all of it reads."""
_KEY_VALUE: Final = (ResultColumn("key", Type.TEXT), ResultColumn("value", None))


class Waiting:
    """A point and who waits for its outcome."""

    __slots__ = ("future", "point", "together")

    def __init__(self, point: Point, namespace: str, deadline_ms: int, future: asyncio.Future[Result]) -> None:
        self.point = point
        self.together = (point.mode, namespace, deadline_ms)
        """Points for which this is the same may share a command."""
        self.future = future

    def fail(self, error: Error) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class PointRun:
    """The points of one command on their way; what ``SessionExchange`` is for a request of one statement."""

    __slots__ = (
        "_points", "_rows", "abandoned", "answered", "bytes", "ended", "key", "kind", "lost_at", "quick",
        "refused", "request", "retried", "sent",
    )  # fmt: skip

    def __init__(self, points: list[Waiting], identifier: int) -> None:
        self._points = points
        self._rows: list[tuple[Any, ...]] = []
        self.request = _request(points)
        self.request.id = identifier
        self.kind = "get" if points[0].point.mode == GET else "write"
        self.bytes = self.request.ByteSize()
        self.quick = True
        self.key = b""
        self.lost_at = 0.0
        self.ended = self.sent = self.retried = self.refused = self.answered = self.abandoned = False

    def receive(self, response: pb.Response) -> None:
        if response.HasField("rows"):
            self._rows += decode_rows(response.rows)
        outcome = response.WhichOneof("outcome")
        if outcome == "error":
            self.fail(decode_error(response.error))
        elif outcome == "done":
            self._settle(response.done)
        self.ended = response.last

    def _settle(self, done: pb.Done) -> None:
        """Give everyone what became of their statement."""
        failures = {error.statement: error for error in done.errors} if done.failed else {}
        answers = self._answers(done)
        for place, waiting in enumerate(self._points):
            if place in failures:
                waiting.fail(decode_error(failures[place]))
                continue
            result = next(answers, None)
            if result is None:
                waiting.fail(errors.error(errors.INTERNAL, "the server answered fewer statements than it was sent"))
            elif not waiting.future.done():
                waiting.future.set_result(result)

    def _answers(self, done: pb.Done) -> Iterator[Result]:
        """Of those statements that went well, in order."""
        if self.kind == "get":
            return (Result(_KEY_VALUE, [row], 1, revision=done.revision) for row in self._rows)
        revisions = done.revisions or repeat(done.revision, len(self._points) - len(done.errors))
        return (Result(row_count=1, revision=revision, completed=1) for revision in revisions)

    def fail(self, error: Error) -> None:
        """The same fate for all of them."""
        self.ended = True
        for waiting in self._points:
            waiting.fail(copy.copy(error))

    def begin_again(self) -> None:
        """Forget what has come; nobody has seen it yet."""
        self.sent = False
        self._rows.clear()


def _request(points: Sequence[Waiting]) -> pb.Request:
    mode, namespace, deadline_ms = points[0].together
    request = pb.Request(namespace=namespace)
    if deadline_ms:
        request.deadline_ms = deadline_ms
    keys = [waiting.point.key for waiting in points]
    if mode == GET:
        request.lane = GET_LANE
        request.get.keys.extend(keys)
        request.get.each = True
        return request
    request.lane = WRITE_LANE
    write = request.write
    write.mode = mode  # type: ignore[assignment] # one of the enumeration, by its number
    write.keys.extend(keys)
    encode_values([waiting.point.value for waiting in points], write.values)
    write.each = write.tell_revisions = True
    return request


class PointQueue:
    """Points that have not left yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)

    def take(self, bytes_max: int, next_id: Callable[[], int], run_max: int = RUN_MAX) -> list[PointRun]:
        """Commands for the oldest of them, as many as these bytes hold; none if nobody waits any more."""
        runs: list[list[Waiting]] = []
        open_runs: dict[tuple[int, str, int], list[Waiting]] = {}
        size = taken = 0
        for waiting in self._waiting:
            if size > bytes_max:
                break
            taken += 1
            if waiting.future.done():
                continue  # its task was cancelled meanwhile, and the statement with it: it is never carried out
            run = open_runs.get(waiting.together)
            if run is None or len(run) == run_max:
                run = open_runs[waiting.together] = []
                runs.append(run)
            run.append(waiting)
            size += waiting.point.size
        del self._waiting[:taken]
        return [PointRun(run, next_id()) for run in runs]

    def fail_all(self, make: Callable[[], Error]) -> None:
        """None of them leaves any more."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.fail(make())
