"""What a start would load, without starting: for the hash, and for whoever wants to compare."""

from __future__ import annotations

import gc
from typing import NamedTuple

from kvql_server.engines.hashtable import recovery
from kvql_server.engines.hashtable.files import Reader
from kvql_server.engines.hashtable.manifest import Manifest
from kvql_server.engines.hashtable.store import Store
from kvql_server.tools.content import content_hash


class Contents(NamedTuple):
    hash: str
    pairs: int


def contents(files: Reader, folder: str, found: Manifest) -> Contents:
    """:class:`kvql_server.engines.base.Corrupted` where a start would refuse."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        store = Store()
        recovery.load(files, folder, found, store)
        tables = ((name, sorted(store.tables[name].entries.items())) for name in sorted(store.tables))
        return Contents(content_hash(tables), store.pairs)
    finally:
        if collecting:
            gc.enable()
