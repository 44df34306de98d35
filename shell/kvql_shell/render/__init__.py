"""How rows look: one module a family of formats, all of them streaming.

``write_rows`` takes the columns' names and an iterator of rows, pulls the rows once, writes as it goes and returns how
many there were. Nothing here knows where the rows come from. ``screen`` makes foreign text safe for a terminal, and
``messages`` words what a statement without rows has done.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeAlias

Row: TypeAlias = tuple[Any, ...]
Write: TypeAlias = Callable[[str], object]


class Format(enum.StrEnum):
    """The values of ``--format``."""

    TABLE = "table"
    VERTICAL = "vertical"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"
    KVQL = "kvql"


PEOPLE: frozenset[Format] = frozenset({Format.TABLE, Format.VERTICAL})
"""The formats for reading: they tell what was written and count the rows. The others are data and nothing else."""


@dataclass(frozen=True, slots=True)
class Style:
    """``color``: escape sequences may be written. ``header``: names of the columns first, where a format has them."""

    color: bool = False
    header: bool = True


def write_rows(
    form: Format, columns: Sequence[str], rows: Iterable[Row], out: TextIO, style: Style, footer: str = "{rows}"
) -> int:
    """Write a result in the format ``form``; the number of its rows.

    ``footer`` is the last line of the formats for people, in brackets: ``{rows}`` stands for ``3 rows``.
    """
    counted = _Counted(rows)
    write = out.write
    match form:
        case Format.TABLE:
            from kvql_shell.render import table

            table.write(columns, counted, write, style)
        case Format.VERTICAL:
            from kvql_shell.render import vertical

            vertical.write(columns, counted, write, style)
        case Format.CSV | Format.TSV:
            from kvql_shell.render import delimited

            delimited.write(columns, counted, write, style, tabs=form is Format.TSV)
        case Format.JSON | Format.JSONL:
            from kvql_shell.render import objects

            objects.write(columns, counted, write, lines=form is Format.JSONL)
        case Format.MARKDOWN:
            from kvql_shell.render import markdown

            markdown.write(columns, counted, write)
        case Format.KVQL:
            from kvql_shell.render import statements

            statements.write(columns, counted, write)
    if form in PEOPLE:
        write(f"({footer.format(rows=plural(counted.count, 'row'))})\n")
    return counted.count


class _Counted:
    """An iterator that knows how many items it has given."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        count = 0
        try:
            for row in self._rows:
                count += 1
                yield row
        finally:
            self.count += count


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``; thousands are not grouped, so that a program can read the number."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
