"""Clients that append to lists and read them, in transactions; what they did is a history for ``appends.check``.

A list is a TEXT value, one ``,number`` an element. Lists come in groups of four, ``g7-0`` to ``g7-3``, so that a read
by prefix sees the lists that are not there yet as well (and a phantom is an edge like any other). A group is left for a
new one when its lists are long.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

import kvql
from kvql.errors import Error
from tests.isolation.appends import Append, Read, Transaction
from tests.isolation.stores import Store
from tests.servers import ADMIN, PASSWORD, Server

KEYS: Final = 4
GROUPS: Final = 3
LONG: Final = 60
"""Appends to a group before it is left."""
CHANGED: Final = "40001"
GONE: Final = ("08006", "08001", "08003", "40003", "57014", "57P01")
"""Errors after which nobody knows whether a COMMIT was carried out."""

APPEND: Final = "INSERT INTO t VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value || EXCLUDED.value"
UPDATE: Final = "UPDATE t SET value = value || ? WHERE key = ?"

Step = tuple[str, list[Any]]
Rows = list[tuple[Any, ...]]


class History:
    """Collects what all clients of a run did, on one clock that counts the moments they ask for."""

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []
        self.conflicts = 0
        self._moment = 0
        self._element = 0
        self._groups = [[number, 0] for number in range(GROUPS)]
        self._next_group = GROUPS

    def moment(self) -> int:
        self._moment += 1
        return self._moment

    def begin(self) -> Transaction:
        made = Transaction(len(self.transactions), self.moment())
        self.transactions.append(made)
        return made

    def element(self) -> int:
        self._element += 1
        return self._element

    def group(self, rng: random.Random, appends: int) -> int:
        """A group in use, which is to get so many elements more."""
        place = rng.randrange(GROUPS)
        group = self._groups[place]
        group[1] += appends
        if group[1] > LONG:
            self._groups[place] = group = [self._next_group, appends]
            self._next_group += 1
        return group[0]

    def lists(self) -> list[str]:
        return [f"g{group}-{n}" for group in range(self._next_group) for n in range(KEYS)]


def elements(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value.split(",")[1:])) if value is not None else ()


class Client:
    """One client's transactions. ``run`` is a generator: it yields statements and is sent their rows, or is thrown
    what they raised; so the same client works on a store in this process, statement by statement in any order, and
    over the network."""

    def __init__(self, history: History, seed: int) -> None:
        self.history = history
        self.rng = random.Random(seed)
        self.current: Transaction | None = None

    def run(self) -> Generator[Step, Rows, None]:
        """One transaction."""
        roll = self.rng.random()
        transaction = self.current = self.history.begin()
        try:
            if roll < 0.15:
                yield from self._single(transaction)
            elif roll < 0.25:
                yield from self._read_only(transaction)
            else:
                yield from self._several(transaction)
        except Error as e:
            if e.sqlstate == CHANGED:
                self.history.conflicts += 1
                transaction.outcome = "aborted"
            elif e.sqlstate not in GONE:
                raise
        if transaction.outcome != "unknown":
            transaction.ended = self.history.moment()

    def _single(self, transaction: Transaction) -> Generator[Step, Rows, None]:
        """A statement outside BEGIN … COMMIT."""
        if self.rng.random() < 0.6:
            yield from self._append(transaction)
        else:
            yield from self._read(transaction)
        transaction.outcome = "committed"

    def _read_only(self, transaction: Transaction) -> Generator[Step, Rows, None]:
        yield "BEGIN READ ONLY", []
        for _ in range(self.rng.randrange(1, 4)):
            yield from self._read(transaction)
        yield "COMMIT", []
        transaction.outcome = "committed"

    def _several(self, transaction: Transaction) -> Generator[Step, Rows, None]:
        yield "BEGIN", []
        for _ in range(self.rng.randrange(1, 5)):
            roll = self.rng.random()
            if roll < 0.5:
                yield from self._append(transaction)
            elif roll < 0.95:
                yield from self._read(transaction)
            else:
                yield from self._undone()
        if self.rng.random() < 0.05:
            transaction.outcome = "aborted"
            yield "ROLLBACK", []
            return
        yield "COMMIT", []
        transaction.outcome = "committed"

    def _undone(self) -> Generator[Step, Rows, None]:
        """Work that ROLLBACK TO takes back: to everybody else it is a transaction that did not commit."""
        part = self.history.begin()
        part.outcome = "aborted"
        yield "SAVEPOINT s", []
        yield from self._append(part)
        yield "ROLLBACK TO SAVEPOINT s", []
        part.ended = self.history.moment()

    def _append(self, transaction: Transaction) -> Generator[Step, Rows, None]:
        key = f"g{self.history.group(self.rng, 1)}-{self.rng.randrange(KEYS)}"
        element = self.history.element()
        transaction.ops.append(Append(key, element))
        yield APPEND, [key, f",{element}"]

    def _read(self, transaction: Transaction) -> Generator[Step, Rows, None]:
        group, roll = self.history.group(self.rng, 0), self.rng.random()
        keys = [f"g{group}-{n}" for n in range(KEYS)]
        if roll < 0.4:
            wanted = [self.rng.choice(keys)]
            rows = yield "SELECT key, value WHERE key = ?", wanted
        elif roll < 0.6:
            wanted = self.rng.sample(keys, 2)
            rows = yield "SELECT key, value WHERE key IN (?, ?)", wanted
        elif roll < 0.8:
            wanted = keys
            rows = yield "SELECT key, value WHERE key ^= ?", [f"g{group}-"]
        elif roll < 0.9:
            wanted = keys
            rows = yield "SHOW DATA LIKE ?", [f"g{group}-%"]
        else:
            # by the value: every list that has the element, so all of it is read and only one list told
            wanted = [keys[0]]
            rows = yield "SELECT key, value WHERE value LIKE ? AND key = ?", [",%", wanted[0]]
        found = dict(rows)
        assert set(found) <= set(wanted), f"{sorted(found)} are not what was asked for: {wanted}"
        transaction.ops += [Read(key, elements(found.get(key))) for key in wanted]

    def read_all(self) -> Generator[Step, Rows, None]:
        """Every list at once: the last transaction of a history, which tells what is there in the end."""
        transaction = self.current = self.history.begin()
        found = dict((yield "SELECT key, value", []))
        transaction.ops = [Read(key, elements(found.get(key))) for key in self.history.lists()]
        transaction.outcome, transaction.ended = "committed", self.history.moment()


def in_turns(store: Store, history: History, count: int, seed: int, clients: int = 8) -> None:
    """``count`` transactions on a store in this process; one thread carries out the statements of all clients in an
    order drawn from ``seed``, so a run repeats exactly."""
    rng = random.Random(seed)
    slots = [[Client(history, rng.randrange(2**32)), store.connect(), None, None] for _ in range(clients)]
    slots[0][1].execute("CREATE NAMESPACE IF NOT EXISTS t")
    begun = 0
    while True:
        busy = [slot for slot in slots if slot[2] is not None]
        if begun >= count and not busy:
            break
        slot = rng.choice(slots if begun < count else busy)
        client, connection, running, statement = slot
        if running is None:
            slot[2] = running = client.run()
            slot[3] = next(running)
            begun += 1
            continue
        try:
            try:
                rows = fetched(connection.execute(*statement))
            except Error as e:
                slot[3] = running.throw(e)
            else:
                slot[3] = running.send(rows)
        except StopIteration:
            slot[2] = None
            if connection.transaction_state != "none":
                connection.execute("ROLLBACK")
        if rng.random() < 0.001:
            store.engine.tick()
        if rng.random() < 0.0002 and hasattr(store.engine, "checkpoint"):
            store.engine.checkpoint()
    last, connection = Client(history, 0).read_all(), store.connect()
    _finish(last, fetched(connection.execute(*next(last))))


def fetched(cursor: Any) -> Rows:
    return [] if cursor.description is None else cursor.fetchall()


def _finish(running: Generator[Step, Rows, None], rows: Rows) -> None:
    try:
        running.send(rows)
    except StopIteration:
        return
    raise AssertionError("a transaction of one statement has another")


class Lane:
    """One task's way over a connection that tasks share: BEGIN as text is ``con.transaction()`` there."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transaction: Any = None

    async def execute(self, text: str, parameters: list[Any]) -> Rows:
        if text.startswith("BEGIN"):
            self._transaction = await self._connection.transaction(read_only="READ" in text).__aenter__()
            return []
        result = await (self._transaction or self._connection).execute(text, parameters)
        rows = [] if result.description is None else await result.fetchall()
        if text in ("COMMIT", "ROLLBACK"):
            self._transaction = None
        return rows

    async def recover(self) -> None:
        """Be ready for the next transaction after one that went wrong."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.state != "none" and not self._connection.closed:
            await transaction.rollback()

    async def close(self) -> None:
        await self.recover()


async def over_network(
    open_lane: Callable[[], Awaitable[Any]], history: History, count: int, seed: int, tasks: int = 16
) -> None:
    """``count`` transactions by concurrent tasks, each on what ``open_lane`` gives; it waits for the server if that
    is down."""
    rng = random.Random(seed)
    left = count
    lane = await open_lane()
    await lane.execute("CREATE NAMESPACE IF NOT EXISTS t", [])

    async def work(client: Client) -> None:
        nonlocal left
        lane = await open_lane()
        while left > 0:
            left -= 1
            await _carry_out(lane, client.run())
            try:
                await lane.recover()
            except Error as e:
                if e.sqlstate not in GONE:
                    raise
                lane = await open_lane()
        await lane.close()

    await asyncio.gather(*(work(Client(history, rng.randrange(2**32))) for _ in range(tasks)))
    while True:
        try:
            await _carry_out(await open_lane(), Client(history, 0).read_all())
            return
        except Error as e:  # the server may be down just then
            if e.sqlstate not in GONE:
                raise
            await asyncio.sleep(0.05)


async def _carry_out(lane: Any, running: Generator[Step, Rows, None]) -> None:
    try:
        statement = next(running)
        while True:
            try:
                rows = await lane.execute(*statement)
            except Error as e:
                statement = running.throw(e)
            else:
                statement = running.send(rows)
    except StopIteration:
        return


async def over_killed_server(server: Server, history: History, count: int, seed: int) -> int:
    """The same, each task with a connection of its own, while the server is killed and started again and again; how
    often that was."""
    rng = random.Random(seed)
    finished = asyncio.Event()
    kills = 0

    async def connect() -> Any:
        while True:
            url = f"kvql://{ADMIN}@localhost:{server.port}/t"
            try:
                return Lane(await kvql.aio.connect(url, password=PASSWORD, ca=str(server.ca), timeout=30))
            except Error as e:
                if e.sqlstate not in GONE:
                    raise
                await asyncio.sleep(0.02)

    async def kill() -> None:
        nonlocal kills
        while not finished.is_set():
            wanted = len(history.transactions) + rng.randrange(50, 400)
            while len(history.transactions) < wanted and not finished.is_set():
                await asyncio.sleep(0.005)
            if not finished.is_set():
                server.kill()
                kills += 1
                await asyncio.to_thread(server.start)

    killer = asyncio.create_task(kill())
    try:
        await over_network(connect, history, count, seed, tasks=8)
    finally:
        finished.set()
        await killer
    return kills
