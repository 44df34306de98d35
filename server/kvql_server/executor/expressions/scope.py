"""What names mean in a statement: columns of the pair, declared fields, fields of JSON values, aliases.

A name is looked up in this order: the namespace's own name or a qualifier (``old``, ``new``, ``excluded``) in front;
the pair's columns, in any case; declared fields; aliases; and at last, where no fields are declared, a field of the
JSON value, exactly as written. ORDER BY asks the aliases first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kvql import errors
from kvql.errors import Error
from kvql.names import listed, nearest, short
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.catalog import Field

# column -> (source, with {} for the entry; type)
COLUMNS: Final[dict[str, tuple[str, Type | None]]] = {
    "key": ("k", Type.TEXT),
    "value": ("{}.value", None),
    "type": ("type_name({}.value)", Type.TEXT),
    "version": ("{}.version", Type.INTEGER),
    "revision": ("({}.revision or None)", Type.INTEGER),
    "created_at": ("time_of({}.created_at)", Type.TIMESTAMP),
    "updated_at": ("time_of({}.updated_at)", Type.TIMESTAMP),
    "updated_by": ("{}.updated_by", Type.TEXT),
    "comment": ("({}.comment or None)", Type.TEXT),
    "expires_at": ("time_of({}.expires_at)", Type.TIMESTAMP),
    "ttl": ("ttl_of({}.expires_at)", Type.INTERVAL),
    "size": ("size_of({}.value)", Type.INTEGER),
}
# FROM HISTORY OF: a state may be the end of the pair, and has no more than a time, an author and a reason then
HISTORY_COLUMNS: Final[dict[str, tuple[str, Type | None]]] = {
    **COLUMNS,
    "type": ("(type_name({0}.value) if {0}.version else None)", Type.TEXT),
    "version": ("({}.version or None)", Type.INTEGER),
    "created_at": ("(time_of({0}.created_at) if {0}.version else None)", Type.TIMESTAMP),
    "updated_by": ("({}.updated_by or None)", Type.TEXT),
    "size": ("(size_of({0}.value) if {0}.version else None)", Type.INTEGER),
    "event": ("event_of({})", Type.TEXT),
}


class Found(NamedTuple):
    """What a name turned out to be."""

    column: str
    """``value`` for a field."""
    entry: str
    """The variable that holds the entry."""
    nullable: bool
    """Whether there may be no such entry (OLD of an inserted pair)."""
    path: tuple[str, ...] = ()
    declared: Field | None = None


def _unknown() -> None:
    return None


@dataclass(slots=True)
class Scope:
    """``namespace`` None: there is no pair to read from (SELECT 1 + 2, VALUES)."""

    namespace: str | None = None
    fields: Sequence[Field] = ()
    qualifiers: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """Name in front -> (variable of the entry, may be None)."""
    aliases: Mapping[str, pb.Expression] = field(default_factory=dict)
    aliases_first: bool = False
    strangers: frozenset[str] = frozenset()
    """Qualifiers of other clauses, which here could only mean a field of that name, and hardly ever do."""
    kinds_of: Callable[[], frozenset[type] | None] = _unknown
    """Finds out ``kinds``: asked for only by who needs them, because the past takes its time to tell."""
    hint: str = "there is no pair to read it from"
    history: bool = False
    """Whether a row is a state of a pair in its history, which has columns of its own."""
    _folded: tuple[object, dict[str, pb.Expression]] = (None, {})
    _fields: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        # by the exact name and, where that is nobody's, in any case: of two that differ in case only the first
        self._fields = {one.name.lower(): one for one in reversed(self.fields)} | {one.name: one for one in self.fields}

    @property
    def kinds(self) -> frozenset[type] | None:
        """The types that values of the namespace have, where that is known: comparisons then need not look."""
        return self.kinds_of()

    def find_kinds(self) -> None:
        """Find them out now, for who compiles where the namespace cannot be asked."""
        found = self.kinds_of()
        self.kinds_of = lambda: found

    @property
    def columns(self) -> Mapping[str, tuple[str, Type | None]]:
        """Of the pair."""
        return HISTORY_COLUMNS if self.history else COLUMNS

    def hides(self, name: str) -> bool:
        """Whether a declared field needs ``value`` in front, because a column of the history has its name."""
        return self.history and bool(self.fields) and name.lower() in HISTORY_COLUMNS

    def alias(self, parts: list[str]) -> pb.Expression | None:
        """The expression that an alias stands for, if the name is one here."""
        if len(parts) > 1 or not self.aliases:
            return None
        name = parts[0]
        if (
            not self.aliases_first
            and self.namespace is not None
            and (name.lower() in self.columns or self._field(name))
        ):
            return None
        exact = self.aliases.get(name)
        if exact is not None:
            return exact
        if self._folded[0] is not self.aliases:
            self._folded = self.aliases, {alias.lower(): self.aliases[alias] for alias in reversed([*self.aliases])}
        return self._folded[1].get(name.lower())

    def find(self, parts: list[str]) -> Found:
        """What a name of columns means; 42703 if nothing."""
        shown = short(".".join(parts))
        entry, nullable = "e", False
        if self.namespace is None and not self.qualifiers:
            raise errors.error(errors.UNKNOWN_COLUMN, f"column {shown} does not exist", hint=self.hint)
        if len(parts) > 1:
            qualifier = self.qualifiers.get(parts[0].lower())
            if qualifier is not None:
                (entry, nullable), parts = qualifier, parts[1:]
            elif parts[0] == self.namespace:
                parts = parts[1:]
            elif parts[0].lower() in self.strangers and parts[1].lower() in COLUMNS:
                raise errors.error(
                    errors.UNKNOWN_COLUMN, f"{parts[0]} has no meaning here ({shown})",
                    hint="OLD and NEW belong to RETURNING, EXCLUDED to ON CONFLICT; "
                    f"for a field of that name write value['{parts[0]}']",
                )  # fmt: skip
        first, rest = parts[0], tuple(parts[1:])
        column = first.lower()
        if column in self.columns:
            if rest and column != "value":
                raise errors.error(errors.UNKNOWN_COLUMN, f"column {column} has no fields ({shown})")
            return Found(column, entry, nullable, rest)
        if self.fields:
            declared = self._field(first)
            if declared is None:
                raise self.unknown(first)
            return Found("value", entry, nullable, (declared.name, *rest), None if rest else declared)
        return Found("value", entry, nullable, tuple(parts))

    def _field(self, name: str) -> Field | None:
        return self._fields.get(name) or self._fields.get(name.lower())

    def unknown(self, name: str) -> Error:
        """42703 with the nearest name."""
        known = [one.name for one in self.fields] + list(self.columns)
        near = nearest(name, known)
        return errors.error(
            errors.UNKNOWN_COLUMN, f"column {short(name)} does not exist",
            hint=f"did you mean {near}?" if near else f"the columns are {listed(known)}",
        )  # fmt: skip


def source_of(
    columns: Mapping[str, tuple[str, Type | None]], entry: str, nullable: bool, column: str
) -> tuple[str, Type | None]:
    """The source of a column of the pair in a variable, and its type."""
    template, kind = columns[column]
    code = template.format(entry)
    return (f"({code} if {entry} is not None else None)" if nullable else code), kind


def star(fields: Sequence[Field]) -> list[str]:
    """What ``*`` stands for."""
    return [one.name for one in fields] if fields else ["key", "value"]
