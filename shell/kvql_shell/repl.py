"""The prompt on a terminal: editing, colours, completion, history; what is entered goes to ``commands``."""

from __future__ import annotations

from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History as BaseHistory
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.color_depth import ColorDepth

from kvql.parser import is_complete
from kvql_shell import exits
from kvql_shell.commands import Shell
from kvql_shell.completion import KvqlCompleter, Names
from kvql_shell.highlight import STYLE, Highlighter
from kvql_shell.history import History, history_path
from kvql_shell.names import ServerNames
from kvql_shell.output import Output, colored
from kvql_shell.session import Session


def loop(session: Session, output: Output) -> int:
    """Prompt, run, repeat, until the user leaves."""
    shell = Shell(session, output)
    names = ServerNames(lambda: session.client.sibling(), lambda: session.client.namespace)
    prompt = make_prompt(shell, names, _history(output))
    shell.banner()
    try:
        while not shell.left:
            try:
                text = prompt.prompt(lambda: _fragments(shell))
            except KeyboardInterrupt:  # Ctrl-C clears the line and nothing else
                continue
            except EOFError:
                break
            shell.run(text)
            names.forget()
    finally:
        names.close()
    shell.farewell()
    return exits.FINE


def make_prompt(shell: Shell, names: Names, history: BaseHistory, **streams: Any) -> PromptSession[str]:
    """The editor; ``streams`` are prompt_toolkit's ``input`` and ``output``, for tests."""
    return PromptSession(
        lexer=Highlighter(),
        style=STYLE,
        completer=ThreadedCompleter(KvqlCompleter(names)),
        complete_while_typing=True,
        auto_suggest=AutoSuggestFromHistory(),
        history=history,
        multiline=True,
        prompt_continuation=lambda width, number, wrapped: " " * max(width - 4, 0) + "... ",
        key_bindings=_keys(shell),
        enable_history_search=False,
        color_depth=None if colored(shell.output.out) else ColorDepth.DEPTH_1_BIT,
        **streams,
    )


def _history(output: Output) -> BaseHistory:
    path = history_path()
    try:
        return History(path)
    except OSError as e:
        output.warning(f"no history: {path}: {e.strerror}")
        return InMemoryHistory()


def _fragments(shell: Shell) -> StyleAndTextTuples:
    """The prompt with the transaction's mark in colour."""
    text = shell.prompt()
    for mark in ("* > ", "! > "):
        if text.endswith(mark):
            return [("", text[: -len(mark)]), ("class:prompt.state", mark[0]), ("", mark[1:])]
    return [("", text)]


def _keys(shell: Shell) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        """Enter runs what is complete, and makes a new line of what is not; the parser is the judge."""
        buffer = event.current_buffer
        if shell.is_command(buffer.text) or is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    @keys.add("enter", filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        """Enter takes the completion that is marked, and no more."""
        event.current_buffer.complete_state = None

    @keys.add(Keys.BracketedPaste)
    def _(event: KeyPressEvent) -> None:
        """A paste goes in as it stands, without a menu behind its end, where Enter runs it."""
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        buffer = event.current_buffer
        if is_complete(buffer.document.text_before_cursor + text):
            text = text.rstrip("\n") or text
        buffer.insert_text(text, fire_event=False)

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        """Alt-Enter runs it as it stands, to hear the parser's complaint."""
        event.current_buffer.validate_and_handle()

    return keys
