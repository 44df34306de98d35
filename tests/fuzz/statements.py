"""Statements from the grammar, and statements with a fault put in."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from lark import Lark
from lark.grammar import NonTerminal, Rule, Symbol, Terminal
from lark.lexer import PatternStr

GRAMMAR = Path(__file__).parents[2] / "grammar" / "kvql.lark"
GOLDEN = Path(__file__).parents[1] / "golden"

KEYS = ["a", "b", "k1", "user:1", "é", "鍵", "'a b'", "a.b", "''", "SELECT", "null", "e'x\\u0041'", "k" * 513, "🔑"]
VALUES = ["1", "007", "-5", "1.50", "true", "null", "word", "60s", "9" * 25, "http://h/?q=1"]
SAMPLES: dict[str, list[str]] = {
    "BAREWORD": [*KEYS[:5], *VALUES],
    "WORD": ["shop", "other", "123", "my-ns", "a.b"],
    "WPARAM": ["?", "?1", ":p", ":missing"],
    "PARAM": ["?", "?1", ":p", ":missing"],
    "NAME": [
        "key",
        "value",
        "age",
        "name",
        "version",
        "address",
        "type",
        "ttl",
        "expires_at",
        "price",
        "born",
        "shop",
        "other",
        "ns1",
        "nothing",
        "größe",
        "old",
        "new",
        "excluded",
    ],
    "QNAME": ['"shop"', '"my ns!"', '"a""b"', '""', '"a.b"'],
    "STRING": ["'text'", "'it''s'", "''", "'a%_'", "'2026-01-02T03:04:05Z'", "'5 minutes'", "'\\'"],
    "E_STRING": ["e'\\n'", "e'\\u00e9'", "e'\\q'", "e'\\ud800'", "e'\\x00'"],
    "X_STRING": ["x'1fff'", "x''", "x'1'", "x'zz'"],
    "DURATION": ["60s", "250ms", "2h", "0s", "7d", "99999999999999999d"],
    "INT": ["0", "1", "42", "1_000", "9223372036854775807", "9223372036854775808", "9" * 1200],
    "DECIMAL": ["0.1", "1.50", ".5", "0." + "1" * 1100],
    "FLOAT": ["1e3", "1.5e-7", "1e400", "0e0"],
    "JSON_STRING": ['"a"', '"\\u00e9"', '"\\ud800"', '"x\\n"'],
    "JSON_NUMBER": ["0", "-1", "1.5", "1e400", "1E5"],
}
JUNK = ["\x00", "\u202e", "\ud7ff", "'", '"', "(", ")", "[", "]", "{", "}", ";", ",", ".", "--", "/*", "*/",
        "?", ":", "\\", "e'", "x'", "\ufeff", "\u00a0", "\n", "=", "<>", "::", "%", "NOT ", "(" * 120, "NULL",
        "TTL", "\U0001f511"]  # fmt: skip


FUNCTIONS = [
    "length", "lower", "upper", "trim", "replace", "substr", "split_part", "starts_with", "concat", "abs", "round",
    "floor", "ceil", "coalesce", "nullif", "greatest", "least", "typeof", "now", "date_trunc", "json_keys",
    "json_length", "count", "sum", "avg", "min", "max", "string_agg", "nothing",
]  # fmt: skip
TYPES = [
    "integer",
    "text",
    "numeric",
    "float",
    "boolean",
    "timestamp",
    "bytea",
    "jsonb",
    "varchar",
    "interval",
    "nothing",
]


class Grammar:
    """The grammar's rules as a table to walk."""

    def __init__(self) -> None:
        lark = Lark(GRAMMAR.read_text(encoding="utf-8"), parser="lalr", start=["script"], maybe_placeholders=True)
        self.rules: dict[str, list[Rule]] = {}
        for rule in lark.rules:
            self.rules.setdefault(rule.origin.name, []).append(rule)
        self.patterns = {t.name: t.pattern for t in lark.terminals}
        self.depth: dict[str, int] = {}
        self._measure()

    def _measure(self) -> None:
        """The least depth of a tree under each rule, so that a walk can be told to come to an end."""
        changed = True
        while changed:
            changed = False
            for name, rules in self.rules.items():
                least = min((1 + self._needs(rule) for rule in rules), default=10**6)
                if least < self.depth.get(name, 10**6):
                    self.depth[name] = least
                    changed = True

    def _needs(self, rule: Rule) -> int:
        return max((self.depth.get(s.name, 10**6) for s in rule.expansion if isinstance(s, NonTerminal)), default=0)

    def statement(self, rng: random.Random) -> str:
        start = rng.choice(
            ["query", "write", "select", "select", "insert", "update", "delete", "prefixed", "statement"]
        )
        return " ".join(filter(None, self._walk(NonTerminal(start), rng, rng.randint(6, 22))))

    def _walk(self, symbol: Symbol, rng: random.Random, budget: int) -> list[str]:
        if isinstance(symbol, Terminal):
            return [self._terminal(symbol.name, rng)]
        rules = self.rules[symbol.name]
        fitting = [r for r in rules if self._needs(r) < budget]
        if not fitting:
            least = min(map(self._needs, rules))
            fitting = [r for r in rules if self._needs(r) == least]
        rule = rng.choice(fitting)
        words = [word for part in rule.expansion for word in self._walk(part, rng, budget - 1)]
        if symbol.name in ("call", "type") and rng.random() < 0.9 and words[0].isidentifier():
            # a name alone does not know what it stands for
            words[0] = rng.choice(FUNCTIONS if symbol.name == "call" else TYPES)
        return words

    def _terminal(self, name: str, rng: random.Random) -> str:
        if name in SAMPLES:
            samples = SAMPLES[name]
            common = 9 if name == "NAME" else 3
            return rng.choice(samples[:common] if rng.random() < 0.8 else samples)
        pattern = self.patterns[name]
        text = pattern.value if isinstance(pattern, PatternStr) else _plain(pattern.value)
        return rng.choice([text, text.lower(), text.title()]) if text.isalpha() else text


