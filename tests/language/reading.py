"""A syntax tree on one line, for people who compare readings: ``(put [(pair 'k' 5)] ttl=60s)``.

Fields that have their default are left out; a DECIMAL ends in ``n``, a FLOAT in ``f``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from kvql import ast
from kvql.node import Node
from kvql.values import Json, timestamp_text


def reading(node: Any) -> str:
    match node:
        case ast.Literal(value=value):
            return _value(value)
        case ast.Param(name=name):
            return f":{name}" if isinstance(name, str) else f"?{name + 1}"
        case ast.Name(text=text):
            return f"@{text}" if re.fullmatch(r"[\w.@-]+", text) else f"@{text!r}"
        case ast.Column(parts=parts):
            return "$" + ".".join(p if p.isidentifier() else repr(p) for p in parts)
        case ast.Star():
            return "*"
        case Node():
            return _node(node)
        case tuple():
            return "[" + " ".join(map(reading, node)) + "]"
        case Enum():
            return str(node.value)
    return str(node)


def _node(node: Any) -> str:
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(node).__name__).lower()
    parts = [kind]
    for name in node._fields:
        value = getattr(node, name)
        default = node._defaults.get(name, node)
        if default is node:
            parts.append(reading(value))
        elif value != default:
            parts.append(name.upper() if value is True else f"{name}={reading(value)}")
    return f"({' '.join(parts)})"


def _value(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
        case float():
            return f"{value!r}f"
        case Decimal():
            return f"{value}n"
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return f"{value / timedelta(milliseconds=1):.15g}ms"
        case Json():
            return value.text
    return repr(value)
