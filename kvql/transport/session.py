"""The conversation of one connection, without any I/O: what leaves in which batch, and what becomes of it.

Batching is the performance design: whatever is submitted while a batch is in flight leaves with the next. A batch has
*landed* when all its quick requests are answered; scans and bulk writes do not hold the next one back, nor does
anything that has to wait for them in its lane.

When a connection breaks, nothing is carried out twice: a read outside a transaction is repeated once, a write and a
COMMIT are repeated under their keys (see ``repeats``), which gives the outcome that was lost; a write without a key
fails with 40003 (its outcome is unknown), a transaction is over (08006), and what had not left yet leaves with the next
connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from kvql import errors
from kvql.codec import TYPE_OF_CODE, decode_error, decode_notices, decode_rows
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.transport import cancelled
from kvql.transport.failures import (
    REQUEST_BYTES_MAX,
    commit_unknown,
    no_answer,
    outcome_unknown,
    skipped,
    too_long,
    transaction_lost,
)
from kvql.transport.points import RUN_MAX, PointQueue, PointRun, Waiting
from kvql.transport.repeats import CROWD, Repeats
from kvql.v1 import kvql_pb2 as pb

BATCH_BYTES_MAX: Final = 1024 * 1024
QUICK_PAIRS_MAX: Final = 64
_READS: Final = frozenset({"get", "has", "list", "namespaces", "select", "assertion"})
_STREAMED: Final = frozenset({"list", "select", "text"})
_SLOW: Final = _STREAMED | {"namespaces", "drop_namespace", "truncate", "assertion", "restore"}
"""What the server may be long about, while it goes on with other lanes."""
_ENDS: Final = (pb.TransactionCommand.COMMIT, pb.TransactionCommand.ROLLBACK)


class SessionExchange:
    """A request and what has come back; see ``Exchange``."""

    __slots__ = (
        "_chunks", "_conversation", "_failure", "_result", "_waiter", "abandoned", "answered", "bytes", "ended", "key",
        "kind", "lost_at", "quick", "refused", "request", "retried", "sent",
    )  # fmt: skip

    def __init__(self, conversation: Conversation, request: pb.Request) -> None:
        self._conversation = conversation
        self.request = request
        self.kind = request.WhichOneof("command") or ""
        self.bytes = request.ByteSize()
        self.quick = self.kind not in _SLOW and _is_small(request, self.kind)
        self.ended = False
        self.sent = False
        self.retried = self.refused = False
        self.key = b""
        self.lost_at = 0.0
        self.answered = False
        self.abandoned = False
        self._result = Result()
        self._chunks: deque[pb.Rows] = deque()
        self._failure: Error | None = None
        self._waiter: asyncio.Future[None] | None = None

    endless: Final = False

    # ── for the caller ────────────────────────────────────────────────────────────────────────────────────────────

    async def result(self) -> Result:
        large = self.kind in _STREAMED and not (self.kind == "list" and self.request.list.what == pb.ListCommand.COUNT)
        while not self.ended and not (large and self._chunks):
            await self._wait()
        if self._failure is not None:
            raise self._failure
        self.answered = True
        result = self._result
        if result.columns is not None:
            rows: list[Any] = []
            while self._chunks:
                rows += decode_rows(self._take_chunk())
            result.rows = rows
        return result

    @property
    def complete(self) -> bool:
        return self.ended and not self._chunks and self._failure is None

    async def more(self) -> list[tuple[object, ...]]:
        while not self._chunks:
            if self.ended:
                if self._failure is not None:
                    raise self._failure
                return []
            await self._wait()
        return decode_rows(self._take_chunk())

    def _take_chunk(self) -> pb.Rows:
        self._conversation.buffered -= 1
        self._conversation.wake_reader()
        return self._chunks.popleft()

    def stop(self) -> None:
        self._conversation.cancel(self)

    def abandon(self) -> None:
        self.abandoned = True
        while self._chunks:
            self._take_chunk()
        self._conversation.cancel(self)

    async def _wait(self) -> None:
        """Until something has come; past its deadline (and some patience) the server is taken for gone."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._conversation.waiting += 1
        self._conversation.wake_reader()
        try:
            if self.request.deadline_ms:
                async with asyncio.timeout(self.request.deadline_ms / 1000 + PATIENCE_S):
                    await self._waiter
            else:
                await self._waiter
        except TimeoutError:
            self.abandon()
            raise no_answer(reads=self.kind in _READS) from None
        finally:
            self._conversation.waiting -= 1
            self._waiter = None

    # ── for the conversation ──────────────────────────────────────────────────────────────────────────────────────

    def receive(self, response: pb.Response) -> None:
        if response.HasField("rows_header"):
            header = response.rows_header
            self._result.columns = tuple(
                ResultColumn(name, TYPE_OF_CODE.get(code))
                for name, code in zip(header.names, header.types, strict=False)
            )
        if response.HasField("rows") and not self.abandoned:
            self._chunks.append(response.rows)
            self._conversation.buffered += 1
        outcome = response.WhichOneof("outcome")
        if outcome == "error":
            self._failure = decode_error(response.error)
            if self.lost_at and self._failure.sqlstate == errors.NO_TRANSACTION:
                self._failure = transaction_lost()
        elif outcome == "done":
            self._finish(response.done)
        self.ended = response.last
        self._wake()

    def _finish(self, done: pb.Done) -> None:
        result = self._result
        result.row_count = done.row_count
        result.revision = done.revision
        result.namespace = done.namespace or None
        result.completed, result.failed = done.completed, done.failed
        if done.notices:
            result.notices += decode_notices(done.notices)
        if done.errors:
            result.errors = [decode_error(e) for e in done.errors]

    def fail(self, error: Error) -> None:
        self._failure = error
        self.ended = True
        self._wake()

    def begin_again(self) -> None:
        """Forget what has come; nobody has seen it yet."""
        self.sent = False
        self._result = Result()
        self._conversation.buffered -= len(self._chunks)
        self._chunks.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


