"""What travels in one message of a pipeline, and which outcome belongs to which of its statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from kvql import ast
from kvql.client.lane import located
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.transport import Exchange

if TYPE_CHECKING:
    from kvql.parser import Columns

Outcome = tuple[int, Result | Error]
"""The index of a statement, and what became of it. Of columns that went well the first has the outcome of as many
statements as ``Result.completed`` says."""


class Stretch(NamedTuple):
    """``size`` statements of one pair each: of ``columns`` those from ``start`` on, or rows of ``executemany``."""

    size: int
    columns: Columns | None = None
    start: int = 0


@dataclass(slots=True)
class Message:
    """One request in flight: ``size`` statements from the statement ``first`` on.

    ``parts`` are their texts, where known, in order; a stretch stands for as many as it has. ``sizes`` are the pairs of
    each statement of a run that is given one by one; None if the request is one statement and no run.
    """

    first: int
    size: int
    statement: ast.Statement
    parts: Sequence[str | Stretch | None]
    sizes: Sequence[int] | None = None
    exchange: Exchange | None = None

    @property
    def sent(self) -> Exchange:
        """The exchange of a message that is in flight."""
        assert self.exchange is not None
        return self.exchange

    def outcomes(self, end: int, revision: int = 0) -> list[Outcome]:
        """Those of the statements of a run before the place ``end``, all of which went well."""
        sizes = self.sizes
        assert sizes is not None
        shared = {size: Result(row_count=size, revision=revision) for size in set(sizes)}
        made: list[Outcome] = []
        for place, count, part in self._places():
            if place >= end:
                break
            if type(part) is Stretch:
                done = min(count, end - place)
                made.append((self.first + place, Result(row_count=done, completed=done, revision=revision)))
            else:
                made.append((self.first + place, shared[sizes[place]]))
        return made

    def all_outcomes(self, result: Result) -> list[Outcome]:
        """Those of all statements of a run that was carried out; ``result`` tells which of them failed."""
        made = self.outcomes(self.size, result.revision)
        for error in result.errors:
            # a run that goes on after errors has no stretches
            place = error.statement or 0
            made[place] = (self.first + place, self.blamed(place, error))
        first = next((i for i, (_, outcome) in enumerate(made) if isinstance(outcome, Result)), None)
        if result.notices and first is not None:
            index, outcome = made[first]
            assert isinstance(outcome, Result)
            made[first] = (index, replace(outcome, notices=result.notices))
        return made

    def blamed(self, place: int, error: Error) -> Error:
        """``error`` as that of the statement at ``place``."""
        error.statement = self.first + place
        for start, count, part in self._places():
            if place < start + count:
                return located(error, _text(part, place - start))
        return error

    def _places(self) -> Iterator[tuple[int, int, str | Stretch | None]]:
        """(place of its first statement, statements, part) of each part."""
        place = 0
        for part in self.parts:
            count = part.size if type(part) is Stretch else 1
            yield place, count, part
            place += count


def _text(part: str | Stretch | None, place: int) -> str | None:
    if not isinstance(part, Stretch):
        return part
    return None if part.columns is None else part.columns.statement(part.start + place)[1]


@dataclass(slots=True)
class Tally:
    """What became of many sets of parameters: the pairs changed, the first error, how many failed."""

    row_count: int = 0
    failed: int = 0
    error: Error | None = None
    notices: list[Notice] = field(default_factory=list)

    def blame(self, error: Error, index: int) -> None:
        if error.skipped:
            return
        self.failed += 1
        error.statement = index
        # a row that could not even be sent is known before those that were sent ahead of it are answered
        if self.error is None or index < (self.error.statement or 0):
            self.error = error

    def told(self) -> Error:
        """The first error, whose message says which set of parameters it was."""
        error = self.error
        assert error is not None
        more = f", the first of {self.failed:,} that failed" if self.failed > 1 else ""
        error.message += f", at rows[{error.statement}]{more}"
        return error
