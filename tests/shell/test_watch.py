"""WATCH in the shell: events as they come in every format, Ctrl-C as their end, the session usable after it."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO

import pytest
from kvql_shell.commands import Shell
from kvql_shell.config import Target
from kvql_shell.output import Output
from kvql_shell.render import Format, Style
from kvql_shell.session import Access, Session

import kvql
from tests.servers import BIN, WAIT_S, Server, wait_until

KVQL = str(BIN / "kvql")


def read(stream: IO[bytes] | None, until: str) -> str:
    """What comes, as soon as it comes, up to ``until`` and what comes with it."""
    assert stream is not None
    out = b""
    while until.encode() not in out:
        ready, _, _ = select.select([stream], [], [], WAIT_S)
        assert ready, f"nothing comes after {out!r}"
        more = os.read(stream.fileno(), 65_536)
        assert more, out
        out += more
    return out.decode()


def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [KVQL, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def test_a_prompt_comes_back(tmp_path: Path) -> None:
    session = Session(Access(Target(str(tmp_path / "store"))))
    out, err = io.StringIO(), io.StringIO()
    shell = Shell(session, Output(out, err, Format.TABLE, Style()))
    shell.run("PUT apples 5")
    with kvql.connect(str(tmp_path / "store"), autocommit=True) as other:

        def act() -> None:
            wait_until(lambda: " LIVE " in out.getvalue())
            other.execute("PUT pears 7")
            wait_until(lambda: " PUT " in out.getvalue())
            os.kill(os.getpid(), signal.SIGINT)

        acting = threading.Thread(target=act)
        acting.start()
        shell.run("WATCH main WITH INITIAL")
        acting.join()
        shell.run("GET apples")
    session.close()
    text = out.getvalue()
    assert " INITIAL |        1 | apples           | NULL         | 5            | admin\n" in text
    assert " PUT     |        2 | pears            | NULL         | 7            | admin\n(3 events)\n" in text
    assert text.endswith(" apples |     5\n(1 row)\n"), "the session is usable"
    assert err.getvalue() == "", "that is the end of a watch, and no error"


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "kvql", "markdown", "vertical", "table"])
def test_events_are_there_when_they_happen(form: str, server_of: object, tmp_path: Path) -> None:
    server: Server = server_of("memory")  # type: ignore[operator]  # a fixture that is a function
    server.drop_namespaces()
    with server.connect("shop") as writer:
        writer.execute("PUT a 1")
        script = tmp_path / "watch.kvql"
        script.write_text("PUT b 'two words';\nWATCH WITH INITIAL;\nPUT never 1;\n")
        process = start("run", str(script), f"{server.url}/shop", *server.options, "--format", form,
                        environment=server.environment)  # fmt: skip
        try:
            whole = read(process.stdout, "LIVE")
            writer.execute("PUT fresh 3")
            whole += read(process.stdout, "fresh")
            writer.execute("DELETE a")
            whole += read(process.stdout, "DELETE")
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=WAIT_S)
            assert process.returncode == 130
            assert writer.execute("HAS never").fetchone() == ("never", False)
        finally:
            process.kill()
        assert b"ERROR" not in err
        whole += rest.decode()
        if form == "json":
            assert [row["event"] for row in json.loads(whole)] == ["INITIAL", "INITIAL", "LIVE", "PUT", "DELETE"]
        if form == "jsonl":
            assert [json.loads(line)["key"] for line in whole.splitlines()] == ["a", "b", None, "fresh", "a"]
        if form == "kvql":
            assert whole == "UPSERT a 1;\nUPSERT b 'two words';\n-- LIVE\nUPSERT fresh 3;\nDELETE a;\n"
        if form in ("table", "vertical"):
            assert "(5 events)" in whole
