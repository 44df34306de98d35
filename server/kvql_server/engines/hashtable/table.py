"""One namespace: a hash table from keys to entries, the keys in order, and what is known of those that went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvql_server.engines.base import Order, Page
from kvql_server.engines.hashtable.entries import Entry, Tombstone, part, visible
from kvql_server.engines.hashtable.order import KeyOrder
from kvql_server.engines.journal import Journal

REMOVED_MAX: Final = 10_000
"""Removed keys that are remembered at least; more while open snapshots are older than the removal."""
HOLDS_KEYS: Final = 16
REVISION_MAX: Final = 2**63
ALWAYS: Final = -(2**63)
"""As a time of reading: nothing is over before its expiry is a commit."""


class Table:
    """TRUNCATE and DROP start a new table and leave the old one as ``older``, for the snapshots that see it."""

    __slots__ = (
        "born",
        "changed",
        "entries",
        "expiring",
        "forgotten",
        "holders",
        "journal",
        "kinds",
        "name",
        "older",
        "order",
        "removed",
        "replaced",
        "tombstones",
    )

    def __init__(self, name: str, born: int, journal: Journal, older: Table | None = None) -> None:
        self.name = name
        self.journal = journal
        self.born = born
        """The revision of the first commit that this table shows."""
        self.older = older
        """Where readers of revisions before ``born`` look."""
        self.replaced = False
        """There is a newer table: from then on no key leaves ``entries`` before they crumble, because a checkpoint goes
        through them bit by bit."""
        self.holders = 0
        """Who still needs this table once it is replaced: the snapshots that see it, and the journal."""
        self.entries: dict[str, Entry] = {}
        self.order = KeyOrder(self.entries)
        self.changed = born
        """The revision of the last change of any pair."""
        self.tombstones = 0
        self.expiring = 0
        """Pairs that have an ``expires_at``."""
        self.removed: dict[str, int] = {}
        """The revision at which a key last went, oldest first."""
        self.forgotten = born
        """Removals up to this revision may not stand in ``removed``."""
        self.kinds: set[type] = set()
        """The types that values have, and some that they had; only ever more of them."""

    @property
    def live(self) -> int:
        """Pairs in the newest state, those that are due to expire included."""
        return len(self.entries) - self.tombstones

    def live_pairs(self) -> Iterator[tuple[str, Entry]]:
        """Keys and their newest states."""
        return ((key, entry) for key, entry in self.entries.items() if type(entry) is not Tombstone)

    def entry_before(self, key: str, revision: int) -> Entry | None:
        """The key's state if it is older than ``revision``."""
        entry = self.entries.get(key)
        return None if entry is None or type(entry) is Tombstone or entry.revision >= revision else entry

    def at(self, revision: int) -> Table | None:
        """The table that a snapshot of ``revision`` reads."""
        table: Table | None = self
        while table is not None and table.born > revision:
            table = table.older
        return table

    def is_plain(self, revision: int) -> bool:
        """Whether every entry is what a snapshot of ``revision`` sees, so that none need be looked at."""
        return self.changed <= revision and not self.tombstones and not self.expiring

    def remember_removal(self, key: str, revision: int, oldest_open: int) -> None:
        removed = self.removed
        removed.pop(key, None)
        removed[key] = revision
        while len(removed) > REMOVED_MAX:
            first = next(iter(removed))
            if removed[first] > oldest_open:
                break
            self.forgotten = removed.pop(first)

    # ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pairs(self, keys: list[str], revision: int, time: int) -> Page:
        """Those of ``keys`` that a snapshot sees, with their entries."""
        page = Page(keys, list(map(self.entries.get, keys)))
        if self.is_plain(revision) and all(page.entries):
            return page
        return seen(page, revision, time)

    def page(
        self, start: str, end: str | None, order: Order, limit: int, revision: int, time: int
    ) -> tuple[Page, str | None]:
        """The next pairs in key order (or reverse), and where to go on: the next ``start`` (``end``), None at the
        end."""
        if order == "reverse":
            keys = self.order.page_reverse(start, end, limit)
            following = keys[-1] if keys else None
        else:
            keys = self.order.page(start, end, limit)
            following = keys[-1] + "\0" if keys else None
        return self.pairs(keys, revision, time), following

    def holds(self, start: str, end: str | None) -> bool:
        """Whether there is a pair in [start, end), in its newest state and whether or not it is due to expire."""
        following: str | None = start
        while following is not None:
            page, following = self.page(following, end, "key", HOLDS_KEYS, REVISION_MAX, ALWAYS)
            if len(page):
                return True
        return False

    def count(self, revision: int, time: int) -> int:
        if self.is_plain(revision):
            return len(self.entries)
        if self.changed <= revision and not self.expiring:
            return self.live
        return sum(visible(entry, revision, time) is not None for entry in self.entries.values())

    def crumble(self, limit: int) -> bool:
        """Free at most ``limit`` entries of a table that nobody reads any more; true if there are more."""
        for _ in range(min(limit, len(self.entries))):
            part(self.entries.popitem()[1])
        return bool(self.entries)


def seen(page: Page, revision: int, time: int) -> Page:
    """The pairs of ``page`` that a snapshot sees, in the states that it sees."""
    states = [visible(entry, revision, time) for entry in page.entries]
    if all(states):
        return Page(page.keys, states)
    if not page.keys:
        return Page((), [state for state in states if state is not None])
    return Page.of((key, state) for key, state in zip(page.keys, states, strict=True) if state is not None)
