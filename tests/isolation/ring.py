"""Keys in a ring, each with the name of the next one as its value; clients take a key out of its place and put it back
into another, in transactions, while the server is killed (FoundationDB's cycle test). The ring stays one ring of all
keys: whoever loses an update, sees half a transaction or keeps half of one after a crash makes it two, or a tree."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Final

from kvql.errors import Error
from tests.servers import Server

GONE: Final = ("08006", "08001", "08003", "40003", "57014", "57P01")
WAIT_S: Final = 120.0


def make(connection: Any, size: int) -> None:
    """The ring in namespace t."""
    connection.execute("CREATE NAMESPACE IF NOT EXISTS t")
    connection.execute("USE t")
    connection.execute("TRUNCATE NAMESPACE t")
    pairs = [part for n in range(size) for part in (f"n{n}", f"n{(n + 1) % size}")]
    connection.execute("PUT " + ", ".join(["? ?"] * size), pairs)


def fault(following: dict[str, str], size: int) -> str | None:
    """What is wrong with a ring of ``size`` keys, as it was read."""
    if len(following) != size:
        return f"{len(following)} keys instead of {size}: {following}"
    seen, at = ["n0"], following["n0"]
    while at != "n0":
        if at not in following or at in seen:
            return f"the way from n0 does not come back: {seen} and then {at}"
        seen.append(at)
        at = following[at]
    return None if len(seen) == size else f"the ring of n0 has {len(seen)} keys of {size}: {seen}"


def move(connection: Any, rng: random.Random, size: int) -> None:
    """Take the key after a drawn one out, and put it back behind the one that followed it: a→b→c→d becomes a→c→b→d."""
    a = f"n{rng.randrange(size)}"
    connection.execute("BEGIN")
    b = _next(connection, a, rng)
    c = _next(connection, b, rng)
    d = _next(connection, c, rng)
    steps = [(a, c), (c, b), (b, d)]
    rng.shuffle(steps)
    for key, following in steps:
        _point(connection, key, following, rng)
    connection.execute("COMMIT")


def _next(connection: Any, key: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return str(connection.execute("GET ?", [key]).fetchall()[0][1])
    return str(connection.execute("SELECT value WHERE key = ?", [key]).fetchall()[0][0])


def _point(connection: Any, key: str, following: str, rng: random.Random) -> None:
    roll = rng.random()
    if roll < 0.4:
        connection.execute("UPDATE t SET value = ? WHERE key = ?", [following, key])
    elif roll < 0.7:
        connection.execute("UPSERT ? ?", [key, following])
    elif roll < 0.85:
        connection.execute("DELETE ?", [key])
        connection.execute("PUT ? ?", [key, following])
    else:
        connection.execute("SAVEPOINT s")
        connection.execute("DELETE FROM t WHERE value <> ?", ["nobody"])
        connection.execute("ROLLBACK TO SAVEPOINT s")
        connection.execute("UPDATE ? ?", [key, following])


def look(connection: Any, rng: random.Random, size: int) -> str | None:
    """Read the whole ring, in one statement or key by key in a transaction; what is wrong with it."""
    if rng.random() < 0.5:
        return fault(dict(connection.execute("SELECT key, value FROM t").fetchall()), size)
    connection.execute("BEGIN READ ONLY")
    found: dict[str, str] = {}
    for n in range(size):
        found.update(connection.execute("GET ?", [f"n{n}"]).fetchall())
    connection.execute("COMMIT")
    return fault(found, size)


class Movers:
    """Threads that move keys, and one that looks; each reconnects when the server comes back."""

    def __init__(self, server: Server, seed: int, size: int, movers: int = 3) -> None:
        self.server = server
        self.size = size
        self.moved = self.conflicts = self.looked = self.unknown = 0
        self.faults: list[str] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        rngs = [random.Random(seed * 1000 + n) for n in range(movers + 1)]
        self._threads = [threading.Thread(target=self._work, args=(rng, n == movers)) for n, rng in enumerate(rngs)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, moves: int) -> None:
        """Until so many moves have been committed since the start."""
        ends = time.monotonic() + WAIT_S
        while self.moved < moves and self._failure is None and not self.faults:
            if time.monotonic() > ends:
                raise AssertionError(f"only {self.moved} moves in {WAIT_S:.0f} s")
            time.sleep(0.002)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a client hangs"
        if self._failure is not None:
            raise self._failure

    def _work(self, rng: random.Random, looks: bool) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with self.server.connect("t", timeout=30) as connection:
                        while not self._stop.is_set():
                            self._one(connection, rng, looks)
                except Error as e:
                    if e.sqlstate not in GONE:
                        raise
                    self._counted("unknown")
                    time.sleep(0.01)
        except BaseException as e:  # noqa: BLE001 - handed on to whoever waits
            self._failure = e

    def _one(self, connection: Any, rng: random.Random, looks: bool) -> None:
        if looks:
            wrong = look(connection, rng, self.size)
            if wrong is not None:
                self.faults.append(wrong)
            self._counted("looked")
            return
        try:
            move(connection, rng, self.size)
            self._counted("moved")
        except Error as e:
            if e.sqlstate != "40001":
                raise
            self._counted("conflicts")

    def _counted(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
