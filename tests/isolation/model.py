"""The whole server as dictionaries: what every statement must answer, and what is there afterwards.

Pairs are copied whole at every BEGIN, so there is nothing to be clever about. A transaction keeps what it read and what
it is to write; at its end the reads say whether it conflicts, and the writes are carried out on what is there then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

SECOND = 1_000_000
Now = Callable[[], int]


class Pair(NamedTuple):
    value: int
    version: int
    created: int
    updated: int
    expires: int | None
    comment: str | None
    revision: int


class Put(NamedTuple):
    value: int
    expires: int | None
    anew: bool
    """The transaction had seen the key go: whatever was there, this pair is new."""


Space = dict[str, Pair]
Writes = dict[str, dict[str, Put | None]]


class Failed(Exception):
    """The statement is refused with this SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Model:
    """Namespaces with their default TTL (seconds) and pairs, those that are over included until ``expire``."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.spaces: dict[str, Space] = {}
        self.ttl: dict[str, int | None] = {}
        self.born: dict[str, int] = {}
        self.changed: dict[str, dict[str, int]] = {}
        """By namespace and key: the number of the commit that last changed it, removal and expiry included."""
        self.commits = 0

    def create(self, space: str, ttl: int | None) -> None:
        """A namespace anew, after another of the name was dropped."""
        self.commits += 1
        for key in self.spaces.get(space, {}):
            self.changed[space][key] = self.commits
        self.spaces[space], self.ttl[space], self.born[space] = {}, ttl, self.commits
        self.changed.setdefault(space, {})

    def expire(self) -> None:
        """Drop what is over; a commit of its own."""
        self.commits += 1
        for space, pairs in self.spaces.items():
            for key in [key for key, pair in pairs.items() if over(pair.expires, self.now())]:
                del pairs[key]
                self.changed[space][key] = self.commits

    def live(self) -> dict[str, Space]:
        now = self.now()
        return {
            space: {key: pair for key, pair in pairs.items() if not over(pair.expires, now)}
            for space, pairs in self.spaces.items()
        }

    def begin(self) -> Transaction:
        """What is over by now is no change to who begins now."""
        self.expire()
        return Transaction(self)


def over(expires: int | None, now: int) -> bool:
    return expires is not None and expires <= now


class Transaction:
    """BEGIN … COMMIT, or a statement of its own."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.time = model.now()
        self.commits = model.commits
        self.base = model.live()
        self.writes: Writes = {}
        self.cleared: set[str] = set()
        self.comment: str | None = None
        self.keys_read: set[tuple[str, str]] = set()
        self.ranges_read: set[tuple[str, str]] = set()
        """(namespace, prefix)"""
        self.spaces_used: set[str] = set()
        self.savepoints: list[tuple[str, Any]] = []

    # ── what it sees ──────────────────────────────────────────────────────────────────────────────────────────

    def _own(self, space: str, key: str) -> tuple[bool, Pair | None]:
        if key in self.writes.get(space, {}):
            return True, self._pending(space, key)
        return space in self.cleared, None

    def _pending(self, space: str, key: str) -> Pair | None:
        put = self.writes[space][key]
        if put is None or over(put.expires, self.time):
            return None
        before = None if put.anew or space in self.cleared else self.base[space].get(key)
        version, created = (1, self.time) if before is None else (before.version + 1, before.created)
        return Pair(put.value, version, created, self.time, put.expires, self.comment, 0)

    def get(self, space: str, key: str) -> Pair | None:
        decided, own = self._own(space, key)
        if decided:
            return own
        self.keys_read.add((space, key))
        return self.base[space].get(key)

    def scan(self, space: str, prefix: str = "") -> Space:
        self.ranges_read.add((space, prefix))
        keys = self.base[space].keys() | self.writes.get(space, {}).keys()
        seen = {}
        for key in sorted(keys):
            decided, own = self._own(space, key)
            pair = own if decided else self.base[space].get(key)
            if pair is not None and key.startswith(prefix):
                seen[key] = pair
        return seen

    # ── what it does ──────────────────────────────────────────────────────────────────────────────────────────

    def put(self, space: str, key: str, value: int, expires: int | None) -> None:
        own = self.writes.setdefault(space, {})
        before = own.get(key, Put(0, None, False))
        own[key] = Put(value, expires, before is None or before.anew or over(before.expires, self.time))

    def delete(self, space: str, key: str) -> None:
        self.writes.setdefault(space, {})[key] = None

    def clear(self, space: str) -> None:
        self.writes.pop(space, None)
        self.cleared.add(space)

    def state(self) -> Any:
        return {s: dict(own) for s, own in self.writes.items()}, set(self.cleared), self.comment

    def restore(self, state: Any) -> None:
        writes, cleared, self.comment = state
        self.writes, self.cleared = {s: dict(own) for s, own in writes.items()}, set(cleared)

    # ── its end ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def writes_something(self) -> bool:
        return bool(any(self.writes.values()) or self.cleared)

    def conflicts(self) -> bool:
        """Whether something that it read has changed; a transaction that writes nothing never minds."""
        model = self.model
        model.expire()
        if not self.writes_something:
            return False
        return (
            any(model.born[space] > self.commits for space in self.spaces_used)
            or any(model.changed[space].get(key, 0) > self.commits for space, key in self.keys_read)
            or any(
                number > self.commits and key.startswith(prefix)
                for space, prefix in self.ranges_read
                for key, number in model.changed[space].items()
            )
        )

    def commit(self, revision: int) -> None:
        """Carry out the writes on what is there now."""
        model = self.model
        model.expire()
        model.commits += 1
        for space in self.cleared:
            for key in model.spaces[space]:
                model.changed[space][key] = model.commits
            model.spaces[space].clear()
        for space, own in self.writes.items():
            pairs = model.spaces[space]
            for key, put in own.items():
                old = pairs.get(key)
                if put is None:
                    if pairs.pop(key, None) is not None:
                        model.changed[space][key] = model.commits
                    continue
                model.changed[space][key] = model.commits
                now = model.now()
                version, created = (1, now) if old is None or put.anew else (old.version + 1, old.created)
                pairs[key] = Pair(put.value, version, created, now, put.expires, self.comment, revision)
