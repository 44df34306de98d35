"""The format ``table``: aligned columns, sized on the first rows, written as the rows come.

 key | value
-----+-------
 a   |     1

A later value that is wider than its column is written in full and pushes its line to the right: nothing is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Final

from kvql_shell.render import Row, Style, Write
from kvql_shell.render.screen import BOLD, DIM, RESET, cell, safe, width

SAMPLE_ROWS: Final = 500
_BATCH_ROWS: Final = 500
_NUMBERS: Final = frozenset({int, float, Decimal})
_NONE: Final = type(None)


def write(columns: Sequence[str], rows: Iterable[Row], out: Write, style: Style) -> None:
    """Write the table; memory is bounded by the sample and a batch."""
    source = iter(rows)
    sample = list(islice(source, SAMPLE_ROWS))
    names = [safe(name) for name in columns]
    right = _right_aligned(sample, len(names))
    cells = [list(map(cell, row)) for row in sample]
    widths = [max([width(name), *(width(row[i]) for row in cells)]) for i, name in enumerate(names)]
    layout = Layout(widths, right, style)
    if style.header:
        out(layout.heading(names))
        out(layout.rule())
    out("".join(map(layout.line, sample)))
    for batch in _batches(source):
        out("".join(map(layout.line, batch)))


def _batches(source: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(source, _BATCH_ROWS)):
        yield batch


def _right_aligned(sample: list[Row], count: int) -> list[bool]:
    """Columns of numbers: at least one, and nothing else but NULL."""
    out = []
    for i in range(count):
        kinds = {type(row[i]) for row in sample} - {_NONE}
        out.append(bool(kinds) and kinds <= _NUMBERS)
    return out


class Layout:
    """Lines of given widths; an ASCII line is one formatting operation."""

    def __init__(self, widths: list[int], right: list[bool], style: Style) -> None:
        self._widths = widths
        self._right = right
        self._color = style.color
        last = len(widths) - 1
        # the last column is not filled up: no line ends in blanks, and copying from the screen stays clean
        self._pattern = (
            " "
            + " | ".join(
                f"%{w}s" if r else "%s" if i == last else f"%-{w}s"
                for i, (w, r) in enumerate(zip(widths, right, strict=True))
            )
            + "\n"
        )

    def line(self, row: Row) -> str:
        if self._color and None in row:
            return self._padded([cell(v) for v in row], [v is None for v in row])
        cells = tuple(map(cell, row))
        text = self._pattern % cells
        return text if text.isascii() else self._padded(list(cells))

    def rule(self) -> str:
        """The line under the names."""
        return "-" + "-+-".join(["-" * width for width in self._widths]) + "-\n"

    def heading(self, names: list[str]) -> str:
        """The names, in the middle of their columns as psql has them."""
        parts = []
        for i, name in enumerate(names):
            space = self._widths[i] - width(name)
            left = space // 2
            shown = f"{BOLD}{name}{RESET}" if self._color else name
            parts.append(" " * left + shown + (" " * (space - left) if i < len(names) - 1 else ""))
        return " " + " | ".join(parts) + "\n"

    def _padded(self, cells: list[str], dim: list[bool] | None = None) -> str:
        """A line whose characters may be wide, or that holds a NULL to be told from the text NULL."""
        parts = []
        last = len(cells) - 1
        for i, text in enumerate(cells):
            fill = " " * (self._widths[i] - width(text))
            shown = f"{DIM}{text}{RESET}" if dim is not None and dim[i] else text
            parts.append(fill + shown if self._right[i] else shown if i == last else shown + fill)
        return " " + " | ".join(parts) + "\n"
