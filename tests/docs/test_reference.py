"""The reference is whole and up to date: each statement, type, function and error of the source stands in it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kvql import ast
from kvql._gen import help as manual
from kvql.values import Type
from tools import golden_coverage, make_reference
from tools.reference import examples, pages, statements, syntax
from tools.reference.nodes import boxes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
FAMILIES = statements.pages()
STATEMENTS = [s for family in FAMILIES for s in family.statements]
PAGES = sorted(FOLDER.glob("*.md"))


def rules(cases: list[statements.Statement]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("statement", cases, ids=lambda s: s.rule)


def named(toml: str, kind: str) -> list[str]:
    return [entry["name"] for entry in statements.read_toml(toml)[kind]]


def test_every_statement_of_the_grammar_and_of_the_tree_is_told() -> None:
    assert [s.rule for s in STATEMENTS] == list(manual.STATEMENTS)
    assert {node for s in STATEMENTS for node in s.nodes} == golden_coverage.members(ast.Statement)


@rules(STATEMENTS)
def test_a_statement_has_section_diagram_and_example(statement: statements.Statement) -> None:
    (page,) = (FOLDER / family.file for family in FAMILIES if statement in family.statements)
    assert f'<a id="{statement.rule}"></a>\n\n## {statement.title}\n' in page.read_text(encoding="utf-8")
    assert f"]({page.name}#{statement.rule})" in (FOLDER / "index.md").read_text(encoding="utf-8")
    assert (FOLDER / "diagrams" / f"{statement.rule}.svg").exists()
    assert (FOLDER / "examples" / f"{statement.rule}.kvql").exists()


def test_no_example_is_left_over() -> None:
    assert {p.stem for p in examples.EXAMPLES.glob("*")} == {s.rule for s in STATEMENTS}


def test_every_statement_that_is_carried_out_has_a_golden_script() -> None:
    carried_out = {node for s in STATEMENTS if examples.run(s).carried_out for node in s.nodes}
    lacking = carried_out - golden_coverage.covered(ROOT / "tests" / "golden")
    assert not lacking, f"no golden script holds {sorted(node.__name__ for node in lacking)}"


def test_every_box_of_a_diagram_is_told() -> None:
    parts = {part["name"]: part.get("rule") for part in statements.read_toml("parts.toml")["part"]}
    drawn = [*(s.rule for s in STATEMENTS), *(rule for rule in parts.values() if rule)]
    assert {box.part for rule in drawn for box in boxes(syntax.of_rule(rule))} - {""} <= parts.keys()


def test_every_function_is_told() -> None:
    from kvql_server.executor.aggregates import AGGREGATES
    from kvql_server.executor.functions import FUNCTIONS

    assert named("functions.toml", "function") == sorted({*FUNCTIONS, "now"})
    assert sorted(named("functions.toml", "aggregate")) == sorted(AGGREGATES)


def test_every_example_of_a_function_gives_a_value() -> None:
    assert "error [" not in (FOLDER / "functions.md").read_text(encoding="utf-8")


def test_every_type_is_told() -> None:
    from kvql_server.executor.casts import ALIASES

    told = statements.read_toml("types.toml")["type"]
    assert sorted(t["name"] for t in told) == sorted(Type.__members__)
    names = {name: t["name"] for t in told for name in t["aliases"]}
    assert names == {name: kind.name for name, kind in ALIASES.items() if name != kind.name.lower()}


def test_every_column_is_told() -> None:
    from kvql_server.executor.expressions.scope import COLUMNS

    assert named("types.toml", "column") == list(COLUMNS)


def test_the_reference_is_up_to_date() -> None:
    assert make_reference.drifted(make_reference.made()) == [], "run: make reference"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("diagrams/*")), ids=lambda p: p.stem)
def test_a_diagram_is_xml_and_needs_nothing_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert drawn and float(root.attrib["width"]) < 1000
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_to_sections(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(pages.HEAD)
    for file, name in re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", text):
        there = (FOLDER / file).read_text(encoding="utf-8") if file else text
        assert f'<a id="{name}"></a>' in there, f"{page.name} links to {file}#{name}"
