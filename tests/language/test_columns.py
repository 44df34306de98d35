"""Runs of pairs taken as columns: the same keys, values, texts, places and errors as statement by statement."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvql import ast
from kvql.errors import Error
from kvql.parser import Columns, columns, loop, read_columns, read_statements
from kvql.parser.loop import Refused
from kvql.parser.tables import NAMES, ROWS
from kvql.parser.trace import trace
from kvql.span import Span
from kvql.values import bare_value, bare_values
from tests.language import corpus, derived
from tests.language.test_scripts import pieces

KEYS = (
    "a", "k-1", "U+0041", "user:1", "a/b", "http://h/?q=1", "-1", "007", "e", "x", "timestamp", "set", "ttl", "as", "é",
    "日本", "'t'", "''", "'it''s'", "'a;b'", "'-- no'", "'PUT b 1;'", "a.b", "*", "%", "=", "@",
)  # fmt: skip
VALUES = (
    *KEYS, "0", "5", "-5", "-0", "+5", "1.50", ".5", "1e3", "-0.0", "0.0000001", "9" * 17, "9" * 18,
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1" * 1001, "true", "false", "TRUE", "null",
    "60s", "TIMESTAMP", "'line\nbreak'", "'\u2028'", "'" + "x" * 700 + "'",
)  # fmt: skip
OTHER = (
    "?", ":p", "a--b", "a/*b*/", "-- c\nb", "/* c */ b", "it's", '"q"', "(1 + 1)", "{\"a\": 1}", "[1]", "e'x'", "x'1f'",
    "TIMESTAMP '2026-01-01'", "a b", "", "a,", "a)", "'a''", "\ud800", "'\udfff'", "k v, l w", "v TTL 5s",
    "v COMMENT 'c'",
)  # fmt: skip
HEADS = ("PUT", "PUT", "PUT", "put", "pUt", "UPSERT", "upsert", "Upſert", "UPDATE", "PUTS", "GET", "")
GAPS = (" ", " ", " ", "\t", "\n", "\u00a0", "\u2003", "\x1c", "", " /* c */ ")
ENDS = (";\n", ";\n", ";", "; ", " ;\r\n", ";;\n", "\n;\n", "; -- PUT no 1;\n", ";/* PUT no 2; */", ";\u3000", "")


def script(rng: random.Random) -> str:
    """Runs that would be taken, with whatever a script may hold between and inside them."""
    made: list[str] = []
    for _ in range(rng.randrange(1, 6)):
        plain = rng.random() < 0.5
        for _ in range(rng.choice((1, 3, 40))):
            if plain or rng.random() < 0.7:
                head, gap = rng.choice(("PUT", "UPSERT", "put")), " "
                key, value, end = rng.choice(KEYS), rng.choice(VALUES), rng.choice(ENDS[:-1])
            else:
                head, gap, end = rng.choice(HEADS), rng.choice(GAPS), rng.choice(ENDS)
                key, value = rng.choice(KEYS + OTHER), rng.choice(VALUES + OTHER)
            if not gap and "'" in key + value:
                gap = " "  # where a quote touches a word, what cuts a stream into statements takes it for a mistake
            made.append(f"{head}{gap}{key}{rng.choice((' ', gap))}{value}{end}")
        if rng.random() < 0.4:
            made.append(rng.choice(corpus.valid()) + ";")
        if rng.random() < 0.2:
            made.extend(f"{text};" for text in derived.broken(rng.randrange(1000), 1))
    return rng.choice(("", "", "\ufeff", " ; -- head\n")) + "".join(made)


Read = tuple[Span, str, Any, Any]


def slow(stream: Iterable[str]) -> list[Read]:
    """Place, text, what it is, error."""
    return [(p.span, p.text, told(p.statement), str(p.error)) for p in read_statements(stream)]


def told(statement: ast.Statement | None) -> Any:
    """What columns can say of a statement; the statement itself if they cannot hold it."""
    if isinstance(statement, ast.Put | ast.Upsert) and len(statement.pairs) == 1:
        key, value = statement.pairs[0].key, statement.pairs[0].value
        if (
            isinstance(key, ast.Literal)
            and isinstance(value, ast.Literal)
            and statement.ttl is statement.comment is None
        ):
            return type(statement), key.value, type(value.value), str(value.value)
    return statement


def quick(stream: Iterable[str]) -> tuple[list[Read], int]:
    """The same by columns, and how many statements came in them."""
    found: list[Read] = []
    taken = 0
    for item in read_columns(stream):
        if not isinstance(item, Columns):
            found.append((item.span, item.text, told(item.statement), str(item.error)))
            continue
        taken += len(item)
        texts = [item.statement(place) for place in range(len(item))]
        assert item.span == Span(texts[0][0].start, texts[-1][0].end)
        assert item.start == item.span.start
        for (span, text), key, value in zip(texts, item.keys, item.values, strict=True):
            found.append((span, text, (item.kind, key, type(value), str(value)), "None"))
    return found, taken


@pytest.mark.parametrize("seed", range(60))
def test_columns_read_what_statements_read(seed: int) -> None:
    rng = random.Random(seed)
    taken = 0
    for _ in range(6):
        text = script(rng)
        expected = slow((text,))
        found, whole = quick((text,))
        assert found == expected, text
        assert quick(pieces(text, rng))[0] == expected, text
        taken += whole
    assert taken


WORDS = (
    "a",
    "1",
    "-5",
    "007",
    "a:b",
    "a?",
    "PUT",
    "TTL",
    "true",
    "9" * 19,
    "é",
    "?",
    ":p",
    "a--b",
    "/*",
    "'t'",
    ";",
    "",
)
BLANKS = (" ", " ", " ", "\n", "\t", "\x1c", "  ", "\u00a0")


def words(rng: random.Random) -> str:
    """Statements of plain words, of which a few have one too many, one too few, or one that is no plain word."""
    plain, odd = rng.choice((1.0, 0.99, 0.9)), rng.choice(("PUT", "put", "UPSERT", "GET"))
    made: list[str] = []
    for _ in range(rng.choice((2, 10, 60))):
        four = ["PUT", rng.choice(WORDS[:8]), rng.choice(WORDS[:10]), ";"]
        if rng.random() > plain:
            place = rng.randrange(4)
            four[place : place + rng.randrange(2)] = rng.choice(([odd], [rng.choice(WORDS)], [rng.choice(WORDS), ";"]))
        made.append("".join(word + rng.choice(BLANKS[: rng.choice((1, 6, 8))]) for word in four))
    return "".join(made)


@pytest.mark.parametrize("seed", range(40))
def test_plain_words_are_read_as_statements_are(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        text = words(rng)
        assert quick((text,))[0] == slow((text,)), text
        assert quick(pieces(text, rng))[0] == slow((text,)), text


@pytest.mark.parametrize(
    "odd", [";", "; ;", "PUT a ;", "PUT a b c", "PUT ?  1", "PUT a :p", "PUT :p a", "put a 1", "x"]
)
def test_what_is_no_statement_among_plain_words_is_seen(odd: str) -> None:
    for before, behind in itertools.product(("PUT a 1;" * 200, "PUT a 1 ; PUT b 2;", ""), repeat=2):
        text = f"{before}{odd} ;{behind}"
        assert quick((text,))[0] == slow((text,)), text


def test_what_a_script_is_made_of_is_taken() -> None:
    """Or nothing here would say that the quick way has become the slow one."""
    plain = [
        f"{head} {key} {value}" for head in ("PUT", "upsert") for key in KEYS for value in VALUES if len(value) < 700
    ]
    for text in plain:
        found, taken = quick((f"{text};",))
        assert found == slow((f"{text};",))
        assert taken == 1, text
    text = "".join(f"PUT key{n} {n}; -- note\n" if n % 3 else f"PUT key{n} 'a text';\n" for n in range(5000))
    sizes = [len(item) for item in read_columns((text,)) if isinstance(item, Columns)]
    assert sum(sizes) == 5000
    assert len(sizes) < 10


def test_small_texts() -> None:
    """Every text of a few signs: whatever is taken, the loop takes in the same way."""
    signs = ("a", "e", "5", " ", "'", ";", "-", "/", "*", "?", ":", ",", "\n")
    taken = 0
    for length in range(1, 6):
        for tail in itertools.product(signs, repeat=length):
            text = f"PUT{''.join(tail)};"
            found = columns.take(text, 0, 0, 100)
            if found is None:
                continue
            taken += 1
            at = 0
            for place in range(len(found)):
                node, start, end, following, _ = loop.run(text, at, True, 0)
                assert told(node) == (ast.Put, found.keys[place], type(found.values[place]), str(found.values[place]))
                assert found.statement(place) == (Span(start, end), text[start:end])
                at = following
            assert at == found.end
    assert taken > 1_000


def test_what_may_stand_where_a_key_and_a_value_do() -> None:
    """The expression knows these tokens. Where the grammar lets another stand, it has to be looked at again."""
    words = {"BAREWORD", "STRING", "E_STRING", "WPARAM"}
    for head in ("PUT", "UPSERT"):
        _, key, value = trace(f"{head} k v;", 0).tokens
        assert {NAMES[t] for t in ROWS[key.scanned_in]} == words
        assert {NAMES[t] for t in ROWS[value.scanned_in]} == {
            *words, "X_STRING", "TIMESTAMP", "LBRACE", "LSQB", "LPAR",
        }  # fmt: skip


def test_a_lone_surrogate_is_the_loops_to_tell() -> None:
    text = "PUT a 1; PUT b 'x\ud800'; PUT c 3;"
    assert quick((text,))[0] == slow((text,))
    with pytest.raises(Error):
        loop.run(text, 9, True, 0)


def test_half_a_statement_is_no_statement() -> None:
    """A window or a piece that ends inside a statement never makes another of it."""
    text = "PUT a 'x';PUT b 'y'';z';PUT c '-- ';PUT d e;"
    for window in range(1, len(text) + 5):
        found = columns.take(text, 0, 0, window)
        if found is not None:
            assert found.keys == ["a", "b", "c", "d"][: len(found)]
            assert found.values == ["x", "y';z", "-- ", "e"][: len(found)]
    for at in range(len(text)):
        assert quick((text[:at], text[at:]))[0] == slow((text,))


def test_a_long_script_takes_little_memory() -> None:
    def stream() -> Iterator[str]:
        for n in range(0, 400_000, 100):
            yield "".join(f"PUT key{i} 'value number {i}';\n" for i in range(n, n + 100))

    tracemalloc.start()
    try:
        count = sum(len(item) for item in read_columns(stream()) if isinstance(item, Columns))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 390_000
    assert peak < 4_000_000


@given(st.lists(st.one_of(st.integers().map(str), st.decimals().map(str), st.sampled_from(
    ["0", "-0", "00", "-", "1.", "true", "x", "1_0", "१२", "9" * 17, "9" * 18, "-" + "9" * 17, "9" * 19]
))))  # fmt: skip
def test_a_column_of_bare_words_means_what_each_word_means(words: list[str]) -> None:
    expected = [bare_value(word) for word in words]
    found = bare_values(words)
    assert [(type(v), str(v)) for v in found] == [(type(v), str(v)) for v in expected]


def test_refused_texts_stay_refused() -> None:
    for text in ("PUT a;", "PUT;", "PUT a b c;", "PUTS a b;", "PUT 'a b;", "PUT a 'b' 'c';", "PUT a b", "Upſert a b;"):
        assert not any(isinstance(item, Columns) for item in read_columns((text,))), text
    with pytest.raises(Refused):
        loop.run("PUT a b c;", 0, False, 0)
