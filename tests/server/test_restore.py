"""RESTORE: which pairs become what they were, what comes back of their expiry, and that it is all or nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import from_micros
from tests.server.timed import ENGINES, TimedStore

SECOND = 1_000_000


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimedStore]:
    made = TimedStore(request.param, tmp_path)
    yield made
    made.close()


def pairs(store: TimedStore, source: str = "main") -> dict[str, Any]:
    return dict(store(f"SELECT key, value FROM {source}"))


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_become_what_they_were(store: TimedStore) -> None:
    store("PUT a 1, b 2, c 3, same 4")
    then = store.revision
    store("UPDATE a 10; DELETE b; PUT new 5; UPDATE c 30")
    result = store.first.result(f"RESTORE a, b, new, same, a AS OF REVISION {then} COMMENT 'undo'")
    assert (result.row_count, result.revision) == (3, store.revision)
    assert pairs(store) == {"a": 1, "b": 2, "c": 30, "same": 4}
    assert store("SELECT version, comment, revision FROM main WHERE key = 'a'") == [(3, "undo", store.revision)]
    assert store("SELECT version FROM main WHERE key = 'same'") == [(1,)]
    # what is as it was is no change, and what was put back can be taken back in its turn
    assert store.first.result(f"RESTORE a, b AS OF REVISION {store.revision}").row_count == 0
    assert store.first.result(f"RESTORE a, b, new AS OF REVISION {store.revision - 1}").row_count == 3
    assert pairs(store) == {"a": 10, "c": 30, "same": 4, "new": 5}


def test_a_key_that_never_was(store: TimedStore) -> None:
    store("PUT a 1")
    then = store.revision
    store("UPDATE a 2")
    text = f"RESTORE a, nope, nope, neither AS OF REVISION {then}"
    error = store.first.refusal(text)
    assert (error.sqlstate, error.message) == ("02000", "key does not exist: nope")
    assert error.span is not None and (error.span.start, text[error.span.start : error.span.end]) == (11, "nope")
    assert pairs(store) == {"a": 2}
    assert store.first.refusal("RESTORE a AS OF REVISION 999").span is not None


def test_a_time(store: TimedStore) -> None:
    store("PUT a 1")
    store.clock.advance(60)
    store("UPDATE a 2")
    store("RESTORE a AS OF TIMESTAMP now() - 60s")
    assert pairs(store) == {"a": 1}
    store("RESTORE a AS OF TIMESTAMP ?", [from_micros(store.clock.now() - 1)])
    assert pairs(store) == {"a": 1}


# ── namespaces ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_namespace_becomes_what_it_was(store: TimedStore) -> None:
    store("PUT a 1, b 2, c x")
    then = store.revision
    store("TRUNCATE NAMESPACE main; PUT a 5, z 1")
    result = store.first.result(f"RESTORE FROM main AS OF REVISION {then}")
    assert result.row_count == 4
    assert pairs(store) == pairs(store, f"main AS OF REVISION {then}") == {"a": 1, "b": 2, "c": "x"}


@pytest.mark.parametrize("seed", range(3))
def test_many_pages(store: TimedStore, seed: int) -> None:
    """More pairs than a page holds, and pages that no longer begin at the same keys."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    keys = [f"k{n:05}" for n in range(12_000)]
    for at in range(0, len(keys), 2000):
        store("INSERT INTO main VALUES " + ", ".join(f"('{key}', 1)" for key in keys[at : at + 2000]))
    then = store.revision
    store(f"UPDATE main SET value = 2 WHERE key ^= 'k{chance.randrange(10)}' OR key LIKE '%{chance.randrange(100):02}'")
    first, last = sorted(chance.sample(keys, 2))
    store(f"DELETE FROM main WHERE key BETWEEN '{first}' AND '{last}' AND NOT key LIKE '%3'")
    store("INSERT INTO main VALUES " + ", ".join(f"('{key}x', 3)" for key in chance.sample(keys, 700)))
    low, high = sorted(chance.sample(keys, 2))
    changed = dict(store(f"SELECT key, value FROM main WHERE key < '{low}' OR key >= '{high}'"))
    store(f"RESTORE FROM main WHERE key >= '{low}' AND key < '{high}' AS OF REVISION {then}")
    expected = changed | {key: 1 for key in keys if low <= key < high}
    assert store("SELECT key, value FROM main") == sorted(expected.items())
    count = store.first.result(f"RESTORE FROM main AS OF REVISION {then}").row_count
    assert store("SELECT key, value FROM main") == [(key, 1) for key in keys]
    unchanged = sum(changed.get(key) == 1 for key in keys)
    assert count == len(changed.keys() | {k for k in keys if not low <= k < high}) - unchanged


