"""Events as they come: every format, written out and flushed after each of them, without an end of its own.

A table cannot be sized on rows that have not happened yet: its columns have usual widths, and a wider value pushes its
line to the right. In the format ``kvql`` events are the statements that do the same to another store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TextIO

from kvql import ast
from kvql.printer import unparse
from kvql_shell.render import PEOPLE, Format, Row, Style, Write, plural
from kvql_shell.render.screen import cell

_WIDTHS: Final = (7, 8, 16, 12, 12, 0)
"""Of event, revision, key, old value, value, by."""
_REVISION: Final = 1
_GONE: Final = frozenset({"DELETE", "EXPIRE", "LEAVE"})
Page = Sequence[Row]


class Live:
    """Writes the events of a watch, page by page; ``finish`` it, however it ended."""

    def __init__(self, form: Format, columns: Sequence[str], out: TextIO, style: Style) -> None:
        self._form = form
        self._columns = columns
        self._out = out
        self._style = style
        self._count = 0
        self._page = self._writer(form, out.write)
        out.flush()

    def write(self, pages: Iterable[Page]) -> None:
        """Every page at once when it is here."""
        for page in pages:
            self._page(page)
            self._count += len(page)
            self._out.flush()

    def finish(self) -> None:
        """What closes the format: the brackets of JSON, the number of events for people."""
        if self._form is Format.JSON:
            self._out.write("\n]\n" if self._count else "[]\n")
        if self._form in PEOPLE:
            self._out.write(f"({plural(self._count, 'event')})\n")
        self._out.flush()

    def _writer(self, form: Format, out: Write) -> Callable[[Page], object]:
        """How a page is written; what stands above the first one is written now."""
        columns = self._columns
        match form:
            case Format.TABLE:
                return self._table(out)
            case Format.VERTICAL:
                from kvql_shell.render import vertical

                return lambda page: vertical.write(columns, page, out, self._style, first=self._count + 1)
            case Format.CSV | Format.TSV:
                from kvql_shell.render import delimited

                tabs = form is Format.TSV
                delimited.write(columns, (), out, self._style, tabs=tabs)
                return lambda page: delimited.write(columns, page, out, Style(header=False), tabs=tabs)
            case Format.JSON | Format.JSONL:
                from kvql_shell.render import objects

                lines = form is Format.JSONL
                return lambda page: objects.write_part(columns, page, out, lines=lines, begun=self._count > 0)
            case Format.MARKDOWN:
                from kvql_shell.render import markdown

                markdown.write(columns, (), out)
                return lambda page: markdown.write_rows(page, out)
            case Format.KVQL:
                return lambda page: out("".join(map(_statement, page)))

    def _table(self, out: Write) -> Callable[[Page], object]:
        from kvql_shell.render.table import Layout

        columns = self._columns
        widths = [max(len(name), width) for name, width in zip(columns, _WIDTHS, strict=True)]
        layout = Layout(widths, [i == _REVISION for i in range(len(columns))], self._style)
        if self._style.header:
            out(layout.heading(list(columns)) + layout.rule())
        return lambda page: out("".join(map(layout.line, page)))


def _statement(row: Row) -> str:
    event, _, key, _, value, _ = row
    if key is None:
        return f"-- {cell(event)}\n"
    if event in _GONE:
        return unparse(ast.DeleteKeys((ast.Literal(key),))) + ";\n"
    return unparse(ast.Upsert((ast.Pair(ast.Literal(key), ast.Literal(value)),))) + ";\n"
