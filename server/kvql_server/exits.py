"""What ``kvql-server`` exits with, and how it says why (``docs/operations.md``)."""

from __future__ import annotations

from typing import Final, NoReturn

import click

FAILED: Final = 1
USAGE: Final = 2
LOCKED: Final = 10
DAMAGED: Final = 11
PORT_IN_USE: Final = 12
CERTIFICATES: Final = 13
USERS: Final = 14
FOLDER: Final = 15
STOPPED: Final = 16
TORN: Final = 17
"""The end of the log is as a crash leaves it; the next start puts that right."""
FULL: Final = 18
DISK: Final = 19
"""The disk fails while the store is opened; what is on it was not judged."""


def fail(message: str, code: int) -> NoReturn:
    """End the process with a sentence on standard error."""
    click.echo(f"kvql-server: {message}", err=True)
    raise SystemExit(code)
