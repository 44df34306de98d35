"""The statements, as the grammar file has them: its headings, and the doc comment above each statement's rule."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kvql import ast
from tools.make_grammar import GRAMMAR, statement_docs

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "docs" / "reference"

_HEADING: Final = re.compile(r"^// ═══ (.*?) ═+$", re.MULTILINE)
_RULE: Final = re.compile(r"^\??([a-z_]+):", re.MULTILINE)
# Rules whose nodes have other names than the rule.
_NODES: Final[dict[str, tuple[type, ...]]] = {
    "cancel": (ast.CancelSession,),
    "grant": (ast.Grant, ast.GrantRole),
    "revoke": (ast.Grant, ast.GrantRole),
}


@dataclass(frozen=True)
class Statement:
    """A statement as the reference tells it; ``forms`` are those of its doc comment, ``text`` is what it does."""

    rule: str
    title: str
    forms: tuple[str, ...]
    text: str
    nodes: tuple[type, ...]


@dataclass(frozen=True)
class Page:
    """A family of statements: the heading in the grammar file, and what ``pages.toml`` says of it."""

    heading: str
    file: str
    title: str
    intro: str
    statements: tuple[Statement, ...]


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """The pages in the grammar's order; headings with statements and ``pages.toml`` must match."""
    grammar = GRAMMAR.read_text(encoding="utf-8")
    docs = statement_docs(grammar)
    titles = _titles({rule: forms.split("\n")[0] for rule, (forms, _) in docs.items()})
    told = {page["heading"]: page for page in read_toml("pages.toml")["page"]}
    out = []
    parts = _HEADING.split(grammar)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        rules = [rule for rule in _RULE.findall(text) if rule in docs]
        if not rules:
            continue
        if heading not in told:
            raise SystemExit(f"docs/reference/pages.toml has no page for the grammar's heading {heading!r}")
        page = told.pop(heading)
        made = tuple(Statement(r, titles[r], tuple(docs[r][0].split("\n")), docs[r][1], _nodes_of(r)) for r in rules)
        out.append(Page(heading, page["file"], page["title"], page["intro"], made))
    if told:
        raise SystemExit(f"docs/reference/pages.toml has pages for headings that the grammar lacks: {sorted(told)}")
    return out


def _nodes_of(rule: str) -> tuple[type, ...]:
    return _NODES.get(rule) or (getattr(ast, "".join(word.capitalize() for word in rule.split("_"))),)


def _titles(forms: dict[str, str]) -> dict[str, str]:
    """The leading keywords of each form; ``UPDATE … SET`` where ``UPDATE`` alone is another statement's."""
    keywords = {rule: re.findall(r"[A-Z]{2,}", form) for rule, form in forms.items()}
    short = {rule: re.match(r"[A-Z]+( [A-Z]{2,}(?!\S))*", form) for rule, form in forms.items()}
    titles = {rule: match[0] for rule, match in short.items() if match}
    count = Counter(titles.values())
    return {
        rule: f"{title} … {keywords[rule][1]}" if count[title] > 1 and len(keywords[rule]) > 1 else title
        for rule, title in titles.items()
    }
