"""A lane of a session: what waits in it, how its transaction stands, and whether an error has stopped it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from kvql.v1 import kvql_pb2 as pb
from kvql_server.executor import Lane, Work

_LONG: Final = frozenset(
    (
        "list", "select", "text", "namespaces", "drop_namespace", "update_rows", "delete_rows", "truncate",
        "assertion", "restore", "watch",
    )
)  # fmt: skip
_AT_ONCE_BYTES_MAX: Final = 16 * 1024
"""Of an INSERT, or of a write with expressions or of a run under a key, that is carried out without letting others
have their turn."""


def is_long(request: pb.Request) -> bool:
    """Whether others should have their turn while it is carried out."""
    command = request.WhichOneof("command")
    if command == "write":
        # under a key each statement of a run is a commit by itself, with what became of the run so far
        slow = bool(request.write.values.expressions) or (request.idempotency_key and len(request.write.keys) > 1)
        return bool(slow) and request.ByteSize() > _AT_ONCE_BYTES_MAX
    return command in _LONG or (command == "insert" and request.ByteSize() > _AT_ONCE_BYTES_MAX)


class LaneState:
    """See the module's text."""

    __slots__ = ("lane", "stopped", "task", "waiting")

    def __init__(self, session: object) -> None:
        self.lane = Lane(group=session)
        self.waiting: deque[tuple[pb.Request, Work] | None] = deque()
        """None where requests were refused: a transaction that is open by then has failed."""
        self.task: asyncio.Task[None] | None = None
        self.stopped = False

    @property
    def forgettable(self) -> bool:
        lane = self.lane
        return not (self.task or self.stopped or lane.transaction or lane.namespace)

    def failed(self) -> None:
        """Of a transaction that is open, only the end is accepted from here on."""
        if self.lane.transaction is not None:
            self.lane.transaction.failed = True

    def refused(self, request: pb.Request) -> None:
        """The request is never carried out: for what comes behind it, it has failed as any other."""
        self.stopped = self.stopped or request.on_error == pb.ON_ERROR_STOP
        if self.task is None:
            self.failed()
        elif not self.waiting or self.waiting[-1] is not None:
            self.waiting.append(None)
