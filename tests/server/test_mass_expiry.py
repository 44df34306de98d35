"""A hundred thousand pairs that end at the same moment: whoever has to wait for that, others go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kvql_server.auth import LOCAL
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.store import EXPIRE_STEP
from kvql_server.executor import Executor, Lane, Pages, step

from kvql import errors
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb

PAGES = 5
COUNT = PAGES * EXPIRE_STEP
SERIALIZABLE = ["BEGIN", "UPDATE t SET value = 1", "DELETE FROM t WHERE value > 5", "TRUNCATE NAMESPACE t"]
OF_THE_PAST = ["SELECT count(*) FROM HISTORY OF t", "RESTORE FROM t AS OF REVISION 1"]


def request(text: str) -> pb.Request:
    return compile_statement(parse(text)[0])


class Expiring:
    """An executor of a store in which ``COUNT`` pairs are due, and what happens in its loop."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.engine = HashTableEngine.open(folder, sync="checkpoint", clock=self.clock)
        self.executor = Executor(self.engine, self.clock, start_namespace="t")
        self.lane = Lane("t")
        self.turns = 0
        self.do("CREATE NAMESPACE t")
        self.do("PUT stays 1")

    def fill(self) -> None:
        """Pairs that are due now."""
        due = self.clock.now() + 1_000_000
        step(self.engine.commit_many([Transaction((), [Put("t", f"k{n}", n, due) for n in range(COUNT)])]))
        self.clock.advance(2)

    def do(self, text: str | pb.Request) -> Any:
        return asyncio.run(self._counted(request(text) if isinstance(text, str) else text))

    async def _counted(self, asked: pb.Request) -> Any:
        """The result; ``turns`` is how often others had theirs."""
        others = asyncio.create_task(self._others())
        await asyncio.sleep(0)
        self.turns = 0
        try:
            work = self.executor.work(asked.deadline_ms)
            work.yields = True
            result = await self.executor.execute(asked, self.lane, LOCAL, work)
            if isinstance(result.rows, Pages):
                result.rows = [row async for page in result.rows for row in page]
            return result
        finally:
            others.cancel()

    async def _others(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Expiring]:
    made = Expiring(tmp_path / "store")
    yield made
    made.lane.rollback()
    step(made.engine.close())


@pytest.mark.parametrize("text", SERIALIZABLE + OF_THE_PAST)
def test_others_have_their_turn_between_pages(store: Expiring, text: str) -> None:
    store.fill()
    store.do(text)
    assert store.turns >= PAGES - 1
    assert not store.engine.expire_due()
    store.lane.rollback()
    assert store.do("COUNT").rows in ([(1,)], [(0,)])


def test_commit_of_what_read_a_range(store: Expiring) -> None:
    """What ended meanwhile was in the range: a conflict, as if it had ended one by one."""
    due = store.clock.now() + 1_000_000
    step(store.engine.commit_many([Transaction((), [Put("t", f"k{n}", n, due) for n in range(COUNT)])]))
    store.do("BEGIN")
    assert store.do("SELECT count(*) WHERE value >= 0").rows == [(COUNT + 1,)]
    store.do("UPSERT new 1")
    store.clock.advance(2)
    assert store.executor.is_behind(request("COMMIT"), store.lane)
    with pytest.raises(Error) as caught:
        store.do("COMMIT")
    assert caught.value.sqlstate == errors.CONFLICT
    assert store.turns >= PAGES - 2


def test_commit_of_what_read_keys_waits_for_a_page_only(store: Expiring) -> None:
    store.do("BEGIN")
    store.do("GET stays")
    store.do("UPSERT new 1")
    store.fill()
    assert not store.executor.is_behind(request("COMMIT"), store.lane)
    store.do("COMMIT")
    assert store.engine.expire_due()


def test_what_would_be_done_at_once_is_not_where_much_is_due(store: Expiring) -> None:
    """A session carries out short requests by itself, and others wait for it: not for these."""
    read_only = request("BEGIN READ ONLY")
    assert not store.executor.is_behind(request("BEGIN"), store.lane)
    store.fill()
    assert store.executor.is_behind(request("BEGIN"), store.lane)
    assert not store.executor.is_behind(read_only, store.lane)
    assert not store.executor.is_behind(request("GET stays"), store.lane)
    store.do("BEGIN")
    assert not store.executor.is_behind(request("BEGIN"), store.lane)


def test_it_can_be_cancelled(store: Expiring, monkeypatch: pytest.MonkeyPatch) -> None:
    store.fill()
    late = request("BEGIN")
    late.deadline_ms = 1

    def slow(real: Any = store.engine.expire_due) -> bool:
        more: bool = real()
        while store.executor.work(1)._deadline_s <= began + 0.01:
            pass
        return more

    began = store.executor.work(1)._deadline_s
    monkeypatch.setattr(store.engine, "expire_due", slow)
    with pytest.raises(Error) as caught:
        store.do(late)
    assert caught.value.sqlstate == errors.CANCELLED
    assert store.lane.transaction is None


def test_in_process_there_is_nobody_to_wait_for(store: Expiring) -> None:
    store.fill()
    work = store.executor.work(0)
    step(store.executor.execute(request("BEGIN"), store.lane, LOCAL, work))
    assert store.lane.transaction is not None and not store.engine.expire_due()
