"""``~`` and ``~*``: regular expressions by RE2, which takes time linear in the text whatever the pattern.

Linear is still the length of the text times the size of the compiled pattern, and both are the user's, so their product
is bounded too. ``.`` matches a line break and ``^`` and ``$`` are the ends of the text, as in PostgreSQL; ``(?-s)`` and
``(?m)`` change that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import re2

from kvql import errors
from kvql.errors import Error
from kvql_server import rules

_MEMORY_MAX: Final = 1024 * 1024
"""Bytes that RE2 may take for one pattern: its program, and the states that matching makes."""
_STEPS_MAX: Final = 1 << 28
"""Bytes times instructions: about a second at worst, which nobody can cut short (a row is searched in one call, in a
thread if it is costly); most patterns need a hundredth of that."""
_COSTLY: Final = re.compile(r"\\[pP]|\{[0-9,]{3,}")
_COSTLY_MAX: Final = 200
"""Classes of Unicode and repetitions of a hundred times: thousands take RE2 a second and half a gigabyte to refuse."""
_SHOWN_MAX: Final = 80


class Regex:
    """Whether a text holds a match anywhere; 53400 where a text is too long for a pattern that is too large.

    ``size``: its instructions, each of which may be tried at each character, though few patterns are that bad.
    """

    __slots__ = ("_length_max", "_search", "size")

    def __init__(self, search: Callable[[bytes], object], size: int) -> None:
        self._search = search
        self._length_max = _STEPS_MAX // size
        self.size = size

    def __call__(self, text: str) -> bool:
        # bytes: for a str the library would count back from bytes to characters, which nobody asks for here
        encoded = text.encode()
        if len(encoded) > self._length_max:
            raise _too_costly(len(encoded))
        return self._search(encoded) is not None


@lru_cache(maxsize=256)
def compiled_regex(pattern: str, insensitive: bool) -> Regex:
    """The pattern, compiled; 2201B if it is none, 22023 if it is too long."""
    rules.check_pattern(pattern)
    if len(_COSTLY.findall(pattern)) > _COSTLY_MAX:
        raise _too_large()
    try:
        compiled = re2.compile(pattern, options=_options(insensitive))
    except re2.error as e:
        raise _invalid(e) from None
    return Regex(compiled.search, compiled.programsize)


def _options(insensitive: bool) -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_MAX
    options.never_capture = True
    options.dot_nl = True
    options.case_sensitive = not insensitive
    return options


def _invalid(error: Exception) -> Error:
    """RE2's own words, which quote the piece of the pattern that is at fault."""
    [why] = error.args
    text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
    shown = text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
    if text.startswith("pattern too large"):
        return _too_large()
    return errors.error(
        errors.INVALID_REGEX, f"invalid regular expression: {shown}",
        hint="the syntax is RE2's, which has neither references to groups nor a look at what lies around",
    )  # fmt: skip


def _too_large() -> Error:
    return errors.error(
        errors.INVALID_REGEX, "invalid regular expression: it is too large", hint="use smaller repetitions: {n,m}"
    )


def _too_costly(length: int) -> Error:
    return errors.error(
        errors.LIMIT, f"the regular expression is too large for a text of {length:,} bytes",
        hint="use smaller repetitions and classes, or LIKE",
    )  # fmt: skip
