"""The asynchronous client, on a folder in this process and on a real server over TLS."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import kvql
import kvql.aio


async def test_statements(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        put = await con.execute("PUT a ?, b 2", [{"x": 1}])
        assert put.rowcount == 2 and put.columns is None and put.rows == []
        got = await con.execute("GET a, b")
        assert got.rows == [("a", {"x": 1}), ("b", 2)]
        assert [c.name for c in got.columns or ()] == ["key", "value"] and got.rowcount == 2
        with pytest.raises(kvql.IntegrityError) as caught:
            await con.execute("PUT a 1")
        assert caught.value.span is not None
        assert [row async for row in await con.execute("SHOW DATA")] == [("a", {"x": 1}), ("b", 2)]
        assert await (await con.execute("SHOW KEYS")).fetchall() == [("a",), ("b",)]
        assert await con.executemany("UPSERT ? ?", [(f"k{i}", i) for i in range(3000)]) == 3000
        with pytest.raises(kvql.IntegrityError) as caught:
            await con.executemany("PUT ? ?", [("new", 1), ("k5", 1), ("newer", 1)])
        assert caught.value.statement == 1
        assert (await con.execute("COUNT")).rows == [(3004,)]


async def test_views_and_what_is_refused(target: dict[str, Any]) -> None:
    con = await kvql.aio.connect(**target)
    other = con.use("other")
    await asyncio.gather(con.execute("PUT a 1"), other.execute("PUT a 2"))
    assert (await other.execute("GET a")).rows == [("a", 2)] and (await con.execute("GET a")).rows == [("a", 1)]
    for text in ("USE other", "BEGIN", "COMMIT", "ROLLBACK"):
        with pytest.raises(kvql.NotSupportedError):
            await con.execute(text)
    await con.close()
    await con.close()


async def test_transactions(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        async with con.transaction() as tx:
            await tx.execute("PUT a 1")
            assert (await con.execute("HAS a")).rows == [("a", False)], "others do not see it yet"
            assert (await tx.execute("GET a")).rows == [("a", 1)]
        assert (await con.execute("GET a")).rows == [("a", 1)]
        with pytest.raises(ZeroDivisionError):
            async with con.transaction() as tx:
                await tx.execute("PUT b 1")
                raise ZeroDivisionError
        with pytest.raises(kvql.InternalError):
            async with con.transaction() as tx:
                with pytest.raises(kvql.IntegrityError):
                    await tx.execute("PUT a 1")
        with pytest.raises(kvql.InterfaceError):
            await tx.execute("COUNT")
        assert (await con.execute("SHOW KEYS")).rows == [("a",)]


async def test_a_block_in_a_transaction_is_a_savepoint(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        async with con.transaction() as tx:
            await tx.execute("PUT a 1")
            with pytest.raises(kvql.IntegrityError):
                async with tx.transaction() as same:
                    assert same is tx
                    await tx.execute("PUT b 1")
                    await tx.execute("PUT a 2")
            assert tx.state == "open"
            async with tx.transaction():
                await tx.execute("PUT c 1")
                with pytest.raises(kvql.InternalError, match="passed over"):
                    async with tx.transaction():
                        await tx.execute("PUT d 1")
                        with pytest.raises(kvql.IntegrityError):
                            await tx.execute("PUT a 2")
            with pytest.raises(asyncio.TimeoutError):
                async with tx.transaction(), asyncio.timeout(0):
                    await tx.execute("PUT e 1")
                    await asyncio.sleep(1)
            await tx.execute("SAVEPOINT mine")
            await tx.execute("PUT f 1")
            await tx.execute("ROLLBACK TO mine")
            assert tx.state == "open"
        assert (await con.execute("SHOW KEYS")).rows == [("a",), ("c",)]
        for text in ("SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"):
            with pytest.raises(kvql.NotSupportedError):
                await con.execute(text)
        await con.execute("ASSERT (SELECT count(*)) = 2")
        with pytest.raises(kvql.IntegrityError, match="assertion failed"):
            await con.execute("ASSERT (SELECT count(*)) = 3")


async def test_counters_lose_no_update(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        await con.execute("PUT visits 0")

        async def visit(tx: kvql.aio.Transaction) -> None:
            [(_, visits)] = (await tx.execute("GET visits")).rows
            await asyncio.sleep(0)
            await tx.execute("UPDATE visits ?", [visits + 1])

        await asyncio.gather(*(con.run_transaction(visit, retries=50) for _ in range(8)))
        assert (await con.execute("GET visits")).rows == [("visits", 8)]


async def test_a_block_that_is_left_before_it_could_be_repeated_says_so(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        await con.execute("PUT visits 0")

        async def visit() -> int:
            async for attempt in con.transaction(retries=3):
                async with attempt as tx:
                    [(_, visits)] = (await tx.execute("GET visits")).rows
                    await con.execute("UPDATE visits 10")
                    await tx.execute("UPDATE visits ?", [visits + 1])
                    return int(visits + 1)
            raise AssertionError

        with pytest.warns(RuntimeWarning, match="nothing was committed"):
            await visit()
            await asyncio.sleep(0)  # the event loop ends what the block has left
            await asyncio.sleep(0)
        assert (await con.execute("GET visits")).rows == [("visits", 10)]


async def test_what_comes_behind_the_end_is_refused_and_a_lane_is_given_back_once(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        await con.execute("PUT a 1")
        tx = await con.transaction().__aenter__()
        await tx.execute("UPDATE a 2")
        commit, late = await asyncio.gather(tx.commit(), tx.execute("PUT late 1"), return_exceptions=True)
        assert commit is None
        assert isinstance(late, kvql.InterfaceError) and "the transaction has ended" in str(late)
        assert (await con.execute("SHOW DATA")).rows == [("a", 2)], "nothing happened outside the transaction"
        async with con.transaction() as one, con.transaction() as another:
            await one.execute("PUT b 1")
            assert (await another.execute("HAS b")).rows == [("b", False)]


async def test_the_end_of_a_transaction_may_fail_and_be_asked_for_again(target: dict[str, Any]) -> None:
    async with kvql.aio.connect(**target) as con:
        tx = await con.transaction().__aenter__()
        with pytest.raises(kvql.Error):
            await tx.execute("GET nothing")
        with pytest.raises(kvql.InternalError):
            await tx.commit()
        await tx.rollback()
        with pytest.raises(kvql.InterfaceError):
            await tx.execute("PUT a 1")
