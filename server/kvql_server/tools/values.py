"""Whether what a payload decodes to is what a store writes: the checksums tell of the disk, this tells of ourselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from kvql.values import INTEGER_MAX, INTEGER_MIN, Json
from kvql_server.engines.base import Clear, Delete, Put, Write

_PLAIN: Final = frozenset((type(None), bool, float, str, bytes))


def why_no_value(value: Any) -> str | None:
    """Why a pair may not hold ``value``; None if it may."""
    kind = type(value)
    if kind in _PLAIN:
        return None
    if kind is int:
        return None if INTEGER_MIN <= value <= INTEGER_MAX else "an integer has more than 64 bits"
    if kind is Decimal:
        return None if value.is_finite() else "a decimal is not finite"
    if kind is Json:
        return None if value.text[:1] in ("{", "[") else "a JSON value is neither object nor array"
    if kind is datetime:
        return None if value.tzinfo is not None else "a timestamp has no time zone"
    return f"{kind.__name__} is no type of a value"


def why_no_writes(writes: Sequence[Write]) -> str | None:
    """Why a commit cannot hold these writes; None if it can."""
    for write in writes:
        names = (write.namespace,) if isinstance(write, Clear) else (write.namespace, write.key)
        if not all(type(name) is str for name in names):
            return "a key or namespace is not text"
        if isinstance(write, Put):
            if write.expires_at is not None and type(write.expires_at) is not int:
                return "a time of expiry is not a number"
            why = why_no_value(write.value)
            if why is not None:
                return why
        elif not isinstance(write, Delete | Clear):
            return "a write is of no known kind"
    return None
