"""Golden scripts: a ``.kvql`` file and the transcript that every door must give for it, on every engine.

A script is KVQL, nothing else, so that ``kvql run`` takes it as it is. Its transcript (``.out`` beside it) holds each
statement behind ``> `` and, below it, what a person sees. Three doors run it: the API (``kvql.connect``, printed by the
shell's own renderer), the shell with the script on standard input, and ``kvql run``. Two engines carry it out: hash
tables in a folder and the one in memory. ``make golden`` rewrites the transcripts through the API on hash tables; they
are read as a diff.

Comments at the head of a script steer it:

    --! set name=value      a parameter (for all doors)
    --! server              needs a server (rights, a start without a namespace): runs over TLS only
    --! sessions            lines start with ``a: ``, ``b: `` or ``c: `` and are sessions of their own; API only, in
                            process and over TLS
    --! revisions           the parameters :r1 … :r40 are the revisions of the commits that it makes, in their order
    --! rule 4.12 5.3       the rules of docs/language.md that it shows (tools/golden_rules.py looks for those without)
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kvql
from kvql import ast
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.values import Json

HERE = Path(__file__).parent
REVISIONS = 40
KVQL = Path(sys.executable).parent / "kvql"


@dataclass(frozen=True)
class Script:
    """A golden script, read and taken apart."""

    path: Path
    text: str
    parameters: dict[str, str] = field(default_factory=dict)
    server: bool = False
    sessions: bool = False
    rules: tuple[str, ...] = ()
    revisions: bool = False

    def values(self, before: int = 0) -> dict[str, str]:
        """The parameters, on a store whose newest revision is ``before``."""
        counted = {f"r{n}": str(before + n) for n in range(1, REVISIONS + 1)} if self.revisions else {}
        return self.parameters | counted

    def named(self, printed: str, before: int = 0) -> str:
        """What was printed, its revisions by the names of the parameters."""
        if not self.revisions:
            return printed
        return re.sub(
            r"(?<=revision )\d+(?= |$)", lambda n: _named(int(n[0]) - before, n[0]), printed, flags=re.MULTILINE
        )

    @property
    def transcript(self) -> Path:
        return self.path.with_suffix(".out")

    def expected(self) -> str:
        if not self.transcript.exists():
            raise AssertionError(f"{self.path.name} has no transcript; run: make golden, and read it")
        return self.transcript.read_text(encoding="utf-8")


def _named(number: int, written: str) -> str:
    return f":r{number}" if 0 < number <= REVISIONS else written


def read(path: Path) -> Script:
    text = path.read_bytes().decode("utf-8")
    parameters: dict[str, str] = {}
    flags: set[str] = set()
    rules: list[str] = []
    for line in text.splitlines():
        if line.startswith("--! set "):
            name, _, value = line.removeprefix("--! set ").partition("=")
            parameters[name.strip()] = value.strip()
        elif line.startswith("--! rule "):
            rules += line.removeprefix("--! rule ").split()
        elif line.startswith("--! "):
            flags.add(line.removeprefix("--! ").strip())
    unknown = flags - {"server", "sessions", "revisions"}
    assert not unknown, f"{path}: unknown directive {unknown}"
    assert not flags >= {"sessions", "revisions"}, f"{path}: to log in is a commit too"
    return Script(path, text, parameters, "server" in flags, "sessions" in flags, tuple(rules), "revisions" in flags)


def scripts() -> list[Path]:
    return sorted(HERE.glob("*/*.kvql"))


# ── the API door ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Block:
    """A statement and what it printed; ``message`` is the part that ``kvql run`` keeps to itself."""

    statement: str
    rows: str = ""
    message: str = ""
    errors: str = ""

    def shown(self, *, messages: bool = True) -> str:
        return self.rows + (self.message if messages else "") + self.errors


def _statements(script: Script) -> Iterator[tuple[str, str]]:
    """(session, text) of each statement; the text as the parser cut it, broken ones included."""
    from kvql.parser import read_statements

    if script.sessions:
        for line in script.text.splitlines():
            if line[:3] in ("a: ", "b: ", "c: "):
                yield line[0], line[3:].rstrip(";")
        return
    for parsed in read_statements(iter((script.text,))):
        yield "a", parsed.text


def through_api(script: Script, connect: Callable[[], Any]) -> list[Block]:
    """Each statement by ``Connection.execute``; ``connect`` opens one more session on the same store."""
    from kvql_shell.script import parameters_of

    open_sessions: dict[str, Any] = {}
    blocks = []
    before = 0
    if script.revisions:
        open_sessions["a"] = connect()
        before = _newest_revision(open_sessions["a"])
    parameters = parameters_of(f"{k}={v}" for k, v in script.values(before).items()) or None
    try:
        for session, text in _statements(script):
            if session not in open_sessions:
                open_sessions[session] = connect()
            block = _execute(open_sessions[session], text, parameters)
            block.errors = script.named(block.errors, before)
            if script.sessions:
                block.statement = f"{session}: {block.statement}"
            blocks.append(block)
    finally:
        for connection in open_sessions.values():
            connection.close()
    return blocks


def _newest_revision(connection: Any) -> int:
    """Of the store, found out by two commits more."""
    connection.execute("INSERT INTO probe VALUES ('a', 1)")
    (revision,) = connection.execute("SELECT revision FROM probe").fetchone()
    connection.execute("DROP NAMESPACE probe")
    return int(revision) + 1


def _execute(connection: Any, text: str, parameters: dict[str, Any] | None) -> Block:
    from kvql_shell.output import Output
    from kvql_shell.render import Format, Style

    out, notices = io.StringIO(), io.StringIO()
    output = Output(out, notices, Format.TABLE, Style())
    block = Block(text)
    try:
        (statement,) = kvql.parse(text)
        if isinstance(statement, ast.Watch):
            output.events(Result(columns=WATCH, rows=_events(connection, text, parameters)), lambda: False)
            block.rows, block.errors = out.getvalue(), notices.getvalue()
            return block
        cursor = connection.execute(text, parameters)
        columns = None if cursor.description is None else tuple(ResultColumn(d[0]) for d in cursor.description)
        rows = () if columns is None else map(_as_stored, cursor)
        output.result(statement, Result(columns=columns, rows=rows, row_count=cursor.rowcount, notices=cursor.notices))
        if columns is None:
            block.message = out.getvalue()
        else:
            block.rows = out.getvalue()
    except Error as e:
        block.rows = out.getvalue()
        output.error(e.at(None, text))
    block.errors = notices.getvalue()
    return block


WATCH = tuple(map(ResultColumn, ("event", "revision", "key", "old_value", "value", "by")))


def _events(connection: Any, text: str, parameters: dict[str, Any] | None) -> list[tuple[Any, ...]]:
    """What a watch shows of what has happened already: it has no end, and a transcript must."""
    if connection.transaction_state != "none":
        connection.execute(text, parameters)  # which refuses it; a watch apart would have nothing to do with this
    watch = connection.watch(text, parameters, timeout=0.3)
    try:
        return [_as_stored(event) for event in watch]
    finally:
        watch.close()


def _as_stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The API hands JSON out as dicts and lists; the shell prints what is stored."""
    return tuple(Json.dump(v) if isinstance(v, dict | list) else v for v in row)


