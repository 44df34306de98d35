"""The prompt, driven by prompt_toolkit's own pipe input: what each key does, without a terminal."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kvql_shell.commands import Shell
from kvql_shell.completion import KvqlCompleter
from kvql_shell.config import Target
from kvql_shell.highlight import Highlighter
from kvql_shell.names import ServerNames
from kvql_shell.output import Output
from kvql_shell.render import Format, Style
from kvql_shell.repl import make_prompt
from kvql_shell.session import Access, Session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tests.servers import WAIT_S, wait_until


class Known:
    """Names that a server might have."""

    def namespaces(self) -> list[str]:
        return ["shop", "main", "other"]

    def keys(self, prefix: str) -> list[str]:
        return [k for k in ("apple", "apricot", "two words", "it's", "evil\x1b[31m") if k.startswith(prefix)]


@pytest.fixture
def shell() -> Iterator[Shell]:
    session = Session(Access(Target(":memory:")))
    yield Shell(session, Output(io.StringIO(), io.StringIO(), Format.TABLE, Style()))
    session.close()


@pytest.fixture
def typed(shell: Shell) -> Iterator[Callable[[str], str]]:
    """``typed("GET a\\r")``: what the prompt hands over after these keys."""
    with create_pipe_input() as keys:
        prompt = make_prompt(shell, Known(), InMemoryHistory(), input=keys, output=DummyOutput())

        def type_(text: str) -> str:
            keys.send_text(text)
            return prompt.prompt("> ")

        yield type_


def shown(shell: Shell) -> tuple[str, str]:
    out, err = shell.output.out, shell.output.err
    assert isinstance(out, io.StringIO)
    assert isinstance(err, io.StringIO)
    texts = out.getvalue(), err.getvalue()
    for stream in (out, err):
        stream.seek(0)
        stream.truncate()
    return texts


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_enter_submits_what_is_complete(typed: Callable[[str], str]) -> None:
    assert typed("GET a\r") == "GET a"
    assert typed("PUT a 1;\r") == "PUT a 1;"


def test_enter_makes_a_new_line_of_what_is_not(typed: Callable[[str], str]) -> None:
    assert typed("PUT a\r1\r") == "PUT a\n1"
    assert typed("PUT a 'x\ry';\r") == "PUT a 'x\ny';"


def test_alt_enter_submits_in_any_case(typed: Callable[[str], str]) -> None:
    assert typed("PUT a\x1b\r") == "PUT a"


def test_a_pasted_script_is_one_entry(typed: Callable[[str], str]) -> None:
    assert typed("\x1b[200~PUT a 1;\nPUT b 2;\nCOUNT;\x1b[201~\r") == "PUT a 1;\nPUT b 2;\nCOUNT;"


def test_a_paste_opens_no_menu(shell: Shell) -> None:
    """What it ends with is no beginning of something: no names are asked for, and Enter runs it as it stands."""
    with create_pipe_input() as keys:
        prompt = make_prompt(shell, Known(), InMemoryHistory(), input=keys, output=DummyOutput())
        asked: list[str] = []
        # what prompt_toolkit completes after, while somebody types
        prompt.default_buffer.on_text_insert += lambda buffer: asked.append(buffer.text)
        for pasted, entry in (
            ("USE main;\n", "USE main;"),
            ("PUT a 1;\r\nGET a;\r\n\r\n", "PUT a 1;\nGET a;"),
            ("GET a;\rUSE ", "GET a;\nUSE "),
            ("PUT a 'x\n", "PUT a 'x\n"),
        ):
            keys.send_text(f"\x1b[200~{pasted}\x1b[201~\x1b\r")
            assert (prompt.prompt("> "), asked) == (entry, [])
        keys.send_text("PUT\x1b\r")
        assert (prompt.prompt("> "), asked) == ("PUT", ["P", "PU", "PUT"]), "typed, it does"


def test_control_c_and_control_d(typed: Callable[[str], str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        typed("GET a\x03")
    with pytest.raises(EOFError):
        typed("\x04")


@pytest.mark.parametrize("entry", ["exit", "\\q", ".exit", "QUIT", "exit;", "help", "\\format csv"])
def test_commands_are_complete_on_their_line(typed: Callable[[str], str], entry: str) -> None:
    assert typed(entry + "\r") == entry


# ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session(shell: Shell) -> None:
    shell.run("PUT a 1; GET a")
    assert shown(shell) == ("1 pair put\n key | value\n-----+-------\n a   |     1\n(1 row)\n", "")
    shell.run("PUT a 2")
    out, err = shown(shell)
    assert out == ""
    assert err.startswith("ERROR 23505: key already exists")
    assert "\nLINE 1: PUT a 2\n            ^" in err


def test_an_error_ends_a_pasted_script(shell: Shell) -> None:
    shell.run("PUT a 1;\nSELCT;\nPUT b 1;")
    out, err = shown(shell)
    assert out == "1 pair put\n"
    assert "ERROR 42601" in err
    assert err.endswith("1 statement before it was carried out\n")
    shell.run("COUNT")
    assert "     1\n" in shown(shell)[0]


def test_an_error_in_a_pasted_script_leaves_its_transaction_to_the_user(shell: Shell) -> None:
    """At the prompt nothing rolls it back, and nothing may say so."""
    shell.run("BEGIN; PUT a 1; SELCT;")
    assert shown(shell)[1].endswith("2 statements before it were carried out\n")
    assert shell.prompt().endswith("* > ")
    shell.run("COMMIT; GET a")
    assert "(1 row)" in shown(shell)[0]


@pytest.mark.parametrize("entry", ["help", "\\help", "\\h", "\\?", "?", "help;", "HELP"])
def test_every_word_for_help(shell: Shell, entry: str) -> None:
    shell.run(entry)
    out, err = shown(shell)
    assert "PUT" in out and "\\timing" in out and not err


def test_the_prompt_tells_where_we_are(shell: Shell) -> None:
    assert shell.prompt().endswith("@main > ")
    shell.run("USE shop")
    assert shell.prompt().endswith("@shop > ")
    shell.run("BEGIN; PUT a 1")
    assert shell.prompt().endswith("@shop* > ")
    shell.run("PUT a 1")
    assert shell.prompt().endswith("@shop! > ")
    shell.run("ROLLBACK")
    assert shell.prompt().endswith("@shop > ")


def test_commands(shell: Shell) -> None:
    shell.run("\\x")
    shell.run("PUT a 1; GET a")
    assert "-[ row 1 ]" in shown(shell)[0]
    shell.run("\\x")
    shell.run("\\format json")
    shell.run("GET a")
    assert '{"key": "a", "value": 1}' in shown(shell)[0]
    shell.run("\\format nonsense")
    assert "known are table" in shown(shell)[1]
    shell.run("\\nonsense")
    assert "help tells" in shown(shell)[1]
    for typed, meant in (
        ("\\hlep", "\\help"), ("\\reconect", "\\reconnect"), ("\\l", "SHOW NAMESPACES"), ("\\c shop", "USE n"),
        ("\\d shop", "DESCRIBE n"), ("\\i a.kvql", "kvql run FILE TARGET"),
    ):  # fmt: skip
        shell.run(typed)
        told = f"unknown command {typed.split()[0]}; did you mean {meant}? help tells which there are\n"
        assert shown(shell) == ("", told)
    shell.run("\\format tabel")
    assert "unknown format tabel; did you mean table?" in shown(shell)[1]
    shell.run("\\timing")
    shell.run("COUNT")
    assert "\ntime: " in shown(shell)[0]
    assert not shell.left
    shell.run("exit;")
    assert shell.left


def test_help(shell: Shell) -> None:
    shell.run("help")
    out, _ = shown(shell)
    assert "PUT" in out
    assert "\\format" in out
    shell.run("HELP PUT")
    assert "PUT" in shown(shell)[0]
    shell.run("help nonsense")
    assert shown(shell)[1] == "no statement starts with nonsense; help lists them all\n"
    shell.run("help craete namespace")
    assert "no statement starts with craete namespace; did you mean CREATE? help lists" in shown(shell)[1]


def test_leaving_tells_of_an_open_transaction(shell: Shell) -> None:
    shell.run("BEGIN")
    shown(shell)
    shell.farewell()
    assert shown(shell)[0] == "the open transaction is rolled back\n"


def test_reconnect(shell: Shell) -> None:
    shell.run("USE shop; BEGIN")
    shell.run("\\reconnect")
    assert "connected again, the open transaction was rolled back" in shown(shell)[1]
    assert shell.prompt().endswith("@shop > ")


# ── completion and colours ────────────────────────────────────────────────────────────────────────────────────────────


def completions(text: str) -> list[tuple[str, str]]:
    """(the text after taking it, what it is)"""
    document = Document(text)
    found = KvqlCompleter(Known()).get_completions(document, CompleteEvent(completion_requested=True))
    return [(text[: len(text) + c.start_position] + c.text, c.display_meta_text) for c in found]


def test_statements_at_the_start() -> None:
    words = {text for text, _ in completions("")}
    assert {"PUT", "GET", "SHOW", "SELECT", "BEGIN", "USE"} <= words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sh", "show"),
        ("SHOW ", "SHOW NAMESPACES"),
        ("USE s", "USE shop"),
        ("GET ap", "GET apricot"),
        ("DELETE t", "DELETE 'two words'"),
        ("GET 'it''", "GET 'it''s'"),
        ("PUT a 1; GET a", "PUT a 1; GET apple"),
        ("PUT a 1 ", "PUT a 1 TTL"),
        ("SELECT key, value ", "SELECT key, value FROM"),
        ("SELECT key WHERE k = 1 ord", "SELECT key WHERE k = 1 order"),
        ("SELECT key FROM history of shop WHERE ev", "SELECT key FROM history of shop WHERE event"),
        ("SELECT key FROM shop AS OF ", "SELECT key FROM shop AS OF REVISION"),
    ],
)
def test_completions(text: str, wanted: str) -> None:
    assert any(t.startswith(wanted) for t, _ in completions(text)), completions(text)


def test_event_is_offered_for_the_history_only() -> None:
    assert not any(what == "column" for _, what in completions("SELECT key FROM shop WHERE ev"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "SHOW ",
        "CREATE ",
        "PUT a 1 ",
        "SELECT * ",
        "SELECT key FROM shop ",
        "DELETE ",
        "BEGIN ",
        "DROP NAMESPACE ",
    ],
)
def test_every_keyword_that_is_offered_parses(text: str) -> None:
    """After taking it, the text may want more, but the parser has no complaint up to its end."""
    from kvql.parser import read_statements

    offered = [t for t, what in completions(text) if what == "keyword"]
    assert offered
    for taken in offered:
        for parsed in read_statements(iter((taken,))):
            error = parsed.error
            if error is not None and error.span is not None:
                assert error.span.start >= len(taken.rstrip()), f"{taken!r}: {error}"


def test_hostile_names_are_shown_harmless() -> None:
    document = Document("GET ev")
    found = list(KvqlCompleter(Known()).get_completions(document, CompleteEvent()))
    assert found[0].display_text == "evil\\x1b[31m"


def test_highlighting_keeps_the_text_and_never_fails() -> None:
    for text in ("GET select", "PUT a 'x\ny'; -- note\nCOUNT", "SELECT 'unfinished\nGET", "\x00\x1b ((", ""):
        line = Highlighter().lex_document(Document(text))
        parts: list[Any] = [line(i) for i in range(text.count("\n") + 1)]
        assert "\n".join("".join(piece[1] for piece in fragments) for fragments in parts) == text


def test_a_keyword_is_one_only_where_it_is_one() -> None:
    styles = {text: style for style, text, *_ in Highlighter().lex_document(Document("GET select"))(0)}
    assert "keyword" in styles["GET"]
    assert "keyword" not in styles["select"]


# ── names from the server ─────────────────────────────────────────────────────────────────────────────────────────────


def test_names_come_from_a_connection_of_their_own(shell: Shell) -> None:
    client = shell.session.client
    shell.run("PUT apple 1, apricot 2, banana 3, a_b 4")
    names = ServerNames(client.sibling, lambda: client.namespace)
    try:
        assert eventually(lambda: names.keys("ap")) == ["apple", "apricot"]
        assert eventually(lambda: names.keys("a_")) == ["a_b"]
        assert eventually(names.namespaces) == ["main"]
        shell.run("PUT apex 1")
        names.forget()
        assert eventually(lambda: names.keys("ape")) == ["apex"]
    finally:
        names.close()


def test_a_slow_server_does_not_hold_the_prompt() -> None:
    class Slow:
        def run(self, statement: object, timeout: float) -> Any:
            raise AssertionError("nobody waits for it")

        def close(self) -> None:
            return

    answers, answered = threading.Event(), threading.Event()

    def open_slow() -> Slow:
        answers.wait(WAIT_S)
        answered.set()
        return Slow()

    names = ServerNames(open_slow, lambda: "main")
    assert names.keys("a") == []
    assert not answered.is_set()
    answers.set()
    names.close()


def eventually(ask: Callable[[], list[str]]) -> list[str]:
    found: list[str] = []

    def is_there() -> bool:
        found[:] = ask()
        return bool(found)

    wait_until(is_there)
    return found
