"""Which requests are sent again when a connection breaks, and for how long.

Reads always may be. A write may be if the server can tell that it was carried out already: it goes with a repeat key
(``pb.Request.repeat_key``). A connection has as many keys as it had such writes in flight at once, each used again and
again with a growing sequence, so that the server keeps a pair for each of them and not one for each write. Runs of many
writes have none: the pair would be written with every one of them. Nor have writes when much is in flight: there the
server's time is what counts, and the second pair takes a third as much again (ADR 17).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from kvql.v1 import kvql_pb2 as pb

if TYPE_CHECKING:
    from kvql.transport.points import PointRun
    from kvql.transport.session import SessionExchange

REPEAT_S: Final = 5.0
"""How long a write whose outcome is open is asked for again before it is called unknown."""
CROWD: Final = 8
"""With so many requests under way, another write gets no key."""
_WRITES: Final = frozenset(
    {
        "write", "delete", "expire", "insert", "update_rows", "delete_rows", "truncate", "restore",
        "create_namespace", "alter_namespace", "drop_namespace",
    }
)  # fmt: skip


class Repeats:
    """The repeat keys of one connection."""

    def __init__(self) -> None:
        self.on = False
        """Whether the server keeps outcomes."""
        self._connection = os.urandom(12)
        self._keys = 0
        self._free: list[bytes] = []
        self._sequence = 0

    def give(self, exchange: SessionExchange | PointRun, *, inside: bool) -> None:
        """A key, if the request is one that needs it; ``inside`` a transaction only COMMIT does."""
        request = exchange.request
        if request.idempotency_key:
            exchange.key = request.idempotency_key
            return
        if exchange.kind == "transaction":
            if not inside or request.transaction.action != pb.TransactionCommand.COMMIT:
                return  # a COMMIT of nothing is answered with a notice
        elif inside or exchange.kind not in _WRITES or request.mode or _is_run(request):
            return
        if self._free:
            key = self._free.pop()
        else:
            key = self._connection + self._keys.to_bytes(4, "big")
            self._keys += 1
        self._sequence += 1
        request.repeat_key = exchange.key = key
        request.repeat_sequence = self._sequence

    def take_back(self, exchange: SessionExchange | PointRun) -> None:
        """Nobody waits for the outcome any more; what comes of it yet has an older sequence than the next."""
        if exchange.key and exchange.request.repeat_key:
            self._free.append(exchange.key)
        exchange.key = b""

    @staticmethod
    def lost(exchange: SessionExchange | PointRun) -> bool:
        """The connection broke before the answer came: whether the request is to be sent again."""
        if not exchange.key:
            return False
        now = time.monotonic()
        exchange.lost_at = exchange.lost_at or now
        return now - exchange.lost_at < REPEAT_S


def _is_run(request: pb.Request) -> bool:
    if not request.HasField("write"):
        return False
    write = request.write
    return len(write.keys) > 1 if write.each else len(write.statement_sizes) > 1
