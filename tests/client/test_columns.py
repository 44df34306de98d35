"""Columns of a script through the pipeline: the same messages and the same outcomes as statement by statement."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from kvql import ast
from kvql.client import Client
from kvql.client.messages import Outcome
from kvql.compiler import Run
from kvql.compiler.bulk import BYTES_MAX, PAIRS_MAX
from kvql.errors import Error
from kvql.parser import Columns, Parsed, read_columns, read_statements
from kvql.v1 import kvql_pb2 as pb


class Recorded:
    """A store in memory whose client keeps what it sends."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.client = Client.in_process(":memory:")
        submit = self.client._transport.submit

        def recording(request: pb.Request, *, apart: bool = False) -> Any:
            self.requests.append(request.SerializeToString(deterministic=True))
            return submit(request, apart=apart)

        self.client._transport.submit = recording

    def run(self, items: Iterable[Any]) -> tuple[list[Any], list[bytes], list[Any]]:
        """The outcome of each statement, what was sent, and what the store then holds."""
        with self.client as client:
            outcomes = [told(o) for outcome in client.run_many(items) for o in expanded(outcome)]
            sent = list(self.requests)
            if client.transaction_state != "none":
                client.run("ROLLBACK")
            return outcomes, sent, list(client.run("SELECT key, value, version").rows)


def expanded(outcome: Outcome) -> Iterator[Outcome]:
    index, result = outcome
    if isinstance(result, Error) or result.columns is not None or result.completed < 2:
        yield outcome
        return
    assert result.row_count == result.completed
    for place in range(result.completed):
        yield index + place, result


def told(outcome: Outcome) -> Any:
    index, result = outcome
    if isinstance(result, Error):
        return index, str(result), result.statement, result.span, result.source
    return index, result.columns, tuple(result.rows)


def by_columns(text: str) -> Iterator[Any]:
    for item in read_columns((text,)):
        yield item if isinstance(item, Columns) else one(item)


def one_by_one(text: str) -> Iterator[Any]:
    return (one(item) for item in read_statements((text,)))


def one(item: Parsed) -> tuple[ast.Statement, str]:
    assert item.statement is not None, item
    return item.statement, item.text


def compare(text: str) -> tuple[list[Any], list[bytes]]:
    outcomes, sent, rows = Recorded().run(by_columns(text))
    expected, expected_sent, expected_rows = Recorded().run(one_by_one(text))
    assert outcomes == expected
    assert sent == expected_sent
    assert rows == expected_rows
    return outcomes, sent


VALUES = ("1", "-5", "text", "'a ''quoted'' text'", "1.50", "true", "9223372036854775808", "'Zürich'", "''")
FAILING = ("PUT k0 again", "PUT a.b 1", f"PUT {'k' * 600} 1", "UPDATE nothing 1", "GET nothing", "PUT 'white space' 1")
BETWEEN = (
    "GET k0", "UPSERT k0 2", "UPDATE k0 3", "PUT m{n} 1, n{n} 2", "PUT j{n} {{\"a\": 1}}", "PUT t{n} 1 TTL 1h",
    "PUT c{n} 1 COMMENT 'why'", "BEGIN", "COMMIT", "SAVEPOINT s", "PUT e{n} e'x\\n'", "PUT b{n} x'1f'", "COUNT",
)  # fmt: skip


def script(rng: random.Random) -> str:
    """Runs of every length with other statements between them, and at the end one that fails, or none."""
    made = ["PUT k0 1;\n"]
    number, open_transaction = 1, False
    for _ in range(rng.randrange(2, 12)):
        kind = rng.choice(("PUT", "PUT", "UPSERT", "put"))
        for _ in range(rng.choice((1, 5, 300, 2500))):
            made.append(f"{kind} k{number} {rng.choice(VALUES)};\n")
            number += 1
        other = rng.choice(BETWEEN)
        if (other == "BEGIN") == open_transaction or (other == "SAVEPOINT s" and not open_transaction):
            continue
        open_transaction = {"BEGIN": True, "COMMIT": False}.get(other, open_transaction)
        made.append(other.format(n=number) + ";\n")
    if rng.random() < 0.8:
        made.insert(rng.randrange(1, len(made)), rng.choice(FAILING) + ";\n")
    return "".join(made)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_messages_and_the_same_outcomes(seed: int) -> None:
    compare(script(random.Random(seed)))


def test_a_run_is_filled_from_several_columns() -> None:
    text = "".join(f"PUT k{i} {i};\n" + ("GET k0;" if i == 4000 else "") for i in range(9000))
    outcomes, sent = compare(text)
    assert len(outcomes) == 9001
    sizes = [len(pb.Request.FromString(request).write.keys) for request in sent]
    assert sizes == [2000, 2000, 1, 0, 2000, 2000, 999]


@pytest.mark.parametrize("place", [0, 1, 1999, 2000, 2001, 6999, 7000])
def test_the_statement_that_failed_has_its_text(place: int) -> None:
    lines = [f"PUT k{i}\t'v{i}';" for i in range(7001)]
    lines[place] = f"PUT\n   no.good\t{place};"
    outcomes, _ = compare("\n".join(lines))
    assert len(outcomes) == place + 1
    index, message, statement, span, source = outcomes[-1]
    assert index == statement == place
    assert source == lines[place][:-1]
    assert source[span.start : span.end] == "no.good"
    assert "a key holds no dots" in message or "invalid key" in message


def test_messages_of_columns_are_bounded_in_pairs_and_bytes() -> None:
    values = ["x" * 50_000] * 30 + ["y"] * (PAIRS_MAX + 10) + ["z" * 300_000] * 3
    keys = [f"k{i}" for i in range(len(values))]
    quick, slow = list(filled(keys, values)), list(added(keys, values))
    assert quick == slow
    assert all(len(request) < 2 * BYTES_MAX for request in quick)


def filled(keys: list[str], values: list[Any]) -> Iterator[bytes]:
    taken = 0
    while taken < len(keys):
        run = Run()
        taken += run.take(ast.Put, keys, values, taken)
        assert not (taken < len(keys) and run.take(ast.Put, keys, values, taken))
        yield run.request().SerializeToString()


def added(keys: list[str], values: list[Any]) -> Iterator[bytes]:
    run = Run()
    for key, value in zip(keys, values, strict=True):
        statement = ast.Put((ast.Pair(ast.Literal(key), ast.Literal(value)),))
        if not run.add(statement):
            yield run.request().SerializeToString()
            run = Run()
            assert run.add(statement)
    yield run.request().SerializeToString()


def test_columns_join_no_run_of_another_kind() -> None:
    pair = (ast.Pair(ast.Literal("a"), ast.Literal(1)),)
    for other in (
        ast.Upsert(pair),
        ast.Put(pair, comment=ast.Literal("why")),
        ast.UpdateKey(pair[0]),
    ):
        run = Run()
        assert run.add(other)
        assert run.take(ast.Put, ["b"], [1], 0) == 0
        assert list(run.request().write.keys) == ["a"]
    run = Run(2)
    assert run.take(ast.Upsert, ["a", "b", "c"], [1, 2, 3], 0) == 2
    assert run.take(ast.Upsert, ["a", "b", "c"], [1, 2, 3], 2) == 0
