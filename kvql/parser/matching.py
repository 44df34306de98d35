"""Matches that cannot fail, typed as such.

``re`` says of every match that it may be None, also where the pattern takes the empty text, or where the scanner has
seen already what is matched again.
"""

from __future__ import annotations

import re
from typing import Protocol, cast


class Total(Protocol):
    """``re.Pattern.match`` of a pattern that matches anywhere, if only the empty text."""

    def __call__(self, text: str, at: int = 0, /) -> re.Match[str]: ...


def total(pattern: str) -> Total:
    """The ``match`` of ``pattern`` itself, at no cost to a call; ``ValueError`` if the pattern can fail."""
    match = re.compile(pattern).match
    if match("") is None:
        raise ValueError(f"it does not match the empty text: {pattern}")
    return cast(Total, match)


def known(match: re.Match[str] | None) -> re.Match[str]:
    """``match``, where whoever calls has seen to it that there is one."""
    assert match is not None
    return match
