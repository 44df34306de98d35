"""ALTER NAMESPACE, and the options that it and CREATE NAMESPACE set: what is in force, and from when on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kvql_server.engines import base

import kvql
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import put
from tests.server.timed import ENGINES, TimedStore

HOUR = 3600


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimedStore]:
    made = TimedStore(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[TimedStore]:
    made = TimedStore("hashtable", tmp_path)
    yield made
    made.close()


def kept_s(store: TimedStore, namespace: str = "s") -> int:
    """For how long the engine keeps the past of a namespace, found out by asking it."""
    store(f"USE {namespace}; UPSERT probe 1")
    first = store.revision
    store("UPSERT probe 2")
    age = 0
    for until in (0, 1, 599, 600, 1799, HOUR - 1, HOUR, 2 * HOUR - 1, 2 * HOUR):
        store.clock.advance(until - age)
        age = until
        if store.engine.oldest(namespace) > first:
            return age
    raise AssertionError("longer than any of these tests says")


def settings(store: TimedStore, namespace: str = "s") -> dict[str, str]:
    return {row[1]: row[2] for row in store(f"DESCRIBE {namespace}") if row[0] == "setting"}


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_history_is_kept_for_its_time(store: TimedStore) -> None:
    store("CREATE NAMESPACE s WITH (history = '10m')")
    assert kept_s(store) == 600
    store("CREATE NAMESPACE t WITH (history = '0s'); CREATE NAMESPACE u WITH (history_bytes = 0); CREATE NAMESPACE v")
    assert (kept_s(store, "t"), kept_s(store, "u"), kept_s(store, "v")) == (0, 0, HOUR)
    assert settings(store) == {"history": "10 minutes"}


def test_alter_namespace_takes_effect_at_once(store: TimedStore) -> None:
    store("CREATE NAMESPACE s WITH (history = '10m', values = 'word')")
    store("ALTER NAMESPACE s SET (history = '2h', history_bytes = 5000000)")
    assert settings(store) == {"history": "2 hours", "history_bytes": "5000000", "values": "word"}
    assert kept_s(store) == 2 * HOUR
    store("ALTER NAMESPACE s SET (history = '0s')")
    assert kept_s(store) == 0
    store("ALTER NAMESPACE s SET (history = NULL)")
    assert settings(store) == {"history_bytes": "5000000", "values": "word"}
    assert kept_s(store) == HOUR


def test_it_stays_in_force_after_a_restart(durable: TimedStore) -> None:
    durable("CREATE NAMESPACE s WITH (history = '2h'); CREATE NAMESPACE t WITH (history = '10m')")
    durable("ALTER NAMESPACE t SET (history = '0s'); CREATE NAMESPACE u")
    durable.reopen()
    assert (kept_s(durable), kept_s(durable, "t"), kept_s(durable, "u")) == (2 * HOUR, 0, HOUR)


def test_what_is_rolled_back_was_never_in_force(store: TimedStore) -> None:
    store("CREATE NAMESPACE s WITH (history = '2h')")
    store("BEGIN; ALTER NAMESPACE s SET (history = '0s'); ROLLBACK")
    assert kept_s(store) == 2 * HOUR
    one = store.session()
    one("BEGIN; ALTER NAMESPACE s SET (history = '0s')")
    store("ALTER NAMESPACE s SET (values = 'word')")
    assert one.refusal("COMMIT").sqlstate == "40001"
    assert kept_s(store) == 2 * HOUR
    store("BEGIN; ALTER NAMESPACE s SET (history = '10m'); SAVEPOINT x; DROP NAMESPACE s; ROLLBACK TO x; COMMIT")
    assert kept_s(store) == 600
    store("BEGIN; DROP NAMESPACE s; CREATE NAMESPACE s; COMMIT")
    assert kept_s(store) == HOUR


@pytest.mark.parametrize("created", ["CREATE NAMESPACE s", "USE s; PUT a 1", "USE s; UPSERT a 1, b 2",
                                     "INSERT INTO s VALUES ('a', 1)"])  # fmt: skip
def test_a_namespace_that_is_made_anew_has_the_usual_history(store: TimedStore, created: str) -> None:
    store("CREATE NAMESPACE s WITH (history = '0s'); USE s; PUT old 1; DROP NAMESPACE s")
    store(created)
    assert kept_s(store) == HOUR


def test_a_dropped_namespace_keeps_nothing(store: TimedStore) -> None:
    store("USE s; PUT a 1; UPDATE a 2; DROP NAMESPACE s")
    assert store.engine.oldest("s") == store.revision
    snapshot = store.engine.snapshot(store.revision - 1)
    with pytest.raises(base.Compacted):
        store.engine.revision_at("s", store.clock.now() - 1)
    snapshot.close()


def test_bytes_bound_the_history(store: TimedStore) -> None:
    store("CREATE NAMESPACE s WITH (history_bytes = 2000000); USE s; PUT a 1")
    first = store.revision
    for n in range(40):
        store("UPSERT a ?", ["x" * 100_000 + str(n)])
    error = store.first.refusal("SELECT * FROM s AS OF REVISION ?", [first])
    assert error.message == f"revision {first} has been compacted" and "2,000,000 bytes" in (error.hint or "")
    assert store("SELECT length(value) FROM s AS OF REVISION ?", [store.revision - 5]) == [(100_002,)]


def test_a_store_in_process_tells_its_engine(tmp_path: Path) -> None:
    """The door of ``kvql.connect``, opened twice."""
    with kvql.connect(str(tmp_path / "s"), autocommit=True) as connection:
        connection.execute("CREATE NAMESPACE s WITH (history = '0s')")
    with kvql.connect(str(tmp_path / "s"), autocommit=True) as connection:
        connection.execute("USE s")
        connection.execute("PUT a 1")
        connection.execute("UPDATE a 2")
        (revision,) = connection.execute("SELECT revision FROM s").fetchone()
        with pytest.raises(kvql.Error, match="has been compacted"):
            connection.execute("SELECT * FROM s AS OF REVISION ?", [revision - 1]).fetchall()


# ── ALTER ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("history = 5", "option history is a duration"),
        ("history = '-1s'", "option history is out of range"),
        ("history_bytes = -1", "option history_bytes is a number, 0 or more"),
        ("history_bytes = '1MB'", "option history_bytes is a number, 0 or more"),
        ("default_ttl = '0s'", "option default_ttl is out of range"),
        ("nonsense = 1", "option nonsense does not exist"),
        ("history = '1h', history = '2h'", "option history is given twice"),
    ],
)
def test_wrong_options_are_refused(store: TimedStore, option: str, message: str) -> None:
    store("CREATE NAMESPACE s")
    for text in (f"ALTER NAMESPACE s SET ({option})", f"CREATE NAMESPACE t WITH ({option})"):
        error = store.first.refusal(text)
        assert (error.sqlstate, error.message) == ("22023", message)
    assert settings(store) == {}
    assert store.first.refusal("ALTER NAMESPACE s SET (max_keys = 5)").sqlstate == "0A000"


def test_only_what_exists_is_altered(store: TimedStore) -> None:
    for name in ("nope", "main"):
        error = store.first.refusal(f"ALTER NAMESPACE {name} SET (history = '0s')")
        assert (error.sqlstate, error.message) == ("3F000", f"namespace {name} does not exist")
    store("PUT a 1; BEGIN READ ONLY")
    assert store.first.refusal("ALTER NAMESPACE main SET (history = '0s')").sqlstate == "25006"


# ── default_ttl ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("statement", "ttl"),
    [
        ("PUT k 1", "0:05:00"),
        ("UPSERT k 1", "0:05:00"),
        ("PUT k 1, l 2", "0:05:00"),
        ("PUT k (1 + 1)", "0:05:00"),
        ("PUT k 1 TTL 7s", "0:00:07"),
        ("UPSERT k 1 TTL 7s", "0:00:07"),
        ("INSERT INTO s VALUES ('k', 1)", "0:05:00"),
        ("INSERT INTO s VALUES ('k', 1) TTL 7s", "0:00:07"),
        ("INSERT INTO s (key, value, expires_at) VALUES ('k', 1, now() + 7s)", "0:00:07"),
        ("INSERT INTO s (key, value, expires_at) VALUES ('k', 1, NULL)", "None"),
        ("INSERT INTO s VALUES ('k', 1) ON CONFLICT DO NOTHING", "0:05:00"),
    ],
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_default_ttl(store: TimedStore, statement: str, ttl: str, inside: bool) -> None:
    store("CREATE NAMESPACE s WITH (default_ttl = '5m'); USE s")
    store(f"BEGIN; {statement}; COMMIT" if inside else statement)
    assert [str(row[0]) for row in store("SELECT ttl FROM s WHERE key = 'k'")] == [ttl]


def test_default_ttl_in_a_run_and_a_load(store: TimedStore) -> None:
    from kvql_server.executor import step

    store("CREATE NAMESPACE s WITH (default_ttl = '5m'); USE s")
    pairs = [(f"k{n}", n) for n in range(100)]
    for request in (put(pairs, "s"), put([("a", 1), ("b", 2)], "s")):
        request.write.each = True
        step(store.executor.execute(request, store.first.lane, store.first.principal, store.executor.work()))
    upserts = put([("k1", 5), ("u", 6)], "s")
    upserts.write.mode, upserts.write.each = pb.WRITE_MODE_UPSERT, True
    step(store.executor.execute(upserts, store.first.lane, store.first.principal, store.executor.work()))
    assert [str(row[0]) for row in store("SELECT DISTINCT ttl FROM s")] == ["0:05:00"]
    assert store("SELECT count(*) FROM s") == [(103,)]


def test_default_ttl_is_for_new_pairs_only(store: TimedStore) -> None:
    store("CREATE NAMESPACE s; USE s; PUT old 1, kept 1")
    store("ALTER NAMESPACE s SET (default_ttl = '5m')")
    store("PUT new 1; UPDATE old 2; UPDATE s SET value = 3 WHERE key = 'kept'")
    store("INSERT INTO s VALUES ('old', 9) ON CONFLICT DO UPDATE SET value = EXCLUDED.value")
    ttls = {key: str(ttl) for key, ttl in store("SELECT key, ttl FROM s")}
    assert ttls == {"old": "None", "kept": "None", "new": "0:05:00"}
    store("PERSIST new; UPSERT old 1; ALTER NAMESPACE s SET (default_ttl = NULL); PUT last 1")
    ttls = {key: str(ttl) for key, ttl in store("SELECT key, ttl FROM s")}
    assert ttls == {"old": "0:05:00", "kept": "None", "new": "None", "last": "None"}


def test_alter_makes_no_other_namespace_of_it(store: TimedStore) -> None:
    """By its ``since`` a watch knows the namespace again, and readers of the past know where it begins."""
    from kvql_server.executor import step
    from kvql_server.transaction import Transaction

    def since() -> int:
        transaction = Transaction(store.engine, "", tracked=False)
        try:
            return step(store.executor.catalog.since(transaction, "s"))
        finally:
            transaction.close()

    store("PUT other 1; CREATE NAMESPACE s; USE s; PUT a 1")
    first, then = since(), store.revision
    store("UPDATE a 2; ALTER NAMESPACE s SET (values = 'word'); UPDATE a 3")
    assert since() == first
    assert store("SELECT value FROM s AS OF REVISION ?", [then]) == [(1,)]
    assert store("SELECT value FROM HISTORY OF s") == [(1,), (2,), (3,)]
    store("DROP NAMESPACE s; CREATE NAMESPACE s")
    assert since() > first
