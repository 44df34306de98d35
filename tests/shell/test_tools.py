"""``kvql check`` and ``kvql fmt``: every error told, no comment lost, nothing changed by formatting twice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kvql_shell.tools import formatted_text

from kvql.errors import Error

Kvql = Callable[..., "subprocess.CompletedProcess[str]"]


def test_check_tells_every_error(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("PUT a 1;\nSELCT key;\n\nGET a;  GET;\nPUT b 'open")
    done = kvql("check", "a.kvql")
    assert done.returncode == 4
    places = [line.split(": ")[0] for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert places == ["ERROR 42601 at a.kvql:2:1", "ERROR 42601 at a.kvql:4:12", "ERROR 42601 at a.kvql:5:7"]
    (tmp_path / "a.kvql").write_text("\ufeffPUT a 1;\r\n-- nothing more\r\n")
    done = kvql("check", "a.kvql")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_of_bytes_that_are_no_utf_8(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_bytes(b"PUT a 1;\nPUT b \xe9;\n")
    done = kvql("check", "a.kvql")
    assert done.returncode == 4
    assert "not valid UTF-8: byte 0xe9 in line 2, at offset 15" in done.stderr
    done = kvql("run", "a.kvql", ":memory:")
    assert done.returncode == 4
    assert "byte 0xe9 in line 2" in done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("put a 1;get a", "PUT a 1;\nGET a;\n"),
        ("put a 1; -- one\nget a", "PUT a 1;  -- one\nGET a;\n"),
        ("-- head\n\n\n\nput a 1\n;\n\n\n\n/* block\n   of two */ get a;\n-- tail", None),
        ("put a /* why */ 1; get   a;", "put a /* why */ 1;\nGET a;\n"),
        ("put a '; -- no comment'; ;; get a", "PUT a '; -- no comment';\nGET a;\n"),
        ("", ""),
        ("-- only a comment", "-- only a comment\n"),
    ],
)
def test_fmt(text: str, wanted: str | None) -> None:
    formatted = formatted_text(text)
    wanted = wanted if wanted is not None else (
        "-- head\n\nPUT a 1;\n\n/* block\n   of two */\nGET a;\n-- tail\n"
    )  # fmt: skip
    assert formatted == wanted
    assert formatted_text(formatted) == formatted


def test_fmt_refuses_what_does_not_parse() -> None:
    with pytest.raises(Error) as caught:
        formatted_text("PUT a 1;\nSELCT;\n")
    assert caught.value.render(where="f").startswith("ERROR 42601 at f:2:1: ")


def test_fmt_on_files(kvql: Kvql, tmp_path: Path) -> None:
    path = tmp_path / "a.kvql"
    path.write_text("put a 1")
    assert kvql("fmt", "a.kvql").stdout == "PUT a 1;\n"
    assert path.read_text() == "put a 1"
    done = kvql("fmt", "--check", "a.kvql")
    assert (done.returncode, done.stderr) == (4, "a.kvql would change\n")
    assert kvql("fmt", "-w", "a.kvql").returncode == 0
    assert path.read_text() == "PUT a 1;\n"
    assert kvql("fmt", "--check", "a.kvql").returncode == 0
    path.write_text("put a 1; selct")
    assert kvql("fmt", "-w", "a.kvql").returncode == 4
    assert path.read_text() == "put a 1; selct"


def test_scripts_of_odd_forms(kvql: Kvql, tmp_path: Path) -> None:
    path = tmp_path / "a.kvql"
    path.write_bytes("\ufeffPUT a 'x;y';\r\nPUT b 'two\r\nlines';\r\n\r\n-- end\r\nGET a".encode())
    done = kvql("run", "a.kvql", ":memory:")
    assert (done.returncode, done.stdout) == (0, "key\tvalue\na\tx;y\n"), done.stderr
    assert done.stderr == "3 statements carried out\n"
    path.write_text("PUT :k :v;\nGET :k;\n")
    done = kvql("run", "a.kvql", ":memory:", "--set", "k=a", "--set", "v=007", "--no-header")
    assert (done.returncode, done.stdout) == (0, "a\t007\n"), done.stderr
    done = kvql("run", "a.kvql", ":memory:", "--set", "k", "--set", "v=1")
    assert done.returncode == 1
    assert "is not name=value" in done.stderr


def test_a_statement_that_is_too_long(kvql: Kvql, tmp_path: Path) -> None:
    path = tmp_path / "a.kvql"
    path.write_text(f"PUT a 1;\nPUT b '{'x' * (4 * 1024 * 1024)}';\nPUT c 1;\n")
    done = kvql("run", "a.kvql", ":memory:")
    assert done.returncode == 3, done.stderr
    assert "ERROR 54001 at a.kvql:2:" in done.stderr
    assert done.stderr.endswith("1 statement before it was carried out\n")
    assert len(done.stderr) < 2000


def test_an_open_transaction_is_told(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("BEGIN;\nPUT a 1;\nSELCT;\n")
    done = kvql("run", "a.kvql", "store")
    assert done.returncode == 4
    assert done.stderr.endswith("2 statements before it were carried out, the open transaction is rolled back\n")
    assert kvql("store", "--no-header", "-c", "HAS a").stdout == "a\tfalse\n"


def test_a_commit_that_was_forgotten_is_told(kvql: Kvql, tmp_path: Path) -> None:
    """Whoever forgot it would believe that the script was carried out."""
    (tmp_path / "a.kvql").write_text("BEGIN;\nPUT a 1;\n")
    done = kvql("run", "a.kvql", "store")
    assert (done.returncode, done.stderr) == (0, "2 statements carried out, the open transaction is rolled back\n")
    for arguments in (("-f", "a.kvql"), ("-c", "BEGIN; PUT a 1")):
        done = kvql("store", *arguments)
        assert (done.returncode, done.stderr) == (0, "NOTICE: the open transaction is rolled back\n")
    assert kvql("store", "--no-header", "-c", "HAS a").stdout == "a\tfalse\n"


def test_a_wrong_ttl_in_a_pipelined_run_is_its_own_statements_error(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("PUT a 1;\nPUT b 1 TTL 0s;\nPUT c 1;\nPUT d 1 TTL :t;\nCOUNT;\n")
    done = kvql("run", "a.kvql", ":memory:", "--continue", "--no-header")
    assert done.returncode == 3
    places = [line.split(": ")[0] for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert places == ["ERROR 22023 at a.kvql:2:13", "ERROR 42P02 at a.kvql:4:13"], done.stderr
    assert done.stdout == "2\n"
