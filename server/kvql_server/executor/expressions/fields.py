"""Reaching into JSON values: ``value.address.city``, ``tags[0]``; absent is MISSING, which reads as NULL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from kvql import errors
from kvql.values import INTEGER_MAX, INTEGER_MIN, Json, check_decimal
from kvql_server.executor.ordering import json_python

NAMES_KEPT_MAX: Final = 200


class _Missing:
    """What is not there at all, as opposed to a stored null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def present(value: Any) -> Any:
    """MISSING as NULL."""
    return None if value is MISSING else value


def kvql(value: Any) -> Any:
    """A piece of decoded JSON as a KVQL value."""
    kind = type(value)
    if kind is int:
        return value if INTEGER_MIN <= value <= INTEGER_MAX else check_decimal(Decimal(value))
    if kind is Decimal:
        # first the check: 1e900000000 written out would take the memory of the machine
        check_decimal(value)
        return Decimal(format(value, "f")) if "E" in str(value) else value
    if kind is dict or kind is list:
        return Json.dump(value)
    return value


def plain(value: Any) -> Any:
    """A KVQL value as a piece of JSON: times and bytes as text. 22023 for what JSON has no word for."""
    kind = type(value)
    if kind is Json:
        return json_python(value)
    if kind is timedelta:
        raise errors.error(errors.INVALID, "an interval cannot be stored", hint="store a timestamp: now() + 5m")
    if kind is float and (value != value or value in (float("inf"), float("-inf"))):
        raise errors.error(errors.INVALID, f"JSON has no number {value}", hint="store NULL or a text")
    if value is None or kind in (bool, int, float, Decimal, str):
        return value
    from kvql.values import display

    return display(value)


class Decoder:
    """Decodes the values of a scan, once each: the fields of one row are asked for one after the other."""

    __slots__ = ("_last", "_object")

    def __init__(self) -> None:
        self._last: Json | None = None
        self._object: Any = None

    def __call__(self, value: Json) -> Any:
        if value is not self._last:
            self._object = json_python(value)
            self._last = value
        return self._object


class FieldPath:
    """Steps into a JSON value; remembers whether any row had it, and which names there were instead."""

    __slots__ = ("_decode", "_looks", "asked", "found", "name", "names", "steps")

    def __init__(self, steps: tuple[str | int, ...], decode: Decoder, *, looks: bool) -> None:
        """``looks``: whether the names around an absent one are kept; a statement may name thousands of fields."""
        self.steps = steps
        self._decode = decode
        self._looks = looks
        self.name = ""
        """Of the variable that holds it in the generated code."""
        self.asked = False
        self.found = False
        self.names: dict[int, dict[str, None]] = {}
        """By the step that was absent, from 0."""

    def __call__(self, value: Any) -> Any:
        """What is there, or MISSING."""
        self.asked = True
        if type(value) is not Json:
            return MISSING
        at = self._decode(value)
        for step in self.steps:
            at = reach(at, step)
            if at is MISSING:
                if self._looks and not self.found:
                    self._look_around(value)
                return MISSING
        self.found = True
        return kvql(at)

    def _look_around(self, value: Json) -> None:
        """The names beside the one that is absent, for the notice."""
        at = self._decode(value)
        for depth, step in enumerate(self.steps):
            if type(at) is dict and step not in at:
                names = self.names.setdefault(depth, {})
                names.update(dict.fromkeys(islice(at, max(0, NAMES_KEPT_MAX - len(names)))))
            at = reach(at, step)


def reach(at: Any, step: str | int) -> Any:
    """A member by name or an item by place, from the end if negative; else MISSING."""
    if isinstance(step, str):
        return at.get(step, MISSING) if type(at) is dict else MISSING
    return at[step] if type(at) is list and -len(at) <= step < len(at) else MISSING


def index(value: Any, step: Any) -> Any:
    """``value[step]`` with a step that is computed: MISSING where nothing is; 42804 for a step of another type."""
    if value is None or value is MISSING or step is None or step is MISSING:
        return MISSING
    if type(step) is not str and type(step) is not int:
        raise errors.error(
            errors.TYPE_MISMATCH, "a JSON value is reached into by a name (TEXT) or a place (INTEGER)",
            hint="write value['name'] or value[0]",
        )  # fmt: skip
    if type(value) is not Json:
        return MISSING
    return kvql(found) if (found := reach(json_python(value), step)) is not MISSING else MISSING


def with_field(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """A decoded JSON object with the member at ``path`` set; objects on the way are made where they are absent.

    ``value`` is changed. 22023 where something on the way is no object.
    """
    at = value
    for name in path[:-1]:
        following = at.get(name)
        if following is None:
            following = at[name] = {}
        if type(following) is not dict:
            raise errors.error(errors.INVALID, f"{name} is no object, so {'.'.join(path)} cannot be set")
        at = following
    at[path[-1]] = new
    return value


def json_object(pairs: Iterable[Any]) -> Json:
    """A JSON object from name, value, name, value …"""
    flat = list(pairs)
    return Json.dump({name: plain(value) for name, value in zip(flat[::2], flat[1::2], strict=True)})


def json_array(items: Iterable[Any]) -> Json:
    return Json.dump([plain(item) for item in items])
