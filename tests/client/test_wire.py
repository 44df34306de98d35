"""A real server over real TLS: what only a network can do."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kvql
import kvql.aio
from kvql.client import connect
from tests.client.proxy import Proxy
from tests.servers import ADMIN, BIN, PASSWORD, WAIT_S, Server


@pytest.fixture
def shared(server_of: Any) -> Server:
    server: Server = server_of("hashtable")
    server.drop_namespaces()
    return server


def refused(url: str, **options: Any) -> kvql.Error:
    with pytest.raises(kvql.Error) as caught:
        kvql.connect(url, **options)
    return caught.value


def test_a_server_far_away(shared: Server) -> None:
    """Every answer takes as long as to the other side of the earth and back, those of the TLS handshake too."""
    proxy = Proxy(shared.port, delay_s=0.3)
    try:
        url = f"kvql://{ADMIN}@localhost:{proxy.port}/far"
        with kvql.connect(url, password=PASSWORD, ca=str(shared.ca), autocommit=True) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        proxy.close()


def test_ways_not_to_get_in(shared: Server, tmp_path: Path) -> None:
    ca = str(shared.ca)
    wrong = refused(shared.url, password="wrong", ca=ca)
    unknown = refused(f"kvql://nobody@localhost:{shared.port}", password="wrong", ca=ca)
    assert wrong.sqlstate == unknown.sqlstate == "28P01" and wrong.message == unknown.message
    assert refused(shared.url, ca=ca).sqlstate == "28P01", "no password"
    assert refused(f"kvql://localhost:{shared.port}", password="x", ca=ca).sqlstate == "28P01", "no user"
    nobody = refused("kvql://admin@localhost:1", password="x", ca=ca)
    assert nobody.sqlstate == "08001" and "localhost:1" in nobody.message and "kvql-server start" in (nobody.hint or "")
    nowhere = refused("kvql://admin@no-such-host.invalid", password="x", ca=ca)
    assert nowhere.sqlstate == "08001" and "no-such-host.invalid" in nowhere.message
    (tmp_path / "no.pem").write_text("no certificate")
    for file in ("no.pem", "missing.pem"):
        assert refused(shared.url, password=PASSWORD, ca=tmp_path / file).sqlstate == "08001"


def test_certificates_that_are_not_trusted(shared: Server, tmp_path: Path) -> None:
    command = [str(BIN / "kvql-server"), "certs", "--host=localhost"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    other = str(tmp_path / "certs/ca.pem")
    error = refused(shared.url, password=PASSWORD, ca=other)
    assert error.sqlstate == "08001" and other in error.message and "ca.pem" in (error.hint or "")
    public = refused(shared.url, password=PASSWORD)
    assert public.sqlstate == "08001" and "public authority" in public.message
    name = refused(f"kvql://{ADMIN}@127.0.0.2:{shared.port}", password=PASSWORD, ca=str(shared.ca))
    assert name.sqlstate == "08001"


def test_plain_text_is_never_taken_by_itself(shared: Server) -> None:
    assert refused("kvql://admin@db.example.com", password="x", insecure=True).sqlstate == "08001"
    assert refused(shared.url, password=PASSWORD, insecure=True).sqlstate == "08001"


def test_a_server_that_is_killed(server: Server) -> None:
    con = server.connect("shop")
    con.execute("PUT a 1")
    other = server.connect("shop")
    other.autocommit = False
    other.execute("PUT b 1")
    server.kill()
    with pytest.raises(kvql.OperationalError) as caught:
        con.execute("GET a")
    assert caught.value.sqlstate == "08006"
    port = server.port
    server.arguments = ("--listen", f"localhost:{port}")
    server.start()
    assert con.execute("GET a").fetchone() == ("a", 1)
    with pytest.raises(kvql.OperationalError) as caught:
        other.execute("PUT c 1")
    assert caught.value.sqlstate == "08006" and "rolled back" in caught.value.message
    other.rollback()
    assert other.execute("SHOW KEYS").fetchall() == [("a",)]
    con.close()
    other.close()


def test_writers_under_kill_9_are_told_the_truth(server: Server) -> None:
    con = server.connect("shop")
    con.execute("PUT first 1")
    done: list[int] = []
    unknown: list[int] = []
    killer = threading.Timer(0.3, server.kill)
    killer.start()
    try:
        for i in range(1_000_000):
            try:
                con.execute("PUT ? ?", [f"k{i}", i])
                done.append(i)
            except kvql.OperationalError as e:
                assert e.sqlstate in ("40003", "08006")
                unknown += [i] if e.sqlstate == "40003" else []
                break
    finally:
        killer.join()
    server.start()
    with server.connect("shop") as again:
        there = {key for (key,) in again.execute("SHOW KEYS")} - {"first"}
    assert {f"k{i}" for i in done} <= there <= {f"k{i}" for i in [*done, *unknown]}


def test_cancel_from_a_thread_and_from_a_signal_handler(shared: Server) -> None:
    with shared.connect("shop") as con:
        con.executemany("PUT ? ?", ((f"k{i}", "x" * 100) for i in range(100_000)))
        for kind in ("thread", "signal"):
            rows = con.execute("SHOW DATA")
            assert rows.fetchone() is not None
            if kind == "thread":
                helper = threading.Thread(target=con.cancel)
                helper.start()
                helper.join()
            else:
                before = signal.signal(signal.SIGINT, lambda *_: con.cancel())
                os.kill(os.getpid(), signal.SIGINT)
                signal.signal(signal.SIGINT, before)
            with pytest.raises(kvql.OperationalError) as caught:
                rows.fetchall()
            assert caught.value.sqlstate == "57014"
            assert con.execute("GET k1").fetchone() is not None


def test_who_stops_reading_is_no_fault_of_the_server(shared: Server) -> None:
    """A cursor that is closed early meets the server in the middle of a write, which nobody needs to read about."""
    before = shared.logs[-1].read_text()
    with shared.connect("shop") as con:
        con.executemany("PUT ? ?", ((f"k{i}", "x" * 100) for i in range(100_000)))
        for _ in range(4):
            several = [con.execute("SHOW DATA") for _ in range(10)]
            for rows in several:
                rows.fetchmany(10)
            for rows in several:
                rows.close()
            assert con.execute("GET k1").fetchone() is not None
    log = shared.logs[-1].read_text().removeprefix(before)
    assert not [line for line in log.splitlines() if " INFO kvql.audit " not in line], log[-3000:]


def test_an_interrupt_leaves_the_connection_usable(shared: Server) -> None:
    with shared.connect("shop") as con:
        con.executemany("PUT ? ?", ((f"k{i}", i) for i in range(100_000)))

        def press(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, press)
        try:
            for delay in (0.001, 0.003, 0.01):
                with pytest.raises(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    while True:
                        con.execute("COUNT LIKE '%5%5%'")
                assert con.execute("GET k5").fetchone() == ("k5", 5)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_rows_are_not_held(shared: Server) -> None:
    with shared.connect("shop") as con:
        con.executemany("PUT ? ?", ((f"k{i}", "x" * 500) for i in range(100_000)))
    script = (
        "import kvql, resource, sys\n"
        f"con = kvql.connect({shared.url + '/shop'!r}, password={PASSWORD!r}, ca={str(shared.ca)!r}, autocommit=True)\n"
        "con.execute('GET k1').fetchall()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert sum(1 for _ in con.execute('SHOW DATA')) == 100_000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "con.close()\n"
    )
    grown_kib = int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    assert grown_kib < 40_000, "50 MB of values in a process that keeps none"
    assert resource.getpagesize()


def test_a_timeout_ends_a_statement(shared: Server) -> None:
    with shared.connect("shop") as con:
        con.executemany("PUT ? ?", ((f"k{i}", i) for i in range(100_000)))
        with pytest.raises(kvql.OperationalError) as caught:
            con.execute("COUNT LIKE '%1%2%3%4%'", timeout=0.001)
        assert caught.value.sqlstate == "57014"
        assert con.execute("GET k1").fetchone() == ("k1", 1)
        with pytest.raises(kvql.DataError):
            con.execute("COUNT", timeout=0)


def test_a_large_statement_is_refused_before_it_leaves(shared: Server) -> None:
    with shared.connect("shop") as con:
        pairs = ", ".join(f"k{i} :v" for i in range(6))
        with pytest.raises(kvql.OperationalError) as caught:
            con.execute(f"PUT {pairs}", {"v": "x" * 1_000_000})
        assert caught.value.sqlstate == "53400"
        con.execute("PUT a ?", ["x" * 1_000_000])
        con.executemany("PUT ? ?", [(f"b{i}", "ä" * 500_000) for i in range(12)])
        assert con.execute("COUNT").fetchone() == (13,)
        assert sum(len(value) for _, value in con.execute("SHOW DATA")) == 7_000_000


def test_scripts_stop_at_exactly_the_statement_that_failed(shared: Server) -> None:
    statements = [(s, None) for i in range(9000) for s in kvql.parse(f"PUT k{i} {i}" if i != 7001 else "PUT k5 x")]
    with connect(f"{shared.url}/shop", password=PASSWORD, ca=str(shared.ca)) as client:
        outcomes = list(client.run_many(statements))
        assert [i for i, _ in outcomes] == list(range(7002))
        assert [i for i, o in outcomes if isinstance(o, kvql.Error)] == [7001]
        assert list(client.run("COUNT").rows) == [(7001,)]
        carried_on = list(client.run_many(statements, carry_on=True))
        assert sum(isinstance(o, kvql.Error) for _, o in carried_on) == 7002
        assert list(client.run("COUNT").rows) == [(8999,)]


def test_many_tasks_on_one_connection(shared: Server) -> None:
    async def main() -> None:
        async with kvql.aio.connect(f"{shared.url}/shop", password=PASSWORD, ca=str(shared.ca)) as con:
            await con.execute("PUT a 1")
            start = con._shared.transport.batches

            async def task(number: int) -> None:
                for i in range(10):
                    await con.execute("PUT ? ?", [f"k{number}-{i}", i])
                    assert (await con.execute("GET ?", [f"k{number}-{i}"])).rows == [(f"k{number}-{i}", i)]

            await asyncio.gather(*(task(n) for n in range(64)))
            assert con._shared.transport.batches - start < 100, "1,280 statements"

    asyncio.run(main())


def test_a_cancelled_task_stops_its_statement_only(shared: Server) -> None:
    async def main() -> None:
        async with kvql.aio.connect(f"{shared.url}/shop", password=PASSWORD, ca=str(shared.ca)) as con:
            await con.executemany("PUT ? ?", [(f"k{i}", i) for i in range(50_000)])
            before = con._shared.transport.batches
            slow = asyncio.create_task(con.execute("COUNT LIKE '%1%2%3%'"))
            while con._shared.transport.batches == before:  # until it has left
                await asyncio.sleep(0)
            slow.cancel()
            assert (await con.execute("GET k1")).rows == [("k1", 1)]
            with pytest.raises(asyncio.CancelledError):
                await slow
            async for row in await con.execute("SHOW DATA"):
                assert row
                break
            assert (await con.execute("COUNT")).rows == [(50_000,)]

    asyncio.run(main())


def test_a_sync_connection_inside_somebodys_loop(shared: Server) -> None:
    async def main() -> None:
        with shared.connect("shop") as con:  # as in a notebook
            con.execute("PUT a 1")
            assert con.execute("GET a").fetchone() == ("a", 1)

    asyncio.run(main())


def test_connections_of_threads(shared: Server) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with shared.connect("shop") as con:
                for i in range(20):
                    con.execute("PUT ? ?", [f"t{number}-{i}", i])
        except Exception as e:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not failures
    with shared.connect("shop") as con:
        assert con.execute("COUNT").fetchone() == (80,)


_LEFT_OPEN = """
import asyncio, sys, threading, kvql.aio
kept = []

