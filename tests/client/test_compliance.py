"""PEP 249's public suite, ``dbapi-compliance``: all of it, in memory, on a folder, and on a real server over TLS.

Overridden is what the suite says must be: how to connect, the prefix of its tables, and the two tests that raise until
somebody does.
"""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import dbapi20
import pytest

import kvql
from tests.servers import PASSWORD


class Driver:
    driver = kvql
    connect_args: tuple[Any, ...] = ()
    connect_kw_args: dict[str, Any] = {}
    table_prefix = "dbapi20test"  # names of namespaces have no underscore; the statements are made of the prefix
    ddl1, ddl2, xddl1, xddl2 = (
        getattr(dbapi20.DatabaseAPI20Test, name).replace("test_", "test") for name in ("ddl1", "ddl2", "xddl1", "xddl2")
    )

    def test_nextset(self) -> None:
        with kvql.connect(*self.connect_args, **self.connect_kw_args) as con:
            assert not hasattr(con.cursor(), "nextset"), "what is not there is left out (PEP 249, footnote 3)"

    def test_setoutputsize(self) -> None:
        with kvql.connect(*self.connect_args, **self.connect_kw_args) as con:
            cur = con.cursor()
            cur.setoutputsize(1, 0)
            cur.execute("SELECT ?", ["long" * 1000])
            assert cur.fetchone() == ("long" * 1000,), "nothing is ever cut off"


class TestInMemory(Driver, dbapi20.DatabaseAPI20Test):
    connect_args = (":memory:",)


class TestOnAFolder(Driver, dbapi20.DatabaseAPI20Test):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.connect_args = (str(tmp_path / "store"),)


class TestOverTls(Driver, dbapi20.DatabaseAPI20Test):
    @pytest.fixture(autouse=True)
    def server(self, request: pytest.FixtureRequest) -> None:
        server = request.getfixturevalue("server_of")("hashtable")
        server.drop_namespaces()
        self.connect_args = (server.url,)
        self.connect_kw_args = {"password": PASSWORD, "ca": str(server.ca)}


@pytest.mark.parametrize("suite", [TestInMemory, TestOnAFolder, TestOverTls])
def test_the_suite_is_whole(suite: type[unittest.TestCase]) -> None:
    names = unittest.TestLoader().getTestCaseNames(suite)
    assert len(names) == 36
    changed = {name for name in names if getattr(suite, name) is not getattr(dbapi20.DatabaseAPI20Test, name)}
    assert changed == {"test_nextset", "test_setoutputsize"}
