"""Write a content manifest of an installed Python library as a KVQL script: one pair a file, keyed by its SHA-256.

    python examples/make_manifest.py examples/manifest.kvql [--library PACKAGE] [--namespace manifest]

The value is JSON: ``{"path": "lark/lark.py", "size": 28123, "type": "text/x-python"}``. Files with the same content
share a key, so they are one pair whose ``paths`` lists the others as well (a content store keeps a content once).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def library_folder(package: str) -> Path:
    """Where the library is installed; an ordinary package with a folder is needed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"no installed package named {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def pairs(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of the content -> what is known of it, in order of the paths."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        content = path.read_bytes()
        name = path.relative_to(folder.parent).as_posix()
        entry = found.get(key := hashlib.sha256(content).hexdigest())
        if entry is not None:
            entry.setdefault("paths", [entry["path"]]).append(name)
            continue
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        found[key] = {"path": name, "size": len(content), "type": kind}
    return found


def script(folder: Path, namespace: str) -> Iterator[str]:
    """The lines of the script; a JSON literal stands as it is, without quotes."""
    yield f"-- the files of {folder.name}\n"
    yield f"USE {namespace};\n"
    for key, entry in pairs(folder).items():
        yield f"PUT {key} {json.dumps(entry, ensure_ascii=False)};\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="write a content manifest of an installed library as a KVQL script")
    parser.add_argument("file", type=Path)
    parser.add_argument("--library", default="sqlglot", help="an installed package (default: sqlglot)")
    parser.add_argument("--namespace", default="manifest")
    arguments = parser.parse_args()
    with arguments.file.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(script(library_folder(arguments.library), arguments.namespace))


if __name__ == "__main__":
    main()
