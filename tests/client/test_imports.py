"""``import kvql`` is cheap, and stores in process need the server's package and say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kvql
from kvql.transport import local


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    loaded = run("import kvql, sys; dir(kvql); kvql.apilevel; print(*sys.modules)").split()
    assert not {"grpc", "lark", "google.protobuf", "asyncio", "kvql.client", "kvql_server"} & set(loaded)


def test_a_store_in_process_needs_no_network_and_no_loop() -> None:
    loaded = run("import kvql, sys; kvql.connect(':memory:').execute('PUT a 1'); print(*sys.modules)").split()
    assert "grpc" not in loaded and "lark" not in loaded


def test_everything_public_is_there() -> None:
    for name in kvql.__all__:
        assert getattr(kvql, name) is not None
    with pytest.raises(AttributeError):
        kvql.nothing  # noqa: B018 - that it is looked up is the test


def test_without_the_server_folders_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ENTRY_POINT_GROUP", "kvql.nothing")
    with pytest.raises(kvql.NotSupportedError) as caught:
        kvql.connect(":memory:")
    assert caught.value.hint == "run: pip install kvql[server]"
