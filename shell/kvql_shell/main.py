"""The command ``kvql``: from the command line to an exit code.

Nothing heavy is imported here. prompt_toolkit belongs to the prompt alone, gRPC to a server's address, the parser to
the first statement; ``kvql -c 'GET k'`` has to be there and gone before anybody notices.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from kvql.errors import Error
from kvql_shell import arguments, config, exits
from kvql_shell.arguments import Arguments
from kvql_shell.config import Config
from kvql_shell.exits import Misuse
from kvql_shell.output import Output
from kvql_shell.render import Format

if TYPE_CHECKING:
    from kvql_shell.script import Text
    from kvql_shell.session import Access, Session


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code (see ``exits``). Without ``argv`` it is the process's own command, and ends it."""
    if argv is not None:
        return _main(argv)
    code = _main(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or exits.PIPE_CLOSED
    # Everything is closed by now. What the interpreter would still do is take its modules and gRPC's threads apart, one
    # by one: 50 ms of every `kvql -c`.
    os._exit(code)


def _main(argv: Sequence[str]) -> int:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its warnings about forks belong on nobody's terminal
    try:
        said = arguments.parse(argv)
        code = _COMMANDS[said.command](said)
        sys.stdout.flush()
        return code
    except SystemExit as e:  # of --help and --version
        return int(e.code or 0)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Misuse as e:
        print(f"kvql: {e}", file=sys.stderr)
        return exits.USAGE
    except Error as e:  # of the connection; those of statements are told where they happen
        Output.standard(None).error(e)
        return exits.code(e)
    except BrokenPipeError:
        # what is still buffered must not raise again when the interpreter flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.PIPE_CLOSED


# ── kvql ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shell(said: Arguments) -> int:
    settings = config.load(os.environ)
    output = Output.standard(_format(said, settings), header=not said.no_header, pager=settings.pager)
    from kvql_shell import script
    from kvql_shell.session import Session

    interactive = not said.texts and sys.stdin.isatty() and sys.stdout.isatty()
    parameters = script.parameters_of(said.set)
    texts = _texts(said)
    access = _access(said, settings, output)
    if interactive and access.target.is_new:
        output.tell(
            f"NOTICE: there was no folder {access.target.place.place}, a new store is made in it; a server is kvql://HOST"
        )
    session = Session(access)
    try:
        if interactive:
            return _prompt(session, output)
        runner = script.Runner(session.client, output, parameters, said.carry_on)
        for open_text in texts:
            with open_text() as text:
                if runner.run(text).ended:
                    break
        if session.client.transaction_state != "none":
            output.tell(f"NOTICE: {script.ROLLED_BACK}")
        return runner.outcome.code
    finally:
        session.close()


def _texts(said: Arguments) -> list[Callable[[], AbstractContextManager[Text]]]:
    """What to carry out, in the order of the command line; standard input if nothing was named."""
    from functools import partial

    from kvql_shell import sources

    if not said.texts:
        return [sources.standard_input]
    return [partial(sources.argument, text) if option == "-c" else sources.opener(text) for option, text in said.texts]


def _prompt(session: Session, output: Output) -> int:
    if os.environ.get("TERM", "dumb") in ("", "dumb"):
        from kvql_shell.plain import loop as plain_loop

        return plain_loop(session, output)
    from kvql_shell.repl import loop

    return loop(session, output)


# ── what several commands share ───────────────────────────────────────────────────────────────────────────────────


def _access(said: Arguments, settings: Config, output: Output) -> Access:
    """Target, user and password from flag, environment and file; what stands in argv is used, with a warning."""
    from kvql_shell.session import Access

    chosen = config.target(said.target, os.environ, settings)
    if not chosen.named:
        output.tell("NOTICE: no target given: a store in memory, gone at the end (kvql --help tells how to name one)")
    if chosen.place.kind == "folder" and os.path.isfile(chosen.place.place):
        file = chosen.place.place
        raise Misuse(f"{file} is a file; to carry out its statements: kvql run {file} TARGET")
    if said.password is not None or (said.target is not None and chosen.holds_password):
        output.warning(
            "a password on the command line can be seen by every user of this machine; "
            "use KVQL_PASSWORD or --password-file"
        )
    return Access(
        chosen,
        user=said.user,
        password=config.password(said.password_file, said.password, os.environ, settings),
        ca=said.ca or os.environ.get("KVQL_CA") or settings.ca,
    )


def _format(said: Arguments, settings: Config) -> Format | None:
    name = said.form or settings.format
    if name is None:
        return None
    try:
        return Format(name)
    except ValueError:
        raise Misuse(f"unknown format '{name}'; known are {', '.join(Format)}") from None


# ── subcommands ───────────────────────────────────────────────────────────────────────────────────────────────────


def _run(said: Arguments) -> int:
    from kvql_shell import script, sources
    from kvql_shell.progress import Progress
    from kvql_shell.redaction import redact
    from kvql_shell.session import Session

    (file,) = said.files
    if sources.is_target(file, other=said.target):
        target, other = redact(file), said.target or "FILE"
        raise Misuse(f"{target} is a target, and the file comes first: kvql run {other} {target}")
    settings = config.load(os.environ)
    output = Output.standard(_format(said, settings), header=not said.no_header)
    output.messages = False
    parameters = script.parameters_of(said.set)
    opener = sources.opener(file, pipelined=True)
    session = Session(_access(said, settings, output))
    try:
        with opener() as text:
            watched = sys.stderr.isatty()
            progress = Progress(sys.stderr, shown=watched, bytes_total=sources.size(file))
            runner = script.Runner(session.client, output, parameters, said.carry_on, progress)
            outcome = runner.run(text)
            progress.clear()
            told = script.summary(outcome, progress.elapsed_s if watched else None)
            output.tell(f"{told}, {script.ROLLED_BACK}" if session.client.transaction_state != "none" else told)
        return outcome.code
    finally:
        session.close()


def _check(said: Arguments) -> int:
    from kvql_shell import tools

    output = Output.standard(None)
    return max([tools.check(file, output) for file in said.files])


def _fmt(said: Arguments) -> int:
    from kvql_shell import tools

    output = Output.standard(None)
    return max([tools.fmt(file, output, write=said.write, only_check=said.only_check) for file in said.files])


def _ping(said: Arguments) -> int:
    from kvql_shell import tools

    output = Output.standard(None)
    return tools.ping(_access(said, config.load(os.environ), output), output)


_COMMANDS: Final[dict[str, Callable[[Arguments], int]]] = {
    "": _shell,
    "run": _run,
    "check": _check,
    "fmt": _fmt,
    "ping": _ping,
}

if __name__ == "__main__":
    sys.exit(main())
