"""Damage that no crash leaves: a store after ``kill -9`` whose files are changed, one place at a time, and opened.

It is refused, naming the file (of a log or checkpoint also the offset); or, where only the end of the log was touched
and it looks as a crash leaves it, that end is cut off with a warning. It never serves pairs that were not committed, or
fewer than up to the damage.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from kvql_server.engines import base
from kvql_server.engines.hashtable import manifest, record

from tests.engine.disk import Disk
from tests.engine.powerloss import Violation
from tests.engine.workload import FOLDER, Photo, States, Workload, open_store, picture, which
from tests.stores import abandon

OFFSET: Final = re.compile(r"offset \d+|is too short|is not a log segment|has format \d+|MANIFEST|ends at")


@dataclass
class Counts:
    changed: int = 0
    refused: int = 0
    cut: int = 0
    harmless: int = 0
    """As when MANIFEST has no line feed at its end."""

    def __str__(self) -> str:
        return (
            f"{self.changed:,} damaged stores: {self.refused:,} refused, {self.cut:,} cut at the end, "
            f"{self.harmless:,} harmless"
        )


class Store:
    """The files of a store after ``kill -9``, with more than one segment, and where the records of the last one end."""

    def __init__(self, seed: int, steps: int) -> None:
        photos: list[Photo] = []
        Workload(seed, "always", steps, photos.append).run()
        last = max(enumerate(photos), key=lambda n: (len(_segments_in_use(_named(n[1].disk))), n[0]))[1]
        self.files = _named(last.disk)
        self.states: States = last.states
        self.now = last.now
        self.last_segment = max(_segments_in_use(self.files))
        self.bounds: list[tuple[int, int]] = []
        """Where each record of it ends, and its last revision."""
        at = record.SEGMENT_HEADER_BYTES
        first = record.read_record(self.files[self.last_segment], at)
        assert first is not None
        self.before = first.revision - 1
        while (read := record.read_record(self.files[self.last_segment], at)) is not None:
            at = read.end
            self.bounds.append((at, read.last))
        self.newest = self.bounds[-1][1]

    @property
    def end(self) -> int:
        return self.bounds[-1][0]


def _files(disk: Disk) -> dict[str, bytes]:
    return {path: bytes(inode.data) for path, inode in disk.names_now.items()}


def _named(disk: Disk) -> dict[str, bytes]:
    """MANIFEST and the files that it names; not what will be removed anyway."""
    files = _files(disk)
    path = os.path.join(FOLDER, manifest.NAME)
    if path not in files:
        return {}
    found = manifest.decode(files[path], path)
    names = [manifest.NAME, *(segment.file for segment in found.segments)]
    names += [found.checkpoint.file] if found.checkpoint else []
    return {os.path.join(FOLDER, name): files[os.path.join(FOLDER, name)] for name in names}


def _segments_in_use(files: dict[str, bytes]) -> list[str]:
    return [
        path
        for path, data in files.items()
        if path.endswith(".kvl") and record.read_record(data, record.SEGMENT_HEADER_BYTES) is not None
    ]


class Judge:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts = Counts()

    def judge(self, path: str, data: bytes, first: int, what: str) -> None:
        """``data`` instead of the file, which differ from ``first`` on."""
        store = self.store
        if data == store.files[path]:
            return
        self.counts.changed += 1
        where = f"{what} at {first} of {os.path.basename(path)}"
        disk = Disk.holding({**store.files, path: data})
        try:
            engine = open_store(disk, store.now, "always")
        except base.EngineError as e:
            # a segment that ends where a record ends looks whole; what comes after it tells that something is missing
            named = os.path.basename(path) in str(e) or "missing" in str(e)
            if not named or not OFFSET.search(str(e)):
                raise Violation(f"{where}: refused without naming the place: {e}") from e
            if _files(disk) != {**store.files, path: data}:
                raise Violation(f"{where}: a refusal changed the files") from e
            self.counts.refused += 1
            return
        served = which(store.states, picture(engine), engine.status()["revision"])
        warned = bool(engine.warnings)
        abandon(engine)
        self._served(path, data, first, where, served, warned)

    def _served(self, path: str, data: bytes, first: int, where: str, served: int, warned: bool) -> None:
        store = self.store
        if served == store.newest:
            if path == store.last_segment and first >= store.end and warned:
                self.counts.cut += 1
                return
            if data != store.files[path].rstrip(b"\n"):
                raise Violation(f"{where}: nobody noticed")
            self.counts.harmless += 1
            return
        if path != store.last_segment:
            raise Violation(f"{where}: revision {served} of {store.newest} is served")
        before = max([revision for end, revision in store.bounds if end <= first], default=store.before)
        if served != before:
            raise Violation(f"{where}: revision {served} is served, {before} came before the damage")
        behind = [durable for at, durable in _whole_records(data, first) if at > first]
        if behind and (max(behind) > served or bytes(32) not in data[first : len(data.rstrip(b"\0"))]):
            raise Violation(f"{where}: cut off at revision {served}, though what comes behind is whole")
        if not warned and first not in [record.SEGMENT_HEADER_BYTES, *(end for end, _ in store.bounds)]:
            raise Violation(f"{where}: the end was cut off without a word")
        self.counts.cut += 1

    def without(self, number: int) -> None:
        """A record is gone from the middle of the log, as if it had never been there."""
        data, ends = self.store.files[self.store.last_segment], [record.SEGMENT_HEADER_BYTES]
        ends += [end for end, _ in self.store.bounds]
        start, end = ends[number], ends[number + 1]
        self.judge(self.store.last_segment, data[:start] + data[end:], start, "a record is gone")

    def litter(self, path: str) -> None:
        """Something stands behind the last record; only at the end of the log can a crash have left it."""
        data = self.store.files[path].rstrip(b"\0")
        self.judge(path, data + b"KVQr, or so", len(data), "litter")

    # ── what is done to a file ────────────────────────────────────────────────────────────────────────────────

    def flip(self, path: str, at: int, bit: int) -> None:
        data = bytearray(self.store.files[path])
        data[at] ^= 1 << bit
        self.judge(path, bytes(data), at, f"bit {bit} changed")

    def cut(self, path: str, at: int) -> None:
        self.judge(path, self.store.files[path][:at], at, "cut")

    def zero(self, path: str, at: int, length: int) -> None:
        data = bytearray(self.store.files[path])
        end = min(at + length, len(data))
        first = next((n for n in range(at, end) if data[n]), at)
        data[at:end] = bytes(end - at)
        self.judge(path, bytes(data), first, f"{length} zeros")


def _headers(store: Store) -> Iterator[tuple[str, int]]:
    """Every byte of MANIFEST, and of the first and last 64 of the others."""
    for path, data in store.files.items():
        length = len(data.rstrip(b"\0"))
        whole = path.endswith(manifest.NAME) or length < 128
        yield from ((path, at) for at in (range(length) if whole else [*range(64), *range(length - 64, length)]))


def _whole_records(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Where whole records begin from ``start`` on, and up to which revision each calls all durable."""
    at = data.find(record.RECORD_MAGIC, start)
    while at >= 0:
        read = record.read_record(data, at)
        if read is not None:
            yield at, read.durable
        at = data.find(record.RECORD_MAGIC, at + 1)


