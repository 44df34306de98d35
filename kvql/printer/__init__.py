"""AST to text: the canonical way to write a statement or an expression, such that ``parse(unparse(node))`` is ``node``.

``words`` knows how names, keys and values must be written to be read back; ``expressions`` puts brackets where the tree
needs them and nowhere else; ``statements`` puts the clauses together.
"""

from __future__ import annotations

from kvql import ast
from kvql.printer.expressions import expression
from kvql.printer.statements import statement


def unparse(node: ast.Statement | ast.Expression) -> str:
    """The text of ``node``, on one line, keywords in upper case, without a ``;``."""
    if isinstance(node, ast.Expression):
        return expression(node)
    return statement(node)


__all__ = ["unparse"]
