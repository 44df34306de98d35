"""Names in messages: which one was meant, and no more of them than a person would read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SHOWN_MAX: Final = 130
"""Characters of a name in a message: two of the longest that may be declared."""
_LISTED_MAX: Final = 30


def short(name: str) -> str:
    """A name for a message: whoever sends one of megabytes need not get it back."""
    return name if len(name) <= _SHOWN_MAX else name[: _SHOWN_MAX - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """Names for a hint, not more than a person would read."""
    return ", ".join([*names[:_LISTED_MAX], *(["…"] if len(names) > _LISTED_MAX else [])])


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that ``name`` is most likely a slip of."""
    from difflib import get_close_matches  # here: most programs name everything rightly, and start sooner without it

    lower = {k.lower(): k for k in reversed(known)}
    found = get_close_matches(name.lower()[:100], list(lower), 1, 0.6)
    return lower[found[0]] if found else None
