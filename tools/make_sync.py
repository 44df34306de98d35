"""Make ``kvql/_sync`` from ``kvql/_async``: the same without waiting.

    python tools/make_sync.py            write the files
    python tools/make_sync.py --check    fail if they were not made from these sources

Names and words are replaced in the whole text, documentation included; ruff removes the imports that are left over and
puts the rest in order. A line that ends in ``# sync: …`` becomes what the comment says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "kvql" / "_async"
OUT: Final = ROOT / "kvql" / "_sync"

WORDS: Final = (
    (r"^( *)\S.*# sync: (.*)$", r"\1\2"),
    (r"\b(async|await) ", ""),
    (r"\bAwaitable\[(\w+(?:\[[^\[\]]*\])?)\]", r"\1"),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"\basyncio\b", "time"),
    (r"\bkvql\._async\b", "kvql._sync"),
    (r"\bkvql\.client\.tasks\b", "kvql.client.sync"),
)
HEAD: Final = "# Made by tools/make_sync.py from {}. Never edit: run `make sync`.\n"
KNOWN: Final = "--config=lint.isort.known-first-party=['kvql']"  # also before the first file is there
PACKAGE: Final = '"""The Database API of PEP 249 without an event loop; made from ``kvql._async``, which see."""\n'


def made(source: Path) -> str:
    """The text of the file that belongs to ``source``."""
    text = source.read_text(encoding="utf-8")
    if source.name == "__init__.py":
        text = text[text.index('"""\n') + 4 :]
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    head = HEAD.format(source.relative_to(ROOT)) + (PACKAGE if source.name == "__init__.py" else "")
    text = head + text
    text = _ruff(text, "check", "--fix", "--quiet", "--select=F401,I", KNOWN)
    return _ruff(text, "format", "--quiet")


def _ruff(text: str, *arguments: str) -> str:
    ruff = Path(sys.executable).parent / "ruff"
    name = f"--stdin-filename={OUT / 'made.py'}"
    done = subprocess.run([ruff, *arguments, name, "-"], cwd=ROOT, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return done.stdout


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    files = {OUT / source.name: made(source) for source in sorted(SOURCE.glob("*.py"))}
    stale = [p for p, text in files.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    stale += [p for p in OUT.glob("*.py") if p not in files]
    if arguments:
        if stale:
            names = ", ".join(sorted(p.name for p in stale))
            print(f"kvql/_sync was not made from kvql/_async ({names}): run `make sync`", file=sys.stderr)
        return 1 if stale else 0
    OUT.mkdir(exist_ok=True)
    for path in stale:
        if path in files:
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()
        print(f"wrote {path.relative_to(ROOT)}" if path in files else f"removed {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
