"""The formats ``csv`` (RFC 4180) and ``tsv``, for programs: every value in full, never cut, never coloured.

CSV: lines end in CRLF; NULL is an empty field and the empty text is ``""``, as PostgreSQL writes them.
TSV: one line a row; tab, line feed, carriage return and backslash are written as ``\\t \\n \\r \\\\``, NULL as ``\\N``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvql.values import display
from kvql_shell.render import Row, Style, Write

_BATCH_CHARACTERS: Final = 1 << 16
_QUOTED: Final = re.compile(r'[",\r\n]|^ | $|^$')
_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def write(columns: Sequence[str], rows: Iterable[Row], out: Write, style: Style, *, tabs: bool) -> None:
    """A line of names (if wanted) and a line a row."""
    field: Callable[[Any], str] = _tsv if tabs else _csv
    separator, end = ("\t", "\n") if tabs else (",", "\r\n")
    if style.header:
        out(separator.join(map(field, columns)) + end)
    lines: list[str] = []
    size = 0
    for row in rows:
        line = separator.join(map(field, row)) + end
        lines.append(line)
        size += len(line)
        if size >= _BATCH_CHARACTERS:
            out("".join(lines))
            lines.clear()
            size = 0
    out("".join(lines))


def _csv(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return ""
    text = value if type(value) is str else display(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _tsv(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return "\\N"
    text = value if type(value) is str else display(value)
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPED)
