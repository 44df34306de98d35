"""Runs of UPDATE whose keys stand in them twice: they are committed in waves, and something may happen in between."""

from __future__ import annotations

import pytest

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.breaking import Store
from tests.server.support import UPDATE, command, get, request, write


@pytest.fixture
def store() -> Store:
    made = Store()
    made.run(command("PUT a 0, b 0", "shop"))
    made.engine.commits = 0
    return made


RUN = write(UPDATE, [("a", 1), ("b", 1), ("a", 2), ("nope", 2), ("a", 3)], each=True)


def test_what_went_well_before_a_full_disk_is_told(store: Store) -> None:
    store.engine.full_at = (2,)
    result = store.run(request(write=RUN, on_error=pb.ON_ERROR_CONTINUE))
    assert (result.completed, result.row_count, result.failed) == (2, 2, 3)
    assert [(e.statement, e.sqlstate) for e in result.errors] == [(2, "53100"), (3, "02000"), (4, "53100")]
    assert store.run(get("a", "b")).rows == [("a", 1), ("b", 1)]


def test_a_run_that_stops_names_the_statement_that_met_the_full_disk(store: Store) -> None:
    store.engine.full_at = (2,)
    with pytest.raises(Error) as caught:
        store.run(request(write=RUN, on_error=pb.ON_ERROR_STOP))
    assert (caught.value.sqlstate, caught.value.statement) == ("53100", 2)


def test_a_disk_that_is_full_at_once_is_the_error_of_the_whole_run(store: Store) -> None:
    store.engine.full_at = (1,)
    with pytest.raises(Error) as caught:
        store.run(request(write=RUN, on_error=pb.ON_ERROR_CONTINUE))
    assert (caught.value.sqlstate, caught.value.statement) == ("53100", None)
