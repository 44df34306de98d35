"""Names, keys, values and numbers as they must be written to be read back the same."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from kvql.ast import Literal, Name, Operand, Param
from kvql.values import Json, Value, bare_value, display, interval_text, literal, quote

_BAREWORD: Final = re.compile(r"""(?![?:]|[^\s]*(?:--|/\*))[^\s;,'"()\[\]{}]+""")
_NAME: Final = re.compile(r"[^\W\d]\w*")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_@.+-]*")

_RESERVED_WORDS: Final = frozenset({"FROM", "SET", "TIMESTAMP"})
_RESERVED_NAMES: Final = frozenset(
    {"IF", "WHERE", "FROM", "WITH", "TO", "HISTORY", "READ", "WRITE", "ADMIN", "SET", "TIMESTAMP"}
)
_RESERVED_COLUMNS: Final = frozenset(
    {
        "ALL", "CASE", "CAST", "DISTINCT", "DOUBLE", "FALSE", "INTERVAL", "NOT", "NULL", "SELECT", "TIMESTAMP", "TRUE",
        "WHEN",
    }
)  # fmt: skip


def bare(text: str) -> bool:
    """May ``text`` stand as a bare word?"""
    return _BAREWORD.fullmatch(text) is not None and text.isprintable() and text.upper() not in _RESERVED_WORDS


def param(node: Param) -> str:
    return f":{node.name}" if isinstance(node.name, str) else f"?{node.name + 1}"


def word(node: Operand) -> str:
    """A key or a pattern."""
    if isinstance(node, Param):
        return param(node)
    text = node.value
    assert isinstance(text, str), "keys and patterns are text"
    return text if bare(text) else quote(text)


def short_value(value: Value | timedelta) -> str | None:
    """A constant as a value of a short form; None if it needs the brackets of an expression."""
    if isinstance(value, str):
        return value if bare(value) and bare_value(value) is value else quote(value)
    if isinstance(value, bool | int | Decimal):
        text = display(value)
        again = bare_value(text)
        return text if type(again) is type(value) and display(again) == text else None
    if value is None or isinstance(value, float | timedelta):
        return None
    return literal(value)


def namespace(node: Name) -> str:
    """A namespace, user, role or session."""
    text = node.text
    if _PLAIN_NAME.fullmatch(text) and "--" not in text and text.upper() not in _RESERVED_NAMES:
        return text
    return _quoted(text)


def name(text: str) -> str:
    """A name where no keyword may stand: an alias, a field after a dot, a setting."""
    return text if _NAME.fullmatch(text) else _quoted(text)


def column(text: str) -> str:
    """The first name of a column."""
    return text if _NAME.fullmatch(text) and text.upper() not in _RESERVED_COLUMNS else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_MILLISECOND: Final = timedelta(milliseconds=1)


def duration(value: timedelta) -> str:
    """``90s``, or an INTERVAL if it is negative or finer than a millisecond."""
    whole, rest = divmod(value, _MILLISECOND)
    if rest or whole < 0:
        return f"INTERVAL '{interval_text(value)}'"
    unit, size = next((u for u in _UNITS if whole and whole % u[1] == 0), _UNITS[3])
    return f"{whole // size}{unit}"


def constant(value: Value | timedelta) -> str:
    """A constant in an expression."""
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return str(value)
    return literal(value)


def operand(node: Operand) -> str:
    """A number, a duration or a text of a clause."""
    return param(node) if isinstance(node, Param) else constant(node.value)


def json_constant(node: Literal) -> str:
    """A constant beside a parameter in a JSON literal."""
    value = node.value
    if isinstance(value, str):
        return Json.dump([value]).text[1:-1]
    if isinstance(value, Json):
        return value.text
    if value is None:
        return "null"
    return str(value) if isinstance(value, Decimal) else display(value)
