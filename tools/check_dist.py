"""Refuse a wheel or sdist that holds keys, certificates, data or rubbish, or lacks what it must hold.

python tools/check_dist.py dist
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

FORBIDDEN = re.compile(
    r"\.(pem|key|crt|p12|log|pyc)$|(^|/)(users\.json|\.env|__pycache__)(/|$)|(^|/)(data|certs)/(?!README\.md$)"
)
WHEEL_NEEDS = (
    "kvql/__init__.py", "kvql/py.typed", "kvql/v1/kvql_pb2.py", "kvql/_gen/__init__.py",
    "kvql_server/main.py", "kvql_shell/main.py",
)  # fmt: skip
SDIST_NEEDS = ("pyproject.toml", "grammar/kvql.lark", "proto/kvql/v1/kvql.proto", "Makefile", "README.md", "LICENSE")


def faults(names: list[str], needs: tuple[str, ...]) -> list[str]:
    """What is wrong with the list of a package's files."""
    bad = [f"holds {name}" for name in names if FORBIDDEN.search(name)]
    return bad + [f"lacks {need}" for need in needs if need not in names]


def wheel_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as wheel:
        return wheel.namelist()


def sdist_names(path: Path) -> list[str]:
    """The files without the leading ``kvql-1.2.3/``."""
    with tarfile.open(path) as sdist:
        return [m.name.partition("/")[2] for m in sdist.getmembers() if m.isfile()]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if not wheels or not sdists:
        sys.exit(f"no wheel and sdist in {folder}; run: make dist")
    found = [f"{p.name}: {f}" for p in wheels for f in faults(wheel_names(p), WHEEL_NEEDS)]
    found += [f"{p.name}: {f}" for p in sdists for f in faults(sdist_names(p), SDIST_NEEDS)]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(wheels) + len(sdists)} packages hold no keys and lack nothing")


if __name__ == "__main__":
    main()
