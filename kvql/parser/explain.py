"""Why a text is no statement, in the user's words (LANGUAGE §9).

The walk is repeated by ``trace``, which knows the tokens before the mistake and the parser's states at it; from those
come the exact set of what could have stood there, and the hint. ``hints`` holds what people mean when they write what
KVQL does not know.
"""

from __future__ import annotations

import re
from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.parser import hints
from kvql.parser.hints import Mistake
from kvql.parser.matching import known
from kvql.parser.tables import END, ROWS, scans_words
from kvql.parser.trace import possible, trace
from kvql.span import Span


def explain(text: str, start: int) -> Error:
    """The error for the statement at ``start`` that the loop has refused."""
    seen = trace(text, start)
    at = seen.at
    if at >= len(text) or (text[at] == ";" and seen.term in (None, END)):
        mistake = Mistake(text, at, at, seen, possible(seen.stack))
        message = "syntax error at end of input" if at >= len(text) else 'syntax error at or near ";"'
        return errors.error(errors.SYNTAX, message, hint=hints.at_end(mistake), span=_end_span(text, at))
    unclosed = _unclosed(text, at)
    if unclosed is not None:
        return unclosed
    end = _word_end(text, at, wide=_takes_words(seen.stack[-1]))
    mistake = Mistake(text, at, end, seen, possible(seen.stack))
    refused = hints.refused_by_name(mistake)
    span = Span(at, end)
    if refused is not None:
        return errors.error(errors.NOT_SUPPORTED, refused[0], hint=refused[1], span=span)
    shown = text[at:end] if end - at <= 40 else text[at : at + 37] + "..."
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
    return errors.error(errors.SYNTAX, f'syntax error at or near "{shown}"', hint=hints.near(mistake), span=span)


def _end_span(text: str, at: int) -> Span:
    """The end of what was written: behind its last visible character."""
    if at < len(text):
        return Span(at, at + 1)
    last = len(text.rstrip())
    return Span(last, last + 1)


_WIDE: Final = re.compile(r"[^\s;,'\"()\[\]{}]+")
_TOKEN: Final = re.compile(
    r"""'[^']*(?:''[^']*)*'|"[^"]*"|[0-9][\w.]*|\.[0-9][\w.]*|\w+|[?:$@]\w*|::|&&|\|\||[-+*/%<>=!~^&|#\\`]|[\s\S]"""
)


def _takes_words(state: int) -> bool:
    return not scans_words(ROWS[state])


def _word_end(text: str, at: int, *, wide: bool) -> int:
    """The end of what is refused, as far as a person would point at it."""
    if wide:
        m = _WIDE.match(text, at)
        if m is not None:
            return m.end()
    return known(_TOKEN.match(text, at)).end()


_OPENED: Final = re.compile(r"(?P<quote>[eExX]?')|(?P<name>\")|(?P<comment>/\*)")
_CLOSED: Final = re.compile(
    r"""[eE]'[^'\\]*+(?:(?:\\[\s\S]|'')[^'\\]*+)*+'|[xX]?'[^']*+'|"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"|"[^"]*+"|/\*[\s\S]*?\*/"""
)


def _unclosed(text: str, at: int) -> Error | None:
    """A quote or a comment that starts at ``at`` and never ends."""
    m = _OPENED.match(text, at)
    if m is None or _CLOSED.match(text, at):
        return None
    if m["comment"]:
        return errors.error(errors.SYNTAX, "unterminated /* comment", hint="close it with */", span=Span(at, at + 2))
    if m["name"]:
        if text[at:].count('"') > 1:
            return None
        return errors.error(
            errors.SYNTAX,
            "unterminated quoted name",
            hint='the name that starts here has no closing "',
            span=Span(at, at + 1),
        )
    return errors.error(
        errors.SYNTAX,
        "unterminated quoted text",
        hint="the text that starts here has no closing quote",
        span=Span(at, at + len(m[0])),
    )
