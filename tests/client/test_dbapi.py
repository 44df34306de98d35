"""PEP 249, on a folder in this process and on a real server over TLS."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import kvql
from kvql import ast, dbapi


@pytest.fixture
def con(target: dict[str, Any]) -> Iterator[dbapi.Connection]:
    made = kvql.connect(**target)
    yield made
    if not made.closed:
        made.close()


@pytest.fixture
def auto(target: dict[str, Any]) -> Iterator[dbapi.Connection]:
    with kvql.connect(**target, autocommit=True) as made:
        yield made


def failure(con: dbapi.Connection, text: str, parameters: Any = None) -> kvql.Error:
    with pytest.raises(kvql.Error) as caught:
        con.execute(text, parameters)
    return caught.value


def test_the_module() -> None:
    assert (kvql.apilevel, kvql.threadsafety, kvql.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(kvql.IntegrityError, kvql.DatabaseError) and issubclass(kvql.DatabaseError, kvql.Error)
    assert issubclass(kvql.InterfaceError, kvql.Error) and not issubclass(kvql.Warning, kvql.Error)
    assert kvql.Timestamp(2026, 1, 2, 3, 4, 5) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert kvql.Binary(b"x") == b"x" and kvql.Date(2026, 1, 2).day == 2
    assert kvql.TimestampFromTicks(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_what_was_not_committed_is_not_there(con: dbapi.Connection, target: dict[str, Any]) -> None:
    assert not con.autocommit and con.transaction_state == "none"
    con.execute("PUT a 1")
    assert con.transaction_state == "open"
    assert con.execute("GET a").fetchone() == ("a", 1)
    con.rollback()
    assert con.transaction_state == "none"
    assert con.execute("HAS a").fetchone() == ("a", False)
    con.execute("PUT a 2")
    con.commit()
    con.commit()
    con.execute("PUT b 1")
    con.close()
    with kvql.connect(**target) as other:
        assert other.execute("SHOW DATA").fetchall() == [("a", 2)]


def test_the_context_manager_commits_or_rolls_back(target: dict[str, Any]) -> None:
    with kvql.connect(**target) as con:
        con.execute("PUT a 1")
    assert con.closed
    with pytest.raises(ZeroDivisionError), kvql.connect(**target) as con:
        con.execute("PUT b 1")
        raise ZeroDivisionError
    with kvql.connect(**target) as con:
        assert con.execute("SHOW KEYS").fetchall() == [("a",)]


def test_after_an_error_only_rollback_helps(con: dbapi.Connection) -> None:
    con.execute("PUT a 1")
    error = failure(con, "PUT a 2")
    assert isinstance(error, kvql.IntegrityError) and error.sqlstate == "23505"
    assert con.transaction_state == "failed"
    assert failure(con, "GET a").sqlstate == "25P02"
    con.rollback()
    assert con.execute("COUNT").fetchone() == (0,)


def test_an_error_knows_its_place(auto: dbapi.Connection) -> None:
    auto.execute("PUT a 1")
    error = failure(auto, "PUT b 1, a 2")
    assert error.source is not None and error.span is not None
    assert error.source[error.span.start : error.span.end] == "a"
    assert "^" in str(error)
    error = failure(auto, "SELCT a")
    assert isinstance(error, kvql.ProgrammingError) and error.sqlstate == "42601"
    assert failure(auto, "PUT x.y 1").sqlstate == "22023"
    assert failure(auto, "PUT a 1; PUT b 1").sqlstate == "42601"
    assert failure(auto, "").sqlstate == "42601"
    assert failure(auto, "GET ?", ["a", "b"]).sqlstate == "42P02"
    assert auto.execute("COUNT").fetchone() == (1,), "nothing changed"


def test_values_go_in_and_come_out(auto: dbapi.Connection) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    values: list[Any] = [
        None, True, False, 0, -(2**63), 2**63 - 1, Decimal("0.10"), 1.5, "", "ä b'c", b"\x00\xff", now,
        {"a": [1, 2.5, None]}, [1, "x"],
    ]  # fmt: skip
    auto.executemany("PUT ? ?", [(f"k{i:02}", v) for i, v in enumerate(values)])
    got = [value for _, value in auto.execute("SHOW DATA").fetchall()]
    assert got == values and [type(v) for v in got] == [type(v) for v in values]
    auto.execute("PUT :key :value TTL :ttl", {"key": "n", "value": 1, "ttl": timedelta(hours=1)})
    assert auto.execute("GET n").fetchone() == ("n", 1)


def test_cursors(auto: dbapi.Connection) -> None:
    cur = auto.cursor()
    assert cur.description is None and cur.rowcount == -1 and cur.arraysize == 1 and cur.connection is auto
    with pytest.raises(kvql.Error):
        cur.fetchone()
    assert cur.execute("PUT a 1, b 2, c 3") is cur
    assert cur.rowcount == 3 and cur.description is None
    with pytest.raises(kvql.Error):
        cur.fetchall()
    cur.execute("SHOW DATA")
    assert cur.description is not None
    assert [column[0] for column in cur.description] == ["key", "value"]
    assert cur.description[0][1] == kvql.STRING and cur.description[0][1] != kvql.NUMBER
    assert all(len(column) == 7 for column in cur.description)
    assert cur.fetchone() == ("a", 1) and cur.rownumber == 1
    assert cur.fetchmany() == [("b", 2)]
    assert cur.fetchmany(5) == [("c", 3)] and cur.fetchmany(5) == [] and cur.fetchone() is None
    assert list(cur.execute("SHOW KEYS")) == [("a",), ("b",), ("c",)]
    cur.setinputsizes([])
    cur.setoutputsize(1)
    cur.close()
    with pytest.raises(kvql.InterfaceError):
        cur.execute("COUNT")
    assert not hasattr(cur, "callproc") and not hasattr(cur, "nextset")


def test_columns_are_of_the_types_of_pep_249(auto: dbapi.Connection) -> None:
    kinds = {
        "TEXT": kvql.STRING, "JSON": kvql.STRING, "BYTES": kvql.BINARY, "INTEGER": kvql.NUMBER, "FLOAT": kvql.NUMBER,
        "DECIMAL": kvql.NUMBER, "BOOLEAN": kvql.NUMBER, "TIMESTAMP": kvql.DATETIME,
    }  # fmt: skip
    auto.execute(f"CREATE TABLE t ({', '.join(f'f{kind} {kind}' for kind in kinds)})")
    description = auto.execute("SELECT * FROM t").description
    assert description is not None and [column[0] for column in description] == [f"f{kind}" for kind in kinds]
    for (name, code, *rest), kind in zip(description, kinds.values(), strict=True):
        assert code == kind and rest == [None] * 5, name
        others = {kvql.STRING, kvql.BINARY, kvql.NUMBER, kvql.DATETIME, kvql.ROWID} - {kind}
        assert all(code != other for other in others), name


def test_large_results(con: dbapi.Connection) -> None:
    con.executemany("PUT ? ?", ((f"k{i:05}", i) for i in range(30_000)))
    con.commit()
    cur = con.execute("SELECT key, 100 / (value - 20000) FROM main ORDER BY key")
    read = 0
    with pytest.raises(kvql.DataError) as caught:
        for _ in cur:
            read += 1
    assert 0 < read <= 20_000 and caught.value.sqlstate == "22012" and "^" in str(caught.value)
    con.rollback()
    cur = con.execute("SHOW DATA")
    assert len(cur.fetchmany(7_000)) == 7_000 and cur.rownumber == 7_000
    with pytest.raises(kvql.InterfaceError):
        _ = cur.rows
    assert len(cur.fetchall()) == 23_000 and cur.fetchone() is None
    assert con.execute("SHOW DATA LIMIT 3").rows == [("k00000", 0), ("k00001", 1), ("k00002", 2)]
    cur = con.execute("SHOW DATA")
    cur.fetchone()
    con.close()
    with pytest.raises(kvql.Error):
        while cur.fetchmany(5_000):
            pass


def test_a_closed_connection(con: dbapi.Connection) -> None:
    cur = con.cursor()
    con.close()
    for use in (con.commit, con.rollback, con.cursor, con.close, lambda: cur.execute("COUNT"), cur.fetchone):
        with pytest.raises(kvql.InterfaceError):
            use()


def test_executemany_in_autocommit_gives_each_its_own_fate(auto: dbapi.Connection) -> None:
    auto.execute("PUT k7 old")
    cur = auto.cursor()
    rows: list[Any] = [(f"k{i}", i) for i in range(3000)]
    rows[2500] = ("bad key", 1)
    with pytest.raises(kvql.IntegrityError) as caught:
        cur.executemany("PUT ? ?", rows)
    assert caught.value.statement == 7
    assert caught.value.message == "key already exists: k7, at rows[7], the first of 2 that failed"
    with pytest.raises(kvql.DataError, match=r"no white space, at rows\[1\]$") as alone:
        auto.executemany("UPSERT ? ?", iter([("k7", 7), ("bad key", 1)]))
    assert alone.value.statement == 1
    auto.execute("UPDATE k7 old")
    assert cur.rowcount == 2998
    assert auto.execute("COUNT").fetchone() == (2999,)


def test_executemany_in_a_transaction_is_all_or_nothing(con: dbapi.Connection) -> None:
    cur = con.cursor()
    with pytest.raises(kvql.IntegrityError) as caught:
        cur.executemany("PUT ? ?", [("a", 1), ("b", 1), ("a", 1), ("c", 1)])
    assert caught.value.statement == 2 and con.transaction_state == "failed"
    assert caught.value.message == "key already exists: a, at rows[2]"
    con.rollback()
    assert cur.executemany("UPSERT :k :v", ({"k": f"k{i}", "v": i} for i in range(10))).rowcount == 10
    con.commit()
    assert con.execute("COUNT").fetchone() == (10,)
    with pytest.raises(kvql.NotSupportedError):
        cur.executemany("GET ?", [["a"]])


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPSERT ? 1", [(f"k{i:04}", 1) for i in range(3000)]),
        ("DELETE ?", []),
        ("DELETE FROM main WHERE key = ?", []),
        ("UPDATE main SET value = value + 1 WHERE key = ?", [(f"k{i:04}", i + 1) for i in range(3000)]),
        ("EXPIRE ? 1d", [(f"k{i:04}", i) for i in range(3000)]),
    ],
)
def test_executemany_of_any_write_is_streamed(
    con: dbapi.Connection, target: dict[str, Any], statement: str, left: list[Any]
) -> None:
    assert con.executemany("INSERT INTO main VALUES (?, ?)", ((f"k{i:04}", i) for i in range(3000))).rowcount == 3000
    con.commit()
    before = getattr(con._client._transport, "batches", 0)
    assert con.executemany(statement, [(f"k{i:04}",) for i in range(3000)]).rowcount == 3000
    assert getattr(con._client._transport, "batches", 0) - before < 200, "not a round trip each"
    con.commit()
    assert con.execute("SHOW DATA").fetchall() == left


def test_executemany_of_inserts(con: dbapi.Connection, target: dict[str, Any]) -> None:
    con.execute("CREATE TABLE people (name TEXT, age INTEGER)")
    cur = con.cursor()
    cur.executemany("INSERT INTO people VALUES (?, ?)", [("ann", 1), ("bob", 2)])
    assert cur.rowcount == 2 and cur.description is None
    cur.executemany("INSERT INTO people (age, name) VALUES (:age, :name)", [{"name": "cid", "age": 3}])
    assert con.execute("SELECT name, age FROM people").fetchall() == [("ann", 1), ("bob", 2), ("cid", 3)]
    con.commit()
    with pytest.raises(kvql.DataError) as caught:
        cur.executemany("INSERT INTO people VALUES (?, ?)", [("dora", 4), ("emil", "five"), ("fay", 6)])
    assert caught.value.statement == 1 and con.transaction_state == "failed"
    con.rollback()
    con.autocommit = True
    with pytest.raises(kvql.DataError) as caught:
        cur.executemany("INSERT INTO people VALUES (?, ?)", [("dora", 4), ("emil", "five"), ("fay", 6)])
    assert caught.value.statement == 1 and cur.rowcount == 2
    assert len(con.execute("SELECT * FROM people").fetchall()) == 5


def test_executemany_is_for_writes(auto: dbapi.Connection) -> None:
    for text in ("GET ?", "SELECT ?", "HAS ?", "COUNT", "BEGIN", "COMMIT", "USE main"):
        with pytest.raises(kvql.NotSupportedError):
            auto.executemany(text, [["a"]])
    assert auto.executemany("PUT ? ?", []).rowcount == 0


def test_transactions_as_blocks(auto: dbapi.Connection) -> None:
    with auto.transaction():
        auto.execute("PUT a 1")
    with pytest.raises(ZeroDivisionError), auto.transaction():
        auto.execute("PUT b 1")
        raise ZeroDivisionError
    assert auto.execute("SHOW KEYS").fetchall() == [("a",)] and auto.transaction_state == "none"
    with pytest.raises(kvql.InternalError) as caught, auto.transaction(), pytest.raises(kvql.IntegrityError):
        auto.execute("PUT a 2")
    assert "passed over" in caught.value.message and auto.transaction_state == "none"
    with pytest.raises(kvql.Error), auto.transaction(read_only=True) as con:
        con.execute("PUT b 1")


def test_a_block_in_a_transaction_is_a_savepoint(auto: dbapi.Connection) -> None:
    with auto.transaction():
        auto.execute("PUT a 1")
        with pytest.raises(ZeroDivisionError), auto.transaction() as same:
            assert same is auto
            auto.execute("PUT b 1")
            raise ZeroDivisionError
        assert auto.transaction_state == "open"
        with pytest.raises(kvql.IntegrityError), auto.transaction():
            auto.execute("PUT c 1")
            auto.execute("PUT a 2")
        assert auto.transaction_state == "open", "an error inside the block undid the block alone"
        with auto.transaction():
            auto.execute("PUT d 1")
            with pytest.raises(kvql.InternalError) as caught, auto.transaction():
                auto.execute("PUT e 1")
                with pytest.raises(kvql.IntegrityError):
                    auto.execute("PUT a 2")
            assert caught.value.sqlstate == "25P02" and "passed over" in caught.value.message
            with auto.transaction():
                auto.execute("PUT f 1")
        assert failure(auto, "ROLLBACK TO kvql_1").sqlstate == "3B001", "nothing is left of the blocks"
        auto.rollback()
        auto.execute("BEGIN")
        auto.execute("PUT g 1")
    assert auto.execute("SHOW KEYS").fetchall() == [("g",)]
    with auto.transaction():
        auto.execute("PUT h 1")
        with auto.transaction():
            auto.execute("PUT i 1")
    assert auto.execute("SHOW KEYS").fetchall() == [("g",), ("h",), ("i",)]


def test_a_block_does_not_commit_what_was_begun_before_it(con: dbapi.Connection) -> None:
    con.execute("PUT a 1")
    with con.transaction():
        con.execute("PUT b 1")
    assert con.transaction_state == "open"
    con.rollback()
    assert con.execute("COUNT").fetchone() == (0,)
    con.rollback()
    with con.transaction():
        con.execute("PUT c 1")
    assert con.transaction_state == "none", "this one was begun by the block"


def test_what_a_block_in_a_transaction_cannot_be(auto: dbapi.Connection) -> None:
    auto.execute("BEGIN")
    with pytest.raises(kvql.InternalError) as caught, auto.transaction(read_only=True):
        pass
    assert caught.value.sqlstate == "25001" and auto.transaction_state == "open"
    assert failure(auto, "GET nothing").sqlstate == "02000"
    with pytest.raises(kvql.InternalError) as caught, auto.transaction():
        pass
    assert caught.value.sqlstate == "25P02" and auto.transaction_state == "failed"
    auto.rollback()
    with pytest.raises(kvql.Error) as lost, auto.transaction(), auto.transaction():
        auto.execute("SAVEPOINT mine")
        auto.execute("ROLLBACK TO mine")
        auto.execute("COMMIT")
        auto.execute("BEGIN")  # whoever does this is told at the end of the block
    assert lost.value.sqlstate == "3B001" and auto.transaction_state == "none"


def test_a_block_in_a_transaction_is_not_repeated(target: dict[str, Any]) -> None:
    with kvql.connect(**target, autocommit=True) as one, kvql.connect(**target, autocommit=True) as two:
        one.execute("PUT visits 0")
        outer = inner = 0
        for attempt in one.transaction(retries=3):
            with attempt:
                outer += 1
                for part in one.transaction(retries=3):
                    with part:
                        inner += 1
                        [(_, visits)] = one.execute("GET visits").fetchall()
                if outer == 1:
                    two.execute("UPDATE visits 10")
                one.execute("UPDATE visits ?", [visits + 1])
        assert (outer, inner) == (2, 2) and one.execute("GET visits").fetchone() == ("visits", 11)


def test_savepoints_as_text(con: dbapi.Connection) -> None:
    con.execute("SAVEPOINT s")  # begins the transaction, as any statement does
    assert con.transaction_state == "open"
    con.execute("PUT a 1")
    assert failure(con, "PUT a 2").sqlstate == "23505" and con.transaction_state == "failed"
    assert failure(con, "SAVEPOINT t").sqlstate == "25P02" and con.transaction_state == "failed"
    con.execute("ROLLBACK TO s")
    assert con.transaction_state == "open"
    con.execute("PUT a 3")
    error = failure(con, "RELEASE nope")
    assert (error.sqlstate, error.span) == ("3B001", (8, 12)) and isinstance(error, kvql.InternalError)
    assert con.transaction_state == "failed"
    con.rollback()
    for text in ("RELEASE s", "ROLLBACK TO s"):
        assert failure(con, text).sqlstate == "25P01" and con.transaction_state == "none"


def test_assertions(auto: dbapi.Connection) -> None:
    auto.execute("PUT a 1, b 2")
    held = auto.execute("ASSERT (SELECT sum(value) FROM main WHERE key ^= ?) = ?", ["a", 1])
    assert held.description is None and held.rowcount == -1
    error = failure(auto, "ASSERT (SELECT sum(value) FROM main) = :sum, :why", {"sum": 4, "why": "no"})
    assert isinstance(error, kvql.IntegrityError) and isinstance(error, kvql.DatabaseError)
    assert (error.sqlstate, error.message, error.hint) == ("P0004", "no", "the subquery is 3")
    assert failure(auto, "ASSERT (SELECT value FROM main) = 1").sqlstate == "21000"
    error = failure(auto, "ASSERT TRUE, ?", [5])
    assert error.sqlstate == "22023" and "message must be text" in error.message
    with pytest.raises(kvql.IntegrityError), auto.transaction():
        auto.execute("PUT c 3")
        auto.execute("ASSERT FALSE")
    assert auto.execute("COUNT").fetchone() == (2,)


def test_what_a_connection_is_not_for(target: dict[str, Any], auto: dbapi.Connection) -> None:
    """Refused in words, and the connection is none the worse for it."""
    wrong: Any
    for wrong in (None, 5, b"GET a", ast.Literal(1)):
        with pytest.raises(kvql.InterfaceError, match="a statement is text or a syntax tree"):
            auto.execute(wrong)
    with pytest.raises(kvql.DataError, match="at least 1 byte"):
        auto.execute("PUT a 1", idempotency_key="")
    for wrong in (5, 0, 1.5, uuid.UUID(int=7), ["a"], memoryview(b"a")):
        with pytest.raises(kvql.InterfaceError, match="an idempotency key is text or bytes, not") as caught:
            auto.execute("PUT a 1", idempotency_key=wrong)
        assert "str(" in (caught.value.hint or "")
        with pytest.raises(kvql.InterfaceError, match="an idempotency key is text or bytes, not"):
            auto.commit(idempotency_key=wrong)
    with pytest.raises(kvql.DataError, match="surrogate"):
        auto.execute("PUT a 1", idempotency_key="\ud800")
    for wrong in ("5", [5], timedelta(seconds=1)):
        with pytest.raises(kvql.InterfaceError, match="a timeout is a number of seconds, not"):
            auto.execute("COUNT", timeout=wrong)
    assert auto.execute("COUNT", timeout=float("inf")).fetchone() == (0,)

    def rows() -> Iterator[tuple[str, int]]:
        for number in range(3):
            auto.execute("COUNT")
            yield f"k{number}", number

    if target["target"].startswith("kvql:"):
        with pytest.raises(kvql.InterfaceError, match="carrying out another call"):
            auto.executemany("PUT ? ?", rows())
        assert auto.execute("COUNT").fetchone() == (0,)
    else:
        assert auto.executemany("PUT ? ?", rows()).rowcount == 3


def test_use_and_notices(auto: dbapi.Connection) -> None:
    cur = auto.execute("USE shop")
    assert auto.namespace == "shop" and cur.notices and "shop" in cur.notices[0].message
    assert failure(auto, 'USE "my ns!"').sqlstate == "22023" and auto.namespace == "shop"
    auto.execute("PUT a 1")
    assert "shop" in [row[0] for row in auto.execute("SHOW NAMESPACES")]


def test_statements_as_trees(auto: dbapi.Connection) -> None:
    [put, get] = kvql.parse("PUT a ?; GET a")
    auto.execute(put, ["x"])
    assert auto.execute(get).fetchone() == ("a", "x")
    assert kvql.parse(kvql.unparse(get)) == (get,)


def test_a_namespace_may_be_given(target: dict[str, Any]) -> None:
    with kvql.connect(**target, namespace="other", autocommit=True) as con:
        con.execute("PUT a 1")
        assert con.namespace == "other" and con.execute("COUNT FROM other").fetchone() == (1,)
