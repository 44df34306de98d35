r"""A run of ``PUT k v;`` taken at once: a column of keys, a column of values, and no tree.

What matches the expression here is read exactly as the loop reads it, for the same reason as with a shape: token by
token nothing that a scanner would have tried first can stand there. A bare word starts with none of ``'``, ``?`` and
``:``, and ``e'`` and ``x'`` hold a quote, so no literal of another kind comes before it; the one keyword that may stand
where a value does, TIMESTAMP, is the bare word itself if ``;`` follows; and ``;`` ends the statement, which leaves no
room for anything else. The expression never looks past its ``;``. What does not match is left to the loop.

A piece of text is split by it in one call. A last alternative takes whatever is left where a statement does not match,
so each match starts where the one before it ended.

Most scripts that a program wrote are plainer still: no quotes, comments or brackets, words with blanks between them.
There ``str.split`` finds what the expression would, in half of the time (``_words``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from kvql.ast import Put, Upsert
from kvql.parser.matching import known, total
from kvql.parser.tables import BETWEEN
from kvql.span import Span
from kvql.values import bare_values

WINDOW_MAX: Final = 1 << 16
"""Characters that are looked at in one go."""
WINDOW_MIN: Final = 1 << 9
"""The same where statements of other kinds stand in between: what is looked at in vain costs time."""

Kind = type[Put] | type[Upsert]

_BREAKS: Final = r"\s;,'\"()\[\]{}"
_NO_WORDS: Final = (*",'\"()[]{}", "--", "/*")
"""Where none of these is, an ASCII text falls into bare words, ``;`` and blanks. See ``_BREAKS`` and ``_BARE``."""
_WORDS: Final = 4
"""A statement is as many: the keyword, the key, the value and the ``;``."""
_BARE: Final = (
    rf"(?![?:])(?=[^{_BREAKS}])[^{_BREAKS}\-/]*+(?:(?:-(?!-)|/(?!\*))[^{_BREAKS}\-/]*+)*+"  # no -- and no /* in it
)
_QUOTED: Final = r"[^']*+(?:''[^']*+)*+"
_blank: Final = total(BETWEEN)
_PARAMETER: Final = re.compile(r"[\s;][?:]").search

_BARE_KEY, _QUOTED_KEY, _BARE_VALUE, _QUOTED_VALUE, _REST = range(1, 6)
_GROUPS: Final = 6
"""What a split gives for each match: the text before it, which is empty, and the five groups."""


class _Form(NamedTuple):
    kind: Kind
    match: Callable[..., re.Match[str] | None]
    """One statement and what stands before it."""
    split: Callable[[str], list[Any]]
    """A piece of text into as many as there are, and the rest."""


@cache
def _form(keyword: str) -> _Form:
    # not IGNORECASE: it takes ſ for an S
    letters = "".join(f"[{c}{c.lower()}]" for c in keyword)
    pair = rf"(?:({_BARE})\s|'({_QUOTED})')\s*+(?:({_BARE})|'({_QUOTED})')"
    one = rf"{BETWEEN}{letters}(?!\w)\s*+{pair}\s*+;"
    return _Form(_KINDS[keyword], re.compile(one).match, re.compile(rf"{one}|([\s\S]+)").split)


_KINDS: Final[dict[str, Kind]] = {"PUT": Put, "UPSERT": Upsert}
FIRST: Final = {"P": "PUT", "p": "PUT", "U": "UPSERT", "u": "UPSERT"}
"""The letters that a run may start with, and what with."""


class Columns:
    """Statements of one kind and of one pair each, without TTL and comment, one behind the other in a script.

    Their texts are looked for only when somebody asks.
    """

    __slots__ = ("_at", "_offset", "_text", "end", "keys", "kind", "values")

    def __init__(
        self, kind: Kind, keys: list[str], values: list[Any], text: str, at: int, end: int, offset: int
    ) -> None:
        self.kind = kind
        self.keys = keys
        self.values = values
        self.end = end
        """Behind the last ``;``, in the text that they were taken from."""
        self._text = text
        self._at = at
        self._offset = offset

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def start(self) -> int:
        """Where the first statement stands in the whole script."""
        return self._offset + self._at

    @property
    def span(self) -> Span:
        """From the start of the first statement to the end of the last, in the whole script."""
        last = len(self._text[self._at : self.end - 1].rstrip())
        return Span(self._offset + self._at, self._offset + self._at + last)

    def statement(self, place: int) -> tuple[Span, str]:
        """Where a statement stands in the whole script, and its text, without the ``;``."""
        text, at = self._text, self._at
        match = _form(FIRST[text[at]]).match
        for _ in range(place):
            at = known(match(text, at)).end()
        start = _blank(text, at).end()
        own = text[start : known(match(text, at)).end() - 1].rstrip()
        return Span(self._offset + start, self._offset + start + len(own)), own


def take(text: str, at: int, offset: int, window: int) -> Columns | None:
    """The run that starts at ``at``, as far as it goes within ``window`` characters; None if there is none.

    ``text[at]`` is one of ``FIRST``; ``offset`` is what was before ``text`` in the script.
    """
    form = _form(FIRST[text[at]])
    if form.match(text, at) is None:
        return None
    piece = text[at : at + window]
    found = _words(piece) or _splits(piece, form)
    if found is None:
        return None
    keys, values, length = found
    if not piece.isascii() and not _is_unicode(piece[:length]):
        return None
    return Columns(form.kind, keys, values, text, at, at + length, offset)


_Found = tuple[list[str], list[Any], int]
"""Keys, values, and how far the last statement reaches."""


def _words(piece: str) -> _Found | None:
    """The pairs of a piece in which nothing but the blanks and ``;`` separates; None where more has to be looked at.

    The first statement is known to be one; the others are if they have its keyword and its number of words.
    """
    if not piece.isascii() or any(mark in piece for mark in _NO_WORDS):
        return None
    length = piece.rfind(";") + 1
    words = piece[:length].replace(";", " ; ").split()
    count = piece.count(";")
    if not count or len(words) != _WORDS * count or words[3::_WORDS].count(";") != count:
        return None
    if words[::_WORDS].count(words[0]) != count:
        return None
    keys, values = words[1::_WORDS], words[2::_WORDS]
    if (":" in piece or "?" in piece) and _PARAMETER(piece):
        return None
    return keys, bare_values(values), length


def _splits(piece: str, form: _Form) -> _Found | None:
    """The pairs that the expression finds."""
    parts = form.split(piece)
    left = parts[-2]
    if left is not None:
        if len(parts) <= _GROUPS + 1:
            return None
        del parts[-_GROUPS - 1 : -1]
    keys = _column(parts[_BARE_KEY::_GROUPS], parts[_QUOTED_KEY::_GROUPS], list)
    values = _column(parts[_BARE_VALUE::_GROUPS], parts[_QUOTED_VALUE::_GROUPS], bare_values)
    return keys, values, len(piece) - len(left or "")


def _column(bare: list[str | None], quoted: list[str | None], read: Callable[[Any], list[Any]]) -> list[Any]:
    """One column of two, each of which has None where the other has a text; ``read`` gives bare words their meaning."""
    if None not in bare:
        return read(bare)
    texts = [t.replace("''", "'") if t is not None and "'" in t else t for t in quoted]
    if None not in texts:
        return texts
    words = iter(read([word for word in bare if word is not None]))
    return [next(words) if text is None else text for text in texts]


def _is_unicode(text: str) -> bool:
    """No lone surrogates: the loop says which statement holds one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
