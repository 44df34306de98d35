"""Stores to connect to, and servers that break on order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.faulty import FaultyServer
from tests.servers import ADMIN, PASSWORD


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture(params=["in process", "over TLS"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The arguments of ``connect`` for an empty store: a folder in this process, and a real server."""
    if request.param == "in process":
        return {"target": str(tmp_path / "store")}
    server = request.getfixturevalue("server_of")("hashtable")
    server.drop_namespaces()
    with server.connect() as admin:
        admin.execute("CREATE NAMESPACE main")
    return {
        "target": f"kvql://{ADMIN}@localhost:{server.port}/main",
        "password": PASSWORD,
        "ca": str(server.ca),
    }
