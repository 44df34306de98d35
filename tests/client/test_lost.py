"""Connections that break: nothing is repeated that could have happened, nothing is hidden that may not have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import kvql.aio
from kvql import ast, errors
from kvql.client import Client, connect
from kvql.transport.target import parse_target
from kvql.transport.wire import Access, WireTransport
from kvql.v1 import kvql_pb2 as pb
from tests.client.faulty import FaultyServer
from tests.servers import ADMIN, PASSWORD, Server

L, P = ast.Literal, ast.Param
GET = ast.Get((L("a"),))


def put(key: str, value: object) -> ast.Put:
    return ast.Put((ast.Pair(L(key), L(value)),))


@pytest.fixture
def client(faulty: FaultyServer) -> Iterator[Client]:
    made = connect(faulty.url, password="secret", insecure=True)
    yield made
    made.close()


def failure(client: Client, statement: ast.Statement) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        client.run(statement)
    return caught.value


class Once:
    """True for the first request of a kind."""

    def __init__(self, kind: str) -> None:
        self.kind, self.count = kind, 0

    def __call__(self, request: pb.Request) -> bool:
        if request.WhichOneof("command") != self.kind:
            return False
        self.count += 1
        return self.count == 1


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_write_without_an_answer_is_of_unknown_outcome(faulty: FaultyServer, client: Client, when: str) -> None:
    client.run(put("z", 0))
    cut = Once("write")
    setattr(faulty.service, when, cut)
    error = failure(client, put("a", 1))
    assert error.sqlstate == "40003" and error.hint and isinstance(error, errors.OperationalError)
    assert cut.count == 1, "never sent a second time"
    found = list(client.run(ast.Has((L("a"),))).rows)
    assert found == [("a", when == "cut_after")]


def test_a_read_is_repeated_once(faulty: FaultyServer, client: Client) -> None:
    client.run(put("a", 1))
    faulty.service.cut_before = Once("get")
    assert client.run(GET).rows == [("a", 1)]
    faulty.service.cut_before = lambda request: request.WhichOneof("command") == "get"
    assert failure(client, GET).sqlstate == "08006"
    faulty.service.cut_before = lambda request: False
    assert client.run(GET).rows == [("a", 1)]


def test_a_transaction_ends_with_its_connection(faulty: FaultyServer, client: Client) -> None:
    client.run(put("a", 1))
    client.run(ast.Begin())
    client.run(put("b", 1))
    faulty.service.cut_before = Once("get")
    error = failure(client, GET)
    assert error.sqlstate == "08006" and "rolled back" in error.message
    assert client.transaction_state == "failed"
    assert failure(client, put("c", 1)).sqlstate == "25P02", "never carried out outside its transaction"
    client.run(ast.Rollback())
    assert client.transaction_state == "none"
    assert list(client.run(ast.ShowKeys()).rows) == [("a",)]


def test_a_transaction_that_idled_while_the_server_restarted(faulty: FaultyServer, client: Client) -> None:
    client.run(ast.Begin())
    client.run(put("b", 1))
    faulty.down()
    faulty.up()
    error = failure(client, put("c", 1))
    assert error.sqlstate == "08006" and client.transaction_state == "failed"
    with pytest.raises(errors.Error) as caught:
        client.run(ast.Commit())
    assert caught.value.sqlstate == "08006" and "nothing is committed" in caught.value.message
    assert client.transaction_state == "none" and client.run(ast.Count()).rows == [(0,)]


def test_savepoints_go_down_with_their_connection(faulty: FaultyServer, client: Client) -> None:
    client.run(ast.Begin())
    client.run(ast.Savepoint(ast.Name("s")))
    client.run(put("b", 1))
    faulty.service.cut_before = Once("get")
    assert failure(client, GET).sqlstate == "08006"
    back = ast.Rollback(ast.Name("s"))
    for _ in range(2):
        assert failure(client, back).sqlstate == "25P02" and client.transaction_state == "failed"
    assert failure(client, put("c", 1)).sqlstate == "25P02"
    client.run(ast.Rollback())
    assert client.transaction_state == "none" and client.run(ast.Count()).rows == [(0,)]


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_rollback_to_without_an_answer_loses_the_transaction(faulty: FaultyServer, client: Client, when: str) -> None:
    client.run(ast.Begin())
    client.run(ast.Savepoint(ast.Name("s")))
    setattr(faulty.service, when, Once("transaction"))
    error = failure(client, ast.Rollback(ast.Name("s")))
    assert error.sqlstate == "08006" and "rolled back" in error.message and client.transaction_state == "failed"
    client.run(ast.Rollback())
    assert client.transaction_state == "none"


def test_a_transaction_that_was_brought_back_is_lost_like_any_other(faulty: FaultyServer, client: Client) -> None:
    """A COMMIT that is refused ends nothing: what follows ROLLBACK TO must not be carried out outside."""
    client.run(ast.Begin())
    client.run(ast.Savepoint(ast.Name("s")))
    assert failure(client, ast.Assert(L(False))).sqlstate == "P0004"
    assert failure(client, ast.Commit()).sqlstate == "25P02"
    client.run(ast.Rollback(ast.Name("s")))
    assert client.transaction_state == "open"
    faulty.down()
    faulty.up()
    assert failure(client, put("c", 1)).sqlstate == "08006" and client.transaction_state == "failed"
    client.run(ast.Rollback())
    assert client.run(ast.Count()).rows == [(0,)]


def test_a_block_in_a_lost_transaction_lets_its_error_out(faulty: FaultyServer) -> None:
    with kvql.connect(faulty.url, password="secret", insecure=True, autocommit=True) as con:
        with pytest.raises(kvql.OperationalError) as caught, con.transaction(), con.transaction():
            con.execute("PUT a 1")
            faulty.service.cut_before = Once("get")
            con.execute("GET a")
        assert caught.value.sqlstate == "08006" and con.transaction_state == "none"
        assert con.execute("COUNT").fetchone() == (0,)


def test_an_assertion_is_a_read_and_repeated_once(faulty: FaultyServer, client: Client) -> None:
    cut = faulty.service.cut_before = Once("assertion")
    client.run(ast.Assert(L(True)))
    assert cut.count == 2


def test_a_commit_without_an_answer_is_of_unknown_outcome(faulty: FaultyServer, client: Client) -> None:
    client.run(ast.Begin())
    client.run(put("b", 1))
    faulty.service.cut_after = Once("transaction")
    error = failure(client, ast.Commit())
    assert error.sqlstate == "40003" and "committed" in error.message
    assert client.transaction_state == "none"
    assert list(client.run(ast.ShowKeys()).rows) == [("b",)]


def test_a_server_that_is_gone_and_comes_back(faulty: FaultyServer, client: Client) -> None:
    client.run(put("a", 1))
    faulty.down()
    error = failure(client, GET)
    assert error.sqlstate == "08006" and str(faulty.port) in error.message and error.hint
    assert failure(client, put("b", 1)).sqlstate == "08006", "what never left is no unknown outcome"
    faulty.up()
    assert client.run(GET).rows == [("a", 1)]


def test_a_script_ends_at_the_break(faulty: FaultyServer, client: Client) -> None:
    cut = Once("delete")
    faulty.service.cut_before = cut
    statements: list[tuple[ast.Statement, str | None]] = [(put(f"k{i}", i), None) for i in range(10)]
    statements.append((ast.DeleteKeys((L("k0"),)), None))
    statements += [(put(f"l{i}", i), None) for i in range(3000)]
    [(index, outcome)] = client.run_many(statements)
    # the ten before went in the same batch: they happened, but nobody heard of it
    assert index == 0 and isinstance(outcome, errors.Error) and outcome.sqlstate == "40003"
    assert "this and the 9 statements after it" in outcome.message
    assert client.run(ast.Count()).rows == [(10,)], "nothing behind the break"


def test_tokens_are_renewed_in_place(faulty: FaultyServer) -> None:
    faulty.service.token_lifetime_s = 0
    with connect(faulty.url, password="secret", insecure=True) as client:
        client.run(put("a", 1))
        before = faulty.service.refreshes
        client.run(GET)
        assert faulty.service.refreshes > before and faulty.service.logins == 1
        assert faulty.service.tokens_seen[-1] == "first"


def test_a_token_that_the_server_no_longer_knows(faulty: FaultyServer, client: Client) -> None:
    client.run(put("a", 1))
    faulty.down()
    faulty.service.token = "second"
    faulty.up()
    assert client.run(GET).rows == [("a", 1)] and faulty.service.refreshes == 1
    faulty.service.token, faulty.service.refuse_refresh = "third", True
    faulty.down()
    faulty.up()
    assert client.run(put("b", 1)).row_count == 1 and faulty.service.logins == 2
    faulty.service.token = "fourth"
    assert list(client.run(ast.ShowData()).rows) == [("a", 1), ("b", 1)], "streams of their own log in again too"


def test_tasks_share_batches(faulty: FaultyServer) -> None:
    async def main() -> tuple[int, int]:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await con.execute(put("a", 1))
            before = faulty.service.batches, faulty.service.requests

            async def task(number: int) -> None:
                for i in range(10):
                    await con.execute(put(f"k{number}-{i}", i))

            await asyncio.gather(*(task(n) for n in range(64)))
            assert (await con.execute(ast.Count())).rows == [(641,)]
            return faulty.service.batches - before[0], faulty.service.requests - before[1]

    batches, requests = asyncio.run(main())
    assert batches <= 65, "ten round trips and the odd straggler, not 640"
    assert requests <= 65, "the puts of a batch are one request"


def test_points_of_a_broken_connection(faulty: FaultyServer) -> None:
    async def main() -> None:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await con.execute(put("a", 1))
            faulty.service.cut_after = Once("write")
            tasks = [con.execute(put(f"k{i}", i)) for i in range(3)] + [con.execute(GET) for _ in range(3)]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            unknown = outcomes[:3]
            assert [e.sqlstate for e in unknown if isinstance(e, errors.Error)] == ["40003"] * 3, outcomes
            assert len({id(e) for e in unknown}) == 3, "each has an error of its own"
            rows = [r.rows for r in outcomes[3:] if not isinstance(r, BaseException)]
            assert rows == [[("a", 1)]] * 3, "reads are repeated"
            assert (await con.execute(ast.Count())).rows == [(4,)], "the puts happened, once"

    asyncio.run(main())


def test_an_answer_that_cannot_be_read_is_told_to_who_asked(faulty: FaultyServer) -> None:
    """Of a newer server, perhaps; the others on the connection have theirs."""

    async def main() -> None:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await con.execute(put("a", 1))
            faulty.service.garbled = Once("get")
            tasks = [con.execute(GET), con.execute("GET a", timeout=30), con.execute(put("b", 1))]
            outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
            wrong = [outcome for outcome in outcomes if isinstance(outcome, errors.Error)]
            assert len(wrong) == 1 and "unknown type 99" in str(wrong[0]), outcomes
            assert (await con.execute(GET)).rows == [("a", 1)]

    asyncio.run(main())


def test_tasks_are_told_apart_when_a_connection_breaks(faulty: FaultyServer) -> None:
    async def main() -> None:
        async with kvql.aio.connect(faulty.url, password="secret", insecure=True) as con:
            await con.execute(put("a", 1))
            faulty.service.cut_before = Once("delete")
            outcomes = await asyncio.gather(
                con.execute(GET), con.execute(ast.DeleteKeys((L("a"),))), con.execute(GET), return_exceptions=True
            )
            assert isinstance(outcomes[1], errors.Error) and outcomes[1].sqlstate == "40003"
            assert [r.rows for r in (outcomes[0], outcomes[2])] == [[("a", 1)]] * 2, outcomes

    asyncio.run(main())


def test_a_reader_that_stops_stops_the_server(faulty: FaultyServer, client: Client) -> None:
    client.run_rows(ast.Put((ast.Pair(P(0), P(1)),)), ((f"k{i}", "x" * 1000) for i in range(30_000)))
    rows = iter(client.run(ast.ShowData()).rows)
    next(rows)
    assert client.run(ast.Count()).rows == [(30_000,)], "others are not held up"
    assert faulty.service.chunks_sent < 25
    assert sum(1 for _ in rows) == 29_999


def test_inside_a_transaction_rows_are_kept_for_later(faulty: FaultyServer, client: Client) -> None:
    client.run_rows(ast.Put((ast.Pair(P(0), P(1)),)), ((f"k{i}", i) for i in range(5_000)))
    client.run(ast.Begin())
    rows = iter(client.run(ast.ShowKeys()).rows)
    first = next(rows)
    assert client.run(ast.Count()).rows == [(5_000,)]
    client.run(put("new", 1))
    assert len([first, *rows]) == 5_000
    client.run(ast.Commit())


async def test_a_call_that_is_lost_leaves_the_connection_alone_that_another_is_making(tmp_path: Path) -> None:
    """Two calls find the server gone; the one that comes later must not take away what the other waits for."""
    server = Server(tmp_path / "server", engine="memory").start()
    target = parse_target(f"kvql://{ADMIN}@localhost:{server.port}")
    access = Access(target=target, user=ADMIN, password=PASSWORD, ca=str(server.ca), insecure=False)
    transport = await WireTransport.open(access, "")
    stub, _ = await transport.ready()
    transport._channel._access = replace(access, timeout_s=1.0)
    server.kill()
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", server.port), family=family, dualstack_ipv6=dual):  # and never says a word
        while transport._channel.is_ready:
            await asyncio.sleep(0.01)
        making = asyncio.create_task(transport.ready())
        await asyncio.sleep(0.2)
        await transport.lost(stub)
        with pytest.raises(kvql.Error) as caught:
            await making
    assert caught.value.sqlstate == "08001"
    await transport.close()
    server.stop()
