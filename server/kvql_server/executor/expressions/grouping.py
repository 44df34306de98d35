"""What a grouped query collects while its expressions are compiled: the groups' own expressions, and the aggregates."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from kvql import errors
from kvql.v1 import kvql_pb2 as pb
from kvql_server.executor.aggregates import AGGREGATES, result_type
from kvql_server.executor.expressions.items import Item


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate of a query: what it is fed with, as source over a row (empty: rows are counted)."""

    name: str
    distinct: bool
    arguments: tuple[str, ...]
    condition: str
    step: int = field(default=0, compare=False)
    """Where it stands among the statement's steps, from 1, to tell where an error came from."""


class Grouping:
    """``groups``: the items of GROUP BY, whose source is over a row."""

    def __init__(self) -> None:
        self.groups: list[Item] = []
        self.aggregates: list[Aggregate] = []
        self._identities: dict[Hashable, int] = {}
        self._places: dict[int, int] = {}
        self._aggregate_places: dict[Aggregate, int] = {}

    def intern(self, what: Hashable) -> int:
        """One number for equal programs."""
        return self._identities.setdefault(what, len(self._identities) + 1)

    def add(self, item: Item) -> None:
        """An expression of GROUP BY."""
        self._places.setdefault(item.identity, len(self.groups))
        self.groups.append(item)

    def known(self, item: Item) -> Item | None:
        """The value of the group, if the item is one of GROUP BY's."""
        place = self._places.get(item.identity)
        if place is None:
            return None
        return Item(f"k[{place}]", 1, self.groups[place].type, identity=item.identity)

    def aggregate(
        self, name: str, distinct: bool, arguments: list[Item], condition: Item | None, step: int
    ) -> Item:  # fmt: skip
        """An aggregate over the rows of a group; equal ones are computed once. 42883, 42803."""
        least, most = AGGREGATES[name]
        stars = [a for a in arguments if a.is_star]
        if stars and (name != "count" or len(arguments) > 1 or distinct):
            raise errors.error(errors.UNKNOWN_FUNCTION, f"{name}(*) does not exist", hint="only count(*) does")
        if stars:
            arguments = []
        if not least <= len(arguments) <= most or (distinct and not arguments):
            wanted = f"{least}" if least == most else f"{least} or {most}"
            raise errors.error(
                errors.UNKNOWN_FUNCTION, f"function {name} takes {wanted} {'argument' if most == 1 else 'arguments'}"
            )
        if any(item.aggregated for item in (*arguments, *([condition] if condition else []))):
            raise errors.error(errors.GROUPING, "aggregate function calls cannot be nested")
        made = Aggregate(
            name, distinct, tuple([a.code for a in arguments]), condition.truth if condition is not None else "", step
        )
        place = self._aggregate_places.setdefault(made, len(self.aggregates))
        if place == len(self.aggregates):
            self.aggregates.append(made)
        kind = result_type(name, arguments[0].type if arguments else None)
        return Item(f"e[{place}]", 1, kind, identity=self.intern(("aggregate", place)), aggregated=True)


def check_grouped(item: Item) -> Item:
    """The item itself; 42803 if it shows a column of single rows."""
    if item.loose is None:
        return item
    name, at = item.loose
    raise errors.error(
        errors.GROUPING, f"column {name} must appear in GROUP BY or be used in an aggregate function",
        hint="GROUP BY ALL groups by every column that is no aggregate", item=at, part=pb.PART_STEP,
    )  # fmt: skip
