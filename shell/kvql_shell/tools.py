"""``kvql check``, ``kvql fmt`` and ``kvql ping``: small, on top of the parser, the printer and the client."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from kvql.errors import Error
from kvql_shell import exits, sources
from kvql_shell.output import Output
from kvql_shell.places import Places
from kvql_shell.session import Access

# ── check ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(name: str, output: Output) -> int:
    """Tell every syntax error of a file with its place; the exit code."""
    from kvql.parser import read_statements

    code = exits.FINE
    with sources.opener(name)() as text:
        places = Places(text.chunks)
        try:
            for parsed in read_statements(places):
                if parsed.error is not None:
                    code = exits.SYNTAX
                    output.error(parsed.error, text.name, places.at(parsed.span.start))
                places.release(parsed.span.start)
        except Error as e:
            code = exits.SYNTAX
            output.error(e, text.name)
    return code


# ── fmt ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fmt(name: str, output: Output, *, write: bool, only_check: bool) -> int:
    """Print, check or rewrite a file; a file with a syntax error is left as it is."""
    with sources.opener(name)() as opened:
        try:
            text = "".join(opened.chunks)
        except Error as e:
            output.error(e, opened.name)
            return exits.SYNTAX
    try:
        formatted = formatted_text(text)
    except Error as e:
        output.error(e, name)
        return exits.SYNTAX
    if only_check:
        if formatted != text:
            output.tell(f"{name} would change")
            return exits.SYNTAX
    elif write and name != sources.STANDARD_INPUT:
        if formatted != text:
            Path(name).write_text(formatted, encoding="utf-8", newline="")
    else:
        output.out.write(formatted)
    return exits.FINE


def formatted_text(text: str) -> str:
    """The text in the printer's form, comments and single blank lines kept; the first syntax error is raised.

    A statement with a comment inside stays as it was written: there is no right place to move the comment to.
    """
    from kvql.parser import read_statements, tokens
    from kvql.printer import unparse

    out: list[str] = []
    at = 0
    for parsed in read_statements(iter((text,))):
        if parsed.error is not None:
            raise _moved(parsed.error, parsed.span.start, text)
        out.append(_gap(text[at : parsed.span.start], first=at == 0))
        source = text[parsed.span.start : parsed.span.end].strip().rstrip(";").rstrip()
        if parsed.statement is not None:
            commented = any(token.kind == "comment" for token in tokens(source))
            out.append((source if commented else unparse(parsed.statement)) + ";")
        at = parsed.span.end
    out.append(_gap(text[at:], first=at == 0))
    body = "".join(out).strip("\n")
    return body + "\n" if body else ""


def _moved(error: Error, start: int, text: str) -> Error:
    """The same error with its place counted in the whole file."""
    if error.span is not None and error.source != text:
        error.span = error.span.shift(start)
    error.source = text
    return error


_GAP_PIECE: Final = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)|\n", re.DOTALL)


def _gap(gap: str, *, first: bool) -> str:
    """What stands between two statements: comments, and at most one empty line wherever there were some."""
    out = ""
    at_line_start = first
    lines = 0
    for piece in _GAP_PIECE.findall(gap):
        if piece == "\n":
            lines += 1
            continue
        if not at_line_start:
            out += "  " if lines == 0 else "\n" if lines == 1 else "\n\n"  # one behind a statement stays on its line
        out += piece.rstrip()
        at_line_start, lines = False, 0
    if not at_line_start:
        out += "\n" if lines < 2 else "\n\n"
    return out


# ── ping ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ping(access: Access, output: Output) -> int:
    """Log in, ask for one row, tell the times; an error of the connection is raised."""
    start = time.perf_counter()
    client = access.connect()
    try:
        connected = time.perf_counter()
        list(client.run("SELECT 1").rows)
        answered = time.perf_counter()
    finally:
        client.close()
    print(
        f"{access.target.text} is there: logged in after {(connected - start) * 1000:.1f} ms, "
        f"answered after {(answered - connected) * 1000:.1f} ms"
    )
    return exits.FINE
