"""Statements for properties: derived from the grammar, or broken on purpose, repeatable by their seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.statements import grammar, mutate
from tests.language import corpus


def statements(seed: int, count: int) -> Iterator[str]:
    """As the grammar says, with samples for its terminals."""
    rng = random.Random(seed)
    for _ in range(count):
        yield grammar().statement(rng)


def broken(seed: int, count: int) -> Iterator[str]:
    """Statements of the grammar and of the corpus with one to three faults."""
    rng = random.Random(seed)
    known = corpus.valid()
    for n in range(count):
        yield mutate(rng.choice(known) if n % 2 else grammar().statement(rng), rng)
