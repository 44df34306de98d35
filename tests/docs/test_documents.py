"""Every example of the documents is run.

By the label of its fence: ``kvql`` parses and goes through a store in memory; ``kvql-session`` is a transcript and must
match word for word; ``python`` runs as a program in an empty folder; ``sh`` may only name targets and
commands that exist.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvql
from tests.golden import harness

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```([a-z-]+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [(page, label, text) for page in PAGES for label, text in _FENCE.findall(page.read_text(encoding="utf-8"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def blocks(label: str) -> list[object]:
    """The blocks of one label; those of a page share an order."""
    return [
        pytest.param(page, text, id=f"{page.relative_to(ROOT)}-{n}")
        for n, (page, found, text) in enumerate(BLOCKS)
        if found == label
    ]


@pytest.mark.parametrize(("page", "text"), blocks("kvql-session"))
def test_session(page: Path, text: str, tmp_path: Path) -> None:
    statements = "\n".join(line[2:] for line in text.splitlines() if line.startswith("> "))
    script = harness.Script(tmp_path / "session.kvql", statements)
    done = harness.through_api(script, lambda: kvql.connect(":memory:", autocommit=True))
    assert harness.transcript(done).strip() == text.replace(";\n", "\n").strip()


@pytest.mark.parametrize(("page", "text"), blocks("kvql"))
def test_statements(page: Path, text: str) -> None:
    with kvql.connect(":memory:", autocommit=True) as connection:
        connection.execute("USE shop")
        connection.execute("PUT apples 6")
        for statement in kvql.parse(text):
            connection.execute(statement)


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_program(page: Path, text: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
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
