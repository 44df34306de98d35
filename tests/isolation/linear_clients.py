"""Clients of a real server that read and write a few keys one at a time, while it is killed and started again; what
they did is a history for ``linear.explain``, key by key."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from typing import Any, Final

import kvql
from kvql.errors import Error
from tests.isolation.linear import ABSENT, UNKNOWN, Operation, explain
from tests.servers import Server

KEYS: Final = 6
GONE: Final = ("08006", "08001", "08003", "40003", "57014", "57P01")
START_TIMEOUT_S: Final = 120.0


class Clients:
    """Threads, each with a connection of its own that it opens anew when it breaks. They work in rounds: what is
    recorded of a key across rounds is one history."""

    def __init__(self, server: Server, seed: int, clients: int = 4) -> None:
        self.server = server
        self.histories: dict[str, list[Operation]] = defaultdict(list)
        self.unknown = 0
        self._rngs = [random.Random(seed * 1000 + n) for n in range(clients)]
        self._value = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._count = 0

    def start(self) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(len(self._rngs))]
        for thread in self._threads:
            thread.start()

    def wait(self, operations: int) -> None:
        """Until so many operations have ended since the start."""
        ends = time.monotonic() + START_TIMEOUT_S
        while self._count < operations and self._failure is None:
            if time.monotonic() > ends:
                raise AssertionError(f"only {self._count} operations in {START_TIMEOUT_S:.0f} s")
            time.sleep(0.002)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(START_TIMEOUT_S)
            assert not thread.is_alive(), "a client hangs"
        if self._failure is not None:
            raise self._failure

    @property
    def count(self) -> int:
        return self._count

    def faults(self) -> list[str]:
        """What no order of the operations on a key explains."""
        out = []
        for key, operations in sorted(self.histories.items()):
            told = explain(operations)
            if told is not None:
                out.append(f"{key}: {told}")
        return out

    # ── one client ────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                connection = self._connect()
                if connection is None:
                    continue
                try:
                    while not self._stop.is_set() and self._one(number, connection):
                        pass
                finally:
                    _close(connection)
        except BaseException as e:  # noqa: BLE001 - handed on to whoever waits for the clients
            self._failure = e

    def _connect(self) -> Any:
        try:
            return self.server.connect("t", timeout=30)
        except Error as e:
            if e.sqlstate not in GONE:
                raise
            time.sleep(0.01)
            return None

    def _one(self, number: int, connection: Any) -> bool:
        """One operation; whether the connection is still good."""
        rng = self._rngs[number]
        with self._lock:
            self._value += 1
            value = self._value
        key, kind = f"k{rng.randrange(KEYS)}", rng.choice(["get", "get", "put", "update", "upsert", "delete", "cas"])
        argument: Any = None
        if kind == "cas":
            argument = (self._guess(key, rng), value)
        elif kind in ("put", "update", "upsert"):
            argument = value
        call, good = time.monotonic_ns(), True
        try:
            outcome = carry_out(connection, kind, key, argument, by_sql=rng.random() < 0.5)
        except Error as e:
            if e.sqlstate not in GONE:
                raise
            outcome, good = UNKNOWN, False
        returned = time.monotonic_ns()
        with self._lock:
            self._count += 1
            self.unknown += outcome == UNKNOWN
            if outcome != UNKNOWN or kind != "get":
                self.histories[key].append(Operation(number, kind, argument, outcome, call, returned))
        return good

    def _guess(self, key: str, rng: random.Random) -> int:
        """A value that the key may have: mostly the last one that somebody saw or wrote."""
        with self._lock:
            for op in reversed(self.histories[key][-6:]):
                if isinstance(op.outcome, int) and not isinstance(op.outcome, bool):
                    return op.outcome
                if op.outcome in ("ok", True) and rng.random() < 0.8:
                    return op.argument[1] if op.kind == "cas" else op.argument
            return self._value


def carry_out(connection: Any, kind: str, key: str, argument: Any, *, by_sql: bool) -> Any:
    """An operation through one of the statements that do it; its outcome as ``linear`` names it."""
    try:
        match kind:
            case "get":
                text = "SELECT key, value WHERE key = ?" if by_sql else "GET ?"
                found = connection.execute(text, [key]).fetchall()
                return found[0][1] if found else ABSENT
            case "put" if by_sql:
                text = "INSERT INTO t VALUES (?, ?) ON CONFLICT DO NOTHING"
                return "ok" if connection.execute(text, [key, argument]).rowcount else "exists"
            case "put":
                connection.execute("PUT ? ?", [key, argument])
                return "ok"
            case "update" if by_sql:
                changed = connection.execute("UPDATE t SET value = ? WHERE key = ?", [argument, key]).rowcount
                return "ok" if changed else ABSENT
            case "update":
                connection.execute("UPDATE ? ?", [key, argument])
                return "ok"
            case "upsert" if by_sql:
                text = "INSERT INTO t VALUES (?, ?) ON CONFLICT DO UPDATE SET value = EXCLUDED.value"
                connection.execute(text, [key, argument])
                return "ok"
            case "upsert":
                connection.execute("UPSERT ? ?", [key, argument])
                return "ok"
            case "delete":
                text = "DELETE FROM t WHERE key = ? RETURNING key, value" if by_sql else "DELETE ?"
                found = connection.execute(text, [key]).fetchall()
                return found[0][1] if found else ABSENT
            case "cas":
                expected, new = argument
                text = "UPDATE t SET value = ? WHERE key = ? AND value = ?"
                return connection.execute(text, [new, key, expected]).rowcount == 1
    except kvql.Error as e:
        if e.sqlstate == "02000":
            return ABSENT
        if e.sqlstate == "23505":
            return "exists"
        raise
    raise AssertionError(f"unknown kind {kind}")


def _close(connection: Any) -> None:
    try:
        if not connection.closed:
            connection.close()
    except Error as e:
        if e.sqlstate not in GONE:
            raise


def with_kills(
    server: Server, clients: Clients, kills: int, operations: int, rng: random.Random, unknown: int = 0
) -> None:
    """So many kills and restarts, each after some ``operations``; and as many operations after the last one. More of
    them until so many outcomes are ``unknown``."""
    with server.connect() as connection:
        connection.execute("CREATE NAMESPACE IF NOT EXISTS t")
    clients.start()
    try:
        made = 0
        while made < kills or clients.unknown < unknown:
            made += 1
            clients.wait(clients.count + rng.randrange(operations // 2, operations))
            server.kill()
            server.start()
        clients.wait(clients.count + operations)
    finally:
        clients.stop()
