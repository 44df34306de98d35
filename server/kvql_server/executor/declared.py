"""Declared fields: what CREATE NAMESPACE n (field type, …) promises, kept on every road that writes a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.names import listed, nearest, short
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json, Type, timestamp_text, type_of
from kvql_server.catalog import Field
from kvql_server.executor import casts
from kvql_server.executor.expressions.fields import kvql, plain
from kvql_server.executor.expressions.scope import COLUMNS
from kvql_server.executor.ordering import json_python

FIELDS_MAX: Final = 1_000
NAME_LENGTH_MAX: Final = 64
_NUMBERS: Final = (Type.INTEGER, Type.DECIMAL, Type.FLOAT)


def read_fields(command: pb.CreateNamespaceCommand) -> tuple[Field, ...]:
    """The declared fields of CREATE NAMESPACE; 42701 for a name that is taken, 22023 for what is no type."""
    if len(command.fields) > FIELDS_MAX:
        raise errors.error(errors.TOO_COMPLEX, f"a namespace has at most {FIELDS_MAX:,} fields")
    out: list[Field] = []
    seen: set[str] = set()
    for item, given in enumerate(command.fields, 1):
        name = given.name
        if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable() or "." in name:
            raise _wrong(errors.INVALID, "invalid name of a field", item, f"1 to {NAME_LENGTH_MAX} characters, no dots")
        if name.lower() in COLUMNS:
            raise _wrong(errors.DUPLICATE_COLUMN, f"column {name} already exists", item, "every pair has it; rename it")
        if name.lower() in seen:
            raise _wrong(errors.DUPLICATE_COLUMN, f"column {name} specified more than once", item)
        seen.add(name.lower())
        kind, arguments = given.type.lower(), tuple(given.type_arguments)
        try:
            casts.caster(kind, arguments)(None)
            if arguments and casts.ALIASES[kind] is Type.DECIMAL:
                casts.caster(kind, arguments)(0)
        except Error as e:
            e.item, e.part = item, pb.PART_COLUMN
            raise
        if casts.ALIASES[kind] is Type.INTERVAL:
            raise _wrong(errors.INVALID, "an interval cannot be stored", item, "store a TIMESTAMP")
        out.append(Field(name, kind, arguments, given.not_null))
    return tuple(out)


def _wrong(sqlstate: str, message: str, item: int, hint: str | None = None) -> Error:
    return errors.error(sqlstate, message, hint=hint, item=item, part=pb.PART_COLUMN)


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


def conform(fields: Sequence[Field], value: Any) -> Json:
    """A value of a namespace with declared fields, as it is stored: a JSON object of them, in their order.

    42804, 42703, 23502 and what the cast of a text to the field's type may raise, each with the field's name.
    """
    if type(value) is not Json or not value.text.startswith("{"):
        what = "a JSON array" if type(value) is Json else type_of(value).name
        raise errors.error(
            errors.TYPE_MISMATCH, f"values of this namespace are JSON objects, not {what}",
            hint=f"its fields are {listed([f.name for f in fields])}", part=pb.PART_VALUE,
        )  # fmt: skip
    try:
        return build(fields, {name: kvql(piece) for name, piece in json_python(value).items()})
    except Error as e:
        e.item, e.part = 0, pb.PART_VALUE
        raise


def build(fields: Sequence[Field], given: Mapping[str, Any]) -> Json:
    """The stored value from KVQL values by the name of their fields; an error's ``item`` is the place of the value in
    ``given``, from 1, or 0 if it is not there."""
    names = [f.name for f in fields]
    for name in given:
        if name not in names:
            near = nearest(name, names)
            raise errors.error(
                errors.UNKNOWN_COLUMN, f"column {short(name)} does not exist",
                hint=f"did you mean {near}?" if near else f"the fields are {listed(names)}", part=pb.PART_VALUE,
            )  # fmt: skip
    out: dict[str, Any] = {}
    for field in fields:
        if field.name in given or field.not_null:
            try:
                out[field.name] = assigned(field, given.get(field.name))
            except Error as e:
                e.item = list(given).index(field.name) + 1 if field.name in given else 0
                e.part = pb.PART_VALUE
                raise
    return Json.dump(out)


def assigned(field: Field, value: Any) -> Any:
    """A KVQL value as the piece of JSON that the field holds; numbers are brought to its type, texts are read as it."""
    if value is None:
        if field.not_null:
            raise errors.error(errors.NOT_NULL, f"null value in column {field.name} violates not-null constraint")
        return None
    target, found = casts.ALIASES[field.type], type_of(value)
    if found is target or found is Type.TEXT or (found in _NUMBERS and target in _NUMBERS):
        if found is Type.TEXT and target is Type.TEXT:
            _check_length(field, value)
            return value
        try:
            return _piece(casts.caster(field.type, field.arguments)(value))
        except Error as e:
            e.message = f"column {field.name}: {e.message}"
            raise
    raise errors.error(
        errors.TYPE_MISMATCH, f"column {field.name} is of type {target.name} but the value is {found.name}",
        hint=f"a cast may help: CAST(… AS {target.name})", part=pb.PART_VALUE,
    )  # fmt: skip


def _check_length(field: Field, value: str) -> None:
    if field.arguments and len(value) > field.arguments[0]:
        raise errors.error(
            errors.TOO_LONG, f"column {field.name}: value too long for type {field.type}({field.arguments[0]})",
            hint=f"it has {len(value):,} characters", part=pb.PART_VALUE,
        )  # fmt: skip


def _piece(value: Any) -> Any:
    kind = type(value)
    if kind is datetime:
        return timestamp_text(value)
    if kind is bytes:
        return "\\x" + value.hex()
    if kind is Decimal:
        # without this a stored 2 of a DECIMAL(10, 2) would come back as 2 and not as 2.00
        return value
    return plain(value)
