"""What commits add to the tables, in bytes: for ``max_bytes``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvql_server.engines import base
from kvql_server.engines.base import Clear, Put
from kvql_server.engines.hashtable.entries import Tombstone
from kvql_server.engines.hashtable.store import Store, pair_bytes


def growth(store: Store, writes: Iterable[base.Write]) -> Iterator[int]:
    """Bytes that each of ``writes`` would add to the tables now; a key may be written several times."""
    met: dict[tuple[str, str], int] = {}  # what the pair takes by then
    cleared: set[str] = set()
    for write in writes:
        table = store.tables.get(write.namespace)
        if isinstance(write, Clear):
            if table is not None and write.namespace not in cleared:
                for key, entry in table.entries.items():
                    if type(entry) is not Tombstone:
                        met.setdefault((write.namespace, key), pair_bytes(key, entry.value))
            cleared.add(write.namespace)
            for place in met:
                if place[0] == write.namespace:
                    yield -met[place]
                    met[place] = 0
            continue
        place = write.namespace, write.key
        old = met.get(place)
        if old is None:
            there = table.entries.get(write.key) if table is not None and write.namespace not in cleared else None
            old = pair_bytes(write.key, there.value) if there is not None and type(there) is not Tombstone else 0
        new = met[place] = pair_bytes(write.key, write.value) if isinstance(write, Put) else 0
        yield new - old
