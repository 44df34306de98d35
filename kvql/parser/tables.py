"""The generated LALR tables in the form in which the loop walks them: actions, gotos, and a scanner for each state.

A state's scanner is one regular expression: what is ignored, then the terminals that the state knows, in the order in
which Lark's contextual lexer would try them, then the end of the statement. Keywords that end as SQL words do are not
alternatives of it: one alternative takes the whole word and a dictionary says which keyword it is, if any (the longest
run of word characters is the keyword, or no keyword matches here at all). Scanners are compiled when first used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kvql._gen import tables as _gen

TERMINALS: Final[tuple[tuple[str, str], ...]] = _gen.TERMINALS
NAMES: Final = [name for name, _ in TERMINALS]
KEYWORDS: Final[dict[int, str]] = _gen.KEYWORDS
NOTIONS: Final = _gen.NOTIONS
SYMBOLS: Final = _gen.SYMBOLS
RULES: Final = _gen.RULES
END: Final = len(TERMINALS)
END_STATE: Final = _gen.END_STATE
START_STATE: Final = 0
JSON_OPEN: Final[dict[int, int]] = _gen.JSON_OPEN
JSON: Final = 1 << 20
"""Added to the target of a shift that opens a JSON literal."""

_IDS: Final = {name: i for i, name in enumerate(NAMES)}
STRING: Final = _IDS["STRING"]
_NAME: Final = _IDS["NAME"]
_WIDE: Final = frozenset({_IDS["BAREWORD"], _IDS["WORD"]})
_PARAMS: Final = frozenset({_IDS["PARAM"], _IDS["WPARAM"]})

KEPT: Final = [2 if i in _PARAMS else kept for i, kept in enumerate(_gen.KEPT)] + [0]
"""A terminal: 1 if a builder wants its text, 2 for parameters (which are counted), 0 if nobody does."""

_COMMENTS: Final = "|".join(p for p in _gen.IGNORED if p != r"\s+")
SKIP: Final = rf"\s*+(?:(?:{_COMMENTS})\s*+)*+"
"""Ignored text; possessive, or the expression would go back into a comment to find a token there."""
BETWEEN: Final = rf"{SKIP}(?:;{SKIP})*+"
"""What may stand between two statements, or before the first."""

Row = dict[int, int]


def _row(flat: tuple[int, ...]) -> Row:
    row = dict(zip(flat[::2], flat[1::2], strict=True))
    for term in _BRACKETS:
        if row.get(term, -1) in JSON_OPEN:
            row[term] += JSON
    return row


_BRACKETS: Final = (_IDS["LBRACE"], _IDS["LSQB"])
_unique_rows: Final = [_row(flat) for flat in _gen.ROWS]
ROWS: Final[list[Row]] = [_unique_rows[i] for i in _gen.STATES]
"""state -> terminal -> what to do: a state to shift to (0 and up), or the complement of a rule to reduce by."""

GOTOS: Final[list[Row]] = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in _gen.GOTOS]
"""state -> nonterminal -> the state after it."""


class Scanner(NamedTuple):
    """What the contextual lexer knows in a state."""

    match: Callable[..., re.Match[str] | None]
    terms: list[int]
    """By group of the expression; -1 for the group of words that may be keywords."""
    words: dict[str, int]
    """Keywords that the word group may turn out to be, in upper case."""
    name: int | None
    """What any other word is: NAME, or nothing that may stand here."""
    row: Row


SCANNERS: Final[list[Scanner | None]] = [None] * len(ROWS)
_made: Final[dict[frozenset[int], tuple[Any, ...]]] = {}


def scanner(state: int) -> Scanner:
    """The scanner of ``state``; equal sets of terminals share one expression."""
    made = SCANNERS[state]
    if made is None:
        row = ROWS[state]
        key = frozenset(row)
        parts = _made.get(key)
        if parts is None:
            parts = _made[key] = _compile(sorted(key))
        made = SCANNERS[state] = Scanner(parts[0], parts[1], parts[2], parts[3], row)
    return made


def scans_words(terms: Any) -> bool:
    """Does the scanner of a state with these terminals look keywords up (instead of trying one after the other)?"""
    return _WIDE.isdisjoint(terms)


def _compile(terms: list[int]) -> tuple[Any, ...]:
    groups: list[int] = []
    patterns: list[str] = []
    words: dict[str, int] = {}
    looks_up = scans_words(terms)
    name = _NAME if looks_up and _NAME in terms else None
    for term in terms:
        if term == END or (term == _NAME and looks_up):
            continue
        if looks_up and term in KEYWORDS and term not in _gen.ENDS_AS_WORD:
            words[KEYWORDS[term]] = term
            continue
        groups.append(term)
        patterns.append(TERMINALS[term][1])
    if words or name is not None:
        # after the terminals of higher priority (e'…', x'…', FROM), before those that words never start
        place = sum(1 for t in groups if t < _NAME and t in _EARLY)
        groups.insert(place, -1)
        patterns.insert(place, r"[^\W\d]\w*")
    if END in terms:
        groups.append(END)
        patterns.append(r";|\Z")
    expression = SKIP + "(?:" + "|".join(f"({p})" for p in patterns) + ")"
    return re.compile(expression).match, [-2, *groups], words, name


_EARLY: Final = frozenset(
    [i for i in KEYWORDS if i in _gen.ENDS_AS_WORD] + [_IDS["E_STRING"], _IDS["STRING"], _IDS["X_STRING"]]
)