def test_a_condition_holds_then_or_now(store: TimedStore) -> None:
    """The answer to the condition is afterwards what it was: so says the rule."""
    store("PUT low 1, high 20, up 2, down 30, stays 40")
    then = store.revision
    store("UPDATE low 3; UPDATE high 25; UPDATE up 50; UPDATE down 4; PUT new 60, small 5; DELETE stays")
    store(f"RESTORE FROM main WHERE value >= 10 AS OF REVISION {then}")
    assert pairs(store) == {"low": 3, "high": 20, "up": 2, "down": 30, "stays": 40, "small": 5}
    condition = "WHERE value >= 10"
    assert store(f"SELECT * FROM main {condition}") == store(f"SELECT * FROM main AS OF REVISION {then} {condition}")


def test_a_condition_on_keys_reads_only_them(store: TimedStore) -> None:
    store("PUT a1 1, a2 2, b 3")
    then = store.revision
    store("UPDATE a1 10; DELETE a2; PUT a3 1; UPDATE b 30")
    plan = store(f"EXPLAIN RESTORE FROM main WHERE key ^= 'a' AS OF REVISION {then}")
    assert plan == [
        ("read", f"prefix 'a' of namespace main as of revision {then} and now"), ("restore", "what has changed since"),
    ]  # fmt: skip
    assert store.first.result(f"RESTORE FROM main WHERE key ^= 'a' AS OF REVISION {then}").row_count == 3
    assert pairs(store) == {"a1": 1, "a2": 2, "b": 30}
    store(f"RESTORE FROM main WHERE key IN ('b', 'a1') AS OF REVISION {then}")
    assert pairs(store) == {"a1": 1, "a2": 2, "b": 3}
    assert store.first.result(f"RESTORE FROM main WHERE FALSE AS OF REVISION {then}").row_count == 0


def test_explain_analyze_and_dry_run(store: TimedStore) -> None:
    store("PUT a 1, b 2")
    then = store.revision
    store("UPDATE a 2; DELETE b; PUT c 3")
    plan = store(f"EXPLAIN RESTORE FROM main WHERE value > 1 AS OF REVISION {then}")
    assert plan[1:] == [("filter", "value > 1, then or now"), ("restore", "what has changed since")]
    changes = [("UPDATE", "a", 2, 1), ("INSERT", "b", None, 2), ("DELETE", "c", 3, None)]
    assert store(f"DRY RUN RESTORE FROM main AS OF REVISION {then}") == changes
    assert store(f"DRY RUN RESTORE a, b, c AS OF REVISION {then}") == changes
    assert pairs(store) == {"a": 2, "c": 3}
    analyzed = store(f"EXPLAIN ANALYZE RESTORE FROM main AS OF REVISION {then}")
    assert (analyzed[-1][0], analyzed[-1][2]) == ("restore", 3)
    assert pairs(store) == {"a": 1, "b": 2}


# ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_expiry_comes_back_too(store: TimedStore) -> None:
    store("PUT a 1 TTL 100s; PUT b 2")
    then = store.revision
    store.clock.advance(10)
    store("PERSIST a; EXPIRE b 5s")
    result = store.first.result(f"RESTORE FROM main AS OF REVISION {then}")
    assert (result.row_count, result.notices) == (2, [])
    assert [str(row[0]) for row in store("SELECT ttl FROM main")] == ["0:01:30", "None"]


def test_a_time_to_live_that_is_over_begins_anew(store: TimedStore) -> None:
    store("PUT a 1 TTL 100s; PUT b 2 TTL 1h")
    then = store.revision
    store.clock.advance(40)
    store("UPDATE a 5")
    later = store.revision
    store.clock.advance(1000)
    assert store("SHOW KEYS") == [("b",)]
    result = store.first.result(f"RESTORE a, b AS OF REVISION {then}")
    assert result.row_count == 1
    assert [(n.message, n.hint) for n in result.notices] == [
        ("1 pair has expired since: the time to live begins anew", "PERSIST k keeps a pair for good")
    ]
    assert [str(row[0]) for row in store("SELECT ttl FROM main")] == ["0:01:40", "0:42:40"]
    # what was left of it when the pair was last written
    store(f"RESTORE FROM main AS OF REVISION {later}")
    assert [str(row[0]) for row in store("SELECT ttl FROM main WHERE key = 'a'")] == ["0:01:00"]


def test_what_was_over_when_it_was_written_does_not_come_back(store: TimedStore) -> None:
    store("PUT b 1; INSERT INTO main (key, value, expires_at) VALUES ('a', 1, now() - 1s)")
    then = store.revision
    store("UPSERT a 2, b 2")
    store(f"RESTORE FROM main AS OF REVISION {then}")
    assert pairs(store) == {"b": 1}


