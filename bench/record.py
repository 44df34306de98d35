"""What was measured, for people: on the terminal and in HISTORY.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.measure import Figure

HISTORY = Path(__file__).parent / "HISTORY.md"
HEAD = """# What was measured

Written by `make bench`; newest last. A ratio above 1 means that KVQL is faster (or smaller) than the peer. Figures of
different entries were taken at different times and machines; only the ratios of one entry belong together.
"""


def machine() -> str:
    """Processor, memory and system in one line, without a name of the machine."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        model = found[1]
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    return f"{os.cpu_count()} × {model}{memory}, {platform.system()}"


def versions() -> str:
    """Of everything that takes part."""
    parts = [f"Python {platform.python_version()}"]
    for package in ("grpcio", "protobuf", "lark", "redis", "sqlglot"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    for command in (["redis-server", "--version"], ["sqlite3", "--version"]):
        if shutil.which(command[0]):
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            if found := re.search(r"\d+\.\d+\.\d+", text):
                parts.append(f"{command[0]} {found[0]}")
    return ", ".join(parts)


def revision() -> str:
    """The commit that was measured."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HISTORY.parent, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def table(figures: list[Figure]) -> str:
    lines = ["| work | kvql | peers | ratio |", "|---|---|---|---|"]
    for f in figures:
        peers = " · ".join(f"{name} {value:,.4g}" for name, value in f.peers.items())
        ratios = " · ".join(f"{name} {value:.2f}×" for name, value in f.ratios.items())
        lines.append(f"| {f.name} | {f.value:,.4g} {f.unit} | {peers} | {ratios} |")
    return "\n".join(lines)


def append(row: str, figures: list[Figure], note: str) -> None:
    """One entry at the end of HISTORY.md."""
    if not HISTORY.exists():
        HISTORY.write_text(HEAD, encoding="utf-8")
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    entry = f"\n## {today} · {row} · {revision()}\n\n{machine()}. {versions()}.\n{note}\n\n{table(figures)}\n"
    with HISTORY.open("a", encoding="utf-8") as out:
        out.write(entry)
