"""Secrets out of text that is kept or shown."""

from __future__ import annotations

import re
from typing import Final

_TEXT: Final = r"(?:[eE]?'(?:[^'\\]|''|\\.)*(?:'|$))"
_GAP: Final = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_SECRET: Final = re.compile(rf"(\bPASSWORD{_GAP}){_TEXT}", re.IGNORECASE | re.DOTALL)
_URL: Final = re.compile(r"(kvql(?:\+unix)?://[^\s:/@]*:)[^\s@/]+(@)")


def redact(text: str) -> str:
    """``text`` with the text after PASSWORD, and a password in a URL, replaced by stars; an unfinished one as well."""
    return _URL.sub(r"\1***\2", _SECRET.sub(r"\1'***'", text))
