"""The grammar's rules as a reader needs them: clauses written out, and boxes for what has a name of its own.

A helper rule (``opt_ttl``, ``pairs``, ``assignments``) is written out where it is used; a notion (key, value, duration,
expression) stays a box.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from lark import Token
from lark.grammar import NonTerminal
from lark.grammar import Terminal as LarkTerminal
from lark.load_grammar import load_grammar

from tools.make_grammar import GRAMMAR, NOTIONS
from tools.reference.nodes import Box, Many, Maybe, Node, Row, Word, either, row

# Rules that are parts beside the notions that error messages name.
_PARTS: Final[dict[str, str]] = {
    **{rule: notion for notion, rules in NOTIONS for rule in rules if rule not in ("scope", "member")},
    "column": "column or field",
    "call": "function call",
    "case": "CASE …",
    "data": "query or write",
    "write": "write",
    "select": "SELECT …",
    "path": "column or field",
    "conflict": "ON CONFLICT …",
    "json_object": "json object",
    "json_array": "json array",
}
# Where a name is not just any name: (rule, rule of the part) -> what the box says.
_LABELS: Final[dict[tuple[str, str], str]] = {
    ("columns", "alias"): "column",
    ("option", "alias"): "setting",
    ("field", "field_name"): "field",
    ("opt_format", "alias"): "format",
    ("savepoint", "alias"): "savepoint",
    ("savepoint_name", "alias"): "savepoint",
    ("create_role", "user"): "role",
    ("drop_role", "user"): "role",
    ("cancel", "user"): "session",
    ("opt_from_revision", "number"): "revision",
    ("as_of", "number"): "revision",
    ("grant", "user"): "user or role",
    ("revoke", "user"): "user or role",
    ("source_file", "text"): "file",
    ("import", "text"): "file",
    ("export", "text"): "file",
    ("call", "NAME"): "function",
}
_LITERALS: Final[dict[str, str]] = {
    "BAREWORD": "word", "WORD": "word", "NAME": "name", "QNAME": '"quoted name"', "STRING": "'text'",
    "E_STRING": "e'text\\n'", "X_STRING": "x'1fff'", "WPARAM": ":parameter", "PARAM": ":parameter", "INT": "number",
    "DECIMAL": "0.5", "FLOAT": "1e3", "DURATION": "60s", "CAST_OP": "::", "JSON_STRING": '"text"',
    "JSON_NUMBER": "number",
}  # fmt: skip
# Keywords that the grammar also takes as plain words; a diagram shows them as keywords only.
_ALSO_WORDS: Final = frozenset({"TIMESTAMP", "INTERVAL", "HISTORY", "SAVEPOINT"})
_AS_WORD: Final = "source_history_word"


@lru_cache
def _rules() -> dict[str, Any]:
    text = GRAMMAR.read_text(encoding="utf-8")
    grammar, _ = load_grammar(text, GRAMMAR.name, [], False)  # type: ignore[no-untyped-call]  # Lark has no types here
    return {str(name): tree for name, _, tree, _ in grammar.rule_defs}


def of_rule(rule: str) -> Node:
    """What the rule ``rule`` accepts; the rule itself is always written out, also where it is a part."""
    return _node(_rules()[rule], rule)


def _node(tree: Any, rule: str) -> Node:
    if isinstance(tree, NonTerminal):
        return _use(str(tree.name), rule)
    if isinstance(tree, LarkTerminal):
        name = str(tree.name)
        keyword = name.startswith("_") or name not in _LITERALS
        return Word(name.lstrip("_")) if keyword else Box(_LABELS.get((rule, name), _LITERALS[name]))
    if isinstance(tree, Token):
        return Word(str(tree)[1:-1])
    match tree.data:
        case "value" | "literal":
            return _node(tree.children[0], rule)
        case "maybe":
            return Maybe(_node(tree.children[0], rule))
        case "expr":
            item = _node(tree.children[0], rule)
            operator = str(tree.children[1])
            several = item if operator == "?" else Many(item)
            return several if operator == "+" else Maybe(several)
        case "expansion":
            return row([_node(child, rule) for child in tree.children])
        case "expansions":
            ways = [_way(child, rule) for child in tree.children if not _is_a_word(child)]
            return either([way.items if isinstance(way, Row) else (way,) for way in ways])
        case _:
            raise ValueError(f"the grammar has {tree.data}, which the diagrams do not know")


def _way(tree: Any, rule: str) -> Node:
    return _node(tree.children[0] if tree.data == "alias" else tree, rule)


def _is_a_word(way: Any) -> bool:
    """Whether this alternative is a keyword that stands for itself as a word."""
    if way.data != "alias":
        return False
    expansion, alias = way.children
    first = expansion.children[0].children[0]
    alone = len(expansion.children) == 1 and isinstance(first, LarkTerminal) and first.name in _ALSO_WORDS
    return alone or str(alias.name) == _AS_WORD


def _use(name: str, rule: str) -> Node:
    part = _PARTS.get(name)
    label = _LABELS.get((rule, name), part)
    if label is not None:
        return Box(label, part or "")
    return of_rule(name)
