"""The format ``markdown``: a table as GitHub and most converters read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kvql.values import display
from kvql_shell.render import Row, Write
from kvql_shell.render.screen import safe


def write(columns: Sequence[str], rows: Iterable[Row], out: Write) -> None:
    """Unpadded, so that it streams."""
    out("| " + " | ".join(map(_field, columns)) + " |\n|" + " --- |" * len(columns) + "\n")
    write_rows(rows, out)


def write_rows(rows: Iterable[Row], out: Write) -> None:
    """The rows of a table that was begun."""
    for row in rows:
        out("| " + " | ".join(map(_field, row)) + " |\n")


def _field(value: Any) -> str:
    if value is None:
        return "*NULL*"
    lines = display(value).replace("\r\n", "\n").split("\n")
    escaped = [safe(line).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for line in lines]
    return "<br>".join(escaped)
