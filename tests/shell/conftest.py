"""How the shell is run in tests: as a user would, in a process of its own, in an empty home."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Kvql = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Nothing of the developer's own settings, nor of a server that happens to run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KVQL_", "XDG_")) and k != "NO_COLOR"}
    path = f"{ROOT}:{ROOT}/shell:{ROOT}/server"
    return kept | {"HOME": str(home), "PYTHONPATH": path, "TERM": "xterm-256color"} | extra


@pytest.fixture
def environ(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """``environ(NAME="value")``: the environment of a process whose home is empty."""

    def make(**extra: str) -> dict[str, str]:
        return environment(tmp_path, **extra)

    return make


@pytest.fixture
def kvql(tmp_path: Path) -> Kvql:
    """``kvql("-c", "GET a", input=…, env={…})``: a finished process with its output as text."""

    def run(
        *arguments: str, input: str | bytes = "", env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "kvql_shell.main", *arguments],
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            cwd=tmp_path,
            env=environment(tmp_path, **(env or {})),
            timeout=timeout,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
