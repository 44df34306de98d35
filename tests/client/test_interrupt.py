"""An exception that a signal's handler raises, at every moment that there is: it comes out, and the client lives on.

The signal is raised from a trace function, so a moment is a line that is about to run, and every run meets the same.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import kvql
from kvql import ast
from kvql.client import connect
from kvql.client.shield import Shield
from kvql.client.sync import Client
from tests.servers import PASSWORD, Server

MOMENTS = 40
"""Tried of each kind of statement, from its first line to its last."""
_PLACES = ("/kvql/", "/kvql_server/", "/kvql_shell/", "/asyncio/", "/grpc/aio/")


class _Pressed(BaseException):
    """What the handler raises; like KeyboardInterrupt, nothing of ours catches it."""


def press(*_: object) -> None:
    raise _Pressed


class Moment:
    """A trace function that raises a signal at the line number ``number`` (of those run), from 1; 0 for never."""

    def __init__(self, number: int) -> None:
        self.signal = signal.SIGALRM
        self.number = number
        self.seen = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        # lines of the shield's own are finer than Python's moments, which are calls and jumps: see the last test
        return self._line if any(place in file for place in _PLACES) and not file.endswith("shield.py") else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event in ("line", "return") and not _in_del(frame) and self.counts():
            self.seen += 1
            if self.seen == self.number:
                sys.settrace(None)
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                signal.raise_signal(self.signal)
        return self._line

    def counts(self) -> bool:
        """Whether this line is one of those."""
        return True


def _in_del(frame: FrameType | None) -> bool:
    """Whether Python would throw away what is raised here, in a destructor."""
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "close"):
            return True
        frame = frame.f_back
    return False


def lines_of(work: Callable[[], object]) -> int:
    moment = Moment(0)
    sys.settrace(moment)
    try:
        work()
    finally:
        sys.settrace(None)
    return moment.seen


def pressed_at(number: int, work: Callable[[], object]) -> Moment:
    """Run ``work`` and interrupt it; fails if the interrupt does not come out."""
    moment = Moment(number)
    try:
        sys.settrace(moment)
        work()
    except _Pressed:
        return moment
    finally:
        sys.settrace(None)
    assert not moment.place, f"lost at {moment.place}"
    return moment


@pytest.fixture(params=["in process", "over TLS"])
def client(request: pytest.FixtureRequest, server_of: Any, tmp_path: Any) -> Iterator[Client]:
    before = signal.signal(signal.SIGALRM, press)
    try:
        if request.param == "in process":
            opened = connect(str(tmp_path / "store"))
        else:
            server: Server = server_of("hashtable")
            server.drop_namespaces()
            opened = connect(f"{server.url}/main", password=PASSWORD, ca=str(server.ca))
        with opened:
            yield opened
    finally:
        signal.signal(signal.SIGALRM, before)


def check(client: Client, moment: Moment) -> None:
    """The client is as good as new: it answers, no transaction is left that it does not know of."""
    assert signal.getsignal(signal.SIGALRM) is press, moment.place
    try:
        if client.transaction_state != "none":
            client.run("ROLLBACK", timeout=30)
        assert client.run("GET k5", timeout=30).rows == [("k5", 5)]
        client.run("BEGIN", timeout=30)
        client.run("UPSERT other 1", timeout=30)
        client.run("ROLLBACK", timeout=30)
    except kvql.Error as e:
        raise AssertionError(f"interrupted at {moment.place}: {e}") from e


def everywhere(client: Client, work: Callable[[], object]) -> None:
    """Interrupt ``work`` at moments from its beginning to its end."""
    lines = max(lines_of(work) for _ in range(3))
    assert lines > 10
    for number in range(1, lines + 1, max(1, lines // MOMENTS)):
        check(client, pressed_at(number, work))


@pytest.mark.parametrize("statement", ["GET k7", "UPSERT k7 1", "COUNT LIKE '%5%5%'", "SELECT key WHERE value > 5"])
def test_a_statement_at_every_moment(client: Client, statement: str) -> None:
    client.run_rows("UPSERT ? ?", [(f"k{i}", i) for i in range(500)])
    everywhere(client, lambda: list(client.run(statement).rows))


def test_a_transaction_at_every_moment(client: Client) -> None:
    client.run("UPSERT k5 5")

    def work() -> None:
        client.run("BEGIN")
        client.run("UPSERT k7 1")
        client.run("COMMIT")

    everywhere(client, work)


def test_many_statements_at_every_moment(client: Client) -> None:
    client.run("UPSERT k5 5")
    statements = [(statement, None) for statement in kvql.parse("UPSERT a 1; UPSERT b 2; GET a; UPSERT c 3; GET b;")]
    everywhere(client, lambda: list(client.run_many(statements)))


def test_many_rows_at_every_moment(client: Client) -> None:
    client.run("UPSERT k5 5")
    everywhere(client, lambda: client.run_rows("UPSERT ? ?", [(f"r{i}", i) for i in range(3000)]))


def test_whoever_makes_the_rows_is_interrupted_there(client: Client) -> None:
    client.run("UPSERT k5 5")
    made: list[str] = []

    def rows() -> Iterator[tuple[str, int]]:
        yield "a", 1
        try:
            signal.raise_signal(signal.SIGALRM)
            made.append("went on")
        finally:
            made.append("ended")
        yield "b", 2

    with pytest.raises(_Pressed):
        client.run_rows("UPSERT ? ?", rows())
    assert made == ["ended"]
    check(client, Moment(0))


def test_keyboard_interrupt_in_the_rows_leaves_the_loop_whole(client: Client) -> None:
    client.run("UPSERT k5 5")

    def statements() -> Iterator[tuple[ast.Statement, str | None]]:
        yield kvql.parse("UPSERT a 1")[0], None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(client.run_many(statements()))
    check(client, Moment(0))


def test_cancel_before_there_is_anything_to_stop(client: Client) -> None:
    client.run("UPSERT k5 5")
    with client.shield:
        client.cancel()
        with pytest.raises(kvql.OperationalError) as caught:
            client.run("UPSERT k7 never")
    assert caught.value.sqlstate == "57014"
    assert client.run("HAS k7").rows == [("k7", False)]
    check(client, Moment(0))


def test_a_second_interrupt_does_not_wait_for_the_server(faulty: Any) -> None:
    """A server that answers nothing: the first interrupt asks it to stop, the next ones leave without it."""
    before = signal.signal(signal.SIGALRM, press)
    try:
        with connect(faulty.url, password="secret", insecure=True) as client:
            faulty.service.hold = threading.Event()
            signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
            with pytest.raises(_Pressed):
                client.run_rows("UPSERT ? ?", [(f"r{i}", i) for i in range(3000)], carry_on=False)
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulty.service.hold.set()
            assert client.run("UPSERT k5 5").row_count == 1, "not refused for what was given up"
            assert client.run("GET k5").rows == [("k5", 5)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_at_moments_of_the_shield_itself() -> None:
    shield = Shield(lambda: None)
    before = signal.signal(signal.SIGALRM, press)
    try:
        for number in range(500):
            with pytest.raises(_Pressed):
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 100 / 1e6)
                while True:
                    with shield:
                        pass
            with shield:
                assert shield.pending is None
            assert signal.getsignal(signal.SIGALRM) is press
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_shields_nest_and_leave_handlers_as_they_were() -> None:
    stops: list[int] = []
    shield = Shield(lambda: stops.append(1))
    before = signal.signal(signal.SIGALRM, press)
    try:
        with pytest.raises(_Pressed), shield:
            with shield:
                signal.raise_signal(signal.SIGALRM)
            assert stops == [1]
            stops.append(2)
        assert stops == [1, 2]
        assert signal.getsignal(signal.SIGALRM) is press
        with shield:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN, "whoever sets another handler meanwhile keeps it"
    finally:
        signal.signal(signal.SIGALRM, before)
