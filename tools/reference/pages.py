"""The pages of the statements, the index, and the page of the parts that the diagrams' boxes name."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Final

from tools.reference import diagrams, examples, syntax
from tools.reference.nodes import boxes
from tools.reference.statements import Page, Statement, read_toml

HEAD: Final = "<!-- Made by tools/make_reference.py: never edited, run `make reference`. -->\n\n"
NOT_YET: Final = "Not carried out yet: the server answers [0A000](errors.md#0A000)."
_ERROR: Final = re.compile(r"^ERROR (\w{5})", re.MULTILINE)


def anchor(text: str) -> str:
    """The name by which a section is linked."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def paragraph(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def section(name: str, title: str, *blocks: str) -> str:
    """A section that can be linked as ``#name``."""
    return "\n".join([f'<a id="{name}"></a>\n', f"## {title}\n", *blocks])


def contents(links: Iterable[tuple[str, str]]) -> str:
    """The sections of a page, (title, name) each."""
    return paragraph(" · ".join(f"[{title}](#{name})" for title, name in links))


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def statements(page: Page) -> dict[str, str]:
    """File -> text: the page of a family of statements, and their diagrams."""
    files = {
        page.file: HEAD
        + f"# {page.title}\n\n{page.intro.strip()}\n\n"
        + contents((s.title, s.rule) for s in page.statements)
        + "\n"
        + "\n".join(_statement(s) for s in page.statements)
    }
    for s in page.statements:
        files[f"diagrams/{s.rule}.svg"] = diagrams.svg(syntax.of_rule(s.rule), s.title)
    return files


def _statement(statement: Statement) -> str:
    example = examples.run(statement)
    blocks = ["```text\n" + "\n".join(statement.forms) + "\n```\n", paragraph(statement.text)]
    if not example.carried_out:
        blocks.append(f"{NOT_YET}\n")
    blocks.append(_diagram(statement.rule, statement.title))
    label = "kvql parse" if not example.ran else "kvql-session"
    setup = f" setup={statement.rule}" if example.ran and example.setup else ""
    blocks.append(f"```{label}{setup}\n{example.text}\n```\n")
    codes = sorted(set(_ERROR.findall(example.text))) if example.ran else []
    if codes:
        blocks.append("About the errors: " + ", ".join(f"[{c}](errors.md#{c})" for c in codes) + ".\n")
    return section(statement.rule, statement.title, *blocks)


def _diagram(rule: str, title: str) -> str:
    """The picture of ``rule``, and where to read on about its boxes."""
    told = dict.fromkeys(box for box in boxes(syntax.of_rule(rule)) if box.part)
    links = ", ".join(f"[{box.text}](parts.md#{anchor(box.part)})" for box in told)
    return f"![Diagram of {title}](diagrams/{rule}.svg)\n" + (f"\nIn the boxes: {links}.\n" if links else "")


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def parts() -> dict[str, str]:
    """File -> text: ``parts.md`` and its diagrams."""
    told = read_toml("parts.toml")["part"]
    files: dict[str, str] = {}
    sections = []
    for part in told:
        blocks = [paragraph(part["text"])]
        if rule := part.get("rule"):
            blocks.append(_diagram(rule, part["name"]))
            files[f"diagrams/{rule}.svg"] = diagrams.svg(syntax.of_rule(rule), part["name"])
        sections.append(section(anchor(part["name"]), part["name"], *blocks))
    files["parts.md"] = (
        HEAD
        + "# Parts of statements\n\nWhat stands in the boxes of the diagrams. Green words and signs are typed as they"
        + " stand, keywords in any case.\n\n"
        + contents((part["name"], anchor(part["name"])) for part in told)
        + "\n"
        + "\n".join(sections)
    )
    return files


# ── the index ─────────────────────────────────────────────────────────────────────────────────────────────────────


def index(pages: list[Page]) -> str:
    rows = [
        f"| [{s.title}]({page.file}#{s.rule}) | {_sentence(s.text)}{_mark(s)} |"
        for page in pages
        for s in page.statements
    ]
    links = [f"- [{page.title}]({page.file})" for page in pages]
    return (
        HEAD
        + "# KVQL reference\n\n"
        + "Every statement with its syntax, a diagram, and an example that was run to make this page. What the\n"
        + "language promises, rule by rule, is told in [language.md](../language.md).\n\n"
        + "\n".join(links)
        + "\n- [Parts of statements](parts.md): keys, values, names, expressions"
        + "\n- [Functions and operators](functions.md)\n- [Types and columns](types.md)\n- [Errors](errors.md)\n\n"
        + "A statement ends with `;`. Keywords may be written in any case; keys, names and text are taken as they are."
        + "\nComments are `-- to the end of the line` and `/* … */`. In a form, `[…]` may be left out, `|` stands"
        + "\nbetween alternatives, `…` repeats.\n\n"
        + "| statement | what it does |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _sentence(text: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.)])\s+(?=[A-Z])", text, maxsplit=1)[0].replace("|", "\\|")


def _mark(statement: Statement) -> str:
    return "" if examples.run(statement).carried_out else " *Not carried out yet.*"
