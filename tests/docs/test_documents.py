"""Every example of the documents is run.

By the label of its fence: ``kvql`` parses and goes through a store in memory (``kvql parse`` only parses);
``kvql-session`` is a transcript and must match word for word (with ``setup=put`` after the hidden part of that example
in ``docs/reference``); ``python`` runs as a program in an empty folder; ``sh`` may only name targets and commands that
exist.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import kvql
from tests.golden import harness
from tools.reference import examples

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```([a-z-]+(?: parse)?)(?: setup=([a-z_]+))?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


class Block(NamedTuple):
    page: Path
    label: str
    setup: str
    text: str


BLOCKS = [Block(page, *found) for page in PAGES for found in _FENCE.findall(page.read_text(encoding="utf-8"))]


def blocks(label: str) -> list[object]:
    """The blocks of one label, each named after its page."""
    return [
        pytest.param(block, id=f"{block.page.relative_to(ROOT)}-{n}")
        for n, block in enumerate(BLOCKS)
        if block.label == label
    ]


@pytest.mark.parametrize("block", blocks("kvql-session"))
def test_session(block: Block, tmp_path: Path) -> None:
    statements = re.findall(r"^> (.*?;)$", block.text, re.MULTILINE | re.DOTALL)
    script = harness.Script(tmp_path / "session.kvql", "\n".join(statements).replace("\n  ", "\n"))
    done = harness.through_api(script, lambda: examples.connect(block.setup))
    assert examples.transcript(done).strip() == block.text.strip()


@pytest.mark.parametrize("block", blocks("kvql parse"))
def test_syntax(block: Block) -> None:
    assert kvql.parse(block.text)


@pytest.mark.parametrize("block", blocks("kvql"))
def test_statements(block: Block) -> None:
    with kvql.connect(":memory:", autocommit=True) as connection:
        connection.execute("USE shop")
        connection.execute("PUT apples 6")
        for statement in kvql.parse(block.text):
            connection.execute(statement)


@pytest.mark.parametrize("block", blocks("python"))
def test_program(block: Block, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line, quoted in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)[^`]*`", text, re.MULTILINE):
        assert (line or quoted) in TARGETS, f"{page.name} names make {line or quoted}"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists() or link == "bench/HISTORY.md", f"{page.name} links to {link}"


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make shell\b", text, re.MULTILINE) and re.search(r"^make test\b", text, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_codes_in_the_readme_are_the_shells() -> None:
    from kvql_shell import exits

    told = re.search(r"Exit codes of `kvql`: (.*?)\.", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert told is not None
    for number in re.findall(r"\b\d+\b", told[1]):
        assert int(number) in {v for v in vars(exits).values() if isinstance(v, int)}
