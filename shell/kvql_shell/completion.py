"""What may come next: keywords from the grammar's tables, names from the server.

``parser.expected`` says which keywords the parser would accept at the cursor (so what is offered always parses) and
whether a key or a namespace may stand there. Keys and namespaces come from ``names``, which never makes
the prompt wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kvql.parser import expected
from kvql.values import quote
from kvql_shell.render import screen

_OFFERED_MAX: Final = 200
COLUMNS: Final = (
    "key",
    "value",
    "type",
    "version",
    "revision",
    "created_at",
    "updated_at",
    "updated_by",
    "comment",
    "expires_at",
    "ttl",
    "size",
)
"""The columns of every pair (LANGUAGE §1)."""
EVENT: Final = "event"
"""The one more that FROM HISTORY OF has."""
_HISTORY: Final = re.compile(r"\bFROM\s+HISTORY\s+OF\b", re.IGNORECASE)


class Names(Protocol):
    """Names that exist, as far as known by now."""

    def namespaces(self) -> list[str]: ...

    def keys(self, prefix: str) -> list[str]: ...


class KvqlCompleter(Completer):
    """Keywords first, as the grammar allows them, then what the server has."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text, cursor = document.text, document.cursor_position
        wanted = expected(text, cursor)
        start = wanted.replace_start - cursor
        prefix = text[wanted.replace_start : cursor]
        if not prefix and not complete_event.completion_requested and not text[:cursor].strip():
            return
        for keyword in _matching(wanted.keywords, prefix):
            # lower case stays lower case: nobody who types `get` wants GET
            shown = keyword.lower() if prefix.islower() else keyword
            yield Completion(shown, start, display_meta="keyword")
        if "column" in wanted.notions:
            columns = (*COLUMNS, EVENT) if _HISTORY.search(text) else COLUMNS
            for name in _matching(columns, prefix.lower(), exact=True):
                yield Completion(name, start, display_meta="column")
        if "namespace" in wanted.notions:
            for name in _matching(self._names.namespaces(), prefix, exact=True):
                yield Completion(name, start, display=screen.safe(name), display_meta="namespace")
        if "key" in wanted.notions:
            quoted = prefix.startswith("'")
            for name in self._names.keys(prefix[1:].replace("''", "'") if quoted else prefix):
                shown = quote(name) if quoted or not _bare(name) else name
                yield Completion(shown, start, display=screen.safe(name), display_meta="key")


def _matching(words: Iterable[str], prefix: str, *, exact: bool = False) -> list[str]:
    """Words that start with ``prefix``, then those that hold its letters in order (fuzzy); the shortest first."""
    typed = prefix if exact else prefix.upper()
    starts, holds = [], []
    for word in words:
        if word.startswith(typed):
            starts.append(word)
        elif typed and word[0] == typed[0] and _holds(word, typed):
            holds.append(word)
    return (sorted(starts) + sorted(holds, key=lambda w: (len(w), w)))[:_OFFERED_MAX]


def _holds(word: str, letters: str) -> bool:
    rest = iter(word)
    return all(letter in rest for letter in letters)


def _bare(key: str) -> bool:
    """May the key stand without quotes? (LANGUAGE §2)"""
    return (
        key.isprintable()
        and not key.startswith(("?", ":"))
        and "--" not in key
        and "/*" not in key
        and not any(c in " ;,'\"()[]{}" or c.isspace() for c in key)
    )
