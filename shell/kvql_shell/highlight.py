"""Colours while typing, from the parser's own tokens: a keyword is one only where the grammar has it as one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from kvql.parser import tokens

STYLE: Final = Style.from_dict(
    {
        "kvql.keyword": "ansiblue bold",
        "kvql.function": "ansicyan",
        "kvql.type": "ansicyan",
        "kvql.name": "",
        "kvql.key": "ansigreen",
        "kvql.text": "ansiyellow",
        "kvql.number": "ansimagenta",
        "kvql.constant": "ansimagenta",
        "kvql.parameter": "ansicyan italic",
        "kvql.operator": "",
        "kvql.punctuation": "",
        "kvql.comment": "ansibrightblack italic",
        "kvql.error": "ansired underline",
        "prompt.state": "ansiyellow bold",
    }
)


class Highlighter(Lexer):
    """prompt_toolkit's face of ``parser.tokens``; a text is split once, however often its lines are drawn."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        lines = _lines(document.text)
        return lambda number: list(lines[number]) if number < len(lines) else []


@lru_cache(maxsize=16)
def _lines(text: str) -> list[StyleAndTextTuples]:
    lines: list[StyleAndTextTuples] = [[]]
    at = 0
    for token in tokens(text):
        if token.start > at:
            _append(lines, "", text[at : token.start])
        _append(lines, f"class:kvql.{token.kind}", text[token.start : token.end])
        at = token.end
    _append(lines, "", text[at:])
    return lines


def _append(lines: list[StyleAndTextTuples], style: str, text: str) -> None:
    first, *others = text.split("\n")
    if first:
        lines[-1].append((style, first))
    for line in others:
        lines.append([(style, line)] if line else [])
