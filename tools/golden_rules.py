"""Fail where a rule of the language has no golden script; with ``--list`` show which scripts each rule has.

A rule is an item ``- **[4.12]** …`` of docs/language.md; a script names the rules that it shows at its head
(``--! rule 4.12 4.13``). Two kinds of rules need no script:

* *(later)* right behind the number: not carried out yet. A script that names such a rule is an error: the mark is out
  of date then.
* ``<!-- test: tests/client/test_dbapi.py::test_name -->`` in the item: no script can show it (times, parameters by
  place, what lies on disk), so a test does, and it must exist.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.golden import harness  # noqa: E402 - a tool of the checkout finds the checkout

PAGE: Final = ROOT / "docs" / "language.md"
_ITEM: Final = re.compile(r"^- \*\*\[(\d+\.\d+)\]\*\*( \*\(later\)\*)?((?:.*\n)(?:  .*\n)*)", re.MULTILINE)
_TEST: Final = re.compile(r"<!-- test: (\S+)::(\w+) -->")


class Rule(NamedTuple):
    """``test``: (path from the checkout's root, name of the function), where a test stands in for a script."""

    id: str
    later: bool
    test: tuple[str, str] | None


def read(page: str) -> list[Rule]:
    """The rules of the page, in its order."""
    out = []
    for found in _ITEM.finditer(page):
        test = _TEST.search(found[3])
        out.append(Rule(found[1], found[2] is not None, None if test is None else (test[1], test[2])))
    return out


def shown(folder: Path) -> dict[str, list[str]]:
    """Rule -> the scripts that name it."""
    out: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*/*.kvql")):
        for rule in harness.read(path).rules:
            out.setdefault(rule, []).append(f"{path.parent.name}/{path.stem}")
    return out


def problems(rules: list[Rule], scripts: dict[str, list[str]], root: Path = ROOT) -> Iterator[str]:
    """What is wrong, a line each."""
    known = [rule.id for rule in rules]
    for rule in rules:
        has = scripts.get(rule.id, [])
        if known.count(rule.id) > 1:
            yield f"rule {rule.id} stands twice"
        if rule.later and has:
            yield f"rule {rule.id} is marked (later), and {has[0]} shows it"
        elif rule.test is not None and not _exists(root, *rule.test):
            yield f"rule {rule.id} names {'::'.join(rule.test)}, which does not exist"
        elif not (rule.later or rule.test or has):
            yield f"rule {rule.id} has no golden script"
    for unknown in sorted(scripts.keys() - set(known)):
        yield f"{', '.join(scripts[unknown])} names rule {unknown}, which docs/language.md does not have"


def _exists(root: Path, path: str, name: str) -> bool:
    file = root / path
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return re.search(rf"^\s*(?:async )?def {name}\(", text, re.MULTILINE) is not None


def main() -> None:
    rules, scripts = read(PAGE.read_text(encoding="utf-8")), shown(ROOT / "tests" / "golden")
    if sys.argv[1:] == ["--list"]:
        for rule in rules:
            where = "(later)" if rule.later else "::".join(rule.test) if rule.test else ""
            print(f"{rule.id}\t{', '.join(filter(None, [*scripts.get(rule.id, []), where])) or '-'}")
    wrong = list(problems(rules, scripts))
    if wrong:
        sys.exit("\n".join(wrong))
    later = sum(rule.later for rule in rules)
    print(f"all {len(rules) - later} rules of the language have golden scripts or tests; {later} are for later")


if __name__ == "__main__":
    main()