async def work(how):
    con = await kvql.aio.connect({url!r}, password={password!r}, ca={ca!r})
    await con.execute("UPSERT a 1")
    if how == "kept":
        kept.append(con)
    if how == "early":
        del con
        assert (await (await kvql.aio.connect(":memory:")).execute("COUNT")).rows == [(0,)]
    if how == "in flight":
        kept.append(con)
        kept.append(asyncio.create_task(con.execute("COUNT LIKE '%1%'")))
        await asyncio.sleep(0)

threads = [threading.Thread(target=lambda: asyncio.run(work(sys.argv[1]))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("how", ["dropped", "kept", "early", "in flight"])
def test_a_connection_that_nobody_closed(shared: Server, how: str) -> None:
    """A warning, where warnings are asked for, and not gRPC's complaints about loops that have ended meanwhile."""
    script = _LEFT_OPEN.format(url=f"{shared.url}/shop", password=PASSWORD, ca=str(shared.ca))
    for flags, told in (("-Wignore", 0), ("-Walways", 6 if how == "early" else 3)):
        done = subprocess.run(
            [sys.executable, flags, "-c", script, how], capture_output=True, text=True, timeout=60, check=True
        )
        assert "Traceback" not in done.stderr and "never" not in done.stderr, done.stderr
        assert done.stderr.count("ResourceWarning: unclosed connection to") == told, done.stderr


def test_close_is_quick_and_rolls_back(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a time to wait for a server that does not answer: where one answers, none of it."""
    monkeypatch.setattr("kvql.transport.wire._FAREWELL_S", 1e6)
    con = shared.connect("shop")
    con.execute("PUT a 1")
    con.execute("BEGIN")
    con.execute("PUT b 1")
    con.close()
    with shared.connect("shop") as other:
        assert other.execute("SHOW KEYS").fetchall() == [("a",)]
