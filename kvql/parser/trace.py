"""The same walk as the loop's, slowly and without building anything: what the lexer saw, and what could come next.

Errors, highlighting, completion and the recording of shapes need the tokens and the parser's stack; none of them is on
the way of a statement that is simply carried out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvql import errors
from kvql.parser.loop import RECIPES, STACK_MAX
from kvql.parser.matching import total
from kvql.parser.tables import (
    END,
    END_STATE,
    GOTOS,
    JSON,
    JSON_OPEN,
    KEYWORDS,
    NOTIONS,
    ROWS,
    SKIP,
    START_STATE,
    scanner,
)
from kvql.values import Json

_skip: Final = total(SKIP)


class Seen(NamedTuple):
    """One token."""

    term: int
    start: int
    end: int
    scanned_in: int
    """The state whose scanner found it."""
    shifted_to: int


class Trace(NamedTuple):
    """How far a statement was understood."""

    tokens: list[Seen]
    stack: list[int]
    """The parser's states when it met what it refused (or the end)."""
    before: list[int]
    """The states before the last token that it took."""
    at: int
    """Where the refused token starts, past white space and comments; the end of the statement if it is complete."""
    term: int | None
    """What the scanner took the refused token for; None if for nothing."""
    complete: bool
    next: int
    """Behind the ``;``, if complete."""


def skip(text: str, at: int) -> int:
    """Past white space and comments."""
    return _skip(text, at).end()


def trace(text: str, at: int, end: int | None = None) -> Trace:
    """Walk the statement at ``at``; ``end`` cuts the text off there."""
    stop = len(text) if end is None else end
    tokens: list[Seen] = []
    stack = [START_STATE]
    before = stack
    while True:
        state = stack[-1]
        scan = scanner(state)
        m = scan.match(text, at, stop)
        if m is None:
            return Trace(tokens, stack, before, min(skip(text, at), stop), None, False, at)
        group = m.lastindex or 0
        term: int | None = scan.terms[group]
        if term == -1:
            word = m[group]
            term = scan.words.get(word.upper(), scan.name) if word.isascii() else scan.name
        after = None if term is None else feed(stack, term)
        start, at = m.span(group)
        if after is None or len(after) * 3 > STACK_MAX:
            return Trace(tokens, stack, before, start, term, False, at)
        if term == END:
            return Trace(tokens, stack, before, start, END, True, at)
        assert term is not None
        before = stack
        if after[-1] in JSON_OPEN and text[start] in "[{":
            whole = _json_end(text[:stop] if stop < len(text) else text, start)
            if whole is not None:
                at = whole
                after.append(JSON_OPEN[after[-1]])
        tokens.append(Seen(term, start, at, state, after[-1]))
        stack = after


def _json_end(text: str, start: int) -> int | None:
    """Where the JSON literal ends, if a JSON decoder can read it; the loop then takes it as one token, too."""
    try:
        return Json.scan(text, start)[1]
    except (ValueError, errors.Error):
        return None


def feed(stack: list[int], term: int) -> list[int] | None:
    """The stack after ``term``; None if it cannot stand there. For the end: the stack as it is."""
    states = list(stack)
    while True:
        action = ROWS[states[-1]].get(term)
        if action is None:
            return None
        if action >= 0:
            states.append(action - JSON if action >= JSON else action)
            return states
        shifted, cells, _, _ = RECIPES[~action]
        if cells:
            del states[-(cells // 3) :]
        states.append(GOTOS[states[-1]][shifted >> 10])
        if term == END and states[-1] == END_STATE:
            return states


def acceptable(stack: list[int]) -> list[int]:
    """The terminals that may stand next, exactly: a row also holds what other contexts of its state would take."""
    return [term for term in ROWS[stack[-1]] if feed(stack, term) is not None]


def shifting_state(stack: list[int], term: int) -> int:
    """The state that would shift ``term``, after the reductions that it causes."""
    states = list(stack)
    while True:
        action = ROWS[states[-1]][term]
        if action >= 0:
            return states[-1]
        shifted, cells, _, _ = RECIPES[~action]
        if cells:
            del states[-(cells // 3) :]
        states.append(GOTOS[states[-1]][shifted >> 10])
        if term == END and states[-1] == END_STATE:
            return states[-1]


class Possible(NamedTuple):
    """What may stand next, in words."""

    keywords: list[str]
    notions: list[str]
    """Outermost first: "key", "value", "namespace", "expression", …"""
    others: list[int]
    """Punctuation and operators."""
    end: bool


def possible(stack: list[int]) -> Possible:
    """What may stand next: notions swallow the keywords and marks that merely start one of them."""
    keywords: list[str] = []
    notions: dict[str, None] = {}
    others: list[int] = []
    end = False
    for term in acceptable(stack):
        if term == END:
            end = True
            continue
        goto = GOTOS[shifting_state(stack, term)]
        found = [n for n, symbols, firsts in NOTIONS if term in firsts and any(s in goto for s in symbols)]
        if found:
            notions[found[0]] = None
        if term in KEYWORDS:
            keywords.append(KEYWORDS[term])
        elif not found:
            others.append(term)
    order = {n: i for i, (n, _, _) in enumerate(NOTIONS)}
    return Possible(sorted(set(keywords)), sorted(notions, key=order.__getitem__), others, end)
