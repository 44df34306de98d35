"""Expressions: from the flat postfix programs of the wire to generated Python, compiled once a statement.

In order of control flow: a statement makes a ``Scope`` (what names mean) and a ``Builder``. ``Builder.program`` walks a
program step by step; each step takes its operands from a stack of ``Item``s (source, and what is known before any row
is seen: a constant's value, the type, the keys that can satisfy it) and leaves one. ``conditions`` writes comparisons
and logic, ``values`` everything else, ``fields`` reaches into JSON, ``grouping`` collects what a grouped query computes
a group. ``generated`` puts the sources together into functions over whole pages; ``runtime`` names what they call.
"""

from kvql_server.executor.expressions.builder import Builder
from kvql_server.executor.expressions.conditions import condition_of, like_path
from kvql_server.executor.expressions.generated import (
    change_function,
    constant,
    constants,
    group_function,
    notices,
    page_function,
    test_function,
)
from kvql_server.executor.expressions.grouping import Grouping, check_grouped
from kvql_server.executor.expressions.items import Item
from kvql_server.executor.expressions.runtime import compiled_like
from kvql_server.executor.expressions.scope import Scope, star

__all__ = [
    "Builder",
    "Grouping",
    "Item",
    "Scope",
    "change_function",
    "check_grouped",
    "compiled_like",
    "condition_of",
    "constant",
    "constants",
    "group_function",
    "like_path",
    "notices",
    "page_function",
    "star",
    "test_function",
]
