"""What happened, for operators: one event a line, as text or JSON, that no input can forge or break in two.

Audit events go to the logger ``kvql.audit`` with fixed fields: actor, peer, action, object, result. Values, passwords
and tokens are never among them.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

_AUDIT: Final = logging.getLogger("kvql.audit")
_LENGTH_MAX: Final = 300


def event(action: str, result: str, *, actor: str = "", peer: str = "", what: str = "") -> None:
    """Record that ``actor`` at ``peer`` did ``action`` to ``what``, and how it went (``ok``, ``denied``,
    ``failed``)."""
    fields = {"actor": actor, "peer": peer, "what": what, "result": result}
    level = logging.INFO if result == "ok" else logging.WARNING
    _AUDIT.log(level, action, extra={"fields": {name: value for name, value in fields.items() if value}})


class _Lines(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO kvql.audit login actor="ann" result="ok"``."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_time(record), record.levelname, record.name, _plain(record.getMessage())]
        parts += [f"{name}={_quoted(value)}" for name, value in _fields(record).items()]
        if record.exc_info:
            parts.append(f"exception={_quoted(self.formatException(record.exc_info))}")
        return " ".join(parts)


class _JsonLines(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        out: dict[str, Any] = {
            "time": _time(record), "level": record.levelname, "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        out |= _fields(record)
        if record.exc_info:
            out["exception"] = self.formatException(record.exc_info)
        return json.dumps(out)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(text: str) -> str:
    """Without anything that could end the line, move the cursor or hide text."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text if len(text) <= _LENGTH_MAX or "\n" in text else text[:_LENGTH_MAX] + "…")


def start_logging(form: str, level: str) -> None:
    """Log to standard error; ``form`` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
