"""What was typed, kept for the next session, without the secrets.

The file is in prompt_toolkit's own format (``FileHistory``), mode 0600, in the user's state folder. Every statement is
redacted before it is kept, in memory too, so that neither arrow-up nor a suggestion shows a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit.history import FileHistory

from kvql_shell.redaction import redact

ENTRIES_MAX: Final = 10_000


def history_path() -> Path:
    """``history`` in the state folder of the user; KVQL_HISTORY names another file."""
    named = os.environ.get("KVQL_HISTORY")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_state_path("kvql")) / "history"


class History(FileHistory):
    """A ``FileHistory`` that is readable by its owner alone, redacts, and forgets what is very old."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # opened here so that the mode is right before the first line is written, also on a file from elsewhere
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        super().__init__(str(path))

    def load_history_strings(self) -> Iterable[str]:
        for number, text in enumerate(super().load_history_strings()):
            if number >= ENTRIES_MAX:
                break
            yield text

    def append_string(self, string: str) -> None:
        super().append_string(redact(string))

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            # a full disk or a folder taken away must not end the session; the entry lives on in memory
            return
