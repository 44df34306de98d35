"""Statements from text that is not typed at a prompt: ``-c``, ``-f``, standard input and ``kvql run``.

One statement after the other is read, carried out and answered, so a text may be of any size. A file is *pipelined*:
the statements after one are on their way before its answer is here. Either way the outcome is the same: by default the
first error ends it, nothing after the error is carried out, and everything before it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kvql import ast, errors
from kvql.errors import Error
from kvql.result import Result
from kvql_shell import exits
from kvql_shell.exits import Misuse
from kvql_shell.flight import Flight, statements
from kvql_shell.interrupt import Interrupt
from kvql_shell.output import Output
from kvql_shell.places import Places
from kvql_shell.progress import Progress

if TYPE_CHECKING:
    from kvql.client import Client

ROLLED_BACK: Final = "the open transaction is rolled back"
"""What the end of the program does to a transaction that is still open then."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text to run; ``name`` is what errors call it, None for one that is before the user's eyes anyway.

    ``position`` tells how many bytes have been read, where that means something.
    """

    chunks: Iterator[str]
    name: str | None = None
    pipelined: bool = False
    position: Callable[[], int] | None = None


@dataclass(slots=True)
class Outcome:
    """What has happened so far. ``code`` is the exit code of the first error."""

    done: int = 0
    failed: int = 0
    code: int = exits.FINE
    ended: bool = False


@dataclass(slots=True)
class Runner:
    """Runs texts on a client until an error ends it (``carry_on``: none but a lost connection)."""

    client: Client
    output: Output
    parameters: Mapping[str, Any] = field(default_factory=dict)
    carry_on: bool = False
    progress: Progress | None = None
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, text: Text) -> Outcome:
        """Carry out one text; its errors are printed, counted and never raised."""
        places = Places(text.chunks)
        if self.progress is not None:
            self.progress.position = text.position
        with Interrupt(self.client.cancel) as interrupt:
            run = self._pipelined if text.pipelined else self._one_by_one
            run(text, places, interrupt)
        if interrupt.count:
            self.outcome.code, self.outcome.ended = exits.INTERRUPTED, True
        self.output.out.flush()
        return self.outcome

    # ── one by one ────────────────────────────────────────────────────────────────────────────────────────────────

    def _one_by_one(self, text: Text, places: Places, interrupt: Interrupt) -> None:
        for start, statement, source, failure in statements(places):
            try:
                if failure is not None:
                    raise failure
                assert statement is not None
                result = self._result(statement, source, interrupt)
                self._answer(statement, result, interrupt)
                self.output.out.flush()
            except Error as e:
                self._failed(e, text, places, start, source)
            if self.outcome.ended or interrupt.count:
                return

    def _result(self, statement: ast.Statement, source: str, interrupt: Interrupt) -> Result:
        with self.client.shield:  # from here on it takes note of a Ctrl-C, also where there is nothing to stop yet
            if interrupt.count:
                raise errors.cancelled()
            return self.client.run(statement, self.parameters or None, source=source)

    # ── pipelined ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _pipelined(self, text: Text, places: Places, interrupt: Interrupt) -> None:
        # where each statement is told, or errors are, each has an answer of its own
        columnar = not self.carry_on and not self.output.tells_writes
        flight = Flight(places, interrupt, carry_on=self.carry_on, columnar=columnar)
        cut = False
        """Whether Ctrl-C has been told of: what it stopped in flight is one event, not an error for each."""
        results = self.client.run_many(flight, parameters=self.parameters or None, carry_on=self.carry_on)
        try:
            for _, result in results:
                start, statement, source, size = flight.answered(result)
                self._refused(flight, text, places, before=start)
                if self.outcome.ended:
                    return
                if isinstance(result, Error):
                    if not cut:
                        self._failed(result, text, places, start, source)
                        cut = bool(interrupt.count) and result.sqlstate == errors.CANCELLED
                elif cut:
                    self.outcome.done += size
                else:
                    try:
                        self._answer(statement, result, interrupt, size)
                    except Error as e:
                        # the rows of one that was carried out, and those behind it may have been: they count
                        cut = bool(interrupt.count)
                        self._failed(e, text, places, start, source)
                        self.outcome.done += size if cut else 0
                        self.outcome.ended &= not cut
                if self.outcome.ended:
                    return
                places.release(start)
        except Error as e:  # the connection itself
            waiting = flight.oldest()
            self._failed(e, text, places, waiting.start, waiting.source)
            return
        self._refused(flight, text, places, before=None)

    def _refused(self, flight: Flight, text: Text, places: Places, before: int | None) -> None:
        """Tell the syntax errors that stand before the statement just answered, in the order of the text."""
        while flight.refused and (before is None or flight.refused[0][0] < before):
            start, error, source = flight.refused.popleft()
            self._failed(error, text, places, start, source)

    # ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, statement: ast.Statement | None, result: Result, interrupt: Interrupt, size: int = 1) -> None:
        """Tell what a statement did, or ``size`` of them."""
        if isinstance(statement, ast.Watch):
            if self.progress is not None:
                self.progress.clear()
            self.output.events(result, lambda: interrupt.count)
            return
        if result.columns is not None or result.notices or self.output.messages:
            if self.progress is not None:
                self.progress.clear()
            self.output.result(statement, result, interrupt.watch)
        self.outcome.done += size
        if self.progress is not None:
            self.progress.step(size)

    def _failed(self, error: Error, text: Text, places: Places, start: int, source: str) -> None:
        outcome = self.outcome
        if error.skipped:
            return
        outcome.failed += 1
        outcome.code = outcome.code or exits.code(error)
        if self.progress is not None:
            self.progress.clear()
        error.at(None, source or None)
        self.output.error(error, text.name, places.at(start) if text.name is not None else None)
        if not self.carry_on or exits.code(error) == exits.CONNECTION:
            outcome.ended = True


def chunks_of(text: str) -> Iterator[str]:
    """A text that is here already."""
    return iter((text,))


def summary(outcome: Outcome, elapsed_s: float | None = None) -> str:
    """What a script did, exactly; with ``elapsed_s`` for people who wait."""
    done = f"{outcome.done} statement{'' if outcome.done == 1 else 's'}"
    if outcome.ended and outcome.failed <= 1:
        return f"{done} before it {'was' if outcome.done == 1 else 'were'} carried out"
    text = f"{done} carried out"
    if outcome.failed:
        text += f", {outcome.failed} failed"
    if elapsed_s is not None and not outcome.ended:
        text += f" in {elapsed_s:.1f} s ({outcome.done / max(elapsed_s, 1e-9):,.0f}/s)"
    return text


def parameters_of(settings: Iterable[str]) -> dict[str, Any]:
    """``--set name=value``: typed as a bare word of PUT is, or the text in single quotes."""
    from kvql.values import bare_value

    out: dict[str, Any] = {}
    for setting in settings:
        name, equals, word = setting.partition("=")
        if not equals or not name.isidentifier():
            raise Misuse(f"--set {setting!r} is not name=value")
        if len(word) >= 2 and word[0] == word[-1] == "'":
            out[name] = word[1:-1].replace("''", "'")
        else:
            out[name] = bare_value(word) if word else ""
    return out
