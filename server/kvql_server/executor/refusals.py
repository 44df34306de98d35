"""What an engine refuses, as an error that a user is told."""

from __future__ import annotations

from kvql import errors
from kvql.errors import Error
from kvql_server.engines import base


def engine_error(error: base.EngineError) -> Error:
    """What an engine's refusal is to a user; the operator's sentence stays in the log where it names files."""
    if isinstance(error, base.StoreFull):
        return errors.error(errors.DISK_FULL, f"the store is full: {error}", hint="nothing was written; reads go on")
    if isinstance(error, base.OutcomeUnknown):
        return errors.error(
            errors.OUTCOME_UNKNOWN, "writing the log failed; whether the last writes survive is unknown",
            hint="read what is there once the server runs again",
        )  # fmt: skip
    if isinstance(error, base.Compacted):
        return errors.error(errors.COMPACTED, str(error))
    if isinstance(error, base.Closed):
        return errors.error(errors.SHUTTING_DOWN, "the store is closing")
    return errors.error(errors.CORRUPTED, "the data are damaged", hint="see the server's log")
