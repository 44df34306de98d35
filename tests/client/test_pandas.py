"""``pandas.read_sql`` over a connection, as over any of PEP 249's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas
import pytest

import kvql
from kvql import dbapi

pytestmark = pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy")


@pytest.fixture
def con(target: dict[str, Any]) -> Iterator[dbapi.Connection]:
    with kvql.connect(**target) as made:
        made.executemany("PUT ? ?", [("a", 1), ("b", 2), ("c", 30)])
        made.execute("CREATE TABLE shop (name TEXT, born TIMESTAMP, price DECIMAL)")
        made.commit()
        yield made


def test_a_frame_of_pairs(con: dbapi.Connection) -> None:
    frame = pandas.read_sql("SELECT key, value FROM main", con)
    assert list(frame.columns) == ["key", "value"] and frame.shape == (3, 2)
    assert frame["value"].dtype == "int64" and frame["value"].sum() == 33
    assert list(frame["key"]) == ["a", "b", "c"]


def test_parameters_by_place_and_by_name(con: dbapi.Connection) -> None:
    by_place = pandas.read_sql("SELECT key, value FROM main WHERE value > ? ORDER BY key DESC", con, params=[1])
    assert by_place.values.tolist() == [["c", 30], ["b", 2]]
    by_name = pandas.read_sql("SELECT key FROM main WHERE value = :n", con, params={"n": 2}, index_col="key")
    assert list(by_name.index) == ["b"]


def test_fields_dates_and_nothing(con: dbapi.Connection) -> None:
    born = datetime(2020, 1, 2, 3, 4, tzinfo=UTC)
    con.execute("INSERT INTO shop (name, born, price) VALUES (?, ?, 1.50), ('nobody', NULL, NULL)", ["ann", born])
    frame = pandas.read_sql("SELECT name, born, price FROM shop ORDER BY name", con)
    assert frame["born"].iloc[0] == born and pandas.isna(frame["born"].iloc[1])
    assert frame["price"].iloc[0] == 1.5 and pandas.isna(frame["price"].iloc[1])
    empty = pandas.read_sql("SELECT key, value FROM main WHERE key = 'z'", con)
    assert list(empty.columns) == ["key", "value"] and empty.empty


def test_chunks(con: dbapi.Connection) -> None:
    con.executemany("UPSERT ? ?", ((f"k{i:05}", i) for i in range(10_000)))
    chunks = list(pandas.read_sql("SELECT key, value FROM main WHERE key ^= 'k'", con, chunksize=3000))
    assert [len(c) for c in chunks] == [3000, 3000, 3000, 1000]
    assert pandas.concat(chunks)["value"].tolist() == list(range(10_000))


def test_an_error_is_ours_and_leaves_a_usable_connection(con: dbapi.Connection) -> None:
    with pytest.raises(kvql.DataError, match="division by zero"):
        pandas.read_sql("SELECT key, value FROM main WHERE 1 / (value - 1) > 0", con)
    con.rollback()
    assert len(pandas.read_sql("SELECT key FROM main", con)) == 3


def test_nothing_of_ours_imports_it() -> None:
    code = "import sys, kvql, kvql.aio; kvql.connect(':memory:').execute('COUNT'); print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
