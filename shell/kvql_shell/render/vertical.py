"""The format ``vertical``: a block a row, a line a column; for wide values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvql_shell.render import Row, Style, Write
from kvql_shell.render.screen import DIM, RESET, cell, safe, width


def write(columns: Sequence[str], rows: Iterable[Row], out: Write, style: Style, first: int = 1) -> None:
    """``-[ row 1 ]---``, then ``name | value`` lines; ``first`` is the number of the first row."""
    names = [safe(name) for name in columns]
    widest = max(map(width, names), default=0)
    heads = [name + " " * (widest - width(name)) + " | " for name in names]
    for number, row in enumerate(rows, first):
        lines = [f"-[ row {number} ]".ljust(widest + 20, "-")]
        for head, value in zip(heads, row, strict=True):
            text = cell(value)
            lines.append(head + (f"{DIM}{text}{RESET}" if value is None and style.color else text))
        out("\n".join(lines) + "\n")