# ── all or nothing ────────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_hold_for_what_comes_back(store: TimedStore) -> None:
    store("CREATE NAMESPACE s; USE s; PUT a 'two words', b word")
    then = store.revision
    store("UPDATE a 1; UPDATE b 1; ALTER NAMESPACE s SET (values = 'word')")
    for text in (f"RESTORE a, b AS OF REVISION {then}", f"RESTORE FROM s AS OF REVISION {then}"):
        error = store.first.refusal(text)
        assert error.sqlstate == "22023" and error.message.startswith("key a: ")
    assert pairs(store, "s") == {"a": 1, "b": 1}
    store(f"RESTORE b AS OF REVISION {then}")
    assert pairs(store, "s") == {"a": 1, "b": "word"}


def test_declared_fields_come_back(store: TimedStore) -> None:
    store("CREATE NAMESPACE p (name TEXT NOT NULL, born TIMESTAMP)")
    store("INSERT INTO p (key, name, born) VALUES ('a', 'Ann', TIMESTAMP '2000-01-01')")
    then, row = store.revision, store("SELECT value, name, born FROM p")
    store("UPDATE p SET name = 'Bob'; DELETE FROM p")
    store(f"RESTORE FROM p WHERE name = 'Ann' AS OF REVISION {then}")
    assert store("SELECT value, name, born FROM p") == row


def test_a_statement_that_is_too_large_is_refused_whole(store: TimedStore) -> None:
    from kvql_server.settings import Settings

    store("PUT a 1, b 2")
    store.executor.settings = Settings(statement_bytes_max=2_000)
    for n in range(20):
        store(f"UPSERT k{n:02} {'x' * 200}")
    then = store.revision
    for n in range(20):
        store(f"UPDATE k{n:02} {n}")
    error = store.first.refusal(f"RESTORE FROM main AS OF REVISION {then}")
    assert error.sqlstate == "53400"
    assert store("SELECT count(*) FROM main WHERE type = 'TEXT'") == [(0,)]
    assert store.first.result(f"RESTORE FROM main WHERE key < 'k05' AS OF REVISION {then}").row_count == 5


def test_malformed_commands_are_refused(store: TimedStore) -> None:
    from kvql_server.executor import step

    for command in (
        pb.RestoreCommand(keys=["a"], namespace="main"),
        pb.RestoreCommand(keys=["a"], where=pb.Expression()),
        pb.RestoreCommand(keys=["a"]),
        pb.RestoreCommand(keys=["a b"]),
        pb.RestoreCommand(),
    ):
        with pytest.raises(Error, match="22023"):
            step(store.executor.execute(pb.Request(restore=command), store.first.lane, store.first.principal,
                                        store.executor.work()))  # fmt: skip


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_inside_a_transaction(store: TimedStore) -> None:
    store("PUT a 1, b 2")
    then = store.revision
    store("UPDATE a 5")
    store("BEGIN; UPDATE a 7; DELETE b; PUT mine 1; SAVEPOINT s")
    assert store.first.result(f"RESTORE FROM main AS OF REVISION {then}").row_count == 3
    assert pairs(store) == {"a": 1, "b": 2}
    store("ROLLBACK TO s")
    assert pairs(store) == {"a": 7, "mine": 1}
    store(f"RESTORE a, mine AS OF REVISION {then}; COMMIT")
    assert pairs(store) == {"a": 1}


@pytest.mark.parametrize("statement", ["RESTORE a, b AS OF REVISION {}", "RESTORE FROM main AS OF REVISION {}"])
@pytest.mark.parametrize("meanwhile", ["UPDATE a 9", "DELETE a", "UPDATE b 9"])
def test_what_others_changed_meanwhile_is_a_conflict(store: TimedStore, statement: str, meanwhile: str) -> None:
    store("PUT a 1, b 2")
    then = store.revision
    store("UPDATE a 5")
    one = store.session()
    one("BEGIN")
    one(statement.format(then))
    store(meanwhile)
    assert one.refusal("COMMIT").sqlstate == "40001"


def test_a_read_only_transaction_restores_nothing(store: TimedStore) -> None:
    store("PUT a 1")
    then = store.revision
    store("UPDATE a 2; BEGIN READ ONLY")
    assert store(f"DRY RUN RESTORE a AS OF REVISION {then}") == [("UPDATE", "a", 2, 1)]
    assert store.first.refusal(f"RESTORE a AS OF REVISION {then}").sqlstate == "25006"


