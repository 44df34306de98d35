"""History on disk: private, and without secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from kvql_shell.history import History
from kvql_shell.redaction import redact


@pytest.mark.parametrize(
    "text",
    [
        "CREATE USER ann PASSWORD 'hunter2'",
        "create user ann password'hunter2';",
        "ALTER USER ann PASSWORD e'hunter2\\n'",
        "ALTER USER ann PASSWORD 'it''s hunter2'",
        "ALTER USER ann PASSWORD 'hunter2",
        "ALTER USER ann PASSWORD /* new */ 'hunter2'",
        "ALTER USER ann PASSWORD -- new\n 'hunter2'",
        "kvql kvql://ann:hunter2@host/ns",
    ],
)
def test_a_secret_is_redacted(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize("text", ["PUT password hunter2", "PUT k 'the PASSWORD is long'", "GET kvql://host/ns"])
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


def test_the_file_is_private_and_survives(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = History(path)
    history.append_string("CREATE USER ann PASSWORD 'hunter2'")
    history.append_string("GET a\n, b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hunter2" not in path.read_text()
    assert "hunter2" not in "".join(history.get_strings())
    assert list(History(path).load_history_strings()) == ["GET a\n, b", "CREATE USER ann PASSWORD '***'"]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("")
    path.chmod(0o644)
    History(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
