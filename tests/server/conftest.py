from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.busy import BusyStore
from tests.server.support import Wire
from tests.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in memory, over TLS."""
    made = Server(tmp_path_factory.mktemp("server"), engine="memory").start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def wires(server: Server) -> Iterator[dict[str, Wire]]:
    """A connection for each user: admin, user, other."""
    made = {user: Wire(server, user) for user in ("admin", "user", "other")}
    yield made
    for wire in made.values():
        wire.close()


@pytest.fixture
def admin(wires: dict[str, Wire]) -> Wire:
    """The administrator, in a store without namespaces."""
    wire = wires["admin"]
    from kvql.v1 import kvql_pb2 as pb

    for name, *_ in wire.rows(pb.Request(namespaces=pb.NamespacesCommand())):
        wire.execute(pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=name)))
    return wire


@pytest.fixture
def busy() -> BusyStore:
    """A store of four pairs in whose event loop others want their turn."""
    made = BusyStore()
    made.run("""INSERT INTO t VALUES ('a', 1), ('b', 2.5), ('c', 'x'), ('j', {"name": "n", "deep": {"er": [7]}})""")
    return made
