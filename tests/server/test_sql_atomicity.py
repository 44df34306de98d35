"""One statement is one commit: over a real server, killed, watched, cancelled, and with others writing all the time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvql
import kvql.aio
from tests.servers import ADMIN, PASSWORDS, WAIT_S, Server

PAIRS = 100_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on files, for tests that leave it running."""
    made = Server(tmp_path_factory.mktemp("atomic")).start()
    yield made
    made.stop()


@pytest.fixture
def running(shared: Server) -> Server:
    shared.drop_namespaces()
    return shared


def rows(connection: kvql.Connection, text: str, parameters: Any = None, **options: Any) -> list[tuple[Any, ...]]:
    return connection.execute(text, parameters, **options).fetchall()


def fill(connection: kvql.Connection, count: int, value: Any = 0) -> None:
    connection.executemany("PUT ? ?", [(f"k{i:06}", value) for i in range(count)])


def open_async(server: Server, namespace: str) -> Any:
    url = f"kvql://{ADMIN}@localhost:{server.port}/{namespace}"
    return kvql.aio.connect(url, password=PASSWORDS[ADMIN], ca=str(server.ca), autocommit=True)


# ── killed in the middle ──────────────────────────────────────────────────────────────────────────────────────────

STATEMENTS: dict[str, tuple[str, list[tuple[int, int]]]] = {
    # what is done, and (count, sum of values) before and after
    "UPDATE": ("UPDATE t SET value = value + 1", [(PAIRS, 0), (PAIRS, PAIRS)]),
    "DELETE": ("DELETE FROM t WHERE value = 0", [(PAIRS, 0), (0, 0)]),
    "TRUNCATE": ("TRUNCATE NAMESPACE t", [(PAIRS, 0), (0, 0)]),
    "INSERT": (
        "INSERT INTO t VALUES " + ", ".join(f"('n{i:05}', 1)" for i in range(8_000)) + ", ('k000000', 5)"
        " ON CONFLICT DO UPDATE SET value = 7",
        [(PAIRS, 0), (PAIRS + 8_000, 8_007)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_server_killed_in_the_middle_has_all_or_nothing(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path / "server").start()
    statement, states = STATEMENTS[name]
    try:
        with server.connect("t") as connection:
            fill(connection, PAIRS)
        seen = set()
        for delay_s in (0.05, 0.2, 0.3, 0.4, None):
            answered = threading.Event()

            def work(answered: threading.Event = answered) -> None:
                with contextlib.suppress(kvql.Error), server.connect("t") as connection:
                    connection.execute(statement)
                    answered.set()

            thread = threading.Thread(target=work)
            thread.start()
            if delay_s is None:
                assert answered.wait(WAIT_S)
            else:
                time.sleep(0.15 + delay_s)  # a login takes the first part of it
            was_answered = answered.is_set()
            server.kill()
            thread.join()
            server.start()
            with server.connect("t") as connection:
                [(count, total)] = rows(connection, "SELECT count(*), coalesce(sum(value), 0) FROM t")
            assert (count, int(total)) in states, (delay_s, count, total)
            if was_answered:
                assert (count, int(total)) == states[1], delay_s
            seen.add((count, int(total)))
            if (count, int(total)) == states[1]:
                break
        assert states[1] in seen
    finally:
        server.stop()


# ── watched ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reader_never_sees_half_of_a_statement(running: Server) -> None:
    with running.connect("t") as writer, running.connect("t") as reader:
        fill(writer, 20_000)
        stop = threading.Event()
        seen: set[tuple[int, int, int]] = set()
        failures: list[Exception] = []

        def read() -> None:
            try:
                while not stop.is_set():
                    seen.update(rows(reader, "SELECT min(value), max(value), count(*) FROM t"))
                    pairs = rows(reader, "SELECT value FROM t")
                    seen.add((min(pairs)[0], max(pairs)[0], len(pairs)))
            except Exception as e:  # noqa: BLE001 - for the test to see
                failures.append(e)

        thread = threading.Thread(target=read)
        thread.start()
        rounds = 0
        while rounds < 15 or (len(seen) < 2 and not failures):
            assert writer.execute("UPDATE t SET value = value + 1").rowcount == 20_000
            rounds += 1
        stop.set()
        thread.join()
    assert not failures
    assert all(low == high and count == 20_000 for low, high, count in seen), seen


# ── together ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_update_of_32_tasks_is_lost(running: Server) -> None:
    async def work() -> Any:
        async with open_async(running, "t") as connection, open_async(running, "t") as second:
            await connection.execute("PUT visits 0")

            async def count(number: int) -> None:
                for _ in range(25):
                    mine = (connection, second)[number % 2]
                    done = await mine.execute("UPDATE t SET value = value + 1 WHERE key = 'visits'")
                    assert done.rowcount == 1

            await asyncio.gather(*[count(number) for number in range(32)])
            return (await connection.execute("GET visits")).rows

    assert asyncio.run(work()) == [("visits", 32 * 25)]


def test_statements_over_all_pairs_end_while_others_write(running: Server) -> None:
    """Neither starves, nothing is lost, and nobody is told of a conflict outside a transaction."""
    pairs, big = 20_000, 1_000_000

    async def work() -> tuple[int, int, Any]:
        async with open_async(running, "t") as single, open_async(running, "t") as whole:
            await single.executemany("PUT ? ?", [(f"k{i:05}", 0) for i in range(pairs)])
            stop = False
            written = 0

            async def write(number: int) -> None:
                nonlocal written
                while not stop:
                    key = f"k{(number * 997 + written) % pairs:05}"
                    await single.execute("UPDATE t SET value = value + ? WHERE key = ?", [big, key])
                    written += 1

            tasks = [asyncio.create_task(write(number)) for number in range(8)]
            rounds = 0
            while rounds < 6 or written <= 10:
                rounds += 1
                assert (await whole.execute("UPDATE t SET value = value + 1")).rowcount == pairs
            stop = True
            await asyncio.gather(*tasks)
            summary = await whole.execute("SELECT sum(value), min(value % 1000000), max(value % 1000000) FROM t")
            return written, rounds, summary.rows

    written, rounds, summary = asyncio.run(work())
    assert summary == [(written * big + rounds * pairs, rounds, rounds)]


def test_a_statement_over_all_pairs_ends_where_pairs_expire_all_the_time(running: Server) -> None:
    with running.connect("t") as connection:
        fill(connection, 50_000)
        connection.execute(
            "INSERT INTO t (key, value, expires_at) VALUES "
            + ", ".join(f"('e{i}', 0, now() + INTERVAL '{500 + i * 2} milliseconds')" for i in range(10_000))
            + ", ('e', 0, now() + INTERVAL '1 hour')"
        )
        time.sleep(0.5)
        assert connection.execute("UPDATE t SET value = value + 1").rowcount > 50_000
        assert connection.execute("DELETE FROM t WHERE key ^= 'e' OR value = 77").rowcount > 0
        assert rows(connection, "SELECT min(value), max(value) FROM t WHERE key ^= 'k'") == [(1, 1)]


def test_a_quick_statement_overtakes_a_large_one_of_the_same_connection(running: Server) -> None:
    with running.connect("t") as connection:
        fill(connection, PAIRS)

    async def work() -> tuple[bool, int]:
        async with open_async(running, "t") as connection:
            transport = connection._shared.transport
            before = transport.batches
            large = asyncio.create_task(connection.execute("UPDATE t SET value = lower('x' || value) || key"))
            while transport.batches == before:  # until it has left
                await asyncio.sleep(0)
            await connection.execute("GET k000001")
            waited = large.done()
            return waited, (await large).rowcount

    assert asyncio.run(work()) == (False, PAIRS)


# ── stopped ───────────────────────────────────────────────────────────────────────────────────────────────────────

LONG: dict[str, str] = {
    "UPDATE": "UPDATE t SET value = value + 1",
    "UPDATE RETURNING": "UPDATE t SET value = value + 1 RETURNING *",
    "DELETE": "DELETE FROM t WHERE lower(key) ^= 'k'",
    "EXPLAIN ANALYZE": "EXPLAIN ANALYZE UPDATE t SET value = lower(key)",
    "DRY RUN": "DRY RUN DELETE FROM t",
    "SELECT": "SELECT key FROM t ORDER BY lower(key || value) DESC, value",
    "GROUP BY": "SELECT lower(key), count(*) FROM t GROUP BY 1",
    "INSERT": "INSERT INTO t VALUES " + ", ".join(f"('n{i}', {i} + 1)" for i in range(20_000)),
}


def _cancelled(connection: kvql.Connection, statement: str) -> None:
    timer = threading.Timer(0.08, connection.cancel)
    timer.start()
    try:
        rows_of(connection, statement)
    finally:
        timer.cancel()
        timer.join()  # or it might stop what comes next


def _overdue(connection: kvql.Connection, statement: str) -> None:
    rows_of(connection, statement, timeout=0.005)


def rows_of(connection: kvql.Connection, statement: str, **options: Any) -> None:
    cursor = connection.execute(statement, **options)
    if cursor.columns is not None:
        cursor.fetchall()


@pytest.mark.parametrize("stop", [_cancelled, _overdue])
@pytest.mark.parametrize("name", LONG)
def test_a_statement_that_is_stopped_leaves_nothing(
    running: Server, name: str, stop: Callable[[kvql.Connection, str], None]
) -> None:
    with running.connect("t") as connection:
        fill(connection, 60_000)
        before = rows(connection, "SELECT count(*), sum(value), max(revision) FROM t")
        try:
            stop(connection, LONG[name])
        except kvql.Error as e:
            assert e.sqlstate == "57014"
            assert rows(connection, "SELECT count(*), sum(value), max(revision) FROM t") == before
        else:
            assert stop is _cancelled, "it cannot have been in time"  # the word to stop may have come too late


@pytest.mark.parametrize("stop", [_cancelled, _overdue])
def test_a_statement_that_is_stopped_in_a_transaction_ends_it(
    running: Server, stop: Callable[[kvql.Connection, str], None]
) -> None:
    with running.connect("t") as connection:
        fill(connection, 60_000)
        for _ in range(20):  # the word to stop may come too late, but not every time
            connection.execute("BEGIN")
            connection.execute("PUT mine 1")
            try:
                stop(connection, LONG["UPDATE"])
            except kvql.Error as e:
                assert e.sqlstate == "57014"
                break
            connection.execute("ROLLBACK")
        assert connection.transaction_state == "failed"
        with pytest.raises(kvql.Error) as caught:
            connection.execute("SELECT 1")
        assert caught.value.sqlstate == "25P02"
        connection.execute("ROLLBACK")
        assert rows(connection, "SELECT count(*), sum(value) FROM t") == [(60_000, 0)]