def transcript(blocks: list[Block]) -> str:
    """The blocks as the ``.out`` file has them: further lines of a statement are indented."""
    return "\n".join("> " + block.statement.replace("\n", "\n  ") + "\n" + block.shown() for block in blocks)


# ── the doors of the command line ─────────────────────────────────────────────────────────────────────────────────


def shell_arguments(script: Script, target: str, extra: tuple[str, ...] = ()) -> list[str]:
    return [target, "--format", "table", "--continue", *_set(script), *extra]


def run_arguments(script: Script, target: str, extra: tuple[str, ...] = ()) -> list[str]:
    return ["run", str(script.path), target, "--format", "table", "--continue", *_set(script), *extra]


def _set(script: Script) -> list[str]:
    return [part for name, value in script.values().items() for part in ("--set", f"{name}={value}")]


def in_process(arguments: list[str], stdin: str) -> str:
    """``kvql ARGUMENTS`` by its main function; standard output and standard error as one text, in order."""
    from kvql_shell.main import main

    seen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True)
    kept = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"), seen, seen
    try:
        main(arguments)
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept
    seen.flush()
    return seen.buffer.getvalue().decode("utf-8")


def as_process(arguments: list[str], stdin: str, environment: dict[str, str] | None = None) -> str:
    """The real command, piped; standard output and standard error as one text, in order."""
    done = subprocess.run(
        [str(KVQL), *arguments], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout.decode("utf-8")


_PLACE = re.compile(r"^(ERROR \w{5}) at .*?:\d+:\d+: ", re.MULTILINE)
_LINE = re.compile(r"^(LINE )(\d+)(: .*)\n( *)(\^+)", re.MULTILINE)
_SUMMARY = re.compile(r"^\d+ statements? carried out.*\n\Z", re.MULTILINE)


def as_statement(printed: str) -> str:
    """What ``kvql run`` printed, with its places in the file turned into places in the statement."""
    return _SUMMARY.sub("", _LINE.sub(_without_line, _PLACE.sub(r"\1: ", printed)))


def without_lines(printed: str) -> str:
    """A transcript whose carets do not depend on the number of the line."""
    return _LINE.sub(_without_line, printed)


def _without_line(found: re.Match[str]) -> str:
    indent = max(0, len(found[4]) - len(found[1]) - len(found[2]))
    return f"{found[1]}n{found[3]}\n{' ' * (indent + 6)}{found[5]}"
