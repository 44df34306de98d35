"""What is on its way of a text that is sent ahead: which statement an answer belongs to, and where that one stands.

A run of ``PUT k v;`` is on its way as columns. As long as it goes well it has an answer for as many statements as a
message held, and nobody needs their texts; where one fails, its text and its place are looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kvql import ast, errors
from kvql.errors import Error
from kvql.result import Result
from kvql_shell.interrupt import Interrupt
from kvql_shell.places import Places

if TYPE_CHECKING:
    from kvql.parser import Columns

_Read = tuple[int, ast.Statement | None, str, Error | None]
"""Offset in the text, the statement or None, its own text, the error or None."""


class Answered(NamedTuple):
    """What an answer belongs to: ``size`` statements of which the first stands at ``start``.

    Of statements out of columns there is no tree, and a source only if one failed.
    """

    start: int
    statement: ast.Statement | None
    source: str
    size: int = 1


def statements(places: Places) -> Iterator[_Read]:
    """Each statement of a text; one that is no UTF-8 ends in an error like any other."""
    for item in _read(places, columnar=False):
        assert isinstance(item, tuple)
        yield item


def _read(places: Places, *, columnar: bool) -> Iterator[_Read | Columns]:
    from kvql.parser import Parsed, read_columns, read_statements

    end = 0
    try:
        for item in read_columns(places) if columnar else read_statements(places):
            end = item.span.end
            yield (item.span.start, item.statement, item.text, item.error) if isinstance(item, Parsed) else item
    except Error as e:
        yield end, None, "", e


class Flight:
    """Feeds a text to ``run_many`` and keeps, in order, what was sent and what was refused.

    ``columnar``: take runs as columns, for a script that ends at its first error.
    """

    def __init__(self, places: Places, interrupt: Interrupt, *, carry_on: bool, columnar: bool) -> None:
        self._places = places
        self._carry_on = carry_on
        self._columnar = columnar
        self._interrupt = interrupt
        self._sent: deque[tuple[int, ast.Statement, str] | Columns] = deque()
        self._done = 0
        """Statements of the oldest, if it is columns, that are answered."""
        self.refused: deque[tuple[int, Error, str]] = deque()

    def __iter__(self) -> Iterator[tuple[ast.Statement, str] | Columns]:
        for item in _read(self._places, columnar=self._columnar):
            if self._interrupt.count:
                return
            if not isinstance(item, tuple):
                self._sent.append(item)
                yield item
                continue
            start, statement, source, error = item
            if statement is None:
                self.refused.append((start, error or errors.error(errors.INTERNAL, "a statement is missing"), source))
                if not self._carry_on:
                    return
                continue
            self._sent.append((start, statement, source))
            yield statement, source

    def answered(self, result: Result | Error) -> Answered:
        """What the next answer belongs to. After an error there is none for columns any more."""
        oldest = self._sent[0]
        if isinstance(oldest, tuple):
            self._sent.popleft()
            return Answered(*oldest)
        if isinstance(result, Error):
            return self.oldest()
        self._done += result.completed
        if self._done >= len(oldest):
            self._sent.popleft()
            self._done = 0
        return Answered(oldest.start, None, "", result.completed)

    def oldest(self) -> Answered:
        """The first statement that is not answered yet."""
        if not self._sent:
            return Answered(0, None, "")
        oldest = self._sent[0]
        if isinstance(oldest, tuple):
            return Answered(*oldest)
        span, source = oldest.statement(self._done)
        return Answered(span.start, None, source)
