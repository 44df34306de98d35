"""Statements about one pair share a message, and nobody can tell: each has the answer that it would have had alone."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

import kvql.aio
from kvql import ast, errors
from kvql.compiler.points import GET, TEXT_LENGTH_MAX, Point, point_shape
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from tests.servers import ADMIN, PASSWORDS, Server


def connect(server: Server, namespace: str, user: str = ADMIN) -> Any:
    url = f"kvql://{user}@localhost:{server.port}/{namespace}"
    return kvql.aio.connect(url, password=PASSWORDS[user], ca=str(server.ca))


@pytest.fixture
def server(server_of: Any) -> Server:
    made: Server = server_of("hashtable")
    made.drop_namespaces()
    return made


async def outcomes(con: Any, *statements: Any) -> list[Any]:
    """What becomes of statements that leave together: rows or the count of rows, or an error as the shell shows it."""
    calls = [con.execute(*(s if isinstance(s, tuple) else (s,))) for s in statements]
    before = con._shared.transport.batches
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert con._shared.transport.batches == before + 1
    return [a.render() if isinstance(a, errors.Error) else a.rows or a.rowcount for a in answers]


def test_each_has_its_own_answer(server: Server) -> None:
    async def main() -> None:
        async with connect(server, "shop") as con:
            assert await outcomes(con, "PUT a 1", "PUT b 'x y'", "UPSERT a2 2") == [1, 1, 1]
            assert await outcomes(con, "PUT a 5", ("PUT ? ?", ["c", None]), "GET a", "GET none", "PUT ü 0.50") == [
                "ERROR 23505: key already exists: a\nLINE 1: PUT a 5\n            ^\n"
                "HINT: UPDATE replaces a value, UPSERT puts or replaces",
                1,
                [("a", 1)],
                "ERROR 02000: key does not exist: none\nLINE 1: GET none\n            ^^^^\n"
                "HINT: HAS asks whether a key is there, SHOW KEYS lists them",
                1,
            ]
            assert await outcomes(con, "GET ü", "GET c", "GET b", ("GET ?", ["a.b"]), "GET a") == [
                [("ü", Decimal("0.50"))],
                [("c", None)],
                [("b", "x y")],
                "ERROR 22023: invalid key 'a.b': a key holds no dots\nLINE 1: GET ?\n            ^\n"
                "HINT: for key b of namespace a: USE a, then name the key alone",
                [("a", 1)],
            ]

    asyncio.run(main())


def test_each_is_told_its_own_revision(server: Server) -> None:
    async def main() -> None:
        async with connect(server, "shop") as con:
            await con.execute("PUT k7 'is there'")
            results = await asyncio.gather(
                *(con.execute("PUT ? ?", [f"k{i}", i]) for i in range(150)), return_exceptions=True
            )
            told = {f"k{i}": r.revision for i, r in enumerate(results) if not isinstance(r, errors.Error)}
            assert len(told) == 149
            rows = (await con.execute("SELECT key, revision WHERE key <> 'k7'")).rows
            assert dict(rows) == told

    asyncio.run(main())


def test_rights_and_rules_are_judged_one_by_one(server: Server) -> None:
    with server.connect("mine") as admin:
        admin.execute("PUT a 1")

    async def main() -> None:
        async with connect(server, "mine", "user") as con:
            denied, invalid = await outcomes(con, ("PUT ? 1", ["x"]), ("PUT ? 1", ["x.y"]))
            assert "42501" in denied and "22023" in invalid
            missing, invalid, again = await outcomes(con, "GET a", ("GET ?", ["x.y"]), "GET x")
            assert "3F000" in missing and "22023" in invalid and "3F000" in again
        async with connect(server, "mine", "user") as con:
            nowhere, here = await outcomes(con.use(""), "PUT b 1", "GET a")
            assert nowhere.startswith("ERROR 3F000: no namespace in use") and here.startswith("ERROR 3F000: no names")
            one, other = await outcomes(con.use("fresh"), "PUT b 1", "PUT c 2")
            assert (one, other) == (1, 1), "the first of them creates the namespace"

    asyncio.run(main())


def test_a_cancelled_task_takes_its_statement_back(server: Server) -> None:
    async def main() -> None:
        async with connect(server, "shop") as con:
            await con.execute("PUT a 1")
            first, second, third = (asyncio.create_task(con.execute(f"PUT k{i} {i}")) for i in range(3))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.gather(first, third)
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (await con.execute("SHOW KEYS")).rows == [("a",), ("k0",), ("k2",)]
            waiting = asyncio.create_task(con.execute("PUT late 1"))
            await asyncio.sleep(0)
            con.cancel()
            with pytest.raises(errors.Error) as caught:
                await waiting
            assert caught.value.sqlstate == "57014"

    asyncio.run(main())


def test_more_than_a_message_holds(server: Server) -> None:
    async def main() -> None:
        async with connect(server, "shop") as con:
            text = "x" * TEXT_LENGTH_MAX
            await asyncio.gather(*(con.execute("PUT ? ?", [f"k{i}", text]) for i in range(2000)))
            answers = await asyncio.gather(*(con.execute("GET ?", [f"k{i}"], timeout=30) for i in range(2000)))
            assert all(a.rows == [(f"k{i}", text)] for i, a in enumerate(answers))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "parameters", "point"),
    [
        ("GET a", None, Point(GET, "a", None)),
        ("PUT ? ?", ["a", 1], Point(pb.WRITE_MODE_PUT, "a", 1)),
        ("UPSERT ?2 ?1", (1.5, "b"), Point(pb.WRITE_MODE_UPSERT, "b", 1.5)),
        ("PUT a ?", [2**63], None),
        ("PUT a ?", ["\ud800"], None),
        ("PUT a ?", [b"bytes"], None),
        ("PUT a ?", ["x" * (TEXT_LENGTH_MAX + 1)], None),
        ("PUT ? 1", [7], None),
        ("PUT ? ?", ["a"], None),
        ("PUT ? ?", ["a", 1, 2], None),
        ("PUT :k 1", {"k": "a"}, None),
        ("PUT a 1 TTL 5s", None, None),
        ("PUT a 1 COMMENT 'why'", None, None),
        ("PUT a (1 + 1)", None, None),
        ("PUT a 1, b 2", None, None),
        ("GET a, b", None, None),
        ("DELETE a", None, None),
    ],
)
def test_what_is_a_point(text: str, parameters: Any, point: Point | None) -> None:
    (statement,) = parse(text)
    shape = point_shape(statement)
    assert (None if shape is None else shape.bind(parameters)) == point


def test_points_from_trees(server: Server) -> None:
    async def main() -> None:
        async with connect(server, "shop") as con:
            pair = ast.Pair(ast.Literal("a"), ast.Literal(1))
            assert (await con.execute(ast.Put((pair,)))).rowcount == 1
            assert (await con.execute(ast.Get((ast.Literal("a"),)))).rows == [("a", 1)]

    asyncio.run(main())
