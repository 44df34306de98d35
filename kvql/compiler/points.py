"""Statements about one pair, for clients that many tasks share.

GET, PUT and UPSERT of one key are nearly all that such programs send, and a message of its own for each would cost more
than the work. So they are taken down to a mode, a key and a value; those that leave together travel as columns of one
command (``transport.points``). What is out of the ordinary is no point, and ``compile_statement`` finds out what it is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from kvql import ast
from kvql.compiler.parameters import Given
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import INTEGER_MAX, INTEGER_MIN, from_python

GET: Final = 0
"""Where another ``Point.mode`` is one of ``pb.WriteMode``."""
TEXT_LENGTH_MAX: Final = 4096
"""Of a value that travels with others: longer ones would make their message large, and gain nothing."""


class Point(NamedTuple):
    """What to do, the key, and the value for PUT and UPSERT."""

    mode: int
    key: str
    value: Any

    @property
    def size(self) -> int:
        """About the bytes that it takes in a message."""
        return 16 + len(self.key) + (len(self.value) if type(self.value) is str else 0)


class PointShape(NamedTuple):
    """A statement about one pair: its key and value are given, or stand at these places among the parameters."""

    mode: int
    key_place: int | None
    value_place: int | None
    key: Any
    value: Any
    width: int
    """How many parameters there are."""

    def bind(self, parameters: Given) -> Point | None:
        """The point with these parameters; None if something about them is out of the ordinary."""
        given = () if parameters is None else parameters
        if not isinstance(given, (list, tuple)) or len(given) != self.width:
            return None
        key = self.key if self.key_place is None else given[self.key_place]
        if type(key) is not str or not (key.isascii() or _encodable(key)):
            return None
        if self.mode == GET:
            return Point(GET, key, None)
        value = self.value if self.value_place is None else given[self.value_place]
        kind = type(value)
        if kind is int:
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                return None
        elif kind is str:
            if len(value) > TEXT_LENGTH_MAX or not (value.isascii() or _encodable(value)):
                return None
        elif kind not in _OTHERS:
            return None
        return Point(self.mode, key, value)


_OTHERS: Final = frozenset({float, bool, type(None)})
_MODES: Final[dict[type, int]] = {ast.Put: pb.WRITE_MODE_PUT, ast.Upsert: pb.WRITE_MODE_UPSERT}


def _encodable(text: str) -> bool:
    try:
        from_python(text)
    except Error:
        return False
    return True


def point_shape(statement: ast.Statement) -> PointShape | None:
    """What ``statement`` is as a point; None if it is none."""
    value: ast.Expression | None = None
    if type(statement) is ast.Get:
        if len(statement.keys) != 1:
            return None
        mode, key = GET, statement.keys[0]
    elif isinstance(statement, ast.Put | ast.Upsert):
        if len(statement.pairs) != 1 or statement.ttl is not None or statement.comment is not None:
            return None
        mode, pair = _MODES[type(statement)], statement.pairs[0]
        key, value = pair.key, pair.value
    else:
        return None
    places: list[int | None] = []
    for node in (key, value):
        if isinstance(node, ast.Param):
            if not isinstance(node.name, int):
                return None
            places.append(node.name)
        elif node is None or isinstance(node, ast.Literal):
            places.append(None)
        else:
            return None
    constants = [node.value if isinstance(node, ast.Literal) else None for node in (key, value)]
    width = max((place + 1 for place in places if place is not None), default=0)
    return PointShape(mode, places[0], places[1], constants[0], constants[1], width)
