"""A statement taken by a shape is read exactly as the loop reads it, spans included."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from kvql.errors import Error
from kvql.parser import loop, parse, shapes
from kvql.parser.loop import Refused
from tests.fuzz.statements import grammar
from tests.language import corpus, derived

# words that are read one way or another by what stands beside them
PIECES = (
    "a", "k-1", "-1", "5", "007", "e'x'", "x'1f'", "'t'", "?", ":p", "set", "SET x = 1", "ttl 5s", "TTL", "comment 'c'",
    "as", "{}", "[1]", "(1)", "1.5", "60s", "null", "timestamp", "timestamp '2026-01-01'", "from", "e", "x", "é",
)  # fmt: skip
HEADS = ("PUT", "UPDATE", "GET", "DELETE", "EXPIRE", "UPSERT")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    shapes.forget()
    yield
    shapes.forget()


def outcome(run: object, text: str) -> object:
    try:
        node, start, end, following, tokens = run(text, 0, False, 0)
    except Refused:
        return "refused"
    except Error as e:
        return (e.sqlstate, e.message, e.span)
    return node, every_span(node), start, end, following, tokens


def every_span(node: object) -> list[object]:
    """The spans of a tree, top down: ``==`` does not look at them."""
    if isinstance(node, tuple):
        return [s for part in node for s in every_span(part)]
    fields = getattr(node, "_fields", ())
    if not fields or isinstance(node, str):
        return []
    return [getattr(node, "span", None), *(s for name in fields for s in every_span(getattr(node, name)))]


def agree(known: list[str], texts: list[str]) -> int:
    """Learn from ``known``; every one of ``texts`` must read the same. How many a shape took."""
    shapes.forget()
    for text in known:
        if outcome(loop.run, text) != "refused":
            try:
                shapes.learn(text, 0)
            except Error:
                continue
    taken = 0
    for text in texts:
        expected = outcome(loop.run, text)
        assert outcome(shapes.run, text) == expected, text
        row = shapes._shapes.get(text[: shapes._LETTERS], ())
        taken += any(shape.match(text, 0) for shape in row)
    return taken


def test_small_statements_against_each_other() -> None:
    """Every pair of neighbours as the shape, every other as the text."""
    texts = [f"{head} {a}{gap}{b}" for head in HEADS for a in PIECES for b in PIECES for gap in (" ", "")]
    rng = random.Random(3)
    taken = 0
    for _ in range(12):
        known = rng.sample(texts, 60)
        taken += agree(known, texts)
    assert taken > 1_000


@pytest.mark.parametrize("seed", range(3))
def test_derived_statements(seed: int) -> None:
    texts = list(derived.statements(seed, 400))
    agree(texts, texts + list(derived.broken(seed, 400)))


def test_the_corpus() -> None:
    texts = corpus.valid() + corpus.invalid()
    for some in itertools.batched(texts, 40) if hasattr(itertools, "batched") else [texts]:
        agree(list(some), texts)


def test_literals_are_checked_anew() -> None:
    for n in range(200):
        parse(f"PUT k{n} {n}")
    assert parse("PUT k 007")[0].pairs[0].value.value == "007"
    for n in range(200):
        parse(f"SELECT key WHERE value > {n}")
    with pytest.raises(Error, match=r"digits"):
        parse("SELECT key WHERE value > " + "9" * 1200)


def test_repeated_statements_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = loop.run
    monkeypatch.setattr(loop, "run", lambda *a: seen.append(a) or real(*a))
    for n in range(500):
        parse(f"SELECT key FROM ns WHERE value > {n} ORDER BY key LIMIT {n}")
    assert len(seen) < 100


def test_what_is_kept_is_bounded() -> None:
    rng = random.Random(1)
    for _ in range(3_000):
        text = grammar().statement(rng)
        try:
            shapes.run(text, 0, False, 0)
            shapes.learn(text, 0)
        except (Refused, Error):
            continue
    assert all(len(row) <= shapes.SHAPES_MAX for row in shapes._shapes.values())
    assert len(shapes._sights) <= 1_000
