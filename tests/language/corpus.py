"""The corpus: statements, one a line, each with its frozen reading below it.

``corpus/readings.txt`` was read through by eye. ``KVQL_REWRITE=1 pytest tests/language/test_corpus.py`` writes it anew
after a deliberate change; read the difference.
"""

from __future__ import annotations

from pathlib import Path

from kvql.errors import Error
from kvql.parser import parse
from tests.language.reading import reading

PATH = Path(__file__).parent / "corpus" / "readings.txt"
ARROW = "    => "


def load() -> list[tuple[str, str]]:
    """(text, reading) of each entry; a text that is refused reads ``!42601 3..5 | hint``."""
    lines = PATH.read_text(encoding="utf-8").split("\n")
    return [(lines[i], lines[i + 1].removeprefix(ARROW)) for i in range(0, len(lines) - 1, 2)]


def read(text: str) -> str:
    try:
        return " ; ".join(map(reading, parse(text)))
    except Error as e:
        assert e.span is not None
        assert e.source == text
        return f"!{e.sqlstate} {e.span.start}..{e.span.end} {e.message} | {e.hint}"


def valid() -> list[str]:
    return [text for text, expected in load() if not expected.startswith("!")]


def invalid() -> list[str]:
    return [text for text, expected in load() if expected.startswith("!")]
