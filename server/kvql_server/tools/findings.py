"""What looking at a store found, and what a start would do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Effect(enum.Enum):
    """What a start would do about damage."""

    CUT = "a start cuts it off"
    REFUSED = "a start refuses"
    UNSEEN = "a start does not see it"


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage: which file, where in it (None: as a whole), why."""

    file: str
    offset: int | None
    reason: str
    effect: Effect

    def __str__(self) -> str:
        place = self.file if self.offset is None else f"{self.file}, offset {self.offset}"
        return f"{place}: {self.reason}; {self.effect.value}"


@dataclass(frozen=True, slots=True)
class FileLine:
    """One file of the store in a few figures."""

    file: str
    size: int
    what: str


def revisions(first: int | None, last: int | None) -> str:
    """``revision 5``, ``revisions 5 to 9``, or that there are none."""
    if first is None or last is None:
        return "no commits"
    return f"revision {first}" if first == last else f"revisions {first} to {last}"


def count(number: int, what: str) -> str:
    """``1 record``, ``2,000 records``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
