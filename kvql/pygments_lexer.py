"""KVQL for Pygments (documentation, notebooks, ``pygmentize``), found by entry point.

The pieces come from the parser's own tokens, so a keyword is coloured as one only where the grammar has it as one:
``GET select`` has one keyword, ``SELECT get`` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from pygments.lexer import Lexer
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Text, _TokenType

from kvql.parser import tokens

_TYPES: Final[dict[str, _TokenType]] = {
    "keyword": Keyword,
    "function": Name.Function,
    "type": Keyword.Type,
    "name": Name,
    "key": Name.Variable,
    "text": String,
    "number": Number,
    "constant": Keyword.Constant,
    "parameter": Name.Variable.Magic,
    "operator": Operator,
    "punctuation": Punctuation,
    "comment": Comment,
    "error": Error,
}


class KvqlLexer(Lexer):  # type: ignore[misc]  # Pygments has no types
    """``pygmentize -l kvql``; files end in ``.kvql``."""

    name = "KVQL"
    aliases: ClassVar[list[str]] = ["kvql"]
    filenames: ClassVar[list[str]] = ["*.kvql"]
    mimetypes: ClassVar[list[str]] = ["text/x-kvql"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """(offset, type, piece) in order, without gaps."""
        at = 0
        for token in tokens(text):
            if token.start > at:
                yield at, Text, text[at : token.start]
            yield token.start, _TYPES.get(token.kind, Text), text[token.start : token.end]
            at = token.end
        if at < len(text):
            yield at, Text, text[at:]
