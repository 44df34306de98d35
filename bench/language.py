"""ROW=parse, shape: text to syntax tree, against sqlglot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import kvql
from bench.measure import Figure, compare

ROUNDS = 5
COLUMNS = ["key", "value", "version", "revision", "age", "name", "city", "size"]
OPERATORS = ["=", "<", ">", "<=", ">=", "<>"]


def new_statements(count: int, seed: int) -> list[str]:
    """SELECTs of about 30 tokens that both read, no two of one shape."""
    rng = random.Random(seed)
    out: dict[str, None] = {}
    while len(out) < count:
        columns = ", ".join(rng.choices(COLUMNS, k=rng.randint(1, 4)))
        terms = [
            f"{rng.choice(COLUMNS)} {rng.choice(OPERATORS)} {rng.randint(0, 9999)}" for _ in range(rng.randint(2, 5))
        ]
        where = "".join(f" {rng.choice(['AND', 'OR'])} {t}" if i else t for i, t in enumerate(terms))
        out[f"SELECT {columns} FROM shop WHERE {where} ORDER BY {rng.choice(COLUMNS)} LIMIT {rng.randint(1, 99)}"] = (
            None
        )
    return list(out)


def _us_each(work: Callable[[str], object], texts: list[str]) -> float:
    start = time.perf_counter()
    for text in texts:
        work(text)
    return (time.perf_counter() - start) / len(texts) * 1e6


def parse() -> list[Figure]:
    """Statements whose shape was never seen before."""
    import sqlglot

    rounds = []
    for n in range(ROUNDS):
        texts = new_statements(1500, n)
        rounds.append({"kvql": _us_each(kvql.parse, texts), "sqlglot": _us_each(sqlglot.parse_one, texts)})
    return [compare("parse a new statement of about 30 tokens", "µs", rounds, more_is_better=False)]


def shape() -> list[Figure]:
    """A shape that was seen before, with other literals."""
    import sqlglot

    out = []
    for name, template in (
        ("PUT k v", "PUT key{0} {0}"),
        (
            "SELECT of 45 tokens",
            "SELECT key, value, age FROM shop WHERE " + " AND ".join(["age > {0}"] * 8) + " LIMIT {0}",
        ),
    ):
        rounds = []
        for n in range(ROUNDS):
            texts = [template.format(i + n * 100_000) for i in range(20_000)]
            kvql.parse(texts[0])
            times = {"kvql": _us_each(kvql.parse, texts)}
            if template.startswith("SELECT"):
                times["sqlglot"] = _us_each(sqlglot.parse_one, texts[:300])
            rounds.append(times)
        out.append(compare(f"parse a repeated shape, {name}", "µs", rounds, more_is_better=False))
    return out
