"""``kvql.aio`` in PEP 249's shape: the same names as ``kvql.dbapi``, and the same outcomes."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import kvql
import kvql.aio
from kvql import dbapi

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def con(target: dict[str, Any]) -> AsyncIterator[kvql.aio.Connection]:
    """As PEP 249 has it: one lane, and a transaction that begins by itself."""
    async with kvql.aio.connect(**target, autocommit=False) as made:
        yield made


@pytest.fixture
async def auto(target: dict[str, Any]) -> AsyncIterator[kvql.aio.Connection]:
    async with kvql.aio.connect(**target) as made:
        yield made


# ── the shape ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["Connection", "Cursor", "Attempts"])
def test_the_same_names_and_parameters(kind: str) -> None:
    waiting, plain = getattr(kvql.aio, kind), getattr(dbapi, kind)
    for name, member in inspect.getmembers(plain):
        if name.startswith("_"):
            continue
        twin = getattr(waiting, name)
        if inspect.isfunction(member):
            assert list(inspect.signature(twin).parameters) == list(inspect.signature(member).parameters), name
        else:
            assert type(twin) is type(member), name
    for name in ("enter", "exit", "iter", "next"):
        assert hasattr(plain, f"__{name}__") == hasattr(waiting, f"__a{name}__")


def test_one_is_made_from_the_other() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/make_sync.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ── cursors ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cursors(auto: kvql.aio.Connection) -> None:
    cur = auto.cursor()
    assert cur.description is None and cur.rowcount == -1 and cur.rownumber is None and cur.connection is auto
    for fetch in (cur.fetchone, cur.fetchmany, cur.fetchall):
        with pytest.raises(kvql.ProgrammingError):
            await fetch()
    assert await cur.execute("PUT a 1, b 2, c ?", [{"x": 3}]) is cur
    assert cur.rowcount == 3 and cur.description is None and cur.rows == []
    with pytest.raises(kvql.ProgrammingError):
        await cur.fetchall()
    await cur.execute("SHOW DATA")
    assert cur.description is not None and [(c[0], c[1]) for c in cur.description] == [
        ("key", kvql.STRING),
        ("value", None),
    ]
    assert await cur.fetchone() == ("a", 1) and cur.rownumber == 1
    assert await cur.fetchmany() == [("b", 2)] and await cur.fetchmany(-1) == []
    assert await cur.fetchmany(5) == [("c", {"x": 3})] and await cur.fetchmany(5) == []
    assert await cur.fetchone() is None and await cur.fetchall() == [] and cur.rownumber == 3
    assert len(cur.rows) == 3, "rows stay, however far one has fetched"
    assert [key async for (key,) in await cur.execute("SHOW KEYS")] == ["a", "b", "c"]
    await cur.executemany("UPSERT :k :v", [{"k": f"k{i}", "v": i} for i in range(5)])
    assert cur.rowcount == 5 and cur.description is None
    async with auto.cursor() as other:
        await other.execute("COUNT")
    await cur.close()
    for use in (cur.close(), cur.execute("COUNT"), cur.fetchone(), other.fetchone()):
        with pytest.raises(kvql.InterfaceError):
            await use


async def test_a_large_answer_comes_as_it_is_read(auto: kvql.aio.Connection) -> None:
    await auto.executemany("PUT ? ?", [(f"k{i:05}", i) for i in range(30_000)])
    cur = await auto.execute("SHOW DATA")
    assert await cur.fetchone() == ("k00000", 0)
    rows = await cur.fetchmany(20_000)
    assert len(rows) == 20_000 and rows[-1] == ("k20000", 20_000) and cur.rownumber == 20_001
    with pytest.raises(kvql.InterfaceError):
        _ = cur.rows
    async for _, value in cur:
        if value == 25_000:
            break
    assert (await cur.fetchone()) == ("k25001", 25_001), "one may go on after a break"
    assert len(await cur.fetchall()) == 30_000 - 25_002 and cur.rowcount in (30_000, -1)
    cur = await auto.execute("SHOW KEYS")
    await cur.execute("COUNT")
    assert cur.rows == [(30_000,)]
    cur = await auto.execute("SHOW KEYS")
    await cur.close()
    assert (await auto.execute("COUNT")).rows == [(30_000,)]


@pytest.mark.parametrize("pairs", [1_500, 3_500, 20_000])
async def test_no_row_is_lost_inside_a_transaction(target: dict[str, Any], pairs: int) -> None:
    """Chunks that came together with the end of the answer were dropped once."""
    async with kvql.aio.connect(**target) as con:
        await con.executemany("PUT ? ?", [(f"k{i:05}", i) for i in range(pairs)])
        for _ in range(10):
            async with con.transaction() as tx:
                assert len(await (await tx.execute("SHOW DATA")).fetchall()) == pairs
    with kvql.connect(**target) as plain:
        for _ in range(10):
            assert len(plain.execute("SHOW DATA").fetchall()) == pairs


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_autocommit_a_transaction_begins_by_itself(
    con: kvql.aio.Connection, target: dict[str, Any]
) -> None:
    assert not con.autocommit and con.transaction_state == "none"
    await con.execute("PUT a 1")
    assert con.transaction_state == "open" and (await con.execute("GET a")).rows == [("a", 1)]
    async with kvql.aio.connect(**target) as other:
        assert (await other.execute("HAS a")).rows == [("a", False)]
    await con.rollback()
    assert con.transaction_state == "none" and (await con.execute("HAS a")).rows == [("a", False)]
    await con.execute("PUT a 2")
    with pytest.raises(kvql.IntegrityError):
        await con.execute("PUT a 3")
    assert con.transaction_state == "failed"
    with pytest.raises(kvql.InternalError):
        await con.commit()
    await con.rollback()
    assert await con.executemany("PUT ? ?", [("a", 1), ("b", 2)]) == 2
    await con.commit()
    await con.commit()
    await con.execute("USE other")
    assert con.namespace == "other"
    await con.execute("BEGIN")
    with pytest.raises(kvql.InternalError):
        con.autocommit = True
    await con.execute("COMMIT")
    con.autocommit = True
    await con.execute("PUT a 3")
    assert con.transaction_state == "none"


async def test_the_context_manager_commits_or_rolls_back(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target, autocommit=False) as con:
        await con.execute("PUT a 1")
    assert con.closed
    with pytest.raises(ZeroDivisionError):
        async with await kvql.aio.connect(**target, autocommit=False) as con:
            await con.execute("PUT b 1")
            raise ZeroDivisionError
    async with kvql.aio.connect(**target) as con:
        assert (await con.execute("SHOW KEYS")).rows == [("a",)]
        await con.commit()
        await con.rollback()
    for use in (con.commit(), con.rollback(), con.execute("COUNT"), con.executemany("PUT ? ?", [("a", 1)])):
        with pytest.raises(kvql.InterfaceError):
            await use
    for call in (con.cursor, con.transaction):
        with pytest.raises(kvql.InterfaceError):
            call()


async def test_attempts_are_repeated(auto: kvql.aio.Connection) -> None:
    await auto.execute("PUT visits 0")
    rounds = 0
    async for attempt in auto.transaction(retries=3):
        async with attempt as tx:
            rounds += 1
            [(_, visits)] = (await tx.execute("GET visits")).rows
            if rounds == 1:
                await auto.execute("UPDATE visits 10")
            await tx.execute("UPDATE visits ?", [visits + 1])
    assert rounds == 2 and (await auto.execute("GET visits")).rows == [("visits", 11)]

    async def in_the_way(tx: kvql.aio.Transaction) -> None:
        await tx.execute("GET visits")
        await auto.execute("UPDATE visits 20")
        await tx.execute("UPDATE visits 0")

    with pytest.raises(kvql.OperationalError) as caught:
        await auto.transaction(retries=2).run(in_the_way)
    assert caught.value.sqlstate == "40001"
    with pytest.raises(kvql.OperationalError) as caught:
        async with auto.transaction() as tx:
            await in_the_way(tx)
    assert "async for attempt" in (caught.value.hint or "")
    with pytest.raises(kvql.Error):
        async with auto.transaction(read_only=True) as tx:
            await tx.execute("PUT a 1")


async def test_a_transaction_is_a_connection_of_its_own(auto: kvql.aio.Connection) -> None:
    async with auto.transaction() as tx:
        assert tx.state == "open"
        async with tx.cursor() as cur:
            await cur.executemany("PUT ? ?", [("a", 1), ("b", 2)])
            assert cur.rowcount == 2
        for text in ("BEGIN", "USE other"):
            with pytest.raises(kvql.NotSupportedError):
                await tx.execute(text)
        with pytest.raises(kvql.InternalError):
            async with tx.transaction(read_only=True):
                pass
        async with tx.transaction() as part:
            assert part is tx
        tx.use("other")
        await tx.execute("PUT c 3")
        await tx.commit()
        for use in (tx.execute("COUNT"), tx.commit(), tx.executemany("PUT ? ?", [("d", 1)])):
            with pytest.raises(kvql.InterfaceError):
                await use
        await tx.close()
    assert (await auto.execute("COUNT")).rows == [(2,)]
    async with auto.transaction() as tx:
        await tx.execute("PUT z 1")
        await tx.close()
    assert (await auto.use("other").execute("COUNT")).rows == [(1,)]


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_beginning_or_end_leaves_no_open_lane(target: dict[str, Any], turns: int) -> None:
    async with kvql.aio.connect(**target) as con, kvql.aio.connect(**target) as other:
        for what in ("begin", "end"):
            attempts = con.transaction()
            tx = await attempts.__aenter__() if what == "end" else None
            task = asyncio.create_task(tx.rollback() if tx is not None else attempts.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            for i in range(3):
                await con.execute("UPSERT ? ?", [f"{what}{i}", turns])
                assert (await other.execute("GET ?", [f"{what}{i}"])).rows == [(f"{what}{i}", turns)]


async def test_cancel(auto: kvql.aio.Connection) -> None:
    await auto.executemany("PUT ? ?", [(f"k{i:05}", "x" * 100) for i in range(50_000)])
    cur = await auto.execute("SHOW DATA")
    await cur.fetchone()
    auto.cancel()
    with pytest.raises(kvql.OperationalError) as caught:
        await cur.fetchall()
    assert caught.value.sqlstate == "57014"
    assert (await auto.execute("HAS k00000")).rows == [("k00000", True)]
