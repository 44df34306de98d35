"""The words of the command line. ``argparse``, because it is there in 10 ms and every ``kvql -c`` pays for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from kvql_shell import exits
from kvql_shell.exits import Misuse
from kvql_shell.render import Format

SUBCOMMANDS: Final = {
    "run": "carry out a file, pipelined, with progress on a terminal",
    "check": "parse only, tell every syntax error",
    "fmt": "print a file in the standard form",
    "ping": "is the server there, and may I in?",
}
_EPILOG: Final = "\n".join(
    [
        "subcommands (as the first word; ./run is a folder of that name):",
        *(f"  kvql {name:<6} {what}" for name, what in SUBCOMMANDS.items()),
        "",
    ]
)
_SHELL: Final = """\
The KVQL shell. TARGET is kvql://user@host:7443/namespace, a folder, or :memory:.

Without -c and -f: a prompt on a terminal, else the statements of standard input,
one after the other."""
_RUN: Final = """\
Carry out the statements of FILE (- is standard input), of any size.

Statements are sent ahead of their answers and carried out in order, each as its
own commit. The first error ends the script, a syntax error too: what stands
before it has been carried out, and the last line says how much."""


@dataclass
class Arguments:
    """What was said; which of it means something depends on ``command`` ("" for the shell itself)."""

    command: str = ""
    target: str | None = None
    files: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """("-c", text) and ("-f", file) in the order given."""
    form: str | None = None
    no_header: bool = False
    set: list[str] = field(default_factory=list)
    carry_on: bool = False
    ca: str | None = None
    user: str | None = None
    password_file: str | None = None
    password: str | None = None
    write: bool = False
    only_check: bool = False


def parse(words: Sequence[str]) -> Arguments:
    """Read the command line; ``Misuse`` if it means nothing, ``SystemExit`` after --help and --version."""
    first = words[0] if words else ""
    if first not in SUBCOMMANDS:
        said = _shell().parse_args(list(words), Arguments())
        if said.target in SUBCOMMANDS:
            raise Misuse(
                f"'{said.target}' is a subcommand and must be the first word; write ./{said.target} for a folder"
            )
        return said
    return _PARSERS[first]().parse_args(list(words[1:]), Arguments(first))


class _Parser(argparse.ArgumentParser):
    def __init__(self, name: str, description: str, epilog: str = "") -> None:
        super().__init__(
            name,
            description=description,
            epilog=epilog + exits.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message}\n{self.format_usage().strip()}\ntry: {self.prog} --help")


class _Text(argparse.Action):
    """``-c`` and ``-f`` go into one list, so that their order is kept."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        namespace.texts.append((option, values))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"kvql {version('kvql')}\n")
        parser.exit()


def _connection(parser: _Parser) -> None:
    add = parser.add_argument
    add("--ca", metavar="FILE", help="the certificate authority to trust (also KVQL_CA)")
    add("--user", "--username", metavar="NAME", help="the user, instead of the one in TARGET")
    add("--password-file", metavar="FILE", help="a file with the password, mode 0600 (also KVQL_PASSWORD)")
    add("--password", help=argparse.SUPPRESS)


def _statements(parser: _Parser) -> None:
    add = parser.add_argument
    add(
        "--format", dest="form", choices=[str(f) for f in Format], metavar="NAME",
        help=f"how rows look: {', '.join(Format)}; if not said, table on a terminal and tsv elsewhere",
    )  # fmt: skip
    add("--no-header", action="store_true", help="no names of columns (table, csv, tsv)")
    add("--set", action="append", metavar="NAME=VALUE", help="the value of the parameter :NAME; may be repeated")
    add("--continue", dest="carry_on", action="store_true", help="go on after an error; the exit code tells of it")


def _shell() -> _Parser:
    parser = _Parser("kvql", _SHELL, _EPILOG)
    parser.add_argument("target", nargs="?", metavar="TARGET")
    parser.add_argument("-c", action=_Text, metavar="TEXT", help="carry out TEXT and leave; may be repeated")
    parser.add_argument("-f", action=_Text, metavar="FILE", help="carry out FILE and leave; - is standard input")
    _statements(parser)
    _connection(parser)
    parser.add_argument("--version", action=_Version, nargs=0, help="tell the version")
    return parser


def _run() -> _Parser:
    parser = _Parser("kvql run", _RUN)
    parser.add_argument("files", nargs=1, metavar="FILE")
    parser.add_argument("target", nargs="?", metavar="TARGET")
    _statements(parser)
    _connection(parser)
    return parser


def _check() -> _Parser:
    parser = _Parser("kvql check", "Parse FILEs without carrying anything out; every syntax error is told.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    return parser


def _fmt() -> _Parser:
    parser = _Parser("kvql fmt", "Print FILEs in the standard form: a statement a line, comments kept.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-w", "--write", action="store_true", help="write the files back instead of printing them")
    parser.add_argument(
        "--check", dest="only_check", action="store_true", help="change nothing; exit 4 and name the files that would"
    )
    return parser


def _ping() -> _Parser:
    parser = _Parser("kvql ping", "Log in at TARGET and run one statement there; tells how long it took.")
    parser.add_argument("target", nargs="?", metavar="TARGET")
    _connection(parser)
    return parser


_PARSERS: Final[dict[str, Callable[[], _Parser]]] = {"run": _run, "check": _check, "fmt": _fmt, "ping": _ping}
