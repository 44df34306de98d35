"""A connection in a process that was forked off: the parent's sockets, log and locks are not the child's to use."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import kvql

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing to protect: this system has no fork"),
    # pytest's own workers have threads; the child only asks and leaves
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(answer: Path, connection: Any) -> str:
    """What a statement says in a forked child, that a hang of half a minute ends."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        try:
            with pytest.raises(kvql.InterfaceError):
                connection.watch("WATCH")
            with pytest.raises(kvql.InterfaceError):
                connection.executemany("PUT ? ?", [("c", 1)])
            with pytest.raises(kvql.InterfaceError) as caught:
                connection.execute("PUT child 1")
            with pytest.raises(kvql.InterfaceError):
                connection.close()
            answer.write_text(str(caught.value))
        finally:
            os._exit(0)  # whatever happened: the child must not go on with the tests
    _, status = os.waitpid(child, 0)
    assert status == 0 and answer.exists(), "the child did not come to its end"
    return answer.read_text()


def test_a_child_is_told_to_connect_itself(target: dict[str, Any], tmp_path: Path) -> None:
    with kvql.connect(**target, autocommit=True) as connection:
        connection.execute("PUT a 1")
        said = in_child(tmp_path / "answer", connection)
        assert "08003" in said and "before this process was forked" in said
        connection.execute("PUT b 2")
        assert connection.execute("SHOW DATA").fetchall() == [("a", 1), ("b", 2)]
    with kvql.connect(**target, autocommit=True) as again:
        assert again.execute("SHOW DATA").fetchall() == [("a", 1), ("b", 2)]
