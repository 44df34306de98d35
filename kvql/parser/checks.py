"""What a grammar cannot say: how deep a statement may be nested, and where a subquery may stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kvql import ast, errors
from kvql.node import Node
from kvql.parser.loop import too_deep
from kvql.parser.trace import trace
from kvql.span import Span
from kvql.values import NESTING_MAX


def _children(node: Any) -> Iterator[Any]:
    if type(node) is tuple:
        yield from node
    elif isinstance(node, Node):
        for name in node._fields:
            yield getattr(node, name)


def walk(node: Any) -> Iterator[tuple[Any, int]]:
    """All nodes below (and with) ``node``, each with its depth; never recursive."""
    todo = [(node, 0)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, Node):
            yield item, depth
            depth += 1
        todo.extend([(child, depth) for child in _children(item)])


def nesting(node: Any, text: str, start: int) -> None:
    """54001 if the tree or the brackets of the text are more than a hundred levels deep."""
    for item, depth in walk(node):
        if depth > NESTING_MAX + _FRAME:
            raise too_deep(item.span)
    if text.count("(", start) <= NESTING_MAX:
        return
    open_brackets = 0
    for token in trace(text, start).tokens:
        bracket = text[token.start]
        if bracket in "([" and token.end == token.start + 1:
            open_brackets += 1
            if open_brackets > NESTING_MAX:
                raise too_deep(Span(token.start, token.end))
        elif bracket in ")]" and token.end == token.start + 1:
            open_brackets -= 1


_FRAME: Final = 5
"""Levels of a tree that are not nesting: EXPLAIN, the statement, its clause, its item."""

SUBQUERY: Final = re.compile(r"\(\s*(?:--|/\*|SELECT)", re.IGNORECASE).search
"""May there be a subquery?"""


def subqueries(node: Any) -> None:
    """0A000 for a subquery anywhere but in ASSERT and LET."""
    if isinstance(node, ast.Assert | ast.Let):
        inner: Any = node.condition if isinstance(node, ast.Assert) else node.value
        for item, _ in walk(inner):
            if isinstance(item, ast.Subquery):
                for below, _ in walk(item.select):
                    _refuse(below)
        return
    for item, _ in walk(node):
        _refuse(item)


def _refuse(item: Any) -> None:
    if isinstance(item, ast.Subquery):
        raise errors.error(
            errors.NOT_SUPPORTED,
            "a subquery is supported in ASSERT and LET only",
            hint="LET x = (SELECT …) and then :x",
            span=item.span,
        )


def places(node: Any, before: int) -> int:
    """The number of values that the parameters by place have asked for, this statement's included."""
    return max(
        [before, *(item.name + 1 for item, _ in walk(node) if type(item) is ast.Param and type(item.name) is int)]
    )
