"""Make ``docs/reference/`` from the grammar, the examples and the sentences that lie beside it.

    python tools/make_reference.py            write the pages and diagrams
    python tools/make_reference.py --check    fail if they are not what the sources and the server give today

By hand are written, in ``docs/reference``: ``examples/<rule>.kvql`` (what stands above a line ``-- ---`` is run and not
shown) and the TOML files. All else is made, every example by running it. ``tools/reference`` says how.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "server"), str(ROOT / "shell")]

from tools.reference import pages, statements, tables  # noqa: E402 - a tool of the checkout finds the checkout


def made() -> dict[Path, str]:
    """Every file that is made, with its text."""
    families = statements.pages()
    files = {
        "index.md": pages.index(families),
        "functions.md": tables.functions(),
        "types.md": tables.types(),
        "errors.md": tables.error_codes(),
        **pages.parts(),
    }
    for family in families:
        files.update(pages.statements(family))
    return {statements.FOLDER / name: text for name, text in files.items()}


def drifted(files: dict[Path, str]) -> list[str]:
    """The files that are missing, differ, or are not made any more."""
    there = {*statements.FOLDER.glob("*.md"), *statements.FOLDER.glob("diagrams/*")}
    differ = {p for p, text in files.items() if p not in there or p.read_text(encoding="utf-8") != text}
    return sorted(str(p.relative_to(ROOT)) for p in differ | (there - files.keys()))


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    files = made()
    if arguments:
        differ = drifted(files)
        if differ:
            print(f"docs/reference is not up to date ({', '.join(differ)}): run `make reference`", file=sys.stderr)
        return 1 if differ else 0
    for name in drifted(files):
        path = ROOT / name
        path.parent.mkdir(exist_ok=True)
        if path in files:
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()
        print(name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
