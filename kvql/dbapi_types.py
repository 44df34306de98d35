"""The type objects and constructors that PEP 249 prescribes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import Final

from kvql.values import Type


class TypeObject:
    """A kind of column (PEP 249): equal to every ``Type`` of that kind."""

    def __init__(self, name: str, *types: Type) -> None:
        self._name = name
        self._types = frozenset(types)

    def __eq__(self, other: object) -> bool:
        return self is other or other in self._types

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


STRING: Final = TypeObject("STRING", Type.TEXT, Type.JSON)
BINARY: Final = TypeObject("BINARY", Type.BYTES)
NUMBER: Final = TypeObject("NUMBER", Type.INTEGER, Type.DECIMAL, Type.FLOAT, Type.BOOLEAN)
DATETIME: Final = TypeObject("DATETIME", Type.TIMESTAMP)
ROWID: Final = TypeObject("ROWID")

Binary = bytes


def Date(year: int, month: int, day: int) -> datetime:
    """Midnight UTC: KVQL has points in time, no calendar days."""
    return datetime(year, month, day, tzinfo=UTC)


def Time(hour: int, minute: int, second: int) -> str:
    """As text: KVQL has no type for a time of day."""
    return time_of_day(hour, minute, second).isoformat()


def Timestamp(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def DateFromTicks(ticks: float) -> datetime:
    day = date.fromtimestamp(ticks)
    return Date(day.year, day.month, day.day)


def TimeFromTicks(ticks: float) -> str:
    return datetime.fromtimestamp(ticks).time().isoformat()


def TimestampFromTicks(ticks: float) -> datetime:
    return datetime.fromtimestamp(ticks, UTC)
