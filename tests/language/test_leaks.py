"""No word of a user's is taken for a keyword that could not stand there.

The lexer asks the parser's state which terminals to try. LALR merges states, so a state may try a keyword that only
another of its contexts can shift: a word spelt like it would be misread ("leak"). For every state and every pair of
terminals that match the same text, all stacks that lead to the state are walked backwards, lazily: is there one on
which the lexer's choice is refused although the other terminal would have been taken?
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
from lark import Lark
from lark.parsers.lalr_analysis import Shift

from tests.fuzz.statements import GRAMMAR

WORDS = ("BAREWORD", "WORD", "NAME")
SAMPLES = """
60s 5 007 1.5 .5 1e3 -1 ? ?2 :a :a:b x e a-b user:1 "x" 'x' e'x' x'1f' true null * / - + % . = < <> :: : [ { ( ) ] } , ;
a.b timestamp interval read set from history if to where with distinct all when double -5m 5m ~ ~* || ^= !~* != é
""".split()  # noqa: SIM905 - a list of words is read more easily than a list of quotes

MUST_LEAK = """
start: "PUT" key key opt_comment | "RESTORE" key _AS _OF
key: BAREWORD
opt_comment: [_COMMENT BAREWORD]
BAREWORD: /[a-z]+/i
_COMMENT.2: /COMMENT(?!\\w)/i
_AS.2: /AS(?!\\w)/i
_OF.2: /OF(?!\\w)/i
%ignore " "
"""
"""One rule for the key and the value: COMMENT is then known where the value should stand."""


class States:
    """Lark's parse table, walked with stacks of which only the top is known."""

    def __init__(self, grammar: str, start: str) -> None:
        lark = Lark(grammar, parser="lalr", lexer="contextual", start=start)
        self.table = lark.parser.parser._parse_table.states
        self.lexers = lark.parser.lexer.lexers
        self.patterns = {t.name: t.pattern.to_regexp() for t in lark.terminals}
        self.keywords = [t.name for t in lark.terminals if t.priority == 2]
        self.before: dict[int, set[int]] = defaultdict(set)
        for state, actions in self.table.items():
            for action, target in actions.values():
                if action is Shift:
                    self.before[target].add(state)

    def walk(self, known: list[int], terminal: str, limit: int) -> Iterator[tuple[list[int], bool]]:
        """(stack, is it shifted) for each way to complete the unknown bottom as far as it matters."""
        waiting = [known]
        for _ in range(limit):
            if not waiting:
                return
            whole = waiting.pop()
            stack = list(whole)
            while True:
                action = self.table[stack[-1]].get(terminal)
                if action is None or action[0] is Shift:
                    yield whole, action is not None
                    break
                rule = action[1]
                if len(stack) <= len(rule.expansion):
                    waiting += [[state, *whole] for state in sorted(self.before[whole[0]])]
                    break
                del stack[len(stack) - len(rule.expansion) :]
                stack.append(self.table[stack[-1]][rule.origin.name][1])

    def misread(self, state: int, choice: str, other: str) -> bool:
        """Is there a stack on which ``other`` would be taken here, and ``choice`` is refused?"""
        for stack, taken in self.walk([state], other, 400):
            if taken and any(not shifted for _, shifted in self.walk(stack, choice, 50)):
                return True
        return False

    def word_leaks(self) -> set[tuple[str, str]]:
        found = set()
        for state, actions in self.table.items():
            for word in (w for w in WORDS if w in actions):
                for keyword in (k for k in self.keywords if k in actions):
                    spelt = keyword.strip("_")
                    if re.fullmatch(self.patterns[word], spelt) and self.misread(state, keyword, word):
                        found.add((word, spelt))
        return found

    def sample_leaks(self) -> set[tuple[str, str, str]]:
        found = set()
        for state, actions in self.table.items():
            scanner = re.compile(
                "|".join(
                    f"(?P<{t.name}>{t.pattern.to_regexp()})"
                    for t in self.lexers[state].terminals
                    if t.name not in ("WS", "COMMENT")
                )
                or "(?!)"
            )
            for sample in SAMPLES:
                for tail in ("", " "):
                    match = scanner.match(sample + tail)
                    if match is None or match.lastgroup is None:
                        continue
                    choice = match.lastgroup
                    for other in (t for t in actions if t != choice and t in self.patterns):
                        if re.match(self.patterns[other], sample + tail) and self.misread(state, choice, other):
                            found.add((choice, other, sample))
        return found


@pytest.fixture(scope="module")
def states() -> States:
    return States(GRAMMAR.read_text(encoding="utf-8"), "script")


def test_no_word_is_taken_for_a_keyword(states: States) -> None:
    assert states.word_leaks() == set()


def test_no_terminal_hides_another(states: States) -> None:
    assert states.sample_leaks() == set()


def test_the_check_finds_a_leak() -> None:
    """The grammar that everybody writes first."""
    assert ("BAREWORD", "COMMENT") in States(MUST_LEAK, "start").word_leaks()
