"""What the house asks of code written by hand, where no linter asks it (CONTRIBUTING.md)."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("kvql", "server", "shell", "tests", "bench", "tools", "examples")
GENERATED = ("kvql/v1/", "kvql/_gen/", "kvql/_sync/")
LINES_MAX = 500

# the reason stands behind a dash for ruff, in a comment of its own for mypy
_IGNORE = re.compile(r"#\s*(?:type:\s*ignore|noqa)\b", re.IGNORECASE)
_WITH_REASON = re.compile(r"#\s*(?:type: ignore\[[\w, -]+\]  # \w.+|noqa: [A-Z0-9, ]+ - \w.+)")


def by_hand() -> list[Path]:
    """Every Python file of the checkout that a person wrote."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [path for path in files if not path.relative_to(ROOT).as_posix().startswith(GENERATED)]
    assert len(found) > 200, "the folders have moved"
    return found


def without_reason(path: Path) -> list[str]:
    """The places in a file where a checker is told to look away and no reader is told why."""
    with tokenize.open(path) as file:
        comments = [t for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.COMMENT]
    return [
        f"{path}:{c.start[0]}: {c.string}"
        for c in comments
        if _IGNORE.search(c.string) and not _WITH_REASON.search(c.string)
    ]


def test_every_ignore_says_why() -> None:
    assert [place for path in by_hand() for place in without_reason(path)] == []


def test_an_ignore_without_a_reason_is_found(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    wrong = ["a = 1  # type: ignore", "b = 1  # type: ignore[misc]", "c = 1  # noqa", "d = 1  # noqa: F401"]
    right = ["e = 1  # type: ignore[misc]  # it has no types", "f = 1  # noqa: F401 - a fixture", 'g = "# noqa"']
    path.write_text("\n".join([*wrong, *right]) + "\n")
    assert len(without_reason(path)) == len(wrong)


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in by_hand()
        if (lines := path.read_text("utf-8").count("\n")) > LINES_MAX
    }
    assert long == {}, "split it by subject"


# what a machine has to do beside the tests must not fail them; waiting with an end is no assertion on what it took
_CLOCKS = re.compile(
    r"\b(?:perf_counter|monotonic)(?:_ns)?\(\)\s*-|-\s*(?:time\.)?(?:perf_counter|monotonic)(?:_ns)?\(\)"
)


def on_elapsed_time(path: Path) -> list[str]:
    """Places in a test where the time of the clock on the wall is measured: of what a process did itself there is
    ``time.process_time``."""
    lines = path.read_text("utf-8").splitlines()
    return [f"{path}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if _CLOCKS.search(line)]


def test_no_test_asks_how_long_it_took() -> None:
    tests = [path for path in by_hand() if path.name.startswith("test_") or path.name == "busy.py"]
    assert [place for path in tests for place in on_elapsed_time(path)] == []


def test_a_test_that_asks_how_long_it_took_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_example.py"
    now = "monotonic()"
    path.write_text(f"assert time.{now} - start < 1\nends = time.{now} + 5\nspent = start - {now}\n")
    assert len(on_elapsed_time(path)) == 2
