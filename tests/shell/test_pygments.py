"""Pygments finds the lexer by itself, and it loses nothing of a text."""

from __future__ import annotations

import pygments.lexers
import pytest
from pygments.token import Keyword

TEXTS = ["PUT a 1; -- note\nSELECT key FROM shop WHERE value > 'x'\n", "GET select\n", "SELCT (((\n", "é '名\n"]


@pytest.mark.parametrize("text", TEXTS)
def test_every_character_comes_out(text: str) -> None:
    lexer = pygments.lexers.get_lexer_by_name("kvql")
    assert "".join(piece for _, piece in lexer.get_tokens(text)) == text


def test_keywords_are_the_grammars() -> None:
    lexer = pygments.lexers.get_lexer_by_name("kvql")
    pieces = list(lexer.get_tokens("GET select"))
    assert pieces[0] == (Keyword, "GET")
    assert all(kind is not Keyword for kind, piece in pieces if piece == "select")
    assert pygments.lexers.get_lexer_for_filename("shop.kvql").name == "KVQL"
