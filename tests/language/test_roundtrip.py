"""``parse(unparse(ast)) == ast`` for whatever the grammar can derive."""

from __future__ import annotations

import pickle
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvql.errors import Error
from kvql.parser import parse
from kvql.printer import unparse
from tests.fuzz.statements import grammar, mutate

ANY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)


def check(text: str) -> bool:
    try:
        parsed = parse(text)
    except Error:
        return False
    for statement in parsed:
        printed = unparse(statement)
        assert parse(printed) == (statement,), f"{text!r} prints as {printed!r}"
        assert unparse(parse(printed)[0]) == printed
        assert hash(statement) == hash(parse(printed)[0])
        assert pickle.loads(pickle.dumps(statement)) == statement  # noqa: S301 - our own bytes
    return bool(parsed)


@ANY
@given(seeds)
def test_what_the_grammar_derives(seed: int) -> None:
    check(grammar().statement(random.Random(seed)))


@ANY
@given(seeds)
def test_with_faults_that_are_none(seed: int) -> None:
    rng = random.Random(seed)
    check(mutate(grammar().statement(rng), rng))


@ANY
@given(st.text(min_size=1, max_size=30), st.one_of(st.text(max_size=30), st.integers(), st.booleans(), st.none()))
def test_keys_and_values_of_any_text(key: str, value: object) -> None:
    """What a key or a value holds never changes what the statement is."""
    from kvql import ast
    from kvql.errors import Error as AnyError
    from kvql.values import from_python

    try:
        pair = ast.Pair(ast.Literal(from_python(key)), ast.Literal(from_python(value)))
    except AnyError:
        return  # a lone surrogate, or an integer beyond 64 bits and a thousand digits
    statement = ast.Put((pair,))
    assert parse(unparse(statement)) == (statement,)
    assert parse(unparse(ast.Get((pair.key,)))) == (ast.Get((pair.key,)),)


def test_the_property_is_not_empty() -> None:
    rng = random.Random(7)
    assert sum(check(grammar().statement(rng)) for _ in range(300)) > 150
