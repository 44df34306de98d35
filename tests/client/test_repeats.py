"""Answers that are lost: the client asks again, and tells what really happened, once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kvql
import kvql.aio
from kvql.client import Client, connect
from kvql.result import Result
from kvql.transport import repeats
from kvql.transport.repeats import CROWD
from kvql.v1 import kvql_pb2 as pb
from tests.client.faulty import FaultyServer
from tests.client.proxy import Proxy
from tests.servers import PASSWORD, WAIT_S, Server, wait_until

STATEMENTS = [
    "PUT new 1", "PUT new 1, newer 2", "UPDATE a 5", "UPSERT a 5", "UPSERT new (1 + 1) TTL 60s", "DELETE a",
    "EXPIRE a 60s", "UPDATE main SET value = value + 1", "UPDATE main SET value = value + 1 RETURNING key, value",
    "INSERT INTO main VALUES ('new', 1) RETURNING *", "DELETE FROM main RETURNING value", "TRUNCATE NAMESPACE main",
    "CREATE NAMESPACE fresh", "DROP NAMESPACE main",
]  # fmt: skip


@pytest.fixture
def client(faulty: FaultyServer) -> Iterator[Client]:
    faulty.service.keeps_outcomes = True
    with connect(faulty.url, password="secret", insecure=True) as made:
        yield made


class Times:
    """True for the first ``count`` requests of the kinds that a repeat key goes with."""

    def __init__(self, count: int = 1) -> None:
        self.left = count
        self.keys: list[tuple[bytes, int]] = []

    def __call__(self, request: pb.Request) -> bool:
        if not request.repeat_key:
            return False
        self.keys.append((request.repeat_key, request.repeat_sequence))
        self.left -= 1
        return self.left >= 0


def of(result: Result) -> tuple[Any, ...]:
    return result.row_count, result.completed, result.columns, list(result.rows)


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_write(faulty: FaultyServer, client: Client, statement: str, when: str, cuts: int) -> None:
    with connect(":memory:") as model:
        for one in (client, model):
            one.run("UPSERT a 1, b 2")
        cut = Times(cuts)
        setattr(faulty.service, when, cut)
        assert of(client.run(statement)) == of(model.run(statement))
        assert len(cut.keys) == cuts + 1 and len(set(cut.keys)) == 1, "always under the same key"
        cut.left = 0
        if statement.startswith("DROP"):
            return
        shown = "SELECT key, value, version FROM main"
        assert list(client.run(shown).rows) == list(model.run(shown).rows)


def test_an_error_is_the_statements_own(faulty: FaultyServer, client: Client) -> None:
    client.run("PUT a 1")
    faulty.service.cut_after = Times()
    with pytest.raises(kvql.IntegrityError) as caught:
        client.run("PUT a 2")
    assert caught.value.sqlstate == "23505"


def test_keys_are_used_again(faulty: FaultyServer, client: Client) -> None:
    seen = Times(0)
    faulty.service.cut_before = seen
    for i in range(20):
        client.run("UPSERT a ?", [i])
    assert len({key for key, _ in seen.keys}) == 1
    assert [sequence for _, sequence in seen.keys] == list(range(1, 21))


def test_runs_and_reads_have_none(faulty: FaultyServer, client: Client) -> None:
    seen = Times(0)
    faulty.service.cut_before = seen
    client.run_rows("UPSERT ? ?", [(f"k{i}", i) for i in range(3000)])
    client.run("COUNT")
    client.run("BEGIN")
    client.run("UPSERT a 1")
    client.run("ROLLBACK")
    assert not seen.keys
    faulty.service.cut_after = lambda request: request.WhichOneof("command") == "write"
    with pytest.raises(kvql.OperationalError) as caught:
        raise client.run_rows("UPSERT ? ?", [(f"k{i}", i) for i in range(3000)]).error or AssertionError
    assert caught.value.sqlstate == "40003"


def test_a_server_that_keeps_nothing_is_not_asked_again(faulty: FaultyServer) -> None:
    with connect(faulty.url, password="secret", insecure=True) as client:
        faulty.service.cut_after = lambda request: request.WhichOneof("command") == "write"
        with pytest.raises(kvql.OperationalError) as caught:
            client.run("PUT a 1")
    assert caught.value.sqlstate == "40003"


def test_a_commit_that_happened(faulty: FaultyServer, client: Client) -> None:
    client.run("BEGIN")
    client.run("PUT a 1")
    faulty.service.cut_after = Times()
    assert client.run("COMMIT").revision > 0
    assert client.transaction_state == "none"
    assert client.run("GET a").rows == [("a", 1)]


def test_a_commit_that_did_not(faulty: FaultyServer, client: Client) -> None:
    client.run("BEGIN")
    client.run("PUT a 1")
    faulty.service.cut_before = Times()
    with pytest.raises(kvql.OperationalError) as caught:
        client.run("COMMIT")
    assert caught.value.sqlstate == "08006" and "rolled back" in caught.value.message
    assert client.transaction_state == "none"
    assert client.run("HAS a").rows == [("a", False)]


def test_patience_ends(faulty: FaultyServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "REPEAT_S", 0.3)
    client.run("UPSERT a 1")
    faulty.service.cut_after = lambda request: bool(request.repeat_key)
    with pytest.raises(kvql.OperationalError) as caught:
        client.run("PUT b 1")
    assert caught.value.sqlstate == "40003"
    faulty.service.cut_after = lambda request: False
    assert client.run("UPSERT c 1").row_count == 1


def test_a_server_that_is_away_for_a_moment(faulty: FaultyServer, client: Client) -> None:
    def away(request: pb.Request) -> bool:
        faulty.service.cut_after = lambda request: False
        threading.Thread(target=lambda: (faulty.down(), faulty.up())).start()
        return True

    faulty.service.cut_after = away
    assert client.run("PUT a 1").row_count == 1
    assert client.run("GET a").rows == [("a", 1)]


def test_many_tasks_and_a_line_that_breaks_all_the_time(faulty: FaultyServer) -> None:
    seed = 7
    print("seed", seed)
    chance = random.Random(seed)
    faulty.service.keeps_outcomes = True
    faulty.service.cut_before = lambda request: bool(request.repeat_key) and chance.random() < 0.02
    faulty.service.cut_after = lambda request: bool(request.repeat_key) and chance.random() < 0.02

    async def main() -> None:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await con.execute("UPSERT sum 0")

            async def add(number: int) -> None:
                for i in range(5):
                    await con.execute("UPDATE main SET value = value + 1 WHERE key = 'sum'")
                    await con.execute("PUT ? 1", [f"k{number}-{i}"])

            await asyncio.gather(*(add(n) for n in range(CROWD)))
            assert (await con.execute("GET sum")).rows == [("sum", 5 * CROWD)]
            assert (await con.execute("COUNT LIKE 'k%'")).rows == [(5 * CROWD,)]

    asyncio.run(main())


def test_a_crowd_goes_without(faulty: FaultyServer) -> None:
    faulty.service.keeps_outcomes = True
    seen = Times(0)
    faulty.service.cut_before = seen

    async def main() -> None:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await asyncio.gather(*(con.execute("UPSERT ? 1", [f"k{n}"]) for n in range(CROWD - 1)))
            await asyncio.gather(*(con.execute("UPSERT ? 1", [f"k{n}"]) for n in range(5 * CROWD)))

    asyncio.run(main())
    assert len(seen.keys) == len({key for key, _ in seen.keys}) == CROWD - 1


def test_a_key_of_the_users_own(target: dict[str, Any]) -> None:
    with kvql.connect(**target, autocommit=True) as con:
        con.execute("PUT stock 10")
        sell = "UPDATE main SET value = value - 1 WHERE key = 'stock' RETURNING value"
        for key in ("order 1", b"order 1", "order 2"):
            cursor = con.execute(sell, idempotency_key=key)
            assert cursor.rows == [(9 if key != "order 2" else 8,)]
        with pytest.raises(kvql.DataError) as caught:
            con.execute("DELETE stock", idempotency_key="order 1")
        assert caught.value.sqlstate == "22023"
    with kvql.connect(**target) as con:
        con.execute("UPDATE stock 100")
        con.commit(idempotency_key="close")
        con.execute("UPDATE stock 50")
        con.commit(idempotency_key="close")
        assert con.execute("GET stock").fetchone() == ("stock", 100), "the second was not carried out"
        con.rollback()
        con.commit(idempotency_key="close")
        with pytest.raises(kvql.Error) as refused:
            con.commit(idempotency_key="never")
        assert refused.value.sqlstate == "25P01"


def test_transactions_of_threads_are_repeated_on_conflict(server: Server) -> None:
    """40001 between real clients: all of them have read before the first one commits, so but one must begin again."""
    clients = 4
    attempts: list[int] = []
    failures: list[BaseException] = []
    all_have_read = threading.Barrier(clients, timeout=WAIT_S)
    first = threading.local()
    with server.connect("shop") as con:
        con.execute("PUT visits 0")

    def visit(con: Any) -> None:
        attempts.append(1)
        [(_, visits)] = con.execute("GET visits").fetchall()
        if not hasattr(first, "over"):
            first.over = True
            all_have_read.wait()
        con.execute("UPDATE visits ?", [visits + 1])

    def work() -> None:
        try:
            with server.connect("shop") as con:
                for _ in range(5):
                    for attempt in con.transaction(retries=50):
                        with attempt:
                            visit(con)
                    con.transaction(retries=50).run(visit)
        except BaseException as e:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert not failures
    with server.connect("shop") as con:
        assert con.execute("GET visits").fetchone() == ("visits", 10 * clients)
    assert len(attempts) >= 10 * clients + clients - 1, "there was something to repeat"


# ── a real server ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("statement", ["UPSERT n 1", "UPDATE shop SET value = value + 1 RETURNING value", "COMMIT"])
@pytest.mark.parametrize("death", ["the line is cut", "kill -9"])
def test_between_commit_and_acknowledgement(server: Server, statement: str, death: str) -> None:
    with server.connect("shop") as direct:
        direct.execute("PUT n 0")
    proxy = Proxy(server.port)
    outcome: list[Any] = []
    try:
        with connect(f"kvql://admin@localhost:{proxy.port}/shop", password=PASSWORD, ca=str(server.ca)) as client:
            if statement == "COMMIT":
                client.run("BEGIN")
                client.run("UPDATE n 1")

            def work() -> None:
                try:
                    outcome.append(of(client.run(statement)))
                except kvql.Error as e:
                    outcome.append(e)

            with server.connect("shop") as direct:
                proxy.answers.clear()
                worker = threading.Thread(target=work)
                worker.start()
                wait_until(lambda: direct.execute("GET n").fetchone() == ("n", 1))
                if death == "kill -9":
                    server.kill()
            if death == "kill -9":
                server.start()
                proxy.target = server.port
            proxy.cut()
            worker.join(WAIT_S)
            assert not worker.is_alive()
            assert client.run("GET n").rows == [("n", 1)]
    finally:
        proxy.close()
    (told,) = outcome
    assert not isinstance(told, kvql.Error), told
    assert told[3] == ([(1,)] if "RETURNING" in statement else [])
    if statement != "COMMIT":
        assert told[0] == 1


def test_a_key_of_the_users_own_outlives_the_server(server: Server) -> None:
    with server.connect("shop") as con:
        con.execute("PUT n 0")
        first = con.execute("UPDATE shop SET value = value + 1 RETURNING value", idempotency_key="once")
        told = first.rows, first.rowcount, first.revision
    for end in (server.kill, server.stop):
        end()
        server.start()
        with server.connect("shop") as con:
            again = con.execute("UPDATE shop SET value = value + 1 RETURNING value", idempotency_key="once")
            assert (again.rows, again.rowcount, again.revision) == told
            assert con.execute("GET n").fetchone() == ("n", 1)
