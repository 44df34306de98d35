"""Lark, which made the tables, reads the same texts with its own lexer and parser and must agree."""

from __future__ import annotations

from functools import cache

import pytest
from lark import Lark
from lark.exceptions import UnexpectedInput

from kvql.errors import Error
from kvql.parser import parse
from kvql.parser.tables import NAMES
from kvql.parser.trace import trace
from tests.fuzz.statements import GRAMMAR
from tests.language import corpus, derived

COUNT = 1_500


@cache
def lark() -> Lark:
    return Lark(GRAMMAR.read_text(encoding="utf-8"), parser="lalr", lexer="contextual", start="script")


def terminals(text: str) -> list[tuple[str, int, int]] | None:
    """What Lark's lexer saw, or None if Lark refuses the text."""
    try:
        interactive = lark().parse_interactive(text)
        seen = [(t.type, t.start_pos, t.end_pos) for t in interactive.iter_parse()]
        interactive.feed_eof()
    except UnexpectedInput:
        return None
    return seen


def ours(text: str) -> list[tuple[str, int, int]] | None:
    """The same of our walk over the tables, statement by statement."""
    found: list[tuple[str, int, int]] = []
    at = 0
    while True:
        seen = trace(text, at)
        if not seen.complete and (seen.tokens or seen.at < len(text)) and text[seen.at : seen.at + 1] != ";":
            return None
        if not seen.complete and seen.tokens:
            return None
        found += [(NAMES[t.term], t.start, t.end) for t in seen.tokens]
        at = seen.at
        if at >= len(text):
            return found
        found.append(("SEMICOLON", at, at + 1))
        at += 1


def same(text: str) -> None:
    theirs, mine = terminals(text), ours(text)
    assert (theirs is None) == (mine is None), f"{text!r}: lark {theirs}, ours {mine}"
    if theirs is not None and "{" not in text and "[" not in text:  # a JSON literal is one token of ours
        assert mine == theirs, text


@pytest.mark.parametrize("text", corpus.valid())
def test_corpus(text: str) -> None:
    same(text)


@pytest.mark.parametrize("seed", range(4))
def test_derived(seed: int) -> None:
    for text in derived.statements(seed, COUNT // 4):
        same(text)


@pytest.mark.parametrize("seed", range(4))
def test_broken(seed: int) -> None:
    for text in derived.broken(seed, COUNT // 4):
        same(text)


@pytest.mark.parametrize("seed", range(2))
def test_the_loop_takes_what_the_walk_takes(seed: int) -> None:
    """A syntax error only where Lark has one, and always where Lark has one; other errors are the builders'."""
    for text in derived.broken(100 + seed, COUNT // 4):
        error: Error | None = None
        try:
            parse(text)
        except Error as e:
            error = e
        theirs = terminals(text.removeprefix("\ufeff"))  # a leading byte-order mark is dropped before there is a parser
        assert error is not None or theirs is not None, text
        assert error is None or not error.message.startswith("syntax error") or theirs is None, text
