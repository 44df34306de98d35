"""What the tables hold for a pair, as small as Python allows.

``gc=False`` keeps a million of them out of the garbage collector's sight (a dict of them is not even tracked). A pair
that was put once needs three fields; what the others have is a constant or follows from the commit. Only a pair that
was changed, or that expires, pays for the rest; only one that a snapshot still sees in an older state has a chain.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Meta(msgspec.Struct, frozen=True, gc=False):
    """What all pairs of a commit share, and neighbouring commits of a batch too."""

    time: int
    user: str
    comment: str


class Entry(msgspec.Struct, gc=False):
    """A pair in its first state: :class:`kvql_server.engines.base.Entry`. Never changed once it is in a table."""

    value: Any
    revision: int
    meta: Meta

    version: ClassVar[Any] = 1
    expires_at: ClassVar[Any] = None
    previous: ClassVar[Any] = None

    @property
    def created_at(self) -> int:
        return self.meta.time

    @property
    def updated_at(self) -> int:
        return self.meta.time

    @property
    def updated_by(self) -> str:
        return self.meta.user

    @property
    def comment(self) -> str:
        return self.meta.comment


class ChangedEntry(Entry, gc=False):
    """A pair that was changed since it was created, or that expires.

    ``previous`` is its older state (or a :class:`Tombstone`) while an open snapshot may see it; trimming sets it to
    None.
    """

    version: int  # type: ignore[misc]  # msgspec lets a subclass turn a class variable into a field
    created_at: int
    expires_at: int | None  # type: ignore[misc]  # msgspec lets a subclass turn a class variable into a field
    previous: Entry | None  # type: ignore[misc]  # msgspec lets a subclass turn a class variable into a field


class Tombstone(Entry, gc=False):
    """A pair that is gone, kept while an open snapshot may see an older state of it."""

    previous: Entry | None  # type: ignore[misc]  # msgspec lets a subclass turn a class variable into a field


def part(entry: Entry) -> None:
    """Cut off the older states behind ``entry``, link by link: what is freed as one long chain is freed by recursion
    in C, which has an end."""
    while isinstance(entry, ChangedEntry | Tombstone) and entry.previous is not None:
        behind, entry.previous = entry.previous, None
        entry = behind


def visible(entry: Entry | None, revision: int, time: int) -> Entry | None:
    """The state in the chain of ``entry`` that a snapshot of ``revision`` at ``time`` sees; None if absent or
    expired."""
    while entry is not None and entry.revision > revision:
        entry = entry.previous
    if entry is None or type(entry) is Entry:
        return entry
    if type(entry) is Tombstone or (entry.expires_at is not None and entry.expires_at <= time):
        return None
    return entry
