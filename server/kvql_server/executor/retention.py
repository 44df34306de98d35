"""How much of its past a namespace keeps: said to the engine after every commit that may have changed it, and after
every start.

The options ``history`` and ``history_bytes`` lie in the namespace's record, so they are transactional like it; the
engine hears of them only when the record is committed. A namespace that is dropped keeps nothing, because nobody can
ask for its past any more: one of the same name begins anew (``catalog.Namespace.since``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvql_server.catalog import NAMESPACE, Catalog, Namespace, decode_namespace
from kvql_server.engines import base
from kvql_server.engines.base import SYSTEM_NAMESPACE, Engine, Put, Write
from kvql_server.transaction import Transaction

HISTORY: Final = "history"
"""The option, in milliseconds."""
HISTORY_BYTES: Final = "history_bytes"


def of(record: Namespace) -> tuple[int, int]:
    """(microseconds, bytes) that the namespace keeps of its past."""
    options = record.options
    keep_us = options[HISTORY] * 1000 if HISTORY in options else base.HISTORY_US
    return keep_us, options.get(HISTORY_BYTES, base.HISTORY_BYTES)


def follow(engine: Engine, writes: Iterable[Write]) -> None:
    """After a commit: tell the engine what ``writes`` say of namespaces."""
    for write in writes:
        if write.namespace != SYSTEM_NAMESPACE or isinstance(write, base.Clear):
            continue
        if write.key.startswith(NAMESPACE):
            name = write.key[len(NAMESPACE) :]
            keep_us, bytes_max = of(decode_namespace(write.value)) if isinstance(write, Put) else (0, 0)
            engine.keep_history(name, keep_us, bytes_max)


async def begin(engine: Engine, catalog: Catalog) -> None:
    """After a start: the same for all namespaces that say anything of their own."""
    transaction = Transaction(engine, "", tracked=False, read_only=True)
    try:
        for name, record in await catalog.namespaces(transaction):
            if HISTORY in record.options or HISTORY_BYTES in record.options:
                engine.keep_history(name, *of(record))
    finally:
        transaction.close()