def _plain(regex: str) -> str:
    """A keyword's pattern without its look-ahead; an alternative of signs gives its first."""
    bare = re.sub(r"\(\?[!=<].*?\)(?=$|\|)", "", regex)
    bare = bare.split("|")[0] if not bare.startswith("\\|") else bare
    return re.sub(r"\\(.)", r"\1", bare).replace("(?:", "").replace(")", "").replace("?", "")


@cache
def grammar() -> Grammar:
    return Grammar()


@cache
def golden() -> tuple[str, ...]:
    """The statements of the golden scripts: what people write, faults included."""
    lines = [line for path in sorted(GOLDEN.glob("*/*.kvql")) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(re.sub(r"^[ab]: ", "", line) for line in lines if line.strip() and not line.startswith("--"))


def mutate(text: str, rng: random.Random) -> str:
    """One to three faults: cut, double, swap, put junk in, change the case."""
    for _ in range(rng.randint(1, 3)):
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        match rng.randrange(6):
            case 0:
                text = text[:at] + text[to:]
            case 1:
                text = text[:at] + text[at:to] * 2 + text[to:]
            case 2:
                text = text[:at] + rng.choice(JUNK) + text[at:]
            case 3:
                text = text[:at] + text[at:to].swapcase() + text[to:]
            case 4:
                words = text.split(" ")
                rng.shuffle(words)
                text = " ".join(words)
            case _:
                other = rng.choice(golden())
                text = text[:at] + other[rng.randint(0, len(other)) :]
    return text[:20_000]


def statement(rng: random.Random) -> str:
    """A statement: a third as the grammar says, a third mutated, the rest from the golden scripts, mutated."""
    kind = rng.randrange(3)
    if kind == 0:
        return grammar().statement(rng)
    if kind == 1:
        return mutate(grammar().statement(rng), rng)
    return mutate(rng.choice(golden()), rng)
