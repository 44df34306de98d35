"""What a checkpoint keeps of the past: blocks of steps, and how far the journals reach back
(``docs/format/checkpoint.md``).

A step is written with the state that it ended; the state that it led to is the next one's, or the pair's own. First
puts are not written: the revision of a pair that was never changed tells of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from kvql_server.engines.hashtable.columns import (
    MetaRow,
    decode_states,
    encode_metas,
    encode_states,
    numbers_bytes,
    numbers_of,
)
from kvql_server.engines.hashtable.entries import Entry, Meta
from kvql_server.engines.journal import Journal, Record, Step, Sweep, state_bytes

if TYPE_CHECKING:
    from kvql_server.engines.hashtable.store import Store

BLOCK_STEPS: Final = 2048
BLOCK_BYTES: Final = 4 << 20
_GONE: Final = 1
_EXPIRED: Final = 2
_HAD: Final = 4
"""Flags of a step: the pair is gone after it, because it expired, and there was a state before it."""

_encode: Final = msgspec.msgpack.Encoder().encode


class Kept(NamedTuple):
    """A journal as it was when the checkpoint began."""

    namespace: str
    floor: int
    floor_time: int | None
    records: list[Record]


class StateColumns(msgspec.Struct, array_like=True):
    types: bytes
    values: list[Any]
    revisions: bytes
    metas: list[MetaRow]
    which: bytes
    extras: list[tuple[int, int, int, int | None]]


class StepColumns(msgspec.Struct, array_like=True, frozen=True):
    """``states`` are those before the steps that are flagged to have one, in their order."""

    namespace: str
    keys: list[str]
    flags: bytes
    revisions: bytes
    metas: list[MetaRow]
    which: bytes
    states: StateColumns


class JournalRow(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    floor: int
    floor_time: int | None


class _Head(msgspec.Struct, array_like=True, frozen=True):
    namespace: str


_decode_head: Final = msgspec.msgpack.Decoder(_Head).decode
decode_steps: Final = msgspec.msgpack.Decoder(StepColumns).decode
decode_journals: Final = msgspec.msgpack.Decoder(list[JournalRow]).decode
"""What blocks of history and of journals hold; ``msgspec.DecodeError``."""


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def keep(journals: list[Journal], now: int, revision: int) -> list[Kept]:
    """What is to be written of them, as they are now; ``revision`` is the store's."""
    out: list[Kept] = []
    for journal in journals:
        journal.trim(now)
        if journal.keep_us:
            records = journal.records(journal.floor, revision)
            out.append(Kept(journal.namespace, journal.floor, journal.floor_time, records))
        else:
            out.append(Kept(journal.namespace, revision, now, []))
    return out


def step_blocks(kept: Kept) -> Iterator[tuple[bytes, int]]:
    """Payloads of blocks, and how many steps each holds."""
    block: list[Step] = []
    size = 0
    for step in _steps(kept.records):
        block.append(step)
        if step.previous is not None:
            size += state_bytes(step.previous)
        if len(block) >= BLOCK_STEPS or size >= BLOCK_BYTES:
            yield _encode_steps(kept.namespace, block), len(block)
            block, size = [], 0
    if block:
        yield _encode_steps(kept.namespace, block), len(block)


def _steps(records: list[Record]) -> Iterator[Step]:
    """One by one, without those that the tables tell of."""
    for record in records:
        if type(record) is Step:
            if record.previous is not None or type(record.entry) is not Entry:
                yield record
        elif type(record) is Sweep:
            for key, state in record.states():
                yield Step(record.revision, record.meta, key, None, state)


def _encode_steps(namespace: str, steps: list[Step]) -> bytes:
    flags = bytes(
        (_GONE if step.entry is None else 0)
        | (_EXPIRED if step.expired else 0)
        | (_HAD if step.previous is not None else 0)
        for step in steps
    )
    metas, which = encode_metas([step.meta for step in steps])
    states = encode_states([step.previous for step in steps if step.previous is not None])
    revisions = numbers_bytes(array("q", [step.revision for step in steps]))
    return _encode((namespace, [step.key for step in steps], flags, revisions, metas, which, states))


def journals_payload(kept: list[Kept]) -> bytes:
    """Of the block that comes after all others."""
    return _encode([(one.namespace, one.floor, one.floor_time) for one in kept])


def namespace_of(payload: bytes) -> str:
    """Of a block of history; ``msgspec.DecodeError``."""
    return _decode_head(payload).namespace


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Past:
    """Gathers the steps of a file, and hands them to the journals once the tables are filled."""

    def __init__(self) -> None:
        self._steps: dict[str, list[Step]] = {}

    def add(self, payload: bytes) -> None:
        """A block of history."""
        columns = decode_steps(payload)
        metas = [Meta(meta.time, meta.user, meta.comment) for meta in columns.metas]
        states = iter(decode_states(columns.states))
        revisions, which = numbers_of("q", columns.revisions), numbers_of("H", columns.which)
        steps = self._steps.setdefault(columns.namespace, [])
        for key, flags, revision, number in zip(columns.keys, columns.flags, revisions, which, strict=True):
            previous = next(states) if flags & _HAD else None
            # what it led to is found by ``load``; until then only whether there is something
            entry = None if flags & _GONE else _LATER
            steps.append(Step(revision, metas[number], key, entry, previous, bool(flags & _EXPIRED)))
        if next(states, None) is not None:
            raise ValueError("there are more states than steps that have one")

    def load(self, payload: bytes, store: Store, revision: int) -> None:
        """The block of journals: all tables are there."""
        for row in decode_journals(payload):
            journal = store.journal(row.namespace)
            steps = self._steps.pop(row.namespace, [])
            journal.load(row.floor, row.floor_time, _linked(steps, store, row.namespace))
            journal.newest = max(journal.newest, row.floor)
            if row.floor < revision:
                journal.implied, journal.implied_until = partial(store.first_puts, row.namespace), revision
        store.unknown = (0, None)  # every namespace in which anything happened has a row
        if self._steps:
            raise ValueError(f"there is history of namespace {next(iter(self._steps))}, and no journal")


_LATER: Final = object()


def _linked(steps: list[Step], store: Store, namespace: str) -> list[Step]:
    """The steps with the states that they led to: what the key's next step ended, or what the table has."""
    table = store.tables.get(namespace)
    entries = {} if table is None else table.entries
    after: dict[str, Any] = {}
    out: list[Step] = []
    for step in reversed(steps):
        if step.entry is _LATER:
            entry = after[step.key] if step.key in after else entries.get(step.key)
            if entry is None:
                raise ValueError(f"the state of revision {step.revision} is missing")
            out.append(Step(step.revision, step.meta, step.key, entry, step.previous))
        else:
            out.append(step)
        after[step.key] = step.previous
    out.reverse()
    return out
