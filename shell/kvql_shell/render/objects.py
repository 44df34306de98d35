"""The formats ``json`` (an array of objects a result) and ``jsonl`` (an object a line).

INTEGER and DECIMAL are numbers with every digit, FLOAT too except NaN and the infinities (texts, as PostgreSQL does);
BYTES are hexadecimal text, times ISO 8601, JSON values stand as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from kvql.values import Json, display
from kvql_shell.render import Row, Write

_BATCH_ROWS: Final = 500
_text = json.JSONEncoder(ensure_ascii=False).encode


def write(columns: Sequence[str], rows: Iterable[Row], out: Write, *, lines: bool) -> None:
    """Objects in the order of the columns; a name that appears twice is there twice."""
    pattern = _pattern(columns)
    batch: list[str] = []
    begun = False
    for row in rows:
        batch.append(pattern % tuple(map(encode, row)))
        if len(batch) >= _BATCH_ROWS:
            _flush(batch, out, lines, begun)
            begun = True
            batch.clear()
    if batch:
        _flush(batch, out, lines, begun)
        begun = True
    if not lines:
        out("\n]\n" if begun else "[]\n")


def write_part(columns: Sequence[str], rows: Iterable[Row], out: Write, *, lines: bool, begun: bool) -> None:
    """Some rows of a result, at least one, of which there are more; ``begun``: those before them are written. What ends
    an array is left to the caller."""
    pattern = _pattern(columns)
    _flush([pattern % tuple(map(encode, row)) for row in rows], out, lines, begun)


def _pattern(columns: Sequence[str]) -> str:
    return "{" + ", ".join(_text(name).replace("%", "%%") + ": %s" for name in columns) + "}"


def _flush(batch: list[str], out: Write, lines: bool, begun: bool) -> None:
    if lines:
        out("\n".join(batch) + "\n")
    else:
        out((",\n  " if begun else "[\n  ") + ",\n  ".join(batch))


def encode(value: Any) -> str:
    """One value as JSON text."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return str(value)
    if value is None:
        return "null"
    if kind is Json:
        return str(value.text)
    if kind is bytes:
        return f'"{value.hex()}"'
    text = display(value)
    if kind is bool or kind is Decimal or (kind is float and text[-1] not in "Ny"):
        return text
    return _text(text)
