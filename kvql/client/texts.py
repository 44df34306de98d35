"""Texts to statements, remembered: a program says the same few things again and again."""

from __future__ import annotations

from typing import Final

from kvql import ast, errors
from kvql.compiler.points import PointShape, point_shape
from kvql.span import Span

_TEXTS_MAX: Final = 512
_LENGTH_MAX: Final = 4096


class Texts:
    """A cache of parsed statements by their exact text."""

    def __init__(self) -> None:
        self._known: dict[str, ast.Statement] = {}
        self._points: dict[str, PointShape | None] = {}

    def point(self, text: str) -> PointShape | None:
        """What the one statement of ``text`` is as a point; None if it is none."""
        try:
            return self._points[text]
        except KeyError:
            shape = point_shape(self.one(text))
            if text in self._known:
                if len(self._points) >= _TEXTS_MAX:
                    self._points.clear()
                self._points[text] = shape
            return shape

    def one(self, text: str) -> ast.Statement:
        """The one statement of ``text``; 42601 if there are none or several."""
        known = self._known.get(text)
        if known is not None:
            return known
        from kvql.parser import parse

        statements = parse(text)
        if len(statements) != 1:
            raise _not_one(text, len(statements), statements[1].span if len(statements) > 1 else None)
        if len(text) <= _LENGTH_MAX:
            if len(self._known) >= _TEXTS_MAX:
                self._known.clear()
            self._known[text] = statements[0]
        return statements[0]


def _not_one(text: str, found: int, span: Span | None) -> errors.Error:
    if not found:
        return errors.error(errors.SYNTAX, "the text holds no statement", source=text)
    return errors.error(
        errors.SYNTAX,
        f"one statement at a time, but the text holds {found:,}",
        hint="run them one by one; kvql.parse(text) takes them apart",
        span=span,
        source=text,
    )