PATIENCE_S: Final = 5.0


class Conversation:
    """All exchanges of a connection, over all its sessions."""

    def __init__(self) -> None:
        self.buffered = 0
        """Chunks of rows that nobody has taken yet."""
        self.waiting = 0
        """Callers that wait for an answer."""
        self.token = ""
        """A fresh access token that the server has not been given yet."""
        self.repeats = Repeats()
        self.batches = 0
        """How many have left: what coalescing saves can be counted."""
        self.wake_reader: Callable[[], None] = _nobody
        self.wake_writer: Callable[[], None] = _nobody
        self._next_id = 1
        self._crowd = 0
        """Statements of the newest batch."""
        self._outbox: deque[SessionExchange | PointRun] = deque()
        self._points = PointQueue()
        self._flight: dict[int, SessionExchange | PointRun] = {}
        self._awaited: set[int] = set()
        self._slow_lanes: Counter[int] = Counter()
        self._cancels: list[int] = []
        self._seen: list[int] = []
        self._transactions: set[int] = set()
        self._dead_lanes: set[int] = set()
        self._stopped_lanes: set[int] = set()
        self._owed: set[int] = set()
        """Lanes that are told to go on once their abandoned requests, which may fail yet, are answered."""
        self._held: list[SessionExchange | PointRun] = []
        """What was added in those lanes meanwhile."""

    # ── what the caller wants ─────────────────────────────────────────────────────────────────────────────────────

    def add(self, request: pb.Request) -> SessionExchange:
        """Queue ``request`` for the next batch."""
        exchange = SessionExchange(self, request)
        request.id = self._new_id()
        if self.repeats.on and (self._is_calm or exchange.kind == "transaction" or request.idempotency_key):
            self.repeats.give(exchange, inside=request.lane in self._transactions)
        if exchange.bytes > REQUEST_BYTES_MAX:
            exchange.fail(too_long(exchange.bytes))
            self._stop(exchange)
        elif request.lane in self._owed:
            self._held.append(exchange)
        elif request.lane in self._dead_lanes:
            self._dead_lanes.discard(request.lane)
            exchange.fail(transaction_lost())
        elif request.lane in self._stopped_lanes and request.on_error == pb.ON_ERROR_STOP:
            # what failed before it never left: the server cannot know that this is not to be carried out
            exchange.fail(skipped())
        else:
            self._outbox.append(exchange)
        return exchange

    def add_point(self, waiting: Waiting) -> None:
        """Queue a statement about one pair, which may share a command with others."""
        self._points.add(waiting)

    @property
    def _is_calm(self) -> bool:
        """Whether so little is under way that a write may cost another pair, to be repeated by (ADR 17)."""
        return self._crowd < CROWD and len(self._flight) + len(self._outbox) + len(self._points) < CROWD

    def _new_id(self) -> int:
        identifier = self._next_id
        self._next_id += 1
        return identifier

    def error_seen(self, lane: int) -> None:
        self._stopped_lanes.discard(lane)
        if any(e.abandoned and e.request.lane == lane for e in self._flight.values()):
            self._owed.add(lane)
        else:
            self._seen.append(lane)

    def _pay(self, lane: int) -> None:
        """Tell a lane to go on if it can, and let what was held back in it go."""
        self._owed.discard(lane)
        self.error_seen(lane)
        if lane not in self._owed:
            held, self._held = self._held, []
            for exchange in held:
                (self._outbox if exchange.request.lane == lane else self._held).append(exchange)
            self.wake_writer()

    def cancel(self, exchange: SessionExchange | PointRun) -> None:
        """Stop one request; one that has not left never does."""
        if exchange.ended:
            return
        if exchange.sent:
            self._cancels.append(exchange.request.id)
            self.wake_writer()
        else:
            for waiting in (self._outbox, self._held):
                if exchange in waiting:
                    waiting.remove(exchange)
            exchange.fail(outcome_unknown("cancelled on your request") if exchange.lost_at else cancelled())
            self._stop(exchange)

    def cancel_all(self) -> None:
        self._points.fail_all(cancelled)
        for exchange in [*self._held, *self._outbox, *self._flight.values()]:
            self.cancel(exchange)

    @property
    def idle(self) -> bool:
        """Nothing to send and nothing to wait for."""
        return not (self._outbox or self._points or self._flight)

    @property
    def has_work(self) -> bool:
        """Whether ``batch`` would give one."""
        return bool(self._cancels or self._seen or self.token or ((self._points or self._outbox) and not self._awaited))

    # ── what goes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def batch(self) -> pb.ClientBatch | None:
        """The next message, or None while one is in flight that others should not overtake."""
        if not self.has_work:
            return None
        batch = pb.ClientBatch(access_token=self.token, cancel=self._cancels, error_seen=self._seen)
        self.token = ""
        self._cancels.clear()
        self._seen.clear()
        if not self._awaited:
            self._load(batch)
        self.batches += 1
        return batch

    def _load(self, batch: pb.ClientBatch) -> None:
        points = len(self._points)
        if points:
            apart = self.repeats.on and self._is_calm
            for run in self._points.take(BATCH_BYTES_MAX, self._new_id, 1 if apart else RUN_MAX):
                if apart:
                    self.repeats.give(run, inside=False)
                self._outbox.append(run)
        size = 0
        requests: list[pb.Request] = []
        while self._outbox and (not requests or size + self._outbox[0].bytes <= BATCH_BYTES_MAX):
            exchange = self._outbox.popleft()
            exchange.sent = True
            request = exchange.request
            size += exchange.bytes
            requests.append(request)
            self._flight[request.id] = exchange
            if not exchange.quick:
                self._slow_lanes[request.lane] += 1
            elif request.lane not in self._slow_lanes:
                self._awaited.add(request.id)
        self._crowd = len(requests) + points
        batch.requests.extend(requests)

    def unsend(self, batch: pb.ClientBatch) -> None:
        """``batch`` never went to the wire: everything in it leaves with the next session."""
        back = [self._flight[request.id] for request in batch.requests if request.id in self._flight]
        for exchange in back:
            self._landed(exchange)
            exchange.begin_again()
        self._outbox.extendleft(reversed(back))

    # ── what comes ────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, batch: pb.ServerBatch) -> None:
        for response in batch.responses:
            exchange = self._flight.get(response.id)
            if exchange is None:
                continue
            try:
                exchange.receive(response)
            except Error as e:  # an answer that cannot be read is the business of who asked, and of nobody else
                exchange.fail(e)
            if response.last:
                self._landed(exchange)
                self.repeats.take_back(exchange)
                if exchange.request.lane in self._owed:
                    self._pay(exchange.request.lane)
                if exchange.kind == "transaction":
                    self._note_transaction(exchange.request, response)

    def _landed(self, exchange: SessionExchange | PointRun) -> None:
        request = exchange.request
        del self._flight[request.id]
        self._awaited.discard(request.id)
        if not exchange.quick:
            self._slow_lanes[request.lane] -= 1
            if not self._slow_lanes[request.lane]:
                del self._slow_lanes[request.lane]

    def _note_transaction(self, request: pb.Request, response: pb.Response) -> None:
        action = request.transaction.action
        if action == pb.TransactionCommand.BEGIN and response.WhichOneof("outcome") == "done":
            self._transactions.add(request.lane)
        # a COMMIT after an error ends nothing: ROLLBACK TO may still bring the transaction back
        elif action in _ENDS and response.error.sqlstate not in (errors.TRANSACTION_ABORTED, errors.CANCELLED):
            self._transactions.discard(request.lane)

    # ── when it breaks ────────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, cause: Error, *, untouched: bool = False) -> None:
        """The session is gone. ``untouched``: the server says that it carried out nothing of it."""
        flight = list(self._flight.values())
        changing = {e.request.lane for e in flight if e.kind not in _READS and not e.key}
        again: list[SessionExchange | PointRun] = []
        for exchange in flight:
            lane = exchange.request.lane
            ordered = lane not in changing or exchange.kind == "transaction"
            if exchange.key and ordered and not (untouched or exchange.abandoned) and self.repeats.lost(exchange):
                exchange.begin_again()
                again.append(exchange)
            elif lane in self._transactions:
                exchange.fail(commit_unknown(exchange.request, cause) or transaction_lost(cause))
                self._stop(exchange)
            elif exchange.abandoned:
                exchange.fail(cause)
            elif untouched and not exchange.refused:
                exchange.refused = True
                exchange.begin_again()
                again.append(exchange)
            elif lane not in changing and not exchange.retried and not exchange.answered and not untouched:
                exchange.retried = True
                exchange.begin_again()
                again.append(exchange)
            else:
                exchange.fail(cause if exchange.kind in _READS or untouched else outcome_unknown(cause.message))
                self._stop(exchange)
        self._dead_lanes |= self._transactions - {e.request.lane for e in flight}
        self._transactions.clear()
        self._flight.clear()
        self._awaited.clear()
        self._slow_lanes.clear()
        self._cancels.clear()
        self._seen.clear()
        self._owed.clear()
        self._outbox.extendleft(reversed(again))
        self._outbox.extend(self._held)
        self._held.clear()
        self._drop_behind_failures()

    def _stop(self, exchange: SessionExchange | PointRun) -> None:
        if exchange.request.on_error == pb.ON_ERROR_STOP:
            self._stopped_lanes.add(exchange.request.lane)

    def _drop_behind_failures(self) -> None:
        """What has not left yet: not after a failure with ON_ERROR_STOP, and not outside its lost transaction."""
        waiting = list(self._outbox)
        self._outbox.clear()
        for exchange in waiting:
            lane = exchange.request.lane
            if lane in self._dead_lanes:
                self._dead_lanes.discard(lane)
                exchange.fail(transaction_lost())
                self._stop(exchange)
            elif lane in self._stopped_lanes and exchange.request.on_error == pb.ON_ERROR_STOP:
                exchange.fail(skipped())
            else:
                self._outbox.append(exchange)

    def refuse_all(self, cause: Error, *, for_good: bool = False) -> bool:
        """No new session can be had: what waits for one fails, and nothing of it was carried out; but what was lost
        before its answer came waits on for a while. Whether something does."""
        self._points.fail_all(lambda: errors.error(cause.sqlstate, cause.message, hint=cause.hint))
        kept: list[SessionExchange | PointRun] = []
        while self._outbox:
            exchange = self._outbox.popleft()
            if exchange.lost_at and not for_good and self.repeats.lost(exchange):
                kept.append(exchange)
                continue
            if exchange.lost_at:
                exchange.fail(outcome_unknown(cause.message))
            else:
                exchange.fail(errors.error(cause.sqlstate, cause.message, hint=cause.hint))
            self._stop(exchange)
        self._outbox.extend(kept)
        return bool(kept)


def _is_small(request: pb.Request, kind: str) -> bool:
    """Whether a write is about few pairs."""
    match kind:
        case "write":
            return len(request.write.keys) <= QUICK_PAIRS_MAX
        case "insert":
            return len(request.insert.values.types) <= QUICK_PAIRS_MAX * max(request.insert.width, 1)
        case "update_rows":
            return is_one_key(request.update_rows.where)
        case "delete_rows":
            return is_one_key(request.delete_rows.where)
    return True


def is_one_key(where: pb.Expression) -> bool:
    """``key = …`` and nothing else."""
    ops = [step.op for step in where.steps[:4]]
    return ops in ([pb.OP_COLUMN, pb.OP_CONSTANT, pb.OP_EQ], [pb.OP_CONSTANT, pb.OP_COLUMN, pb.OP_EQ]) and list(
        where.names
    ) == ["key"]


def _nobody() -> None:
    """Who is woken before a connection stands."""
