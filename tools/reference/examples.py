"""The examples: scripts in ``docs/reference/examples``, one a statement, run in memory.

What stands above a line ``-- ---`` is carried out first and not shown. A page names it in the label of the example's
block (``kvql-session setup=put``), so that the tests of the documents run it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import kvql
from kvql import errors
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import read_statements
from tests.golden import harness
from tools.reference.statements import FOLDER, Statement

EXAMPLES: Final = FOLDER / "examples"
_CUT: Final = "-- ---\n"


@dataclass(frozen=True)
class Example:
    """``text`` is what a block shows: a transcript, or plain statements where nothing can be run yet."""

    text: str
    setup: bool
    ran: bool
    carried_out: bool


def connect(rule: str = "") -> Any:
    """A session on a store of its own in memory, with the hidden part of the example of ``rule`` carried out."""
    connection = kvql.connect(":memory:", autocommit=True)
    for statement in kvql.parse(_parts(rule)[0]) if rule else ():
        connection.execute(statement)
    return connection


def _parts(rule: str) -> tuple[str, str]:
    """(hidden, shown) of the example of ``rule``."""
    path = EXAMPLES / f"{rule}.kvql"
    if not path.exists():
        raise SystemExit(f"statement {rule} has no example: write docs/reference/examples/{rule}.kvql")
    hidden, _, shown = path.read_text(encoding="utf-8").rpartition(_CUT)
    return hidden, shown


@lru_cache
def run(statement: Statement) -> Example:
    """The example as the page shows it. It must parse, and hold a statement of its kind."""
    hidden, shown = _parts(statement.rule)
    parsed = list(read_statements(iter((shown,))))
    if not any(isinstance(p.statement, statement.nodes) for p in parsed):
        raise SystemExit(f"docs/reference/examples/{statement.rule}.kvql shows no {statement.title}")
    if not any(_compiles(p.statement) for p in parsed if isinstance(p.statement, statement.nodes)):
        kvql.parse(shown)
        return Example(shown.strip(), bool(hidden), ran=False, carried_out=False)
    script = harness.Script(EXAMPLES / f"{statement.rule}.kvql", shown)
    blocks = harness.through_api(script, lambda: connect(statement.rule))
    refused = [
        block.errors.startswith(f"ERROR {errors.NOT_SUPPORTED}")
        for block, p in zip(blocks, parsed, strict=True)
        if isinstance(p.statement, statement.nodes)
    ]
    return Example(transcript(blocks).strip(), bool(hidden), ran=True, carried_out=not all(refused))


def transcript(blocks: list[harness.Block]) -> str:
    """As ``harness.transcript``, each statement closed with its semicolon: that is how a person types it."""
    return "\n".join("> " + block.statement.replace("\n", "\n  ") + ";\n" + block.shown() for block in blocks)


def _compiles(statement: Any) -> bool:
    """Whether the client would send it at all."""
    try:
        compile_statement(statement)
    except Error as e:
        return e.sqlstate != errors.NOT_SUPPORTED
    return True
