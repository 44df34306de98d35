"""Where a text comes from: an argument, a file, standard input. All are read in chunks and closed at the end."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from kvql_shell.config import MEMORY
from kvql_shell.exits import Misuse
from kvql_shell.places import decoded
from kvql_shell.script import Text, chunks_of

STANDARD_INPUT: Final = "-"
_TARGET: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|kvql\+file:")
_STANDARD_INPUT_NAME: Final = "stdin"


def opener(name: str, *, pipelined: bool = True) -> Callable[[], AbstractContextManager[Text]]:
    """How to open ``name`` when its turn comes; a file that is not there is told at once, before anything runs."""
    if name == STANDARD_INPUT:
        return lambda: standard_input(pipelined=pipelined)
    _check_file(name)
    return lambda: _file(name)


def _check_file(name: str) -> None:
    if os.path.isdir(name):
        raise Misuse(f"{name} is a folder, not a file with statements")
    if not os.path.exists(name):
        raise Misuse(f"{name}: no such file")
    if not os.access(name, os.R_OK):
        raise Misuse(f"{name}: permission denied")


def is_target(name: str, *, other: str | None) -> bool:
    """Whether ``name``, where a file should stand, is the place of a store and changed places with ``other``."""
    if os.path.isdir(name):
        return other is not None and os.path.isfile(other)
    return name == MEMORY or (_TARGET.match(name) is not None and not os.path.exists(name))


@contextmanager
def argument(text: str) -> Iterator[Text]:
    """The text of ``-c``."""
    yield Text(chunks_of(text))


@contextmanager
def _file(name: str) -> Iterator[Text]:
    with open(name, "rb") as file:
        yield Text(decoded(file), name, pipelined=True, position=file.tell)


@contextmanager
def standard_input(*, pipelined: bool | None = None) -> Iterator[Text]:
    """Standard input: pipelined if it is a file, else statement by statement, so that a program may wait for it."""
    file = sys.stdin.buffer
    if pipelined is None:
        pipelined = _is_file(file)
    yield Text(decoded(file), _STANDARD_INPUT_NAME, pipelined=pipelined)


def _is_file(file: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # something that a program put in place of standard input
        return False


def size(name: str) -> int | None:
    """Bytes of a file, None where that cannot be known."""
    path = Path(name)
    return path.stat().st_size if name != STANDARD_INPUT and path.is_file() else None
