"""The keys of a table in order, without a moment at which everything stands still to be sorted.

Sorted chunks partition the keys; new keys gather unsorted, then in sorted runs, and a run's keys move into a chunk when
somebody reads that chunk (or in small steps while nobody is in a hurry). So a load costs a sort of 8,192 keys now and
then, and a reader pays for the part that it reads.

Deletion is lazy: readers look keys up in the table anyway; dead keys leave their chunk when it is next settled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container, Sequence
from typing import Final

CHUNK_KEYS: Final = 1024
"""Keys of a chunk made by splitting; a chunk is split when it has more than twice as many."""
RUN_KEYS: Final = 8192
"""New keys that are sorted at once: about 2 ms where they come in no order."""
INSERT_KEYS: Final = 256
"""So many new keys go to their places one by one, 2 us each."""
SETTLE_KEYS: Final = 4096
"""New keys that one step moves at most: about 1 ms."""


class KeyOrder:
    """``live`` is what the keys are looked up in; a key that is not in it may be dropped."""

    __slots__ = ("_chunks", "_dead", "_deleted", "_live", "_lows", "_new", "_runs", "_sweep")

    def __init__(self, live: Container[str]) -> None:
        self._live = live
        self._chunks: list[list[str]] = [[]]
        self._lows: list[str] = [""]  # chunk i holds the keys of [lows[i], lows[i + 1])
        self._runs: list[list[str]] = []
        self._new: list[str] = []
        self._dead = 0  # copies of keys here, less the keys of the table
        self._deleted = False  # whether there ever was a dead one, so that a key may stand here twice
        self._sweep = 0  # where the next background step settles

    def add(self, key: str) -> None:
        """A key that is not in the table yet."""
        new = self._new
        new.append(key)
        if len(new) >= RUN_KEYS:
            self._end_run()

    def add_many(self, keys: Sequence[str]) -> None:
        """Keys that are not in the table yet, each once."""
        self._new.extend(keys)
        if len(self._new) >= RUN_KEYS:
            self._end_run()

    def discard(self) -> None:
        """A key of the table was removed from it."""
        self._dead += 1
        self._deleted = True

    def load(self, keys: list[str]) -> None:
        """Ascending keys beyond all that are here, nothing being unsettled: recovery's way in."""
        last = self._chunks[-1]
        if len(last) + len(keys) <= CHUNK_KEYS:
            last += keys
            return
        for at in range(0, len(keys), CHUNK_KEYS):
            self._append_chunk(keys[at : at + CHUNK_KEYS])

    def _append_chunk(self, chunk: list[str]) -> None:
        if self._chunks[-1]:
            self._chunks.append(chunk)
            self._lows.append(chunk[0])
        else:
            self._chunks[-1] = chunk

    def _end_run(self) -> None:
        run, self._new = self._new, []
        if not run:
            return
        if self._deleted:
            unique = list(dict.fromkeys(run))
            self._dead -= len(run) - len(unique)
            run = unique
        run.sort()
        last = self._chunks[-1]
        beyond = run[0] > last[-1] if last else run[0] >= self._lows[-1]
        if beyond and not self._runs:
            self.load(run)
        elif len(run) <= INSERT_KEYS:
            for key in run:
                self._insert(key)
        elif self._runs and len(self._runs[-1]) + len(run) <= RUN_KEYS:
            self._runs[-1] = sorted(self._runs[-1] + run)
        else:
            self._runs.append(run)

    def _insert(self, key: str) -> None:
        at = bisect_right(self._lows, key) - 1
        chunk = self._chunks[at]
        place = bisect_left(chunk, key)
        if place < len(chunk) and chunk[place] == key:
            self._dead -= 1
            return
        chunk.insert(place, key)
        if len(chunk) > 2 * CHUNK_KEYS:
            self._replace(at, chunk)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    def page(self, start: str, end: str | None, limit: int) -> list[str]:
        """At most ``limit`` keys from ``start`` on, before ``end``; dead ones perhaps among them. Empty: no more."""
        self._end_run()
        out: list[str] = []
        key = start
        while len(out) < limit:
            at = self._settle(bisect_right(self._lows, key) - 1, key)
            chunk = self._chunks[at]
            first = bisect_left(chunk, start) if self._lows[at] <= start else 0
            last = len(chunk) if end is None or not chunk or chunk[-1] < end else bisect_left(chunk, end)
            out += chunk[first:last]
            if at + 1 == len(self._lows):
                break
            key = self._lows[at + 1]
            if end is not None and key >= end:
                break
        return out[:limit]

    def page_reverse(self, start: str, end: str | None, limit: int) -> list[str]:
        """At most ``limit`` keys before ``end`` in descending order, down to ``start``."""
        self._end_run()
        out: list[str] = []
        upper = end
        while len(out) < limit:
            at = (len(self._lows) if upper is None else bisect_left(self._lows, upper)) - 1
            if at < 0:
                break
            at = self._settle(at, upper, below=True)
            chunk, low = self._chunks[at], self._lows[at]
            last = len(chunk) if upper is None else bisect_left(chunk, upper)
            first = bisect_left(chunk, start)
            out += chunk[first:last][::-1]
            upper = low
            if low <= start:
                break
        return out[:limit]

    # ── keeping order ─────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, at: int, target: str | None, *, below: bool = False, clean: bool = False) -> int:
        """Move the runs' keys of chunk ``at`` into it, and return where it is.

        If they are too many for one step, the chunk is split, and the part with ``target`` is settled (``below``: the
        part with what lies just before it; None is the end).
        """
        slices = self._slices(self._lows[at], self._high(at))
        if not slices and not clean:
            return at
        while sum(last - first for _, first, last in slices) > SETTLE_KEYS:
            run, first, last = max(slices, key=_length)
            pivot = run[(first + last) // 2]
            self._split(at, pivot)
            if target is None or pivot < target or (pivot == target and not below):
                at += 1
            slices = self._slices(self._lows[at], self._high(at))
        merged = self._chunks[at].copy()
        for run, first, last in slices:
            merged += run[first:last]
            del run[first:last]
        merged.sort()
        self._runs = [run for run in self._runs if run]
        if self._deleted:
            # a key that was deleted and put again may stand here twice
            live = [key for key in dict.fromkeys(merged) if key in self._live]
            self._dead -= len(merged) - len(live)
            merged = live
        self._replace(at, merged)
        if target is None:
            return len(self._lows) - 1
        return (bisect_left(self._lows, target) if below else bisect_right(self._lows, target)) - 1

    def _high(self, at: int) -> str | None:
        return self._lows[at + 1] if at + 1 < len(self._lows) else None

    def _slices(self, low: str, high: str | None) -> list[tuple[list[str], int, int]]:
        out: list[tuple[list[str], int, int]] = []
        for run in self._runs:
            first = bisect_left(run, low)
            last = len(run) if high is None else bisect_left(run, high, first)
            if first < last:
                out.append((run, first, last))
        return out

    def _split(self, at: int, pivot: str) -> None:
        chunk = self._chunks[at]
        cut = bisect_left(chunk, pivot)
        self._chunks[at : at + 1] = [chunk[:cut], chunk[cut:]]
        self._lows.insert(at + 1, pivot)

    def _replace(self, at: int, keys: list[str]) -> None:
        if len(keys) <= 2 * CHUNK_KEYS:
            self._chunks[at] = keys
            return
        parts = [keys[i : i + CHUNK_KEYS] for i in range(0, len(keys), CHUNK_KEYS)]
        self._chunks[at : at + 1] = parts
        self._lows[at + 1 : at + 1] = [part[0] for part in parts[1:]]

    def tidy(self, live_keys: int) -> bool:
        """A step of about a millisecond while nobody is in a hurry; true if there is more to do."""
        if not self._runs and self._dead <= max(CHUNK_KEYS, live_keys // 2):
            return False
        at = self._sweep if self._sweep < len(self._chunks) else 0
        at = self._settle(at, self._lows[at], clean=True)
        self._sweep = at + 1
        if at > 0 and not self._chunks[at]:
            del self._chunks[at], self._lows[at]
            self._sweep = at
        return True


def _length(part: tuple[list[str], int, int]) -> int:
    return part[2] - part[1]
