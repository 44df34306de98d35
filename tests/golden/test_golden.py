"""Every golden script through every door on every engine (see ``harness``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import kvql
from tests.golden import harness
from tests.servers import Server

LOCAL = [p for p in harness.scripts() if not harness.read(p).server and not harness.read(p).sessions]
REMOTE = [p for p in harness.scripts() if harness.read(p).server or harness.read(p).sessions or p.parent.name == "seed"]
SESSIONS = [p for p in harness.scripts() if harness.read(p).sessions and not harness.read(p).server]
ENGINES = ["hashtable", "memory"]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture
def target(engine: str, tmp_path: Path) -> str:
    return ":memory:" if engine == "memory" else str(tmp_path / "store")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", LOCAL, ids=name)
def test_in_process(path: Path, engine: str, target: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    script = harness.read(path)
    blocks = harness.through_api(script, lambda: kvql.connect(target, autocommit=True))
    if request.config.getoption("--golden-rewrite"):
        if engine == "hashtable":
            script.transcript.write_text(harness.transcript(blocks), encoding="utf-8")
        return
    assert harness.transcript(blocks) == script.expected()

    real = path.parent.name == "seed"
    run = harness.as_process if real else harness.in_process
    # a fresh store for each door
    places = [":memory:"] * 2 if engine == "memory" else [str(tmp_path / "shell"), str(tmp_path / "script")]
    shown = run(harness.shell_arguments(script, places[0]), script.text)
    assert harness.as_statement(script.named(shown)) == harness.without_lines("".join(b.shown() for b in blocks))
    shown = run(harness.run_arguments(script, places[1]), "")
    assert harness.as_statement(script.named(shown)) == harness.without_lines(
        "".join(b.shown(messages=False) for b in blocks)
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", SESSIONS, ids=name)
def test_sessions_in_process(path: Path, engine: str, target: str, request: pytest.FixtureRequest) -> None:
    """Several connections to one store in process, in one thread: transactions interleave as they do on a server."""
    script = harness.read(path)
    with kvql.connect(target, autocommit=True) as first:
        blocks = harness.through_api(script, lambda: kvql.Connection(first._client.sibling(), autocommit=True))
    if not request.config.getoption("--golden-rewrite"):
        assert harness.transcript(blocks) == script.expected()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", LOCAL, ids=name)
def test_the_same_over_tls(path: Path, engine: str, server_of: Callable[[str], Server]) -> None:
    """What runs in process runs on a server, word for word."""
    script = harness.read(path)
    server = server_of(engine)
    server.drop_namespaces()
    blocks = harness.through_api(script, lambda: server.connect("main"))
    assert harness.transcript(blocks) == script.expected()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", REMOTE, ids=name)
def test_over_tls(path: Path, engine: str, server_of: Callable[[str], Server], request: pytest.FixtureRequest) -> None:
    script = harness.read(path)
    server = server_of(engine)
    server.drop_namespaces()
    blocks = harness.through_api(script, lambda: server.connect())
    if request.config.getoption("--golden-rewrite"):
        if engine == "hashtable" and (script.server or script.sessions):
            script.transcript.write_text(harness.transcript(blocks), encoding="utf-8")
        return
    assert harness.transcript(blocks) == script.expected()
    if script.sessions:
        return
    for arguments, stdin in (
        (harness.shell_arguments(script, server.url, server.options), script.text),
        (harness.run_arguments(script, server.url, server.options), ""),
    ):
        server.drop_namespaces()
        shown = harness.as_process(arguments, stdin, server.environment)
        messages = arguments[0] != "run"
        expected = harness.without_lines("".join(b.shown(messages=messages) for b in blocks))
        assert harness.as_statement(shown) == expected
