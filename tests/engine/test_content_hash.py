"""The same content, the same hash: in the log, in a checkpoint, after a restart, in a backup, in another engine."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Clear, Delete, Put, Transaction, WholeEntry
from kvql_server.engines.hashtable import HashTableEngine, manifest
from kvql_server.engines.hashtable.files import OsFiles, OsReader
from kvql_server.engines.memory import MemoryEngine
from kvql_server.tools.backup import back_up
from kvql_server.tools.content import content_hash
from kvql_server.tools.contents import Contents, contents

from kvql.values import Json
from tests.stores import abandon, step

VALUES: list[Any] = [
    None, True, False, 0, -(2**63), 2**63 - 1, Decimal("1.50"), Decimal("-1E+3"), 0.0, -0.0, 1.5, float("nan"),
    float("inf"), "", "é\0x", b"", b"\xff\0", datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(1960, 1, 1, tzinfo=UTC),
    Json('{"a":[1,2.50]}'),
]  # fmt: skip


def hash_of(folder: Path) -> Contents:
    found = manifest.decode((folder / "MANIFEST").read_bytes(), "MANIFEST")
    return contents(OsReader(), str(folder), found)


def commits(clock: ManualClock) -> list[Transaction]:
    """A history with every type, changes, deletions, an expiry, comments; two namespaces whose order is not that of
    their making."""
    made = [Transaction((), [Put("shop", f"k{n}", value)], "ann", "why") for n, value in enumerate(VALUES)]
    made.append(Transaction((), [Put("an", "é", 1), Put("an", "z", 2), Put("an", "😀", 3)], "bob"))
    made.append(Transaction((), [Put("shop", "k1", 5), Delete("shop", "k2"), Put("shop", "due", 1, clock.now() + 1)]))
    made.append(Transaction((), [Put("gone", "k", 1)]))
    made.append(Transaction((), [Clear("gone"), Put("shop", "ttl", 1, clock.now() + 10**12), Put("shop", "k2", 9)]))
    return made


def carry_out(engine: Any, clock: ManualClock) -> None:
    for transaction in commits(clock):
        step(engine.commit_many([transaction]))
        clock.advance(0.5)
    engine.tick()


def of_memory(engine: MemoryEngine) -> str:
    snapshot = engine.snapshot()
    spaces: list[tuple[str, list[tuple[str, Any]]]] = []
    for name in sorted(engine.namespaces):
        pairs: list[tuple[str, Any]] = []
        scan = snapshot.scan(name)
        while True:
            try:
                pairs += list(step(scan.__anext__()))
            except StopAsyncIteration:
                break
        spaces.append((name, pairs))
    return content_hash(spaces)


def test_one_content_one_hash(tmp_path: Path) -> None:
    clock = ManualClock()
    start = clock.now()
    folder = tmp_path / "store"
    engine = HashTableEngine.open(folder, clock=clock)
    carry_out(engine, clock)
    engine.sync(engine.status()["revision"])
    in_log = hash_of(folder)
    assert in_log.pairs == engine.status()["pairs"]
    engine.checkpoint()
    in_checkpoint = hash_of(folder)
    copied = back_up(OsReader(), OsFiles(), str(folder), str(tmp_path / "copy"))
    assert copied.revision == engine.status()["revision"] and hash_of(tmp_path / "copy") == in_log
    engine.close_now()
    closed = hash_of(folder)
    again = HashTableEngine.open(folder, clock=clock)
    reopened = hash_of(folder)
    abandon(again)
    assert in_log == in_checkpoint == closed == reopened
    memory_clock = ManualClock(start)
    memory = MemoryEngine(clock=memory_clock)
    carry_out(memory, memory_clock)
    assert of_memory(memory) == in_log.hash


def test_every_field_counts() -> None:
    plain = {
        "value": 1, "revision": 2, "version": 3, "created_at": 4, "updated_at": 5, "updated_by": "ann", "comment": "c",
        "expires_at": None,
    }  # fmt: skip
    others: list[dict[str, Any]] = [{}, *({"value": value} for value in VALUES)]
    others += [{"revision": 9}, {"version": 9}, {"created_at": 9}, {"updated_at": 9}, {"updated_by": "b"}]
    others += [{"comment": "ann"}, {"updated_by": "", "comment": "annc"}, {"expires_at": 0}, {"expires_at": 7}]
    others += [{"value": Decimal("1")}, {"value": "1"}, {"value": 1.0}, {"value": b"1"}, {"value": Decimal("1.0")}]
    hashes = {content_hash([("a", [("k", WholeEntry(**{**plain, **other}))])]) for other in others}
    assert len(hashes) == len(others)
    entry = WholeEntry(**plain)
    places = [[("a", [("bk", entry)])], [("ab", [("k", entry)])], [("a", [])], [("a", [("k", entry), ("l", entry)])]]
    assert len({content_hash(place) for place in places} | hashes) == len(hashes) + len(places)
    assert content_hash([("a", []), ("b", [])]) == content_hash([]), "a namespace without pairs leaves no trace"


@pytest.mark.parametrize("expires_at", [None, 1_700_000_000_000_001])
def test_the_bytes_are_those_of_the_document(expires_at: int | None) -> None:
    """Written from docs/format/hash.md, not from the code."""

    def text(chars: str) -> bytes:
        data = chars.encode("utf-8")
        return len(data).to_bytes(4, "little") + data

    entry = WholeEntry(Decimal("1.50"), 7, 2, -5, 99, "ann", "why", expires_at)
    data = b"KVQL content 1\n" + text("shop") + text("é")
    data += struct.pack("<qqqq", 7, 2, -5, 99)
    data += b"\0" + bytes(8) if expires_at is None else b"\1" + expires_at.to_bytes(8, "little")
    data += b"\3" + text("1.50") + text("ann") + text("why")
    assert content_hash([("shop", [("é", entry)])]) == hashlib.sha256(data).hexdigest()
