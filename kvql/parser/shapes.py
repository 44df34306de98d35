"""Statements that differ from an earlier one only in their literals are not parsed again.

A shape is one recorded run of the loop: for every token the state whose scanner found it, its terminal, and, unless it
is a literal, its exact text. Its expression is the concatenation, token by token, of: white space, nothing that this
scanner would have tried first, the token. A text that matches it makes the contextual lexer choose the same terminals
step by step; the parser sees only terminals; so the run is the same, and the tree is the same calls of builders over
the new literals. They are called again, all of them: what they check (ranges, escapes, how a bare word reads) is
checked on the new text, and the spans are the new text's. A text that does not match is simply parsed. Errors are never
remembered, and statements with comments or JSON never match.

Which shape may fit is a guess by the first letters and costs nothing if it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kvql.parser import loop
from kvql.parser.build.literals import sequence
from kvql.parser.loop import BUILD, LIST, MORE, NONE, PASS, RECIPES
from kvql.parser.tables import END, END_STATE, GOTOS, KEPT, KEYWORDS, NAMES, ROWS, START_STATE, TERMINALS, scans_words
from kvql.parser.trace import Seen, trace

SIGHTS: Final = 16
"""Statements of one kind and length before one of them is made a shape; doubled each time that did not help."""
SHAPES_MAX: Final = 8
"""Shapes with the same first letters; the one that matched last is tried first."""
TOKENS_MAX: Final = 60
_LETTERS: Final = 4

Fill = Callable[[Any, int, int], Any]


class Shape(NamedTuple):
    match: Callable[..., re.Match[str] | None]
    fill: Fill
    """(regs of a match, its groups, what to subtract from offsets, ``?`` before) -> node."""
    last: int
    """The group of the last token."""
    tokens: int


_shapes: Final[dict[str, list[Shape]]] = {}
_sights: Final[dict[tuple[type, int], list[int]]] = {}
"""(kind of statement, tokens or skeleton) -> [sights, sights at which to make a shape]"""
SIGHTS_MAX: Final = 1000
SHORT_TOKENS: Final = 8
_LITERAL: Final = re.compile(r"'[^']*'|[0-9]+")


def run(text: str, at: int, relative: bool, places: int) -> tuple[Any, int, int, int, int]:
    """As ``loop.run``, by a shape if one fits."""
    known = _shapes.get(text[at : at + _LETTERS])
    if known is not None:
        for place, shape in enumerate(known):
            m = shape.match(text, at)
            if m is not None:
                if place:
                    known[0], known[place] = known[place], known[0]
                regs = m.regs
                start = regs[1][0]
                node = shape.fill(m, start if relative else 0, places)
                return node, start, regs[shape.last][1], regs[0][1], shape.tokens
    made = loop.run(text, at, relative, places)
    if made[4] <= TOKENS_MAX:
        # long statements are told apart by all that is no literal, so that a thousand different ones teach nothing
        skeleton = hash(_LITERAL.sub("", text[made[1] : made[2]])) if made[4] > SHORT_TOKENS else made[4]
        key = (type(made[0]), skeleton)
        seen = _sights.get(key)
        if seen is None:
            if len(_sights) >= SIGHTS_MAX:
                _sights.clear()
            _sights[key] = [1, SIGHTS]
        else:
            seen[0] += 1
            if seen[0] >= seen[1]:
                seen[0], seen[1] = 0, seen[1] * 2
                learn(text, at)
    return made


def learn(text: str, at: int) -> None:
    """Make a shape of the statement at ``at``, which the loop has just taken."""
    made = record(text, at)
    if made is not None:
        key = text[at : at + _LETTERS]
        _shapes[key] = [made, *_shapes.get(key, ())][:SHAPES_MAX]


def forget() -> None:
    """Start anew; for tests."""
    _shapes.clear()
    _sights.clear()


# ── the expression ────────────────────────────────────────────────────────────────────────────────────────────────

_LITERALS: Final = frozenset({"STRING", "E_STRING", "X_STRING", "INT", "DECIMAL", "FLOAT", "DURATION", "BAREWORD"})
_WORD_END: Final = r"(?!\w)"
_WIDE_END: Final = r"(?![^\s;,'\"()\[\]{}])"
_ENDS: Final = {
    "NAME": _WORD_END, "WORD": _WIDE_END, "QNAME": '(?!")', "PARAM": _WORD_END, "WPARAM": r"(?![^\s;,)\]}])",
}  # fmt: skip
_OPERATOR_END: Final = r"(?![-+*/%<>=!~^&|:?])"
_JSON: Final = frozenset({"JSON_STRING", "JSON_NUMBER", "LBRACE", "RBRACE"})


def record(text: str, at: int) -> Shape | None:
    """The shape of the statement at ``at``; None if it has what no expression can hold."""
    seen = trace(text, at)
    if not seen.complete or text[at : seen.at].find("--") >= 0 or text.find("/*", at, seen.at) >= 0:
        return None
    parts: list[str] = []
    for token in seen.tokens:
        name = NAMES[token.term]
        if name in _JSON or (name == "LSQB" and token.end - token.start > 1):
            return None
        parts.append(rf"\s*+{_guard(token)}({_pattern(token, text)})")
    parts.append(r"\s*+(?:;|\Z)")
    program = _Program(seen.tokens, text)
    return Shape(re.compile("".join(parts)).match, program.compile(), len(seen.tokens), len(seen.tokens))


def _pattern(token: Seen, text: str) -> str:
    """A literal's own expression, or the exact text and that it ends there."""
    name, pattern = TERMINALS[token.term]
    if name in _LITERALS:
        return f"(?>{pattern})"
    exact = text[token.start : token.end]
    if token.term in KEYWORDS:
        return re.escape(exact) + (_WORD_END if pattern.endswith(r"(?!\w))") else _WIDE_END)
    if name in _ENDS:
        return re.escape(exact) + _ENDS[name]
    return re.escape(exact) + (_OPERATOR_END if exact not in "()[],." else "")


