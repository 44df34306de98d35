"""docs/operations.md: its console examples are run, and it has every sentence that a damaged store can print."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kvql_server import exits
from kvql_server.engines.base import Put
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.files import SEE

from tests.servers import BIN
from tests.stores import commit, ends, log_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SERVER = ROOT / "server" / "kvql_server"
RAISED = {
    "Corrupted", "NewerFormat", "Locked", "EngineError", "StoreFull", "Unusable", "DiskFailed",
    "Damaged", "_damage", "Wrong", "Finding",
    "NoBackup", "NoStore", "Unrepairable", "fail",
}  # fmt: skip


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────────────────────


def template(node: ast.expr) -> str | None:
    """A sentence with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    parts: list[str] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            assert isinstance(part, ast.FormattedValue)
            name = part.value.id if isinstance(part.value, ast.Name) else ""
            parts.append(SEE if name == "SEE" else "…")
    return "".join(parts)


def branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else []


def sentences() -> Iterator[tuple[str, str]]:
    for path in [*sorted((SERVER / "engines" / "hashtable").glob("*.py")), *sorted((SERVER / "tools").glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[ast.expr] = []
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found = list(node.args) if name in RAISED else []
            elif isinstance(node, ast.FunctionDef) and re.match("_?why", node.name):
                returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
                found = [part for each in returned for part in (each, *branches(each))]
            for each in found:
                text = template(each)
                if text is not None and " " in text and text != "…: …":
                    yield f"{path.name}:{node.lineno}", text


def test_every_sentence_is_on_the_page() -> None:
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    spans = {re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)}
    missing = sorted({text for _, text in sentences() if text not in spans})
    assert not missing, "not in docs/operations.md:\n" + "\n".join(missing)


def test_every_exit_code_is_on_the_page() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert told == {0, *(value for value in vars(exits).values() if isinstance(value, int))}
    security = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert told == {int(code) for code in re.findall(r"^\| (\d+) \|", security, re.MULTILINE)}


# ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(folder: Path) -> None:
    engine = HashTableEngine.open(folder)
    for n in range(1000):
        commit(engine, Put("shop", f"box{n:04}", n), sync=False)
    engine.checkpoint()
    for n in range(5):
        commit(engine, Put("shop", "hot", n))
    engine.close_now()


def change(folder: Path, how: str) -> None:
    """What happens to the store between two examples."""
    if how == "flip":
        log = log_of(folder)
        data = bytearray(log.read_bytes())
        data[ends(bytes(data))[1] + 60] ^= 1
        log.write_bytes(data)
        return
    engine = HashTableEngine.open(folder)
    for n in range(5):
        commit(engine, Put("shop", "hot", n))
    engine.close_now()
    if how == "torn":
        log = log_of(folder)
        os.truncate(log, ends(log.read_bytes())[3] + 30)


def test_the_examples(tmp_path: Path) -> None:
    """In the order of the page, in one folder; ``…`` stands for what differs from run to run."""
    blocks = re.findall(r"^```console(?: after=(\w+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    prepared(tmp_path / "data")
    for how, text in blocks:
        if how:
            change(tmp_path / "data", how)
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PATH": f"{BIN}:/usr/bin:/bin"},
            )  # fmt: skip
            pattern = ".*?".join(re.escape(part) for part in expected.split("…"))
            assert re.fullmatch(pattern, done.stdout, re.DOTALL), f"{command}\n{done.stdout}"
