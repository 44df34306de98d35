"""The exit codes, and which error means which (DESIGN §10). Scripts of users depend on them."""

from __future__ import annotations

from typing import Final

from kvql import errors
from kvql.errors import Error

FINE: Final = 0
USAGE: Final = 1
CONNECTION: Final = 2
FAILED: Final = 3
SYNTAX: Final = 4
CONFLICT: Final = 5
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""The reader of our output went away (128 + SIGPIPE, what any other program ends with)."""

HELP: Final = """
exit codes: 0 fine, 1 usage or internal error, 2 connection or login failed,
  3 a statement failed, 4 syntax error, 5 conflict with another transaction,
  130 interrupted, 141 the reader of the output went away"""


class Misuse(Exception):
    """The program was called in a way that means nothing; the text is for people. Exit code 1."""


_CODES: Final = {
    errors.SYNTAX: SYNTAX,
    errors.CONFLICT: CONFLICT,
    errors.INTERNAL: USAGE,
    errors.SHUTTING_DOWN: CONNECTION,
}


def code(error: Error) -> int:
    """The exit code for a statement's (or a connection's) error; the SQLSTATE decides."""
    if error.sqlstate[:2] in ("08", "28"):
        return CONNECTION
    return _CODES.get(error.sqlstate, FAILED)
