"""Which pairs are due to expire: buckets of an eighth of a second, found by a heap, so that nothing is ever searched
for.

A pair enters its bucket when it is written and leaves it when it is written again; a bucket is looked into once its
earliest pair is due.
"""

from __future__ import annotations

import heapq
from typing import Final

BUCKET_SHIFT: Final = 17
"""Times of one bucket share all but the lowest bits: 131 ms."""
NEVER: Final = 2**63


class _Bucket:
    __slots__ = ("earliest", "pairs")

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], int] = {}
        self.earliest = NEVER  # no pair is due before


class ExpiryWheel:
    """``earliest``: nothing is due before this time, so that looking costs one comparison."""

    __slots__ = ("_buckets", "_numbers", "earliest")

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}
        self._numbers: list[int] = []  # a heap of the buckets' numbers
        self.earliest = NEVER

    def add(self, namespace: str, key: str, expires_at: int) -> None:
        number = expires_at >> BUCKET_SHIFT
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = _Bucket()
            heapq.heappush(self._numbers, number)
        bucket.pairs[namespace, key] = expires_at
        bucket.earliest = min(bucket.earliest, expires_at)
        self.earliest = min(self.earliest, expires_at)

    def discard(self, namespace: str, key: str, expires_at: int) -> None:
        bucket = self._buckets.get(expires_at >> BUCKET_SHIFT)
        if bucket is not None:
            bucket.pairs.pop((namespace, key), None)

    def take_due(self, now: int, limit: int) -> list[tuple[str, str, int]]:
        """At most ``limit`` pairs (namespace, key, expires_at) due at ``now``; they leave the wheel."""
        due: list[tuple[str, str, int]] = []
        while self._numbers and len(due) < limit:
            bucket = self._buckets[self._numbers[0]]
            if bucket.pairs and bucket.earliest > now:
                break
            self._take(bucket, now, limit, due)
            if bucket.pairs:
                break
            del self._buckets[heapq.heappop(self._numbers)]
        self.earliest = self._buckets[self._numbers[0]].earliest if self._numbers else NEVER
        return due

    @staticmethod
    def _take(bucket: _Bucket, now: int, limit: int, due: list[tuple[str, str, int]]) -> None:
        taken: list[tuple[str, str]] = []
        earliest = NEVER
        for (namespace, key), expires_at in bucket.pairs.items():
            if expires_at > now:
                earliest = min(earliest, expires_at)
            elif len(due) < limit:
                due.append((namespace, key, expires_at))
                taken.append((namespace, key))
            else:
                earliest = min(earliest, expires_at)
                break
        else:
            bucket.earliest = earliest
        for pair in taken:
            del bucket.pairs[pair]
