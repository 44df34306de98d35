"""What a transaction is to write, with the way back to an earlier moment of it.

Savepoints are marks under a name, and DRY RUN goes back to a mark when it is done. As long as there is a mark, a log
keeps what each write replaced: setting a mark costs nothing, going back to one as much as was written since. The log is
bounded by what bounds the writes, because those that are replaced count as well.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvql import errors
from kvql_server.engines.base import Clear, Delete, Put, Write

_ENTRY_BYTES: Final = 100
"""What a pair costs in the write set beside its value: a round figure for the limit."""


class PutAnew(Put, frozen=True, gc=False, array_like=True):
    """A put of a key that its transaction had deleted, or let expire, before: whatever was there, this pair is new."""


class Mark(NamedTuple):
    """A write set at one moment: how long the log was then, and what goes along with the writes."""

    place: int
    write_count: int
    write_bytes: int
    comment: str


class _Replaced(NamedTuple):
    """What a write took the place of: the write of the same key, if there was one."""

    namespace: str
    key: str
    write: Put | Delete | None


class _Swept(NamedTuple):
    """What a ``clear`` took away: the writes of its namespace, and whether that was cleared before."""

    namespace: str
    own: dict[str, Put | Delete]
    cleared: bool


class Before(NamedTuple):
    """The writes of a namespace at an earlier moment: those in ``own``, unless ``replaced`` knows better."""

    own: dict[str, Put | Delete]
    replaced: dict[str, Put | Delete | None]
    cleared: bool

    def write(self, key: str) -> Put | Delete | None:
        return self.replaced[key] if key in self.replaced else self.own.get(key)


class WriteSet:
    """The writes of one transaction by namespace and key, the last one of each.

    ``cleared``: namespaces whose pairs all go before the writes are applied. ``comment`` is kept with the changes.
    """

    __slots__ = (
        "_bytes", "_count", "_log", "_marks", "_savepoints", "bytes_max", "cleared", "comment", "savepoints_max",
        "writes", "writes_max",
    )  # fmt: skip

    def __init__(self) -> None:
        self.writes: dict[str, dict[str, Put | Delete]] = {}
        self.cleared: set[str] = set()
        self.comment = ""
        self._count = 0
        self._bytes = 0
        self._log: list[_Replaced | _Swept] = []
        self._marks = 0
        self._savepoints: list[tuple[str, Mark]] = []
        self.writes_max = 2**62
        self.bytes_max = 2**62
        self.savepoints_max = 2**62

    def __bool__(self) -> bool:
        return bool(self.writes or self.cleared)

    def of(self, namespace: str) -> dict[str, Put | Delete]:
        return self.writes.get(namespace, {})

    def add(self, write: Put | Delete, value_bytes: int) -> None:
        self._take(value_bytes + _ENTRY_BYTES + len(write.key))
        own = self.writes.setdefault(write.namespace, {})
        if self._marks:
            self._log.append(_Replaced(write.namespace, write.key, own.get(write.key)))
        own[write.key] = write

    def clear(self, namespace: str) -> None:
        """Every pair of the namespace goes, those written before included."""
        self._take(_ENTRY_BYTES)
        own = self.writes.pop(namespace, {})
        if self._marks:
            self._log.append(_Swept(namespace, own, namespace in self.cleared))
        self.cleared.add(namespace)

    def _take(self, size: int) -> None:
        self._count += 1
        self._bytes += size
        if self._count > self.writes_max:
            raise errors.error(errors.LIMIT, f"a transaction has at most {self.writes_max:,} writes")
        if self._bytes > self.bytes_max:
            raise errors.error(errors.LIMIT, f"the writes of a transaction have at most {self.bytes_max:,} bytes")

    def all(self) -> list[Write]:
        """In an order that gives what was meant, in the words of engines."""
        out: list[Write] = [Clear(namespace) for namespace in self.cleared]
        for own in self.writes.values():
            if PutAnew not in set(map(type, own.values())):
                out += own.values()
                continue
            for key, write in own.items():
                if isinstance(write, PutAnew):
                    # the engine sees the old pair go, and so counts and dates the new one from here on
                    out += (Delete(write.namespace, key), Put(write.namespace, key, write.value, write.expires_at))
                else:
                    out.append(write)
        return out

    def forget_all(self) -> None:
        """Nothing is to be written any more."""
        self.writes.clear()
        self.cleared.clear()
        self._savepoints.clear()
        self._log.clear()
        self._marks = 0

    # ── going back ────────────────────────────────────────────────────────────────────────────────────────────

    def mark(self) -> Mark:
        """The moment, to come back to any number of times; ``forget`` it when it is not needed any more."""
        self._marks += 1
        return Mark(len(self._log), self._count, self._bytes, self.comment)

    def back_to(self, mark: Mark) -> None:
        """Undo what was written since ``mark``, which stays."""
        while len(self._log) > mark.place:
            self._undo(self._log.pop())
        self._count, self._bytes, self.comment = mark.write_count, mark.write_bytes, mark.comment

    def _undo(self, last: _Replaced | _Swept) -> None:
        if isinstance(last, _Swept):
            own = self.writes[last.namespace] = last.own
            if not last.cleared:
                self.cleared.discard(last.namespace)
        else:
            own = self.writes[last.namespace]
            if last.write is None:
                del own[last.key]
            else:
                own[last.key] = last.write
        if not own:
            del self.writes[last.namespace]

    def forget(self) -> None:
        """One mark less: that which was set last."""
        self._marks -= 1
        if not self._marks:
            self._log.clear()

    def before(self, namespace: str, mark: Mark) -> Before:
        """The writes of the namespace as they were at ``mark``; ``own`` is today's if it was not cleared since."""
        own, cleared = self.of(namespace), namespace in self.cleared
        replaced: dict[str, Put | Delete | None] = {}
        for place in range(len(self._log) - 1, mark.place - 1, -1):
            last = self._log[place]
            if last.namespace != namespace:
                continue
            if isinstance(last, _Replaced):
                replaced[last.key] = last.write
            else:  # what was written after it says nothing of the time before it
                own, replaced, cleared = last.own, {}, last.cleared
        return Before(own, replaced, cleared)

    # ── savepoints ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_savepoints(self) -> bool:
        return bool(self._savepoints)

    def savepoint(self, name: str) -> None:
        """A mark under a name, in any case; it hides an earlier one of the same name."""
        if len(self._savepoints) >= self.savepoints_max:
            raise errors.error(
                errors.LIMIT, f"a transaction has at most {self.savepoints_max:,} savepoints",
                hint="RELEASE those that are not needed any more",
            )  # fmt: skip
        self._savepoints.append((name.lower(), self.mark()))

    def back_to_savepoint(self, name: str) -> None:
        """Undo what was written since the savepoint; it stays, later ones are forgotten."""
        place = self._place_of(name)
        self._forget_savepoints(place + 1)
        self.back_to(self._savepoints[place][1])

    def release(self, name: str) -> None:
        """Forget the savepoint and later ones; what was written stays."""
        self._forget_savepoints(self._place_of(name))

    def _place_of(self, name: str) -> int:
        """Of the newest savepoint of this name; 3B001 if there is none."""
        wanted = name.lower()
        for place in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[place][0] == wanted:
                return place
        raise errors.error(errors.NO_SUCH_SAVEPOINT, f'savepoint "{name}" does not exist')

    def _forget_savepoints(self, first: int) -> None:
        while len(self._savepoints) > first:
            self._savepoints.pop()
            self.forget()
