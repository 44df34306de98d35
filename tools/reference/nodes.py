"""What a diagram is made of, and how rows and alternatives are brought into the form that reads best.

Alternatives that begin or end alike share what is common: ``ROLLBACK | ROLLBACK TO s`` becomes ``ROLLBACK [TO s]``, and
``x ("," x)*`` becomes a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias


@dataclass(frozen=True)
class Word:
    """A keyword or sign, typed as it stands."""

    text: str


@dataclass(frozen=True)
class Box:
    """Something that the user fills in; ``part`` names the section of ``parts.md`` that tells what may stand there."""

    text: str
    part: str = ""


@dataclass(frozen=True)
class Row:
    """One after the other; of nothing, it is the empty way."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """One of these."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Maybe:
    """Or nothing."""

    item: Node


@dataclass(frozen=True)
class Many:
    """Once or more, with ``between`` in between."""

    item: Node
    between: Node | None = None


Node: TypeAlias = Word | Box | Row | Either | Maybe | Many


def boxes(node: Node) -> Iterator[Box]:
    """All boxes of ``node``, in order."""
    match node:
        case Box():
            yield node
        case Row(items) | Either(items):
            for item in items:
                yield from boxes(item)
        case Maybe(item):
            yield from boxes(item)
        case Many(item, between):
            yield from boxes(item)
            if between is not None:
                yield from boxes(between)


def row(items: Sequence[Node]) -> Node:
    """``x ("," x)*`` becomes a list; rows in rows become one row."""
    flat: list[Node] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Row) else (item,))
    out: list[Node] = []
    for item in flat:
        match item:
            case Maybe(Many(Row((between, *repeated)))) if repeated and out[-len(repeated) :] == repeated:
                out[-len(repeated) :] = [Many(row(repeated), between)]
            case _:
                out.append(item)
    return out[0] if len(out) == 1 else Row(tuple(out))


def either(ways: Sequence[tuple[Node, ...]]) -> Node:
    """Alternatives as one node: what all share at the start and at the end stands once."""
    ways = list(dict.fromkeys(ways))
    if len(ways) == 1:
        return row(ways[0])
    head = 0
    while all(len(way) > head for way in ways) and len({way[head] for way in ways}) == 1:
        head += 1
    tail = 0
    while all(len(way) - head > tail for way in ways) and len({way[-1 - tail] for way in ways}) == 1:
        tail += 1
    if head or tail:
        middle = either([way[head : len(way) - tail] for way in ways])
        return row([*ways[0][:head], middle, *ways[0][len(ways[0]) - tail :]])
    if not all(ways):
        return Maybe(either([way for way in ways if way]))
    made: list[Node] = []
    for _, group in groupby(ways, key=lambda way: way[0]):
        alike = list(group)
        one = row(alike[0]) if len(alike) == 1 else either(alike)
        made.extend(one.items if isinstance(one, Either) else (one,))
    return Either(tuple(made))
