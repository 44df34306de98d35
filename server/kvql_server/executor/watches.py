"""The watches of an executor: how many there are, and what they have from each other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from kvql import errors
from kvql.errors import Error
from kvql_server.catalog import Namespace
from kvql_server.executor import events, retention
from kvql_server.settings import Settings

if TYPE_CHECKING:
    from kvql_server.executor.watcher import Watcher

_SHARED_MAX: Final = 1_024
"""Changes that may be kept for others."""
_CONDITIONS_MAX: Final = 16
"""Conditions for which the events of the same changes are kept."""
_SHARED_S: Final = 0.05
"""What one watch has read of the store's history is there for so long for others that stand at the same place."""

_TOLD_S: Final = 0.000_4
_LOOKED_S: Final = 0.000_1
"""For each watch of a namespace, all of them rest so long when one has told something, or has looked in vain: the first
takes the server about 0.1 ms and the second 0.02 ms, so watches leave it most of its time, however many they are."""
_REST_MIN_S: Final = 0.002
"""Less is not worth waiting for: few watches are told everything at once."""
_REST_MAX_S: Final = 0.25
_KEPT_MIN_US: Final = 10_000_000
_KEPT_MIN_BYTES: Final = 16 << 20
"""Of the history of a namespace whose watches may rest: with less, what happens meanwhile could be gone by then."""


def may_rest(record: Namespace) -> bool:
    """Whether the namespace keeps enough of its past for that."""
    keep_us, bytes_max = retention.of(record)
    return keep_us >= _KEPT_MIN_US and bytes_max >= _KEPT_MIN_BYTES


class Batch:
    """Changes that one watch has read of the history, for all who stand at the same place, and the events that they
    are: for all who ask for the same besides. Whoever watches a namespace may see all of it."""

    __slots__ = ("_rows", "shared", "told")

    def __init__(self, told: Sequence[events.Told]) -> None:
        self.told = told
        self.shared = False
        """Whether others can find it."""
        self._rows: dict[tuple[int, bytes, int], events.Rows] = {}

    def rows(self, since: int, asked: bytes, at: int) -> events.Rows | None:
        """The events of the changes from ``at`` on, if another watch of this namespace has made them."""
        return self._rows.get((since, asked, at))

    def keep(self, since: int, asked: bytes, at: int, rows: list[events.Row]) -> list[events.Row]:
        """The same, in the form in which others find them."""
        if len(self._rows) >= _CONDITIONS_MAX:
            return rows
        kept = self._rows[since, asked, at] = events.Rows(rows)
        return kept


class Watches:
    """Those of an executor that run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[Watcher] = set()
        self._of_user: Counter[str] = Counter()
        self._of_group: Counter[int] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._batches: dict[tuple[str, int], Batch] = {}

    # what was read of the history: most of those who watch a namespace stand at the same place of it

    def batch(self, place: tuple[str, int]) -> Batch | None:
        """The changes after this revision of this namespace, if another watch has read them just now."""
        return self._batches.get(place)

    def keep(self, place: tuple[str, int], batch: Batch) -> None:
        if len(self._running) > 1 and 0 < len(batch.told) <= _SHARED_MAX:
            self._batches[place] = batch
            batch.shared = True
            asyncio.get_running_loop().call_later(_SHARED_S, self._batches.pop, place, None)

    def rest_until(self, namespace: str, *, told: bool) -> float:
        """When a watch that has looked at all that there is looks again, in the time of ``time.monotonic``; it is the
        same moment for all, so that they stand at the same place then and share what they tell."""
        rest_s = min((_TOLD_S if told else _LOOKED_S) * self._of_namespace[namespace], _REST_MAX_S)
        return 0.0 if rest_s < _REST_MIN_S else (time.monotonic() // rest_s + 1) * rest_s

    # how many there are

    def check(self, user: str, group: object) -> None:
        """53400 if there may be no more."""
        settings = self._settings
        if len(self._running) >= settings.watches_max:
            raise errors.error(errors.LIMIT, f"the server has at most {settings.watches_max:,} watches")
        if self._of_user[user] >= settings.watches_per_user_max:
            raise errors.error(errors.LIMIT, f"a user has at most {settings.watches_per_user_max:,} watches")
        if self._of_group[id(group)] >= settings.watches_per_session_max:
            raise errors.error(errors.LIMIT, f"a session has at most {settings.watches_per_session_max:,} watches")

    def enter(self, watcher: Watcher) -> None:
        self._running.add(watcher)
        self._of_user[watcher.user] += 1
        self._of_group[id(watcher.group)] += 1
        self._of_namespace[watcher.namespace] += 1

    def leave(self, watcher: Watcher) -> None:
        self._running.discard(watcher)
        _one_less(self._of_user, watcher.user)
        _one_less(self._of_group, id(watcher.group))
        _one_less(self._of_namespace, watcher.namespace)

    def end_all(self, error: Error) -> None:
        for watcher in list(self._running):
            watcher.end(errors.error(error.sqlstate, error.message, hint=error.hint))

    def __len__(self) -> int:
        return len(self._running)


_T = TypeVar("_T")


def _one_less(counter: Counter[_T], one: _T) -> None:
    counter[one] -= 1
    if not counter[one]:
        del counter[one]
