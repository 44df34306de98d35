"""Statement by statement: parse a text, or read a stream of any size in bounded memory.

The loop itself finds where a statement ends. Only after an error somebody else must: the next statement starts behind
the next ``;`` that stands neither in quotes nor in a comment. So one mistake is one error, and what follows it counts.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple

from kvql import errors
from kvql.ast import Statement
from kvql.errors import Error
from kvql.parser import checks, columns, shapes
from kvql.parser.columns import Columns
from kvql.parser.explain import explain
from kvql.parser.loop import Refused
from kvql.parser.matching import total
from kvql.parser.tables import BETWEEN, SKIP, STRING
from kvql.parser.trace import acceptable, trace
from kvql.span import Span

STATEMENT_MAX: Final = 4 * 1024 * 1024
"""Bytes of one statement."""


class Parsed(NamedTuple):
    """One statement of a script, or why it is none."""

    statement: Statement | None
    error: Error | None
    span: Span
    """Where it stands in the whole script."""
    text: str
    """Its own text, without the ``;``. The spans of its nodes and of its error count from here."""


_blank: Final = total(BETWEEN)
# In a text that goes on: a comment to the end of the line is only over where the line is.
_blank_lines: Final = total(r"(?:[\s;]++|--[^\n]*+\n|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/)*+")
_closed: Final = re.compile(rf"{SKIP};").match
_LEADING_MARK: Final = "\ufeff"

# One piece of a text that holds no `;` of its own: a quoted text, a comment, a run of anything else. A quote in a word
# (it's) opens nothing: there the mistake is the quote, and the next statement should not pay for it. Behind a word
# that is a token by itself (GET'a') it does, and only the loop can tell; see ``extent``.
_PIECE: Final = re.compile(
    r"""[^;'"/\-eE\w]++
    | (?:(?<!\w)[eE])'[^'\\]*+(?:(?:\\[\s\S]|'')[^'\\]*+)*+'
    | (?<!\w)'[^']*+'
    | (?<!\w)[xX]'[^']*+'
    | "[^"\\]*+(?:\\.[^"\\]*+)*+"
    | --[^\n]*+
    | /\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/
    | (?P<open>(?<!\w)[eExX]?'|"|/\*)
    | (?P<glued>\w++')
    | \w++
    | [^;]""",
    re.VERBOSE,
)


class _Split(NamedTuple):
    end: int
    """Of the statement: where its ``;`` is, or the end of the text."""
    closed: bool
    """Is there a ``;``?"""
    open_at: int
    """Where a quote or comment starts that never ends; -1 for none."""
    glued: bool
    """Is there a quote right behind a word?"""


def extent(text: str, at: int) -> _Split:
    """The end of the statement at ``at``, which the loop has refused or not seen: by its tokens as far as the loop
    understands them, and by quotes and comments alone from there."""
    split = _split(text, at)
    if not split.glued:
        return split
    seen = trace(text, at)
    behind = seen.tokens[-1].end if seen.tokens else at
    if text[seen.at : seen.at + 1] == "'" and STRING in acceptable(seen.stack):
        return _Split(len(text), False, seen.at, True)  # a text may stand here, and this one was not taken: it goes on
    return _split(text, behind)


def _split(text: str, at: int) -> _Split:
    """The end of the statement at ``at`` by its quotes and comments alone."""
    opened, glued = -1, False
    while at < len(text):
        m = _PIECE.match(text, at)
        if m is None:
            return _Split(at, True, opened, glued)
        if m["open"] and opened < 0:
            opened = at
        glued = glued or m["glued"] is not None
        at = m.end()
    return _Split(at, False, opened, glued)


def parse(text: str) -> tuple[Statement, ...]:
    """All statements of ``text``; spans count in ``text``. Raises the first error, with its span and source.

    ``?`` is counted over the whole text: the second statement's first one follows the first statement's last.
    """
    found: list[Statement] = []
    at = _start(text)
    places = 0
    while at < len(text):
        try:
            node, first, end, at_next, tokens = shapes.run(text, at, False, places)
            _check(node, text, first, end, tokens)
        except Refused:
            raise explain(text, at).at(None, text) from None
        except Error as e:
            raise e.at(Span(at, _split(text, at).end), text) from None
        found.append(node)
        if "?" in text:
            places = checks.places(node, places)
        at = _blank(text, at_next).end()
    return tuple(found)


def parse_script(text: str) -> Iterator[Parsed]:
    """Each statement of ``text`` by itself; goes on after an error at the next statement."""
    return read_statements((text,))


def _start(text: str) -> int:
    at = 1 if text.startswith(_LEADING_MARK) else 0
    return _blank(text, at).end()


def _check(node: Any, text: str, start: int, end: int, tokens: int) -> None:
    """What a grammar cannot say: length, nesting, where subqueries may stand."""
    if end - start > STATEMENT_MAX // 4 and len(text[start:end].encode(errors="replace")) > STATEMENT_MAX:
        raise too_long(start)
    if tokens > 100:
        checks.nesting(node, text, start)
    if checks.SUBQUERY(text, start, end):
        checks.subqueries(node)


def too_long(start: int) -> Error:
    """54001 for a statement above the limit."""
    return errors.error(
        errors.TOO_COMPLEX,
        f"a statement is at most {STATEMENT_MAX // (1024 * 1024)} MiB long",
        hint="split it, or pass its data as parameters",
        span=Span(start, start + 1),
    )


def read_statements(stream: Iterable[str]) -> Iterator[Parsed]:
    """Each statement of a text that comes in pieces of any size, with memory for the longest statement only.

    Raises nothing of its own: an error is an item, and what ``stream`` raises passes through.
    """
    return _Reader(iter(stream)).read()  # type: ignore[return-value]  # no columns unless they are asked for


def read_columns(stream: Iterable[str]) -> Iterator[Parsed | Columns]:
    """As ``read_statements``, but runs of ``PUT k v;`` (or UPSERT) come as columns, some thousand at once."""
    return _Reader(iter(stream), columnar=True).read()


class _Reader:
    """The text that is here but not yet parsed, and how much was before it."""

    def __init__(self, stream: Iterator[str], *, columnar: bool = False) -> None:
        self._stream = stream
        self._firsts = columns.FIRST if columnar else {}
        self._window = columns.WINDOW_MIN
        self._text = ""
        self._at = 0
        self._offset = 0
        self._ended = False

    def read(self) -> Iterator[Parsed | Columns]:
        while self._more() and not self._text:
            pass
        if self._text.startswith(_LEADING_MARK):
            self._at = 1
        run, blank, firsts = shapes.run, _blank, self._firsts
        while True:
            text, before = self._text, self._at
            at = blank(text, before).end()
            # the loop's fast way: as long as whole statements are here, nothing but parsing happens
            while text.find(";", at) >= 0:
                if text[at] in firsts and (taken := self._columns(at)) is not None:
                    yield taken
                    before = taken.end
                    at = blank(text, before).end()
                    continue
                try:
                    node, start, end, following, tokens = run(text, at, True, 0)
                    if following >= len(text) and not _closed(text, end):
                        break
                    if tokens > 20 or end - start > 100 or text.find("(", start, end) >= 0:
                        _check(node, text[start:end], 0, end - start, tokens)
                except (Refused, Error):
                    break
                span = tuple.__new__(Span, (start + self._offset, end + self._offset))
                yield tuple.__new__(Parsed, (node, None, span, text[start:end]))
                before = following
                at = blank(text, before).end()
            self._at = self._start(before)
            done = yield from self._slow()
            if done:
                return

    def _columns(self, at: int) -> Columns | None:
        """The run of pairs at ``at``; looks the further ahead, the longer the one before was."""
        taken = columns.take(self._text, at, self._offset, self._window)
        if taken is not None and 2 * (taken.end - at) > self._window:
            self._window = min(8 * self._window, columns.WINDOW_MAX)
        elif taken is None or len(self._text) - taken.end > columns.WINDOW_MIN:  # and not just the end of the piece
            self._window = columns.WINDOW_MIN
        return taken

    def _start(self, at: int) -> int:
        """Where the next statement starts, or a comment that is not all here."""
        found = _blank(self._text, at) if self._ended else _blank_lines(self._text, at)
        return found.end()

    def _more(self) -> bool:
        """Fetch text, at least as much as is waiting, so that a long statement is not tried again for each piece."""
        if self._ended:
            return False
        pieces = [self._text[self._at :]]
        self._offset += self._at
        self._at = 0
        fetched, wanted = 0, max(len(pieces[0]), 1)
        while fetched < wanted:
            piece = next(self._stream, None)
            if piece is None:
                self._ended = True
                break
            pieces.append(piece)
            fetched += len(piece)
        self._text = "".join(pieces)
        return fetched > 0

    def _slow(self) -> Generator[Parsed, None, bool]:
        """One statement that the fast way did not take: the last one, one that is not all here, or a wrong one."""
        start = self._start(self._at)
        split = extent(self._text, start)
        # an open quote may hold the `;` that was found: only more text can tell, and only the loop where it ends
        if (not split.closed or split.open_at >= 0) and not self._ended and len(self._text) - start <= STATEMENT_MAX:
            self._at = start
            self._more()
            return False
        if not split.closed and not self._ended:
            yield from self._skip_too_long(start)
            return False
        if start >= len(self._text):
            return True
        self._at = min(split.end + 1, len(self._text))
        own = self._text[start : split.end].rstrip()
        where = Span(start + self._offset, start + self._offset + len(own))
        yield _one(own, where)
        return self._ended and self._at >= len(self._text)

    def _skip_too_long(self, start: int) -> Iterator[Parsed]:
        """Give the error once, and drop what comes until a ``;`` without keeping it."""
        began = start + self._offset
        head = self._text[start : start + 200]
        while True:
            split = _split(self._text, start)
            if split.closed or self._ended:
                self._at = min(split.end + 1, len(self._text))
                break
            self._at = max(start, len(self._text) - 2)
            self._more()
            start = 0
        span = Span(began, self._offset + self._at)
        yield Parsed(None, too_long(0).at(None, head), span, head)


def _one(text: str, where: Span) -> Parsed:
    """A statement whose text is cut out already."""
    try:
        node, start, end, following, tokens = shapes.run(text, 0, False, 0)
        _check(node, text, start, end, tokens)
        if following < len(text):
            # the parser sees a `;` where the splitter saw a quoted one: a quote is at fault
            raise Refused
        return Parsed(node, None, Span(where.start, where.start + end), text[:end])
    except Refused:
        error = explain(text, 0)
    except Error as e:
        error = e
    return Parsed(None, error.at(Span(0, len(text)), text), where, text)
