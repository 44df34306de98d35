"""LIKE without regular expressions, in time linear in the text whatever the pattern.

A pattern is a row of pieces between its ``%`` signs. Pieces are found from left to right, each as early as it can be,
which is always right because ``%`` takes whatever lies between. A piece without ``_`` is found by ``str.find``; one
with ``_`` by the shift-and method (Baeza-Yates & Gonnet, 1992), whose state is one integer with a bit a place.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from kvql import errors

_Piece: TypeAlias = tuple[str | None, ...]
"""Characters; None stands for ``_``."""

ESCAPE: Final = "\\"


class Like:
    """A compiled pattern. ``prefix`` is what every match starts with; ``exact`` is the only match, if there is one."""

    def __init__(self, pattern: str, escape: str = ESCAPE, *, insensitive: bool = False) -> None:
        if len(escape) > 1:
            raise errors.error(
                errors.INVALID, "invalid escape string", hint="ESCAPE takes one character, or '' for none"
            )
        pieces = _split(pattern.lower() if insensitive else pattern, escape)
        self._insensitive = insensitive
        self._first, self._last = pieces[0], pieces[-1]
        self._single = len(pieces) == 1
        self._middle = [_Finder(piece) for piece in pieces[1:-1] if piece]
        first = self._first
        plain = first.index(None) if None in first else len(first)
        self.prefix = "" if insensitive else "".join(c for c in first[:plain] if c is not None)
        self.exact = self.prefix if self._single and plain == len(first) and not insensitive else None
        self._length_min = sum(map(len, pieces))

    def matches(self, text: str) -> bool:
        if self._insensitive:
            text = text.lower()
        if self._single:
            return len(text) == len(self._first) and _at(self._first, text, 0)
        if len(text) < self._length_min:
            return False
        end = len(text) - len(self._last)
        if not _at(self._first, text, 0) or not _at(self._last, text, end):
            return False
        at = len(self._first)
        for finder in self._middle:
            at = finder.find_end(text, at, end)
            if at < 0:
                return False
        return True


def _split(pattern: str, escape: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    piece: list[str | None] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            escaped = next(characters, None)
            if escaped is None:
                raise errors.error(errors.INVALID, "a LIKE pattern cannot end with its escape character")
            piece.append(escaped)
        elif character == "%":
            pieces.append(tuple(piece))
            piece = []
        else:
            piece.append(None if character == "_" else character)
    pieces.append(tuple(piece))
    return pieces


def _at(piece: _Piece, text: str, at: int) -> bool:
    if None not in piece:
        return text.startswith("".join(piece), at)  # type: ignore[arg-type]  # no None is in it
    return all(c is None or c == text[at + i] for i, c in enumerate(piece))


class _Finder:
    """Finds one piece in a text."""

    def __init__(self, piece: _Piece) -> None:
        self._length = len(piece)
        self._text = "".join(piece) if None not in piece else None  # type: ignore[arg-type]  # as above
        if self._text is None:
            any_character = sum(1 << i for i, c in enumerate(piece) if c is None)
            self._masks = {
                character: any_character | sum(1 << i for i, c in enumerate(piece) if c == character)
                for character in set(piece) - {None}
            }
            self._any = any_character
            self._found = 1 << (len(piece) - 1)

    def find_end(self, text: str, start: int, end: int) -> int:
        """Where the first occurrence in text[start:end] ends; -1 if there is none."""
        if self._text is not None:
            at = text.find(self._text, start, end)
            return -1 if at < 0 else at + self._length
        state = 0
        masks, other, found = self._masks, self._any, self._found
        for at in range(start, end):
            state = ((state << 1) | 1) & masks.get(text[at], other)
            if state & found:
                return at + 1
        return -1
