"""Every statement of the corpus reads as it did when it was frozen, prints, and reads the same again."""

from __future__ import annotations

import os

import pytest

from kvql.parser import parse, parse_script, tokens
from kvql.printer import unparse
from tests.language import corpus
from tests.language.corpus import ARROW, PATH, load, read, valid

ENTRIES = load()


@pytest.mark.skipif("KVQL_REWRITE" not in os.environ, reason="KVQL_REWRITE=1 writes the readings anew")
def test_rewrite() -> None:
    PATH.write_text("".join(f"{text}\n{ARROW}{read(text)}\n" for text, _ in ENTRIES), encoding="utf-8")


@pytest.mark.parametrize(("text", "expected"), ENTRIES, ids=[t for t, _ in ENTRIES])
def test_reading(text: str, expected: str) -> None:
    assert read(text) == expected


@pytest.mark.parametrize("text", valid())
def test_prints_back(text: str) -> None:
    for statement in parse(text):
        printed = unparse(statement)
        assert parse(printed) == (statement,)
        assert unparse(parse(printed)[0]) == printed


@pytest.mark.parametrize("text", valid())
def test_spans_name_what_they_should(text: str) -> None:
    """A statement's text alone is that statement; the script reader cuts the same pieces."""
    whole = parse(text)
    pieces = list(parse_script(text))
    assert [unparse(p.statement) for p in pieces if p.statement] == [unparse(s) for s in whole]
    for statement, piece in zip(whole, pieces, strict=True):
        assert statement.span is not None
        assert text[piece.span.start : piece.span.end] == piece.text
        own = text[statement.span.start : statement.span.end]
        assert piece.text.startswith(own)
        assert all(t.kind == "comment" for t in tokens(piece.text[len(own) :]))
        assert parse(own)[0] == parse(unparse(statement))[0]


def test_the_corpus_is_what_it_was() -> None:
    assert len(ENTRIES) > 460
    assert len(corpus.invalid()) > 150
