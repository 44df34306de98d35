"""A file by columns says and does what it says and does statement by statement."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kvql_shell import flight, script
from kvql_shell.output import Output
from kvql_shell.places import decoded
from kvql_shell.progress import Progress
from kvql_shell.render import Format, Style

from kvql.client import Client
from tests.client.test_columns import script as generated
from tests.language.test_columns import script as wild
from tests.servers import PASSWORD, WAIT_S, Server, wait_until
from tests.shell.conftest import environment


class Dribble(io.BytesIO):
    """A file that is read in pieces of any size."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        super().__init__(data)
        self._rng = rng

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(self._rng.choice((1, 3, 100, 5000, 70_000)))


def carried_out(data: bytes, rng: random.Random, monkeypatch: pytest.MonkeyPatch, *, columnar: bool) -> list[Any]:
    """What a script says, how it ends, and what it leaves in the store."""
    taken: list[int] = []

    class Flight(flight.Flight):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            assert options.pop("columnar")
            super().__init__(*arguments, **options, columnar=columnar)

        def answered(self, result: Any) -> flight.Answered:
            found = super().answered(result)
            taken.append(found.size)
            return found

    monkeypatch.setattr(script, "Flight", Flight)
    out, err = io.StringIO(), io.StringIO()
    with Client.in_process(":memory:") as client:
        output = Output(out, err, Format.TSV, Style(color=False, header=True))
        progress = Progress(err, shown=False)
        runner = script.Runner(client, output, progress=progress)
        outcome = runner.run(script.Text(decoded(Dribble(data, rng)), "some.kvql", pipelined=True))
        summary = script.summary(outcome)
        if client.transaction_state != "none":
            client.run("ROLLBACK")
        rows = list(client.run("SELECT key, value, type, version FROM main").rows)
        assert progress.statements == outcome.done
        assert (max(taken, default=1) > 1) <= columnar
        return [out.getvalue(), err.getvalue(), outcome.code, outcome.done, outcome.failed, summary, rows]


def compare(data: bytes, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    quick = carried_out(data, random.Random(seed), monkeypatch, columnar=True)
    assert quick == carried_out(data, random.Random(seed + 1), monkeypatch, columnar=False)
    return quick


@pytest.mark.parametrize("seed", range(15))
def test_scripts_that_mostly_go_well(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(generated(random.Random(seed)).encode(), seed, monkeypatch)


@pytest.mark.parametrize("seed", range(40))
def test_scripts_of_all_that_can_go_wrong(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    data = "".join(f"UPSERT u{i} {i};\n" for i in range(rng.randrange(60))).encode()
    compare(data + wild(rng).encode(errors="replace"), seed, monkeypatch)


@pytest.mark.parametrize("seed", range(10))
def test_bytes_that_are_no_utf_8(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    lines = [f"PUT k{i} 'ä{i}';".encode() for i in range(3000)]
    lines[rng.randrange(3000)] = rng.choice((b"PUT bad '\xff';", b"PUT b\xc3 1;", b"\x80", b"PUT a 1; \xed\xa0\x80"))
    said = compare(b"\n".join(lines), seed, monkeypatch)
    assert "not valid UTF-8" in said[1]
    assert said[2] == 4


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_the_place_of_an_error_in_the_file(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{mark}-- head\n" + "".join(f"PUT k{i} {i}; /* two\n lines */ PUT l{i}\n  'a;b';\n" for i in range(3000))
    text += "PUT m 1; PUT k7\n 2; PUT n 1;"
    said = compare(text.encode(), 1, monkeypatch)
    assert "ERROR 23505 at some.kvql:9002:14: key already exists: k7\nLINE 9002: PUT k7\n" in said[1]
    assert said[-2] == "6001 statements before it were carried out"


def test_what_is_told_statement_by_statement_is_run_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Flight(flight.Flight):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            seen.append(options["columnar"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(script, "Flight", Flight)
    for form, messages, carry_on in (
        (Format.TABLE, True, False), (Format.TABLE, False, False), (Format.TSV, True, False), (Format.TSV, False, True),
    ):  # fmt: skip
        out = io.StringIO()
        with Client.in_process(":memory:") as client:
            output = Output(out, io.StringIO(), form, Style(color=False, header=True), messages=messages)
            runner = script.Runner(client, output, carry_on=carry_on)
            runner.run(script.Text(iter(["PUT a 1;PUT b 2;", "PUT a 2;PUT c 3;"]), "some.kvql", pipelined=True))
        assert out.getvalue() == ("1 pair put\n" * 2 if form is Format.TABLE and messages else "")
        assert runner.outcome.done == (3 if carry_on else 2)
    assert seen == [False, True, True, False]


@pytest.mark.parametrize("remote", [True, False])
def test_a_load_that_is_interrupted_says_how_far_it_came(remote: bool, tmp_path: Path) -> None:
    """Over TLS and in process: what was counted is what is there. The script has no end, so it is always in time."""
    file = tmp_path / "load.kvql"
    os.mkfifo(file)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), file.open("w") as pipe:
            for start in count(step=1_000):
                pipe.write("".join(f"PUT k{i} {i};\n" for i in range(start, start + 1_000)))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    server = Server(tmp_path / "server").start() if remote else None
    try:
        target = f"{server.url}/load" if server else str(tmp_path / "store")
        options = server.options if server else ()
        process = subprocess.Popen(
            [sys.executable, "-m", "kvql_shell.main", "run", str(file), target, *options],
            stderr=subprocess.PIPE, env=environment(tmp_path, KVQL_PASSWORD=PASSWORD), text=True,
        )  # fmt: skip
        data = server.data if server else tmp_path / "store"
        wait_until(lambda: any(b"k5000" in f.read_bytes() for f in data.rglob("*") if f.is_file()))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 130, stderr
        last = stderr.splitlines()[-1]
        done = int(last.split()[0])
        assert last == f"{done} statements before it were carried out"
        assert done > 0
        writer.join(WAIT_S)
        with Client.in_process(target) if server is None else server.connect("load") as connection:
            rows = connection.run("COUNT").rows if server is None else connection.execute("COUNT").fetchall()
            assert list(rows) == [(done,)]
    finally:
        if server:
            server.stop()
