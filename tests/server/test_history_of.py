"""HISTORY OF: what it tells, in which order, and that it is read like the present."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.executor import Work

from tests.server.busy import BusyStore
from tests.server.timed import ENGINES, TimedStore


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimedStore]:
    made = TimedStore(request.param, tmp_path)
    yield made
    made.close()


def test_history_tells_every_state(store: TimedStore) -> None:
    start = store.revision
    store("PUT a 1 COMMENT 'first'; UPDATE a 2; DELETE a COMMENT 'old'; UPSERT a 3; PUT b (NULL) TTL 1s")
    store.clock.advance(2)
    rows = store(
        "SELECT key, event, value, type, version, revision, updated_by, comment, size IS NULL, created_at IS NULL "
        "FROM HISTORY OF main"
    )
    r = start + 1
    assert rows == [
        ("a", "PUT", 1, "INTEGER", 1, r, "admin", "first", False, False),
        ("a", "UPDATE", 2, "INTEGER", 2, r + 1, "admin", None, False, False),
        ("a", "DELETE", None, None, None, r + 2, "admin", "old", True, True),
        ("a", "PUT", 3, "INTEGER", 1, r + 3, "admin", None, False, False),
        ("b", "PUT", None, "NULL", 1, r + 4, "admin", None, False, False),
        ("b", "EXPIRE", None, None, None, r + 5, None, None, True, True),
    ]  # fmt: skip
    at = datetime(2026, 1, 2, 2, 50, 47, tzinfo=UTC)
    assert store("SELECT updated_at, expires_at, ttl FROM HISTORY OF main WHERE event = 'EXPIRE'") == [(at, None, None)]


def test_history_by_paths_and_orders(store: TimedStore) -> None:
    for n in range(40):
        store(f"PUT k{n:02} {n}")
    store("UPDATE k05 x; DELETE k06; UPDATE main SET value = 0 WHERE key = 'k07'")
    assert store("SELECT event FROM HISTORY OF main WHERE key = 'k05'") == [("PUT",), ("UPDATE",)]
    assert store("SELECT key, event FROM HISTORY OF main WHERE key IN ('k06', 'k01', 'nope')") == [
        ("k01", "PUT"), ("k06", "PUT"), ("k06", "DELETE"),
    ]  # fmt: skip
    many = ", ".join(f"'k{n:02}'" for n in range(0, 40, 2))
    assert store(f"SELECT count(*) FROM HISTORY OF main WHERE key IN ({many})") == [(21,)]
    assert store("SELECT count(*) FROM HISTORY OF main WHERE key BETWEEN 'k05' AND 'k07'") == [(6,)]
    assert store("SELECT count(*) FROM HISTORY OF main WHERE key ^= 'k0'") == [(13,)]
    assert store("SELECT count(*) FROM HISTORY OF main") == [(43,)]
    assert store("SELECT key, event FROM HISTORY OF main ORDER BY key DESC LIMIT 2 OFFSET 32") == [
        ("k07", "UPDATE"), ("k07", "PUT"),
    ]  # fmt: skip
    assert store("SELECT key, event FROM HISTORY OF main ORDER BY event LIMIT 2") == [
        ("k06", "DELETE"), ("k00", "PUT"),
    ]  # fmt: skip
    assert store("SELECT event, count(*) FROM HISTORY OF main GROUP BY event") == [
        ("DELETE", 1), ("PUT", 40), ("UPDATE", 2),
    ]  # fmt: skip
    assert store("SELECT * FROM HISTORY OF main WHERE EVENT = 'DELETE'") == [("k06", None)]
    assert store.first.refusal("SELECT event.x FROM HISTORY OF main").sqlstate == "42703"


def test_event_is_a_field_everywhere_else(store: TimedStore) -> None:
    store('PUT a {"event": "party"}')
    assert store("SELECT event FROM main") == [("party",)]
    assert store("SELECT event FROM main AS OF REVISION ?", [store.revision]) == [("party",)]
    assert store("SELECT event, value.event AS field FROM HISTORY OF main") == [("PUT", "party")]


@pytest.mark.parametrize(
    ("where", "first", "second"),
    [
        ("", "PUT x 1", "PUT y 1"), (" WHERE key ^= 'a'", "PUT a2 1", "PUT a3 1"),
        (" WHERE key IN ('a', 'b')", "UPDATE a 2", "PUT b 1"),
    ],
)  # fmt: skip
def test_history_goes_up_to_the_present_which_is_read(store: TimedStore, where: str, first: str, second: str) -> None:
    """Two count the states and add one each: one after the other, the second would have counted one more."""
    store("PUT a 1, other 1")
    one, two = store.session(), store.session()
    for session, change in ((one, first), (two, second)):
        assert session(f"BEGIN; SELECT count(*) > 0 FROM HISTORY OF main{where}") == [(True,)]
        session(change)
    one("COMMIT")
    assert two.refusal("COMMIT").sqlstate == "40001"
    one(f"BEGIN; SELECT count(*) FROM HISTORY OF main{where}")
    one("PUT c 1")
    store("UPDATE other 2")
    if where:
        one("COMMIT")
    else:
        assert one.refusal("COMMIT").sqlstate == "40001"


@pytest.mark.parametrize("source", ["t AS OF REVISION ?", "HISTORY OF t"])
def test_counting_the_past_lets_others_have_their_turn(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And can be cancelled: nobody knows the number without going through it."""
    engine = HashTableEngine.open(tmp_path)
    busy = BusyStore(engine=engine)
    busy.run("PUT k 0")
    seen = engine.status()["revision"]
    pairs = ", ".join(f"('k{n}', {n})" for n in range(20_000))
    busy.run(f"INSERT INTO t VALUES {pairs}")
    turns = 0
    turn = Work.turn

    async def counted(work: Work) -> None:
        nonlocal turns
        turns += 1
        await turn(work)

    monkeypatch.setattr(Work, "turn", counted)
    given = [seen] if "?" in source else None
    [(count,)] = busy.rows(f"SELECT count(*) FROM {source}", given)
    assert count == (1 if given else 20_001) and turns >= 20_000 // 4_096
    engine.close_now()
