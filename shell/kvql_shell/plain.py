"""A prompt for terminals that cannot move their cursor (TERM=dumb): line by line, without prompt_toolkit."""

from __future__ import annotations

from kvql_shell import exits
from kvql_shell.commands import Shell
from kvql_shell.output import Output
from kvql_shell.session import Session


def loop(session: Session, output: Output) -> int:
    """Read lines until the parser says that a statement is complete, and run it."""
    from kvql.parser import is_complete

    shell = Shell(session, output)
    shell.banner()
    pending = ""
    while not shell.left:
        try:
            line = input("... " if pending else shell.prompt())
        except EOFError:
            print()
            break
        except KeyboardInterrupt:
            print()
            pending = ""
            continue
        pending += line + "\n"
        if shell.is_command(pending) or is_complete(pending):
            shell.run(pending)
            pending = ""
    shell.farewell()
    return exits.FINE
