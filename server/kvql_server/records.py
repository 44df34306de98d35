"""Small changes to the reserved namespace: read, decide, commit, and again if somebody came in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kvql_server.engines.base import Conflict, Engine
from kvql_server.transaction import Transaction, conflict_error

T = TypeVar("T")
TRIES_MAX: Final = 20


async def change(engine: Engine, user: str, act: Callable[[Transaction], Awaitable[T]]) -> tuple[T, int]:
    """What ``act`` returned, and the revision that it committed (or saw); 40001 after twenty conflicts."""
    tries = TRIES_MAX
    while True:
        tries -= 1
        transaction = Transaction(engine, user)
        try:
            result = await act(transaction)
            outcome = await transaction.commit()
        finally:
            transaction.close()
        if not isinstance(outcome, Conflict):
            return result, outcome
        if not tries:
            raise conflict_error(outcome)
