"""What is offered always parses, and colours cover a text without gaps or overlaps."""

from __future__ import annotations

import random

import pytest

from kvql.parser import expected, is_complete, tokens
from kvql.parser.tables import END, KEYWORDS
from kvql.parser.trace import trace
from tests.language import corpus, derived

EXAMPLES = {
    "key": "k1", "value": "1", "pattern": "'a%'", "namespace": "shop", "user": "ann", "duration": "60s", "number": "5",
    "text": "'t'", "type": "INTEGER", "name": "n", "expression": "1", "column": "value", "function": "now()",
    "json value": "1", "json member": '"a": 1',
}  # fmt: skip


def understood(text: str, piece_at: int) -> bool:
    """Is everything from ``piece_at`` on taken, as far as the text goes?"""
    seen = trace(text, 0)
    return seen.complete or seen.term == END or seen.at >= len(text.rstrip()) > piece_at


@pytest.mark.parametrize("text", corpus.valid())
def test_every_offer_parses(text: str) -> None:
    """At each place of each statement of the corpus: the keyword or notion that is offered is taken there."""
    if ";" in text or "--" in text or "/*" in text:
        return
    cuts = [0, *(t.end for t in tokens(text))]
    for cut in random.Random(text).sample(cuts, min(len(cuts), 6)):
        before = text[:cut] + " "
        offer = expected(before, len(before))
        head = before[: offer.replace_start]
        for word in (*offer.keywords, *(EXAMPLES[n] for n in offer.notions)):
            tried = f"{head}{word} "
            assert understood(tried, len(head)), f"{tried!r} is offered and does not parse"


def test_offers_are_what_may_stand() -> None:
    assert "SELECT" in expected("", 0).keywords
    offer = expected("SHOW ", 5)
    assert {"KEYS", "DATA", "NAMESPACES"} <= set(offer.keywords)
    assert expected("GET ", 4).notions == ("key",)
    assert "FROM" in expected("SELECT key F", 12).keywords
    assert expected("SELECT key F", 12).replace_start == 11
    assert expected("-- a comment", 12) == ((), (), 12)
    assert expected("PUT k 'an open te", 17).keywords == ()


@pytest.mark.parametrize("seed", range(3))
def test_colours_cover_everything(seed: int) -> None:
    for text in [*derived.statements(seed, 150), *derived.broken(seed, 250)]:
        at = 0
        for token in tokens(text):
            assert token.start >= at and token.end > token.start, (text, token)
            assert not text[at : token.start].strip("\ufeff \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0").strip(), (
                text,
                token,
            )
            at = token.end
        assert not text[at:].strip(), text


def test_colours() -> None:
    def colours(text: str) -> list[tuple[str, str]]:
        return [(t.kind, text[t.start : t.end]) for t in tokens(text)]

    assert colours("PUT select 'x'; -- why") == [
        ("keyword", "PUT"), ("key", "select"), ("text", "'x'"), ("punctuation", ";"), ("comment", "-- why"),
    ]  # fmt: skip
    assert ("function", "now") in colours("SELECT now()")
    assert ("type", "integer") in colours("SELECT value::integer FROM a")
    assert ("error", "WERE") in colours("SELECT key FROM a WERE value > 5;")
    assert set(KEYWORDS.values()) >= {"GET", "SELECT"}


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("GET a", True), ("GET", False), ("SELECT key FROM", False), ("PUT k 'open", False), ("PUT k (1 +", False),
        ("PUT k {\"a\": [1,", False), ("GET a;", True), ("", True), ("SELCT", True), ("-- note", True),
        ("/* open", False),        ("BEGIN; GET", False), ("GET a /* open", False),
    ],
)  # fmt: skip
def test_enter(text: str, complete: bool) -> None:
    assert is_complete(text) is complete
