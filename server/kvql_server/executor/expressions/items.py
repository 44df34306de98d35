"""An operand while a program is compiled, and what every part of the compiler needs to handle them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.executor.access_path import FULL, Path

NEGATED, INSENSITIVE, DISTINCT, FILTER, HAS_OPERAND, HAS_ELSE, HAS_ESCAPE, PLACE = (1 << bit for bit in range(8))

DEPTH_MAX: Final = 40
"""Brackets in a row, after which an operand moves into a function of its own (Python's tokenizer ends at 200)."""
WIDE: Final = 16
"""More operands than this go into a function of their own, where Python keeps them in fast local variables."""
PIECE: Final = 64
"""More operands than this are cut into several functions: each is compiled by itself, in a millisecond or two."""
SOURCE_MAX: Final = 2_000
"""Characters after which an operand moves into a function of its own, so that no source is copied again and again."""
CALLS_MAX: Final = 400
"""Functions that may call one another in a row; Python itself ends at 1,000."""


@dataclass(slots=True)
class Item:
    """An operand on the stack: its source, and what is known of it before any row is seen."""

    code: str
    depth: int = 0
    type: Type | None = None
    path: Path = FULL
    is_key: bool = False
    is_constant: bool = False
    value: Any = None
    parts: list[tuple[str, str, int]] = field(default_factory=list)
    """Of a chain of arithmetic: function (of the first operand: empty), operand, step. The chain's last operator has
    this very list, to add to it; if it is long, ``code`` stays empty until ``Builder.settle``."""
    calls: int = 0
    """How many functions call one another in a row to compute it."""
    test: str = ""
    """Source that is true exactly where the value is TRUE, if that is cheaper than asking ``is True``."""
    raw: str = ""
    """Of a piece of a JSON value: source that tells MISSING from NULL."""
    place: tuple[str, tuple[str | int, ...]] | None = None
    """Of a piece of a JSON value: the source of the value, and the steps into it."""
    identity: int = 0
    """Equal for equal programs, where groups are looked for."""
    loose: tuple[str, int] | None = None
    """A column (and its step) that is neither grouped nor inside an aggregate."""
    is_star: bool = False
    aggregated: bool = False
    """Whether an aggregate is in it."""

    @property
    def truth(self) -> str:
        """Source that is true exactly where the value is TRUE; 42804 at run time where it is no BOOLEAN."""
        if self.test:
            return self.test
        return f"{self.code} is True" if self.type is Type.BOOLEAN else f"boolean({self.code}) is True"

    @property
    def logical(self) -> str:
        """Source of the value, checked to be BOOLEAN or NULL."""
        return self.code if self.type is Type.BOOLEAN else f"boolean({self.code})"


def deepest(items: Sequence[Item], more: int = 1) -> int:
    return max((i.depth for i in items), default=0) + more


def negated(step: pb.Step, item: Item) -> Item:
    """NOT of the item, if the step says so."""
    if not step.flags & NEGATED:
        return item
    return Item(f"negation({item.code})", item.depth + 1, Type.BOOLEAN)


def malformed(why: str) -> Error:
    return errors.error(errors.INVALID, f"malformed expression: {why}")


def names_of(names: Sequence[str], at: int, count: int) -> list[str]:
    """``count`` names from place ``at`` on."""
    if count < 1 or at + count > len(names):
        raise malformed("a name is missing")
    return list(names[at : at + count])