# ── a model ───────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = ["a", "b", "c", "ca", "d"]
_key = st.sampled_from(KEYS)
_number = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("UPSERT"), _key, _number),
        st.tuples(st.just("TTL"), _key, _number),
        st.tuples(st.just("DELETE"), _key, _number),
        st.tuples(st.just("CLEAR"), _key, _number),
        st.tuples(st.just("WAIT"), _key, _number),
        st.tuples(st.just("RESTORE"), _key, _number),
        st.tuples(st.just("RESTORE FROM"), _key, _number),
        st.tuples(st.just("REOPEN"), _key, _number),
    ),
    max_size=20,
)


@pytest.mark.parametrize("engine", ENGINES)
@given(STEPS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_every_revision_is_a_copy_that_a_dict_kept(
    engine: str, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]], chance: random.Random
) -> None:
    """AS OF any revision, and RESTORE to any, against a dict of copies."""
    store = TimedStore(engine, tmp_path_factory.mktemp("model"))
    try:
        model: dict[str, tuple[int, int | None]] = {}  # value, expires_at
        copies: dict[int, dict[str, tuple[int, int | None]]] = {}
        times: dict[int, dict[str, int]] = {}
        store("PUT a 0; DELETE a")
        for what, key, number in [("NONE", "", 0), *steps]:
            _carry_out(store, model, copies, what, key, number, chance)
            store.engine.tick()
            for gone in [k for k, (_, e) in model.items() if e is not None and e <= store.clock.now()]:
                del model[gone]
            revision = store.revision
            copies[revision] = dict(model)
            times[store.clock.now()] = {k: v for k, (v, _) in model.items()}
        newest = store.revision
        for revision, copy in copies.items():
            assert revision <= newest
            assert pairs(store, f"main AS OF REVISION {revision}") == {k: v for k, (v, _) in copy.items()}, revision
            assert store(f"SELECT value FROM main AS OF REVISION {revision} WHERE key = 'c'") == [
                (value,) for key, (value, _) in copy.items() if key == "c"
            ]
            assert store(f"SELECT count(*) FROM main AS OF REVISION {revision} WHERE key ^= 'c'") == [
                (sum(k.startswith("c") for k in copy),)
            ]
        for time, values in times.items():
            assert dict(store("SELECT key, value FROM main AS OF TIMESTAMP ?", [from_micros(time)])) == values
    finally:
        store.close()


def _carry_out(
    store: TimedStore, model: dict[str, tuple[int, int | None]], copies: dict[int, dict[str, tuple[int, int | None]]],
    what: str, key: str, number: int, chance: random.Random,
) -> None:  # fmt: skip
    now = store.clock.now()
    if what == "UPSERT":
        store(f"UPSERT {key} {number}")
        model[key] = (number, None)
    elif what == "TTL":
        store(f"UPSERT {key} {number} TTL {number + 1}s")
        model[key] = (number, now + (number + 1) * SECOND)
    elif what == "DELETE":
        store(f"DELETE FROM main WHERE key = '{key}'")
        model.pop(key, None)
    elif what == "CLEAR":
        store("TRUNCATE NAMESPACE main")
        model.clear()
    elif what == "WAIT":
        store.clock.advance(number)
    elif what == "REOPEN" and store.kind == "hashtable":
        store.reopen()
    elif what.startswith("RESTORE"):
        revision = chance.choice(sorted(copies))
        where = f" WHERE key >= '{key}'" if number > 4 else ""
        if what == "RESTORE FROM":
            keys = [k for k in KEYS if not where or k >= key]
            store(f"RESTORE FROM main{where} AS OF REVISION {revision}")
        else:
            keys = [key]
            if key not in model and key not in copies[revision]:
                assert store.first.refusal(f"RESTORE {key} AS OF REVISION {revision}").sqlstate == "02000"
            else:
                store(f"RESTORE {key} AS OF REVISION {revision}")
        for k in keys:
            model.pop(k, None)
            if k in copies[revision]:
                (value,) = store(f"SELECT value, expires_at, updated_at FROM main AS OF REVISION {revision} "
                                 f"WHERE key = '{k}'")  # fmt: skip
                (kept,) = store(f"SELECT value, expires_at FROM main WHERE key = '{k}'")
                assert kept[0] == value[0] == copies[revision][k][0]
                expires_at = copies[revision][k][1]
                if expires_at is None or expires_at > now:
                    assert kept[1] == value[1]
                else:
                    assert kept[1] == from_micros(now) + (value[1] - value[2])
                    expires_at = round((kept[1] - from_micros(0)).total_seconds() * SECOND)
                model[k] = (value[0], expires_at)