def _guard(token: Seen) -> str:
    """Nothing that this scanner tries before this terminal stands here.

    Keywords matter only before a bare word: an exact text is one or is none, and no other literal starts with a letter
    but ``e'`` and ``x'``, which are tried before all keywords. Those that end as bare words do depend on what follows.
    """
    row = ROWS[token.scanned_in]
    word = NAMES[token.term] == "BAREWORD"
    wide = not scans_words(row)
    earlier = [
        t for t in sorted(row)
        if t < token.term and (t not in KEYWORDS or word or (wide and NAMES[token.term] == "WORD") or _depends(t))
    ]  # fmt: skip
    return f"(?!{'|'.join(TERMINALS[t][1] for t in earlier)})" if earlier else ""


def _depends(term: int) -> bool:
    return not TERMINALS[term][1].endswith(r"(?!\w))")


# ── the calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Program:
    """The reductions of a run as straight code: ``n5 = b5([n3, None, n4], r[1][0] - d, r[3][1] - d)``.

    The code holds numbers and names of our own only; texts come in through the constants.
    """

    def __init__(self, tokens: list[Seen], text: str) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = {}
        self._places = 0
        self._stack: list[tuple[int, Any, int]] = [(START_STATE, "None", 1)]
        self.result = "None"
        for number, token in enumerate(tokens, 1):
            self._reduce(token.term, number - 1)
            self._stack.append((token.shifted_to, self._value(token, text, number), number))
        self._reduce(END, len(tokens))

    def _constant(self, value: Any) -> str:
        name = f"c{len(self._names)}"
        self._names[name] = value
        return name

    def _value(self, token: Seen, text: str, number: int) -> str:
        kept = KEPT[token.term]
        if not kept:
            return "None"
        exact = text[token.start : token.end]
        if kept == 2 and exact == "?":
            self._places += 1
            return f"places + {self._places - 1}"
        return f"m[{number}]" if NAMES[token.term] in _LITERALS else self._constant(exact)

    def _reduce(self, term: int, last: int) -> None:
        stack = self._stack
        while True:
            action = ROWS[stack[-1][0]][term]
            if action >= 0:
                return
            shifted, cells, mode, extra = RECIPES[~action]
            size = cells // 3
            children = stack[len(stack) - size :]
            del stack[len(stack) - size :]
            start = children[0][2] if children else last
            value: Any = "None"
            if extra is sequence:
                value = [children[0][1], *(children[1][1] if size > 1 else [])]
            elif mode == BUILD:
                value = self._call(extra, [c[1] for c in children], start, last)
            elif mode == PASS:
                value = children[(extra - 1) // 3 + size][1]
            elif mode in (LIST, MORE):
                picked = [children[(i - 1) // 3 + size][1] for i in extra]
                value = picked if mode == LIST else [*children[0][1], *picked]
            else:
                assert mode == NONE
            state = GOTOS[stack[-1][0]][shifted >> 10]
            stack.append((state, value, start))
            if term == END and state == END_STATE:
                self.result = value
                return

    def _call(self, builder: Any, values: list[Any], start: int, last: int) -> str:
        made = f"n{len(self._lines)}"
        shown = ", ".join(f"[{', '.join(v)}]" if isinstance(v, list) else v for v in values)
        place = f"r[{start}][0] - d, r[{last}][1] - d"
        self._lines.append(f"    {made} = {self._constant(builder)}([{shown}], {place})")
        return made

    def compile(self) -> Fill:
        source = "\n".join(["def fill(m, d, places):", "    r = m.regs", *self._lines, f"    return {self.result}"])
        scope = dict(self._names)
        exec(source, scope)  # noqa: S102 - numbers and our own names only (see above), as dataclasses do
        made: Fill = scope["fill"]
        return made


__all__ = ["forget", "learn", "record", "run"]
