"""``SET value = e, expires_at = e, address.city = e``: of UPDATE and of ON CONFLICT DO UPDATE."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json, to_micros, type_of
from kvql_server.catalog import Field, Namespace
from kvql_server.engines.base import Entry
from kvql_server.executor.call import Call
from kvql_server.executor.declared import assigned, conform
from kvql_server.executor.expressions import Builder, Item
from kvql_server.executor.expressions.fields import plain, with_field
from kvql_server.executor.expressions.generated import cells
from kvql_server.executor.expressions.scope import COLUMNS, Scope
from kvql_server.executor.ordering import json_python

_SETTABLE: Final = ("value", "expires_at")


class Target:
    """What one assignment sets: a column, or a field at ``path`` (``column`` is then empty)."""

    __slots__ = ("column", "field", "path", "step")

    def __init__(self, scope: Scope, parts: Sequence[str]) -> None:
        first, rest = parts[0], tuple(parts[1:])
        column = first.lower()
        self.column = ""
        self.path: tuple[str, ...] = ()
        self.field: Field | None = None
        self.step = 0
        """The last step of its expression among the statement's, from 1, to tell where an error came from."""
        if column in COLUMNS and not (column == "value" and rest):
            if column not in _SETTABLE or rest:
                hint = "set expires_at: now() + 5m" if column == "ttl" else "value, expires_at and fields can be set"
                raise errors.error(errors.INVALID, f"column {column} cannot be set", hint=hint)
            self.column = column
            return
        found = scope.find(list(parts))
        self.path, self.field = found.path, found.declared


class Assignments:
    """The assignments of a statement, compiled; ``row`` is the source of the values that they assign."""

    def __init__(self, builder: Builder, assignments: Sequence[pb.Assignment], record: Namespace, base: int) -> None:
        if not assignments:
            raise errors.error(errors.INVALID, "SET needs at least one assignment")
        self._record = record
        self.targets: list[Target] = []
        items: list[Item] = []
        for assignment in assignments:
            try:
                if not assignment.path:
                    raise errors.error(errors.INVALID, "an assignment needs a column")
                self.targets.append(Target(builder.scope, assignment.path))
            except Error as e:
                e.item, e.part = e.item or base + 1, e.part or pb.PART_STEP
                raise
            items.append(builder.program(assignment.expression, base))
            base += len(assignment.expression.steps)
            self.targets[-1].step = base
        self._check_once(base)
        self.row = cells(builder, items)
        self.base = base
        """Where the steps of what follows start."""

    def _check_once(self, base: int) -> None:
        seen: set[tuple[str, ...]] = set()
        for target in self.targets:
            place = (target.column,) if target.column else ("value", *target.path)
            if place in seen or (target.path and ("value",) in seen) or (
                target.column == "value" and any(p[:1] == ("value",) for p in seen)
            ):  # fmt: skip
                raise errors.error(
                    errors.SYNTAX, f"multiple assignments to {'.'.join(target.path) or target.column}",
                    item=base, part=pb.PART_STEP,
                )  # fmt: skip
            seen.add(place)

    def apply(self, key: str, entry: Entry, values: Sequence[Any], words_only: bool) -> tuple[Any, int | None]:
        """The value and ``expires_at`` that the pair gets; every rule for values is checked."""
        value, expires_at = entry.value, entry.expires_at
        document: Any = None
        target = self.targets[0]
        try:
            for target, new in zip(self.targets, values, strict=True):
                if target.column == "value":
                    value = stored(new)
                elif target.column:
                    expires_at = moment(new)
                else:
                    document = _document(key, value) if document is None else document
                    piece = assigned(target.field, new) if target.field is not None else plain(new)
                    with_field(document, target.path, piece)
            if document is not None:
                value = Json.dump(document)
            if self._record.fields:
                value = conform(self._record.fields, value)
            check_value(value, words_only)
        except Error as e:
            e.item, e.part = target.step, pb.PART_STEP
            raise
        return value, expires_at


def _document(key: str, value: Any) -> Any:
    if type(value) is Json and value.text.startswith("{"):
        return json_python(value)
    what = "a JSON array" if type(value) is Json else type_of(value).name
    raise errors.error(
        errors.TYPE_MISMATCH, f"the value of key {key} is {what} and has no fields",
        hint="narrow the statement: WHERE type = 'JSON'",
    )  # fmt: skip


def stored(value: Any) -> Any:
    """A computed value that is to be stored: an interval cannot be."""
    if type(value) is timedelta:
        raise errors.error(errors.INVALID, "an interval cannot be stored", hint="store a timestamp: now() + 5m")
    return value


def moment(value: Any) -> int | None:
    """``expires_at`` as it is kept: microseconds since 1970, or None."""
    if value is None:
        return None
    if type(value) is not datetime:
        raise errors.error(
            errors.TYPE_MISMATCH, f"expires_at must be TIMESTAMP or NULL, not {type_of(value).name}",
            hint="for example now() + 5m",
        )  # fmt: skip
    return to_micros(value)


def check_value(value: Any, words_only: bool, item: int = 0) -> None:
    """The rules for stored values."""
    from kvql_server import rules

    error = rules.value_error(value, words_only, item)
    if error is not None:
        raise error


def words_only(call: Call, record: Namespace) -> bool:
    """Whether text with white space is refused: the namespace's option, else the server's setting."""
    return bool(record.options.get("values", call.settings.values) == "word")
