"""Ctrl-C at every moment of a text that the shell runs: it stops, and what it tells is what was carried out."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kvql_shell import exits
from kvql_shell.interrupt import Interrupt
from kvql_shell.output import Output
from kvql_shell.render import Format, Style
from kvql_shell.script import Outcome, Runner, Text, chunks_of, summary

from kvql.client import connect
from kvql.client.sync import Client
from tests.client.test_interrupt import Moment
from tests.servers import PASSWORD, Server

MOMENTS = 60
TEXT = "UPSERT a 1; UPSERT b 2; COUNT LIKE '%a%'; UPSERT c 3;"


@pytest.fixture(params=["in process", "over TLS"])
def client(request: pytest.FixtureRequest, server_of: Any, tmp_path: Path) -> Iterator[Client]:
    if request.param == "in process":
        opened = connect(str(tmp_path / "store"))
    else:
        server: Server = server_of("hashtable")
        server.drop_namespaces()
        opened = connect(f"{server.url}/main", password=PASSWORD, ca=str(server.ca))
    with opened:
        opened.run("UPSERT zero 0")
        yield opened


class _Press(Moment):
    """SIGINT at a moment inside ``Interrupt``; before and after it, Ctrl-C means something else."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.SIGINT

    def counts(self) -> bool:
        handler = signal.getsignal(signal.SIGINT)
        return "Interrupt" in repr(handler) or "Shield" in repr(handler)


def run(client: Client, moment: Moment, *, pipelined: bool) -> tuple[Any, str]:
    out, err = io.StringIO(), io.StringIO()
    runner = Runner(client, Output(out, err, Format.TABLE, Style()))
    sys.settrace(moment)
    try:
        outcome = runner.run(Text(chunks_of(TEXT), pipelined=pipelined))
    finally:
        sys.settrace(None)
    return outcome, out.getvalue() + err.getvalue()


@pytest.mark.parametrize("pipelined", [False, True], ids=["one by one", "pipelined"])
def test_at_every_moment(client: Client, pipelined: bool) -> None:
    lines = 0
    for _ in range(3):
        moment = _Press(0)
        run(client, moment, pipelined=pipelined)
        lines = max(lines, moment.seen)
    stopped = 0
    for number in range(1, lines + 1, max(1, lines // MOMENTS)):
        client.run("DELETE FROM main WHERE key <> 'zero'")
        moment = _Press(number)
        outcome, told = run(client, moment, pipelined=pipelined)
        if not moment.place:
            continue
        assert outcome.code == exits.INTERRUPTED, moment.place
        keys = [key for (key,) in client.run("SHOW KEYS").rows if key != "zero"]
        writes = outcome.done - (outcome.done > 2)
        assert keys == ["a", "b", "c"][:writes], f"{moment.place}: {outcome} {told}"
        stopped += outcome.done < 4
    assert stopped, "some of them came in time"


def test_the_third_one_leaves_whatever_runs(client: Client) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt(client.cancel):
        with client.shield:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it comes out where the client is whole")
    assert signal.getsignal(signal.SIGINT) is before
    assert client.run("GET zero").rows == [("zero", 0)]


def test_what_it_stopped_in_flight_is_told_once(client: Client) -> None:
    """With ``--continue`` each statement has an answer of its own, and a thousand may be in flight."""

    def chunks() -> Iterator[str]:
        yield "UPSERT a 1; PUT zero 1; DELETE nothing; " * 10
        os.kill(os.getpid(), signal.SIGINT)
        yield "UPSERT b 1; DELETE nothing; UPSERT c 1; " * 10

    out, err = io.StringIO(), io.StringIO()
    runner = Runner(client, Output(out, err, Format.TSV, Style()), carry_on=True)
    outcome = runner.run(Text(chunks(), pipelined=True))
    assert outcome.code == exits.INTERRUPTED
    assert err.getvalue().count("57014") <= 1, err.getvalue()
    assert summary(Outcome(done=1, failed=3, ended=True)) == "1 statement carried out, 3 failed"
