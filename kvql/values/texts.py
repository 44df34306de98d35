"""Texts as literals."""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "''"}


def quote(text: str) -> str:
    """``text`` as a string literal; with control characters in the ``e'…'`` form, so that a script stays readable."""
    if _PLAIN.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    body = "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if not _PLAIN.fullmatch(c) else c) for c in text)
    return f"e'{body}'"


def shorten(text: str) -> str:
    """A piece of input for a message: quoted, and no longer than a line."""
    return quote(text if len(text) <= 60 else text[:57] + "...")
