"""What each rule of the grammar becomes.

A builder is called with the values of all the symbols of its rule (``None`` for those that carry nothing, such as
keywords), and with the start and end of its text. Builders are pure: a repeated shape calls them again with other
literals, and nothing that they decide may come from anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvql.parser.build import expressions, literals, statements
from kvql.parser.build.literals import read_json

Builder = Callable[[list[Any], int, int], Any]

BUILDERS: Final[dict[str, Builder]] = {**literals.BUILDERS, **expressions.BUILDERS, **statements.BUILDERS}
"""By the name of the rule, or of the alternative if it has one (``-> name``)."""

__all__ = ["BUILDERS", "Builder", "read_json"]
