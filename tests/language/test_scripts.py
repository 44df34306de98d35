"""Statements out of streams: any pieces, any mistakes, bounded memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from kvql.parser import parse, parse_script, read_statements
from kvql.parser.scripts import STATEMENT_MAX
from tests.language import corpus, derived


def pieces(text: str, rng: random.Random) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = rng.choice((1, 2, 3, 7, 50, 1000))
        yield text[at : at + size]
        at += size


@pytest.mark.parametrize("seed", range(25))
def test_pieces_of_any_size_make_the_same_statements(seed: int) -> None:
    rng = random.Random(seed)
    chosen = rng.choices(corpus.valid(), k=20) + list(derived.broken(seed, 6))
    rng.shuffle(chosen)
    text = ";\n".join(chosen) + ";"
    whole = list(parse_script(text))
    cut = list(read_statements(pieces(text, rng)))
    assert [(p.statement, p.span, p.text) for p in cut] == [(p.statement, p.span, p.text) for p in whole]
    for a, b in zip(cut, whole, strict=True):
        assert str(a.error) == str(b.error)
        assert text[a.span.start : a.span.end] == a.text


def test_a_comment_is_one_wherever_the_stream_is_cut() -> None:
    """Or what is commented out would be carried out."""
    text = (
        "PUT a 1; -- note; PUT no 1;\n;PUT b 2;/* ; */ SELECT 1 -- one;\n + 1 -- two\n; -- DELETE a;\n\nGET b -- end;"
    )
    whole = list(parse_script(text))
    assert [p.text for p in whole] == ["PUT a 1", "PUT b 2", "SELECT 1 -- one;\n + 1", "GET b"]
    for first in range(len(text)):
        for second in (first, first + 1, first + 7, len(text)):
            cut = list(read_statements((text[:first], text[first:second], text[second:])))
            assert cut == whole, (first, second)


@pytest.mark.parametrize(
    "text",
    [
        "UPSERT'a;b' v;GET'a;b';PUT c 1;",
        "GET'a''b;c','d;e';SELECT'x;y'||'z;';DELETE'k';",
        "PUT'k'e'v;\\';w';UPDATE'a;b'c;HAS /* ; */'a;b' ;",
    ],
)
def test_a_quote_glued_to_a_word_is_one_wherever_the_stream_is_cut(text: str) -> None:
    whole = list(parse_script(text))
    assert [p.statement for p in whole] == list(parse(text))
    for first in range(len(text)):
        for second in (first, first + 1, first + 7, len(text)):
            cut = list(read_statements((text[:first], text[first:second], text[second:])))
            assert cut == whole, (first, second)


def test_a_quote_within_a_word_opens_nothing() -> None:
    for text in ("PUT a it's; PUT c 3; PUT d 4;", "SELECT it's; PUT c 3; PUT d 4;", "GET a'b; PUT c 3; PUT d 4;"):
        for cut in range(len(text)):
            read = list(read_statements((text[:cut], text[cut:])))
            assert [p.error is None for p in read] == [False, True, True], (text, cut)


def test_one_mistake_is_one_error() -> None:
    script = "PUT a 1; SELCT x; PUT b it's; PUT c 3; PUT d 'four"
    read = list(parse_script(script))
    assert [p.error is None for p in read] == [True, False, False, True, False]
    assert read[3].text == "PUT c 3"


def test_a_byte_order_mark_and_nothing() -> None:
    assert [p.text for p in parse_script("\ufeffGET a;")] == ["GET a"]
    assert list(parse_script("")) == [] == list(parse_script(" ;; -- nothing\n;"))
    assert parse("\ufeff") == ()


def test_a_long_script_takes_little_memory() -> None:
    def script() -> Iterator[str]:
        for n in range(40_000):
            yield f"PUT key{n} 'value number {n}';\n"

    tracemalloc.start()
    try:
        count = sum(1 for p in read_statements(script()) if p.error is None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 40_000
    assert peak < 4_000_000


def test_a_statement_that_never_ends_is_refused_once() -> None:
    """An unclosed quote must not swallow memory with the rest of a big file."""

    def script() -> Iterator[str]:
        yield "PUT a 1; PUT b '"
        for _ in range(STATEMENT_MAX // 1000 + 100):
            yield "x" * 1000
        yield "'; PUT c 3;"

    read = list(read_statements(script()))
    assert [p.error.sqlstate if p.error else "" for p in read][:2] == ["", "54001"]
    assert read[-1].text == "PUT c 3"
    assert sum(p.error is not None for p in read) <= 2
