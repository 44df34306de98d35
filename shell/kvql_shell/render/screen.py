"""Text for a terminal: how wide it is, and how to make it harmless.

A key or a value is anybody's text. Escape sequences in it could move the cursor or set the window's title, and
direction marks could show another order than the one stored, so neither ever reaches the screen: they are written out.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kvql.values import display

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

DIM: Final = "\x1b[2m"
BOLD: Final = "\x1b[1m"
RED: Final = "\x1b[31m"
YELLOW: Final = "\x1b[33m"
RESET: Final = "\x1b[0m"


def safe(text: str) -> str:
    """``text`` with control, direction and invisible characters written out: ``\\n``, ``\\x1b``, ``\\u202e``."""
    if text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe_lines(text: str) -> str:
    """Like ``safe``, but line feeds stay: for a whole message."""
    return "\n".join(map(safe, text.split("\n")))


def width(text: str) -> int:
    """Terminal columns that ``text`` (a result of ``safe``) takes."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth  # some 15 ms to import, and most results are plain ASCII

    columns = wcswidth(text)
    return columns if columns >= 0 else len(text)


def cell(value: Any) -> str:
    """A value as one safe line."""
    if type(value) is int:
        return str(value)
    text = value if type(value) is str else display(value)
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)
