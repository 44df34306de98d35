"""What is entered at a prompt: statements, and the shell's own few commands.

The commands start with a backslash, as psql's do, so that none ever hides a statement; ``help``, ``exit`` and ``quit``
are words because that is what everybody types first, and no statement starts with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from kvql.names import nearest
from kvql_shell import exits, script
from kvql_shell.output import Output
from kvql_shell.redaction import redact
from kvql_shell.render import Format, screen
from kvql_shell.session import Session

_LEAVING: Final = frozenset({"exit", "quit", ".exit", ".quit", "\\q", "\\quit"})
_BACKSLASH_HELP: Final = (
    ("help [STATEMENT]", "what there is to say, or one statement's form: help put"),
    ("\\format [NAME]", f"how rows look: {', '.join(Format)}"),
    ("\\x", "one column a line instead of a table, and back"),
    ("\\timing", "tell how long each statement took, or stop telling"),
    ("\\reconnect", "connect again"),
    ("\\q, exit, Ctrl-D", "leave"),
)
_ELSEWHERE: Final = {
    "\\l": "SHOW NAMESPACES",
    "\\dn": "SHOW NAMESPACES",
    "\\dt": "SHOW NAMESPACES",
    "\\d": "DESCRIBE n",
    "\\c": "USE n",
    "\\i": "kvql run FILE TARGET",
}
"""psql's, which hands type by themselves."""


class Shell:
    """A session at a prompt: runs what is entered, and knows how to ask for more."""

    def __init__(self, session: Session, output: Output) -> None:
        self.session = session
        self.output = output
        self.left = False
        self._timing = False
        self._commands: dict[str, Callable[[str], None]] = {
            "\\format": self._format,
            "\\x": self._expanded,
            "\\timing": self._toggle_timing,
            "\\reconnect": lambda _: self._reconnect(),
            **dict.fromkeys(("help", "\\help", "\\h", "\\?", "?"), self._help),
        }

    # ── what the user sees ────────────────────────────────────────────────────────────────────────────────────────

    def banner(self) -> None:
        """Name, version, where we are, and the one thing to know."""
        try:
            number = version("kvql")
        except PackageNotFoundError:  # run from a checkout that was never installed
            number = "(not installed)"
        where = self.session.access.target
        self._say(f"KVQL {number}, {'connected to' if where.place.remote else 'store in'} {redact(where.text)}")
        self._say('type "help" for help, Ctrl-D to leave')

    def prompt(self) -> str:
        """``user@namespace > ``, with ``*`` in a transaction and ``!`` in one that only ROLLBACK ends."""
        client = self.session.client
        mark = {"open": "*", "failed": "!"}.get(client.transaction_state, "")
        place = f"@{client.namespace}" if client.namespace else ""
        return f"{screen.safe(client.user or 'kvql')}{place}{mark} > "

    def farewell(self) -> None:
        """Say what leaving undoes."""
        if self.session.client.transaction_state != "none":
            self._say(script.ROLLED_BACK)

    def _say(self, text: str) -> None:
        self.output.out.write(text + "\n")
        self.output.out.flush()

    # ── what the user enters ──────────────────────────────────────────────────────────────────────────────────────

    def is_command(self, text: str) -> bool:
        """Is this the shell's own, and so complete at the end of its line?"""
        words = text.split(None, 1)
        if not words:
            return True
        first = words[0].rstrip(";").lower()
        return first in _LEAVING or first in self._commands or first.startswith("\\")

    def run(self, text: str) -> None:
        """Run one entry: a command, or any number of statements, which are carried out as a script is."""
        entry = text.strip()
        if not entry:
            return
        if self.is_command(entry):
            self._command(entry.rstrip("; \n"))
            return
        start = time.perf_counter()
        runner = script.Runner(self.session.client, self.output)
        outcome = runner.run(script.Text(script.chunks_of(entry)))
        if outcome.ended and outcome.done:
            self.output.tell(script.summary(outcome))
        if self._timing:
            self._say(f"time: {(time.perf_counter() - start) * 1000:.1f} ms")
        if outcome.code == exits.CONNECTION:
            self._reconnect()

    def _command(self, entry: str) -> None:
        word, _, rest = entry.partition(" ")
        name = word.lower()
        if name in _LEAVING:
            self.left = True
        elif name in self._commands:
            self._commands[name](rest.strip())
        else:
            meant = _ELSEWHERE.get(name) or nearest(name, [*self._commands, *_LEAVING])
            self.output.tell(f"unknown command {screen.safe(word)};{_asked(meant)} help tells which there are")

    def _format(self, name: str) -> None:
        if name:
            try:
                self.output.form = Format(name.lower())
            except ValueError:
                meant = _asked(nearest(name, list(Format)))
                self.output.tell(f"unknown format {screen.safe(name)};{meant} known are {', '.join(Format)}")
                return
        self._say(f"format: {self.output.form}")

    def _expanded(self, _: str) -> None:
        vertical = self.output.form is Format.VERTICAL
        self._format(Format.TABLE if vertical else Format.VERTICAL)

    def _toggle_timing(self, _: str) -> None:
        self._timing = not self._timing
        self._say(f"timing: {'on' if self._timing else 'off'}")

    def _help(self, topic: str) -> None:
        from kvql_shell import manual

        text = manual.topic(topic) if topic else manual.overview()
        if topic and text is None:
            meant = _asked(nearest(topic.split()[0], manual.first_words()))
            self.output.tell(f"no statement starts with {screen.safe(topic)};{meant} help lists them all")
            return
        self._say(text or "")
        if not topic:
            width = max(len(name) for name, _ in _BACKSLASH_HELP)
            self._say("\nCommands of the shell:")
            self._say("\n".join(f"  {name:<{width}}  {what}" for name, what in _BACKSLASH_HELP))

    def _reconnect(self) -> None:
        from kvql.errors import Error

        was_open = self.session.client.transaction_state != "none"
        try:
            self.session.reopen()
        except Error as e:
            self.output.error(e)
            self.output.tell("not connected; \\reconnect tries again")
            return
        self.output.tell("connected again" + (", the open transaction was rolled back" if was_open else ""))


def _asked(meant: str | None) -> str:
    return f" did you mean {meant}?" if meant else ""
