"""Where something stands in a source text.

Offsets count code points from 0, ``end`` exclusive, so ``text[span.start:span.end]`` is the piece that the span names.
"""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """A half-open range of code points in a statement's source text."""

    start: int
    end: int

    def shift(self, offset: int) -> Span:
        """The same range in a text that has ``offset`` more code points in front."""
        return Span(self.start + offset, self.end + offset)


class Position(NamedTuple):
    """A place for people: both numbers count from 1, columns in code points."""

    line: int
    column: int


def position(text: str, offset: int) -> Position:
    """The line and column at which ``offset`` stands in ``text``."""
    line_start = text.rfind("\n", 0, offset) + 1
    return Position(text.count("\n", 0, offset) + 1, offset - line_start + 1)
