"""The loop: text to AST in one pass over the tables.

One regular expression a token, no token objects, one flat stack of (state, value, start), and a builder called for each
rule that means something, with the values of its children and the place of its text. Runs of rules that only pass a
value on (an expression has twelve levels of precedence, of which most say nothing) are jumped over by a memo.

Nothing here describes an error: a text that is refused raises :class:`Refused`, and ``trace`` walks it again, slowly,
to find out what could have stood there.
"""

from __future__ import annotations

from typing import Any, Final

from kvql import errors
from kvql.parser import build
from kvql.parser.tables import (
    END,
    END_STATE,
    GOTOS,
    JSON,
    JSON_OPEN,
    KEPT,
    ROWS,
    RULES,
    SCANNERS,
    START_STATE,
    scanner,
)
from kvql.span import Span

STACK_MAX: Final = 3_000
"""Cells of the parser's stack; far above what a hundred levels of nesting take, far below what takes memory."""


class Refused(Exception):
    """The text is no statement. Never leaves the parser: ``explain`` says why."""


BUILD, PASS, NONE, LIST, MORE = range(5)
_MODES: Final = {"+pass": PASS, "+none": NONE, "+list": LIST, "+more": MORE}

Recipe = tuple[int, int, int, Any]
"""Of a rule: its symbol (shifted by 10, see ``_jumps``), its cells of the stack, what to do, and what that needs."""


def _recipe(symbol: int, size: int, what: str, kept: tuple[int, ...]) -> Recipe:
    mode = _MODES.get(what, BUILD)
    extra: Any = None
    if mode == BUILD:
        extra = build.BUILDERS[what]
    elif mode == PASS:
        extra = 3 * (kept[0] - size) + 1
    elif mode in (LIST, MORE):
        extra = tuple(3 * (k - size) + 1 for k in kept)
    return symbol << 10, 3 * size, mode, extra


RECIPES: Final[list[Recipe]] = [_recipe(*rule) for rule in RULES]
_passes: Final = [r[2] == PASS and r[1] == 3 for r in RECIPES]
_jumps: Final[list[dict[int, int]]] = [{} for _ in ROWS]
"""state below -> symbol and terminal (``symbol << 10 | term``) -> state; filled as statements come."""


def _jump(below: int, symbol: int, term: int) -> int:
    """The state after ``symbol`` upon ``below``, past all rules of one symbol that only hand a value on."""
    state = GOTOS[below][symbol >> 10]
    while True:
        action = ROWS[state].get(term, 0)
        if action >= 0 or not _passes[~action]:
            break
        state = GOTOS[below][RECIPES[~action][0] >> 10]
    _jumps[below][symbol | term] = state
    return state


def run(text: str, at: int, relative: bool, places: int) -> tuple[Any, int, int, int, int]:
    """One statement from ``at`` on: (node, start, end, where the next one starts, tokens).

    Spans count from the start of ``text``, or from the statement's own first character if ``relative``. ``places`` is
    the number of ``?`` before. An empty statement is ``None``. The next statement starts after the ``;``.
    """
    scanners, recipes, jumps, kept, rows = SCANNERS, RECIPES, _jumps, KEPT, ROWS
    state = START_STATE
    stack: list[Any] = [START_STATE, None, at]
    base = last = tokens = 0
    first = -1
    while True:
        match, terms, words, name, row = scanners[state] or scanner(state)
        m = match(text, at)
        if m is None:
            raise Refused
        group: int = m.lastindex  # type: ignore[assignment]  # each alternative is a group
        term: Any = terms[group]
        if term == -1:
            word = m[group]
            term = words.get(word.upper(), name)
            if term != name and not word.isascii():
                term = name
            if term is None:
                raise Refused
        action = row[term]
        while action < 0:
            symbol, size, mode, extra = recipes[~action]
            if mode == BUILD:
                values = stack[1 - size :: 3]
                start = stack[2 - size]
                del stack[-size:]
                value = extra(values, start, last)
            elif mode == NONE:
                value, start = None, last
            elif mode == PASS:
                value = stack[extra]
                start = stack[2 - size]
                del stack[-size:]
            else:
                start = stack[2 - size]
                if mode == LIST:
                    value = [stack[i] for i in extra]
                else:
                    value = stack[1 - size]
                    value += [stack[i] for i in extra]
                del stack[-size:]
            below = stack[-3]
            known = jumps[below].get(symbol | term)
            state = _jump(below, symbol, term) if known is None else known
            if term == END and state == END_STATE:
                return value, first, base + last, m.end(), tokens
            stack += (state, value, start)
            action = rows[state].get(term)  # type: ignore[assignment]  # None goes no further
            if action is None:
                raise Refused
        start, at = m.span(group)
        if first < 0:
            first = start
            if relative:
                base = start
        tokens += 1
        keep = kept[term]
        start -= base
        if action >= JSON:
            action -= JSON
            read = build.read_json(text, at - 1, start)
            if read is not None:
                # as if the literal had been an empty one: its builder hands the value on
                stack += (action, None, start)
                action, (value, at) = JSON_OPEN[action], read
                start = at - 1 - base
            else:
                value = None
        elif keep == 1:
            value = m[group]
        elif keep:
            value = m[group]
            if value == "?":
                value = places
                places += 1
        else:
            value = None
        state = action
        last = at - base
        stack += (state, value, start)
        if len(stack) > STACK_MAX:
            raise too_deep(Span(start, last))


def too_deep(span: Span | None) -> errors.Error:
    """54001 for nesting."""
    return errors.error(
        errors.TOO_COMPLEX,
        "the statement is nested too deeply",
        hint="at most 100 levels of brackets, NOT and CASE",
        span=span,
    )
