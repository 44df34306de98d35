"""A typed session on a real pseudo-terminal; pyte is the screen that is looked at."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.servers import WAIT_S

Environ = Callable[..., dict[str, str]]
COLUMNS, LINES = 100, 40


class Terminal:
    """A person's terminal: keys in, a screen out."""

    def __init__(self, arguments: list[str], env: dict[str, str], cwd: Path) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable, ["-m", "kvql_shell.main", *arguments], env=env, cwd=str(cwd), dimensions=(LINES, COLUMNS)
        )

    def keys(self, text: str) -> None:
        self.child.send(text)

    def wait_for(self, text: str, times: int = 1) -> str:
        """The screen as soon as it shows ``text`` so many times."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if self.text().count(text) >= times:
                return self.text()
            try:
                data = self.child.read_nonblocking(65536, timeout=0.1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
            self.raw += data
            self._stream.feed(data)
            if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
                self.child.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
        if self.text().count(text) >= times:
            return self.text()
        raise AssertionError(f"no {text!r} on the screen:\n{self.text()}")

    def wait_for_raw(self, text: bytes) -> None:
        """Until ``text`` has come by, however fast it scrolls away; nothing more is read."""
        seen = b""
        end = time.monotonic() + WAIT_S
        while text not in seen:
            assert time.monotonic() < end
            with contextlib.suppress(pexpect.TIMEOUT):
                seen = seen[-1000:] + self.child.read_nonblocking(4096, timeout=0.1)

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def leave(self) -> int:
        self.child.expect(pexpect.EOF, timeout=WAIT_S)
        self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture
def terminal(tmp_path: Path, environ: Environ) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def open_terminal(*arguments: str, **env: str) -> Terminal:
        made.append(Terminal(list(arguments), environ(**env), tmp_path))
        return made[-1]

    yield open_terminal
    for one in made:
        one.child.close(force=True)


def test_a_typed_session(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    t = terminal(":memory:")
    t.wait_for('type "help"')
    t.wait_for("@main >")
    t.keys("PUT a 1\r")
    t.wait_for("1 pair put")
    t.keys("PUT a 2\r")
    t.wait_for("ERROR 23505")
    assert "            ^" in t.text()
    t.keys("PUT b\r'two\r")
    t.wait_for("... 'two")
    t.keys("lines'\r")
    t.wait_for("1 pair put")
    t.keys("SHOW DATA\r")
    t.wait_for("two\\nlines")
    t.wait_for("(2 rows)")
    t.keys("USE shop\rBEGIN\r")
    t.wait_for("@shop* >")
    t.keys("ROLLBACK\r")
    t.wait_for("transaction rolled back")
    t.keys("\x04")
    assert t.leave() == 0
    history = tmp_path / ".local" / "state" / "kvql" / "history"
    assert "SHOW DATA" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_completion_menu(terminal: Callable[..., Terminal]) -> None:
    t = terminal(":memory:")
    t.wait_for("@main >")
    t.keys("PUT apple 1, apricot 2\r")
    t.wait_for("2 pairs put")
    t.keys("GET ap")
    t.wait_for("apricot  key")  # the menu: a name and what it is
    t.keys("\t\t")
    t.wait_for("> GET apricot")
    t.keys("\r\r")  # the first Enter takes it, the second runs it
    t.wait_for("(1 row)")


def test_control_c_clears_the_line_and_cancels_what_runs(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    many = tmp_path / "many.kvql"
    many.write_text("".join(f"PUT k{i:06} {'x' * 60};\n" for i in range(60_000)))
    t = terminal("store")
    t.wait_for("@main >")
    t.keys("GET nothing at all\x03")
    t.wait_for("@main >", times=2)
    t.keys("COUNT\r")
    t.wait_for("(1 row)")
    t.keys("exit\r")
    assert t.leave() == 0
    loaded = pexpect.run(
        f"{sys.executable} -m kvql_shell.main run {many} store", env=t.child.env, cwd=str(tmp_path), timeout=WAIT_S
    )
    assert b"60000 statements carried out" in loaded
    t = terminal("store")
    t.wait_for("@main >")
    t.keys("SHOW DATA\r")
    t.wait_for_raw(b"k000100")
    t.keys("\x03")
    t.wait_for("57014")
    t.keys("COUNT\r")
    t.wait_for("60000")
    t.keys("\x04")
    assert t.leave() == 0


def test_a_pasted_script(terminal: Callable[..., Terminal]) -> None:
    t = terminal(":memory:")
    t.wait_for("@main >")
    script = "".join(f"PUT key{i} {i};\n" for i in range(200)) + "COUNT;"
    t.keys(f"\x1b[200~{script}\x1b[201~")
    t.wait_for("COUNT;")
    t.keys("\r")
    t.wait_for("   200")
    assert len(t.raw) < 40 * len(script)
    t.keys("exit\r")
    assert t.leave() == 0


def test_a_folder_that_is_made(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """Who mistypes the name of a server, or of a folder, sees that it is not there."""
    t = terminal("localhost")
    t.wait_for("@main >")
    assert "NOTICE: there was no folder localhost, a new store is made in it; a server is kvql://HOST" in t.text()
    t.keys("exit\r")
    assert t.leave() == 0
    t = terminal("localhost")
    t.wait_for("@main >")
    assert "NOTICE" not in t.text()
    t.keys("exit\r")
    assert t.leave() == 0


def test_the_end_of_a_watch_is_a_line_of_its_own(terminal: Callable[..., Terminal]) -> None:
    t = terminal(":memory:")
    t.wait_for("@main >")
    t.keys("WATCH main WITH INITIAL\r")
    t.wait_for("LIVE")
    t.keys("\x03")
    t.wait_for("\n(1 event)")
    t.keys("exit\r")
    assert t.leave() == 0


def test_no_colour(terminal: Callable[..., Terminal]) -> None:
    t = terminal(":memory:", NO_COLOR="1")
    t.wait_for("@main >")
    t.keys("PUT a (NULL); GET a; GET b\r")
    t.wait_for("ERROR 02000")
    assert b"\x1b[31m" not in t.raw
    assert b"\x1b[2mNULL" not in t.raw
    t.keys("\x04")
    assert t.leave() == 0


def test_a_dumb_terminal(terminal: Callable[..., Terminal]) -> None:
    t = terminal(":memory:", TERM="dumb")
    t.wait_for("@main >")
    t.keys("PUT a\r1\rGET a;\r")
    t.wait_for("(1 row)")
    assert b"\x1b[" not in t.raw
    t.keys("\x03")
    t.keys("exit\r")
    assert t.leave() == 0
