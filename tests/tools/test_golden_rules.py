"""The rules of the language have scripts, and the tool sees where one has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import golden_rules

PAGE = """
## 4. Forms

- **[4.1]** `SELECT *` is
  `key, value`.
- **[4.2]** *(later)* The past.
- **[4.3]** In every door.
  <!-- test: tests/test_x.py::test_y -->

No rule: **[4.9]**.
"""
SHOWN = {"4.1": ["select/star"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text("class TestX:\n    async def test_y(self): ...\n")
    return tmp_path


def test_every_rule_has_a_script() -> None:
    rules = golden_rules.read(golden_rules.PAGE.read_text(encoding="utf-8"))
    scripts = golden_rules.shown(golden_rules.ROOT / "tests" / "golden")
    assert not list(golden_rules.problems(rules, scripts))
    assert len(rules) > 100


def test_reading() -> None:
    assert golden_rules.read(PAGE) == [
        ("4.1", False, None),
        ("4.2", True, None),
        ("4.3", False, ("tests/test_x.py", "test_y")),
    ]


@pytest.mark.parametrize(
    ("page", "shown", "problem"),
    [
        (PAGE, SHOWN, ""),
        (PAGE, {}, "rule 4.1 has no golden script"),
        (PAGE, {**SHOWN, "9.9": ["a/b", "a/c"]}, "a/b, a/c names rule 9.9, which docs/language.md does not have"),
        (PAGE, {**SHOWN, "4.9": ["a/b"]}, "a/b names rule 4.9, which docs/language.md does not have"),
        (PAGE, {**SHOWN, "4.2": ["a/b"]}, "rule 4.2 is marked (later), and a/b shows it"),
        (PAGE.replace("test_y", "test_z"), SHOWN, "rule 4.3 names tests/test_x.py::test_z, which does not exist"),
        (PAGE.replace("[4.2]", "[4.1]"), SHOWN, "rule 4.1 stands twice"),
    ],
)
def test_problems(root: Path, page: str, shown: dict[str, list[str]], problem: str) -> None:
    found = list(golden_rules.problems(golden_rules.read(page), shown, root))
    assert (problem in found) if problem else not found
