"""What tests of several parts share: real servers, a killed store, and the flag that rewrites golden transcripts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import Server
from tests.stores import killed_store

# terminals and other children are forked off while gRPC runs threads here, and what gRPC does around a fork has ended
# such a child before it began
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-rewrite", action="store_true", help="write the golden transcripts anew")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in ("KVQL_URL", "KVQL_PASSWORD", "KVQL_CA", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KVQL_CONFIG", "/dev/null")


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """``server_of("hashtable")``: a server on that engine, shared by the session's tests; they leave no namespace."""
    running: dict[str, Server] = {}

    def get(engine: str) -> Server:
        if engine not in running:
            running[engine] = Server(tmp_path_factory.mktemp(f"server-{engine}"), engine).start()
        return running[engine]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own; it may kill and start it again."""
    made = Server(tmp_path / "server").start()
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder after kill -9: see ``killed_store``."""
    return killed_store(tmp_path / "store")
