"""Points in time and durations: microseconds, PostgreSQL's words for them, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from kvql import errors
from kvql.values.limits import INTEGER_MAX
from kvql.values.texts import shorten

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def utc(value: datetime) -> datetime:
    """``value`` in UTC; a naive one is taken as UTC (LANGUAGE §1)."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "timestamp out of range") from None


def to_micros(value: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    return (value - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time ``micros`` microseconds after 1970; 22003 outside the years 1 to 9999."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "timestamp out of range") from None


def interval_of(micros: int) -> timedelta:
    """A duration of ``micros`` microseconds; 22003 if they do not fit into 64 bits."""
    if abs(micros) > INTEGER_MAX:
        raise errors.error(errors.OVERFLOW, "interval out of range")
    return timedelta(microseconds=micros)


def to_interval_micros(value: timedelta) -> int:
    """A duration in microseconds, exactly."""
    return value // MICROSECOND


def timestamp_text(value: datetime) -> str:
    """ISO 8601 in UTC with a ``Z``, the fraction only if there is one."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def interval_text(value: timedelta) -> str:
    """A duration as PostgreSQL's words, exact: ``'1 day 2 hours 0.5 seconds'``; ``'0 seconds'`` for none."""
    micros = value // MICROSECOND
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    parts: list[str] = []
    for unit, size in (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000)):
        count, micros = divmod(micros, size)
        if count:
            parts.append(f"{sign}{count} {unit}{'s' if count != 1 else ''}")
    if micros or not parts:
        seconds, fraction = divmod(micros, 1_000_000)
        text = f"{seconds}.{fraction:06d}".rstrip("0") if fraction else str(seconds)
        parts.append(f"{sign}{text} {'second' if text == '1' else 'seconds'}")
    return " ".join(parts)


def parse_timestamp(text: str) -> datetime:
    """ISO 8601, a date alone or with a time, ``T`` or a space between; naive means UTC. Else 22P02."""
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise errors.error(
            errors.BAD_CAST,
            f"invalid input syntax for type timestamp: {shorten(text)}",
            hint="write it as '2026-01-02T03:04:05Z'",
        ) from None


_UNITS: Final[dict[str, int]] = {
    "ms": 1_000, "millisecond": 1_000, "milliseconds": 1_000,
    "s": 1_000_000, "sec": 1_000_000, "secs": 1_000_000, "second": 1_000_000, "seconds": 1_000_000,
    "m": 60_000_000, "min": 60_000_000, "mins": 60_000_000, "minute": 60_000_000, "minutes": 60_000_000,
    "h": 3_600_000_000, "hour": 3_600_000_000, "hours": 3_600_000_000,
    "d": 86_400_000_000, "day": 86_400_000_000, "days": 86_400_000_000,
    "w": 604_800_000_000, "week": 604_800_000_000, "weeks": 604_800_000_000,
}  # fmt: skip
_INTERVAL_PART: Final = re.compile(r"\s*([+-]?[0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{1,12})(?![A-Za-z])")


def parse_interval(text: str) -> timedelta:
    """``'5 minutes'``, ``'1 day 2 hours'``, ``'90s'``; months and years have no fixed length: 22P02."""
    micros, at = 0, 0
    stripped = text.strip()
    while at < len(stripped):
        part = _INTERVAL_PART.match(stripped, at)
        size = _UNITS.get(part[2].lower()) if part else None
        if part is None or size is None:
            raise errors.error(
                errors.BAD_CAST,
                f"invalid input syntax for type interval: {shorten(text)}",
                hint="write it as '5 minutes'; the units are weeks, days, hours, minutes, seconds, milliseconds",
            )
        micros += int(Decimal(part[1]) * size)
        at = part.end()
    if not stripped:
        raise errors.error(
            errors.BAD_CAST, "invalid input syntax for type interval: ''", hint="write it as '5 minutes'"
        )
    return interval_of(micros)
