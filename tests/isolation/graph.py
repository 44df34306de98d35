"""Directed graphs whose edges have kinds: strongly connected components, and short cycles inside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

Node = int
Edges = dict[Node, dict[Node, int]]
"""From each node to each next one: the kinds of the edge as bits."""


def components(edges: Edges, mask: int) -> Iterator[list[Node]]:
    """Strongly connected components of two nodes or more, over the edges that have a kind of ``mask`` (Tarjan 1972,
    with a stack of our own: histories are longer than Python's)."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    on_stack: set[Node] = set()
    stack: list[Node] = []
    for root in edges:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, _next(edges, root, mask))]
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, _next(edges, other, mask)))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found = []
                    while True:
                        found.append(stack.pop())
                        on_stack.discard(found[-1])
                        if found[-1] == node:
                            break
                    if len(found) > 1:
                        yield found


def _next(edges: Edges, node: Node, mask: int) -> Iterator[Node]:
    return (other for other, kinds in edges.get(node, {}).items() if kinds & mask)


def path(edges: Edges, start: Node, goal: Node, mask: int, within: Iterable[Node]) -> list[Node] | None:
    """A shortest way from ``start`` to ``goal`` over edges of a kind of ``mask``, both ends included."""
    allowed = set(within)
    before: dict[Node, Node] = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == goal:
            way = [goal]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        for other in _next(edges, node, mask):
            if other in allowed and other not in before:
                before[other] = node
                queue.append(other)
    return None


def cycle(edges: Edges, mask: int, within: list[Node]) -> list[Node]:
    """A short cycle inside a component, its first node not repeated."""
    best: list[Node] | None = None
    allowed = set(within)
    for start in within[:50]:
        for other in _next(edges, start, mask):
            if other in allowed:
                way = path(edges, other, start, mask, allowed)
                if way is not None and (best is None or len(way) < len(best)):
                    best = way
    assert best is not None
    return best
