"""ASSERT as anybody can send it: what is malformed, where errors have their place, and what it must not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kvql_server.executor.subqueries import SUBQUERIES_MAX
from kvql_server.local import LocalSession, open_folder

from kvql.codec import encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, Session, Wire, act, put, refused, request

SUBQUERY, CONSTANT, COLUMN = pb.OP_SUBQUERY, pb.OP_CONSTANT, pb.OP_COLUMN


@pytest.fixture
def local() -> Iterator[LocalSession]:
    with open_folder(":memory:") as store:
        session = store.session()
        session.execute(put([("a", 1), ("b", 2)]))
        yield session


def compiled(text: str) -> pb.AssertCommand:
    return compile_statement(parse(text)[0]).assertion


def program(*steps: pb.Step, constants: Any = (), names: Any = ()) -> pb.Expression:
    return pb.Expression(steps=steps, constants=encode_values(list(constants)) if constants else None, names=names)


def refusal(local: LocalSession, command: pb.AssertCommand) -> Error:
    with pytest.raises(Error) as caught:
        local.execute(request(assertion=command))
    return caught.value


TRUE = program(pb.Step(op=CONSTANT), constants=[True])
COUNT = compiled("ASSERT (SELECT count(*) FROM shop) = 2").subqueries[0]


def test_what_it_answers(local: LocalSession) -> None:
    [result] = local.execute(request(assertion=pb.AssertCommand(condition=TRUE)))
    assert result.columns is None and result.row_count == -1 and result.revision


@pytest.mark.parametrize(
    "command",
    [
        pb.AssertCommand(),
        pb.AssertCommand(condition=program(pb.Step(op=SUBQUERY))),
        pb.AssertCommand(condition=program(pb.Step(op=SUBQUERY, argument=1)), subqueries=[COUNT]),
        pb.AssertCommand(condition=program(pb.Step(op=SUBQUERY, argument=2**32 - 1)), subqueries=[COUNT]),
        pb.AssertCommand(condition=TRUE, subqueries=[COUNT]),
        pb.AssertCommand(
            condition=program(pb.Step(op=SUBQUERY), pb.Step(op=SUBQUERY), pb.Step(op=pb.OP_EQ)), subqueries=[COUNT]
        ),
        pb.AssertCommand(condition=program(pb.Step(op=SUBQUERY)), subqueries=[pb.SelectCommand()]),
        pb.AssertCommand(condition=program(pb.Step(op=CONSTANT), pb.Step(op=CONSTANT), constants=[True])),
        pb.AssertCommand(condition=TRUE, message="x" * 1025),
    ],
    ids=[
        "empty",
        "no subquery",
        "another",
        "far off",
        "not named",
        "named twice",
        "no column",
        "two values",
        "message",
    ],
)
def test_malformed(local: LocalSession, command: pb.AssertCommand) -> None:
    assert refusal(local, command).sqlstate == "22023"


def test_a_subquery_holds_none(local: LocalSession) -> None:
    inner = pb.SelectCommand()
    inner.CopyFrom(COUNT)
    inner.where.CopyFrom(program(pb.Step(op=SUBQUERY)))
    error = refusal(local, pb.AssertCommand(condition=program(pb.Step(op=SUBQUERY)), subqueries=[inner]))
    assert (error.sqlstate, error.part) == ("0A000", pb.PART_STEP)


@pytest.mark.parametrize("command", ["select", "put", "update"])
def test_no_other_statement_takes_a_subquery(local: LocalSession, command: str) -> None:
    step = program(pb.Step(op=SUBQUERY))
    made = request()
    if command == "select":
        made.select.projections.add(name="x", expression=step)
    elif command == "put":
        made.write.mode = pb.WRITE_MODE_PUT
        made.write.keys.append("x")
        made.write.values.CopyFrom(encode_values([step]))
    else:
        made.update_rows.namespace = "shop"
        made.update_rows.assignments.add(path=["value"], expression=step)
    with pytest.raises(Error, match="0A000"):
        local.execute(made)


def test_so_many_subqueries_and_no_more(local: LocalSession) -> None:
    def of(count: int) -> pb.AssertCommand:
        steps = [pb.Step(op=SUBQUERY, argument=i) for i in range(count)]
        return pb.AssertCommand(
            condition=program(pb.Step(op=CONSTANT), *steps, pb.Step(op=pb.OP_IN, arity=count), constants=[2]),
            subqueries=[COUNT] * count,
        )

    local.execute(request(assertion=of(SUBQUERIES_MAX)))
    assert refusal(local, of(SUBQUERIES_MAX + 1)).sqlstate == "54001"


def test_a_condition_that_is_too_long(local: LocalSession) -> None:
    steps = [pb.Step(op=SUBQUERY), *[pb.Step(op=CONSTANT)] * 60_000, pb.Step(op=pb.OP_IN, arity=60_000)]
    command = pb.AssertCommand(condition=program(*steps, constants=[2]), subqueries=[COUNT])
    assert refusal(local, command).sqlstate == "54001"


@pytest.mark.parametrize(
    ("text", "item", "sqlstate"),
    [
        ("ASSERT 1 = 2", 3, "P0004"),
        ("ASSERT TRUE AND 1 = 1 / 0", 5, "22012"),
        ("ASSERT (SELECT value FROM shop) = 1", 1, "21000"),
        ("ASSERT 1 = (SELECT key, value FROM shop LIMIT 1)", 2, "42601"),
        ("ASSERT (SELECT 1) = 1 AND (SELECT value FROM nowhere) = 1", 4, "3F000"),
        # three steps of the condition, then those of the subquery
        ("ASSERT (SELECT 1 / 0) = 1", 6, "22012"),
        ("ASSERT (SELECT value / 0 FROM shop WHERE key = 'a') = 1", 6, "22012"),
        # seven of the condition, one of the first subquery: count(*) and its step, then value, 0, /
        ("ASSERT (SELECT count(*) FROM shop) = 2 AND (SELECT value / 0 FROM shop) = 1", 12, "22012"),
        ("ASSERT (SELECT sum(value) FROM shop WHERE lenght(key) = 1) = 1", 7, "42883"),
    ],
)
def test_errors_have_their_place(local: LocalSession, text: str, item: int, sqlstate: str) -> None:
    error = refusal(local, compiled(text))
    assert (error.sqlstate, error.item, error.part) == (sqlstate, item, pb.PART_STEP)


def test_what_the_subqueries_say_is_passed_on(local: LocalSession) -> None:
    local.execute(put([("c", "text")]))
    holds = compiled("ASSERT (SELECT count(*) FROM shop WHERE value > 1) = 1")
    [result] = local.execute(request(assertion=holds))
    assert [n.message for n in result.notices] == ["1 row skipped: value is TEXT"]
    fails = compiled("ASSERT (SELECT count(*) FROM shop WHERE value > 1) = 2, 'no'")
    error = refusal(local, fails)
    assert (error.message, error.hint) == ("no", "1 row skipped: value is TEXT")


def test_a_failure_shows_no_more_than_a_line(local: LocalSession) -> None:
    local.execute(put([("long", "x" * 100_000)]))
    error = refusal(local, compiled("ASSERT (SELECT value FROM shop WHERE key = 'long') = '" + "y" * 50_000 + "'"))
    assert len(error.message) < 1_200 and len(error.hint or "") < 100


def test_it_reads_and_never_writes(admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    assertion = request(assertion=compiled("ASSERT (SELECT value FROM shop) = 1"))
    assert admin.execute(assertion).responses[0].HasField("done")
    for mode in (pb.MODE_EXPLAIN, pb.MODE_EXPLAIN_ANALYZE, pb.MODE_DRY_RUN):
        assertion.mode = mode
        assert admin.refusal(assertion).sqlstate == "0A000"
    assertion.mode = pb.MODE_RUN
    # it has no rows to stream
    assert refused(lambda: list(admin.stub.Select(assertion, metadata=admin.metadata()))).sqlstate == "0A000"


def test_rights_are_those_of_a_select(wires: dict[str, Wire], admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    assertion = request(assertion=compiled("ASSERT (SELECT count(*) FROM shop) = 1"))
    assert wires["user"].refusal(assertion).sqlstate == "3F000", "as if it did not exist"


def test_inside_a_transaction(admin: Wire) -> None:
    session = Session(admin)
    total = compiled("ASSERT (SELECT sum(value) FROM shop) = 3")
    session.ask(put([("a", 1), ("b", 2)], id=1, lane=1))
    session.ask(act(BEGIN, id=2, lane=1))
    assert session.ask(request(id=3, lane=1, assertion=total)).done.transaction == pb.TRANSACTION_STATE_OPEN
    session.ask(put([("c", 3)], id=4, lane=2))
    assert session.ask(request(id=5, lane=1, assertion=total)).HasField("done"), "the same snapshot"
    session.ask(put([("d", 4)], id=6, lane=1))
    assert session.ask(request(id=7, lane=1, assertion=total)).error.sqlstate == "P0004"
    assert session.ask(act(COMMIT, id=8, lane=1)).error.sqlstate == "25P02"
    session.close()


def test_the_door_of_texts(admin: Wire) -> None:
    text = "PUT a 1; ASSERT (SELECT value FROM shop WHERE key = ?) = ?, ?; PUT b 2"
    parameters = encode_values(["a", 2, "not two"])
    reply = admin.execute(request(text=pb.TextCommand(text=text, parameters=parameters)))
    error = reply.responses[-1].error
    assert (error.sqlstate, error.message) == ("P0004", "not two")
    assert text[error.span_start : error.span_end] == "(SELECT value FROM shop WHERE key = ?) = ?"
    assert admin.rows(request(list=pb.ListCommand())) == [(1,)], "nothing after it was carried out"
