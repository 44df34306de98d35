"""Railroad diagrams: a node as a picture that needs nothing but itself.

A picture in a page is at most as wide as the page's text, so a long statement is broken into lines, its clauses left
whole where they fit.
"""

from __future__ import annotations

import math
from typing import Any, Final

import railroad

from tools.reference.nodes import Box, Either, Many, Maybe, Node, Row, Word

WIDTH: Final = 760
"""Pixels that a line of a diagram may take; the text of a page is about as wide."""
_CLOSING: Final = Word(")")  # begins no line
_INDENT: Final = 40  # what the rails around an optional or repeated part take

railroad.INTERNAL_ALIGNMENT = "left"

_STYLE: Final = """
.paper { fill: #ffffff; stroke: none; }
path { stroke: #57606a; stroke-width: 1.5; fill: none; }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle;
  fill: #1f2328; }
.terminal text { font-weight: bold; }
rect { stroke-width: 1.5; }
.terminal rect { stroke: #0a6b3d; fill: #e3f5ea; }
.non-terminal rect { stroke: #3b5b92; fill: #eaf1fb; }
"""


def svg(node: Node, title: str) -> str:
    """The diagram as the text of an SVG file."""
    diagram = railroad.Diagram(_item(node, WIDTH), type="complex")
    diagram.format(paddingTop=12, paddingRight=12)
    name: Any = railroad.DiagramItem("title", text=title)
    paper: Any = railroad.DiagramItem("rect", {"class": "paper", "width": "100%", "height": "100%"})
    diagram.children[:0] = [name, paper]
    parts: list[str] = []
    diagram.writeStandalone(parts.append, _STYLE)
    # the library wraps the style in comments around CDATA, which it does not need, and ends without a newline
    text = "".join(parts).replace("/* <![CDATA[ */\n", "").replace("\n/* ]]> */", "")
    return text.replace("><g", ">\n<g").replace("></svg>", ">\n</svg>") + "\n"


def _item(node: Node, width: float) -> Any:
    match node:
        case Word(text):
            return railroad.Terminal(text)
        case Box(text):
            return railroad.NonTerminal(text)
        case Maybe(item):
            return railroad.Optional(_item(item, width - _INDENT))
        case Either((first, *others)):
            # the library leaves no room for alternatives of several lines, but for the first
            return railroad.Choice(0, _item(first, width - _INDENT), *(_item(other, math.inf) for other in others))
        case Many(item, between):
            repeat = None if between is None else _item(between, math.inf)
            return railroad.OneOrMore(_item(item, width - _INDENT), repeat)
        case Row(items):
            return _lines(items, width)
        case _:
            raise ValueError(f"nothing to draw: {node}")


def _lines(nodes: tuple[Node, ...], width: float) -> Any:
    """The nodes side by side, on as many lines as it takes; keywords go with what follows them."""
    lines: list[list[tuple[Node, Any]]] = [[]]
    for node in nodes:
        item = _item(node, width - _INDENT)
        line = lines[-1]
        if line and node != _CLOSING and railroad.Sequence(*(i for _, i in line), item).width > width:
            words = len(line)
            while words and isinstance(line[words - 1][0], Word) and line[words - 1][0] != _CLOSING:
                words -= 1
            moved = line[words or len(line) :]
            del line[words or len(line) :]
            lines.append(moved)
        lines[-1].append((node, item))
    rows = [railroad.Sequence(*(item for _, item in line)) for line in lines]
    return rows[0] if len(rows) == 1 else railroad.Stack(*rows)
