"""Where results, notices and errors go: rows to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO, cast

from kvql import ast, errors
from kvql.errors import Error
from kvql.result import Notice, Result
from kvql.span import Position
from kvql_shell.render import PEOPLE, Format, Style, screen, write_rows
from kvql_shell.render.messages import footer, message

_RAW_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def terminal(stream: TextIO) -> bool:
    return stream.isatty()


def colored(stream: TextIO) -> bool:
    """Colours only on a terminal that has them, and not against the user's will (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


@dataclass(slots=True)
class Output:
    """``messages``: tell what statements without rows did. ``quiet`` ones only make rows, notices and errors."""

    out: TextIO
    err: TextIO
    form: Format
    style: Style
    color_errors: bool = False
    messages: bool = True
    pager: str | None = None

    @classmethod
    def standard(cls, form: Format | None, *, header: bool = True, pager: str | None = None) -> Output:
        """The process's own streams; without a format, a table on a terminal and TSV anywhere else."""
        reconfigure(sys.stdout)
        reconfigure(sys.stderr)
        chosen = form or (Format.TABLE if terminal(sys.stdout) else Format.TSV)
        out = sys.stdout
        if terminal(out) and chosen not in PEOPLE:
            out = cast(TextIO, _Harmless(out))
        return cls(
            out,
            sys.stderr,
            chosen,
            Style(color=colored(sys.stdout), header=header),
            color_errors=colored(sys.stderr),
            pager=pager if terminal(sys.stdout) else None,
        )

    def result(
        self, statement: ast.Statement | None, result: Result, watch: Callable[[Iterable[Any]], Iterable[Any]] = iter
    ) -> None:
        """Write a result: its rows or what it did, then its notices. ``watch`` wraps the rows (see ``Interrupt``)."""
        if result.columns is not None:
            names = [column.name for column in result.columns]
            if self.pager:
                self._page(names, watch(result.rows), footer(statement))
            else:
                write_rows(self.form, names, watch(result.rows), self.out, self.style, footer(statement))
        elif self.tells_writes and statement is not None:
            text = message(statement, result)
            if text is not None:
                self.out.write(text + "\n")
        for notice in result.notices:
            self.notice(notice)

    def events(self, result: Result, interrupted: Callable[[], object]) -> None:
        """Write the events of a watch as they come, until it is interrupted: that is its end, and no error."""
        from kvql_shell.render.live import Live

        assert result.columns is not None
        live = Live(self.form, [column.name for column in result.columns], self.out, self.style)
        try:
            live.write(pages(result.rows))
        except Error as e:
            if e.sqlstate != errors.CANCELLED or not interrupted():
                raise
            if terminal(self.out) and self.form in PEOPLE:
                self.out.write("\n")  # behind the ^C
        finally:
            live.finish()

    @property
    def tells_writes(self) -> bool:
        """Does a statement without rows leave a line?"""
        return self.messages and self.form in PEOPLE

    def _page(self, names: list[str], rows: Iterable[Any], foot: str) -> None:
        import shlex
        import subprocess

        assert self.pager is not None
        self.out.flush()
        # no preexec_fn: gRPC complains on the terminal about forks while a call is open
        with subprocess.Popen(shlex.split(self.pager), stdin=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # the reader has seen enough
                write_rows(self.form, names, rows, cast(TextIO, process.stdin), self.style, foot)
                process.stdin.close()

    def notice(self, notice: Notice) -> None:
        """``NOTICE: …`` and its hint, on standard error."""
        text = f"NOTICE: {notice.message}" + (f"\nHINT: {notice.hint}" if notice.hint else "")
        self._tell(text, "NOTICE:", screen.YELLOW)

    def error(self, error: Error, where: str | None = None, first: Position | None = None) -> None:
        """The error with its caret, on standard error."""
        self._tell(error.render(where=where, first=first), "ERROR", screen.RED)

    def warning(self, text: str) -> None:
        self._tell(f"WARNING: {text}", "WARNING:", screen.YELLOW)

    def tell(self, text: str) -> None:
        """A line for people, on standard error."""
        self._tell(text, "", "")

    def _tell(self, text: str, head: str, color: str) -> None:
        self.out.flush()
        shown = screen.safe_lines(text)
        if self.color_errors and head:
            word = shown.split(":", 1)[0]
            shown = f"{screen.BOLD}{color}{word}{screen.RESET}{shown[len(word) :]}"
        self.err.write(shown + "\n")
        self.err.flush()


def pages(rows: Any) -> Iterator[Sequence[Any]]:
    """The rows of a result as they come; those that are here already are one page."""
    more = getattr(rows, "more", None)
    if more is None:
        if rows := list(rows):
            yield rows
        return
    while page := more():
        yield page


class _Harmless:
    """Data formats on a terminal: the characters that could steer it are written out, others stay exact."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(_RAW_CONTROL.sub(lambda m: screen.safe(m[0]), text))

    def flush(self) -> None:
        self._out.flush()

    def isatty(self) -> bool:
        return True


def reconfigure(stream: TextIO) -> None:
    """UTF-8 whatever the locale, line ends as written; a stream put in by a test is left alone."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