def harm(seed: int, places: int) -> Counts:
    """Every byte of the last three records changed and cut, and ``places`` random ones of all files changed, with a
    few cuts and zeros among them; :class:`Violation` for the first wrong answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.root.manager, "disable", logging.CRITICAL)
        rng = random.Random(seed)
        store = Store(seed, 40)
        judge = Judge(store)
        try:
            start = store.bounds[-4][0] if len(store.bounds) > 3 else record.SEGMENT_HEADER_BYTES
            for at in range(start, store.end):
                judge.flip(store.last_segment, at, rng.randrange(8))
                judge.cut(store.last_segment, at)
            for path in _segments_in_use(store.files):
                judge.cut(path, record.SEGMENT_HEADER_BYTES)
                judge.litter(path)
            for path, at in _headers(store):
                judge.flip(path, at, rng.randrange(8))
            for number in range(len(store.bounds) - 1):
                judge.without(number)
            for path, at in _places(store, rng, places):
                judge.flip(path, at, rng.randrange(8))
                if rng.random() < 0.2:
                    judge.cut(path, at)
                if rng.random() < 0.2:
                    judge.zero(path, at, rng.choice((1, 40, 512)))
        except Violation as e:
            raise Violation(f"seed {seed}: {e}") from e
    return judge.counts


def _places(store: Store, rng: random.Random, count: int) -> Iterator[tuple[str, int]]:
    used = {path: len(data.rstrip(b"\0")) for path, data in store.files.items() if path.endswith(("VQL", "kvl", "kvc"))}
    used |= {path: len(data) for path, data in store.files.items() if path.endswith("MANIFEST")}
    paths = [path for path, length in used.items() if length]
    for _ in range(count):
        path = rng.choice(paths)
        yield path, rng.randrange(used[path])
