"""For editors: colours, completion, and whether a text is complete; and which piece a server's error means."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from kvql import ast, errors
from kvql.parser.scripts import _blank, extent, parse
from kvql.parser.tables import KEYWORDS, NAMES, ROWS, RULES, SYMBOLS
from kvql.parser.trace import Seen, Trace, possible, skip, trace
from kvql.span import Span

# ── colours ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Token(NamedTuple):
    """A piece of a text: ``text[start:end]``. White space belongs to none."""

    kind: str
    """keyword, name, function, type, key, text, number, constant, parameter, operator, punctuation, comment, error."""
    start: int
    end: int


_KINDS: Final = {
    "STRING": "text", "E_STRING": "text", "X_STRING": "text", "JSON_STRING": "text", "DURATION": "number",
    "INT": "number",
    "DECIMAL": "number", "FLOAT": "number", "JSON_NUMBER": "number", "PARAM": "parameter", "WPARAM": "parameter",
    "CAST_OP": "operator", "CMP": "operator", "ADD_OP": "operator", "MUL_OP": "operator", "CONCAT": "operator",
    "MATCH_OP": "operator", "EQUAL": "operator", "STAR": "operator", "TRUE": "constant", "FALSE": "constant",
    "NULL": "constant", "NAME": "name", "QNAME": "name", "WORD": "name", "BAREWORD": "key", "READ": "keyword",
}  # fmt: skip
_WORDS: Final = {
    "bare_value": "text",
    "key": "key",
    "pair_key": "key",
    "ttl_key": "key",
    "pattern": "text",
    "target": "name",
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_GAP: Final = re.compile(r"--[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|[^\s]")
_ROUGH: Final = re.compile(
    r"""(?P<comment>--[^\n]*|/\*[\s\S]*?(?:\*/|\Z))|(?P<text>'[^']*(?:'|\Z)|"[^"]*(?:"|\Z))|(?P<punctuation>[;,()\[\]{}])"""
    r"""|(?P<word>[^\s;,'"()\[\]{}]+)"""
)


def tokens(text: str) -> list[Token]:
    """All of ``text`` but its white space, in order. Never raises; after a mistake the colours are a guess."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        end = min(extent(text, at).end + 1, len(text))
        found.extend(_shifted(text[at:end], at))
        at = end
    return found


def _shifted(statement: str, offset: int) -> list[Token]:
    made = _statement_tokens(statement)
    if not offset:
        return list(made)
    return [Token(kind, start + offset, end + offset) for kind, start, end in made]


@lru_cache(maxsize=2048)
def _statement_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of one statement with its ``;``; kept, because an editor asks again with every key."""
    out: list[Token] = []
    at = 1 if text.startswith("\ufeff") else 0
    start = _start_of(text, at)
    _gap(text, 0, start, out)
    at = start
    if text[start:] != "":
        seen = trace(text, start)
        for token in seen.tokens:
            _gap(text, at, token.start, out)
            _token(text, token, out)
            at = token.end
        if not seen.complete:
            _gap(text, at, seen.at, out)
            at = _after_mistake(text, seen, out)
        _rough(text, at, out)
    return tuple(out)


def _start_of(text: str, at: int) -> int:
    return _blank(text, at).end()


def _gap(text: str, start: int, end: int, out: list[Token]) -> None:
    """Comments, and the ``;`` of empty statements."""
    for m in _GAP.finditer(text, start, end):
        kind = "comment" if m.end() - m.start() > 1 else "punctuation"
        out.append(Token(kind if m[0] != "\ufeff" else "comment", m.start(), m.end()))


def _token(text: str, token: Seen, out: list[Token]) -> None:
    name = NAMES[token.term]
    if name in ("LBRACE", "LSQB") and token.end - token.start > 1:
        _json(text, token.start, token.end, out)
        return
    kind = _KINDS.get(name) or ("keyword" if token.term in KEYWORDS else "punctuation")
    if kind in ("key", "name", "keyword") or name in ("STRING", "E_STRING", "WPARAM"):
        kind = _by_rule(text, token, kind)
    out.append(Token(kind, token.start, token.end))


def _by_rule(text: str, token: Seen, kind: str) -> str:
    """The rule that takes a word says what it is: a key, a value, a name, a type."""
    for action in ROWS[token.shifted_to].values():
        if action >= 0:
            continue
        symbol, _, what, _ = RULES[~action]
        if what == "bare_value":
            word = text[token.start : token.end]
            number = word in ("true", "false") or _NUMBER.fullmatch(word)
            return "text" if not number else "constant" if word in ("true", "false") else "number"
        if kind == "key":
            return _WORDS.get(SYMBOLS[symbol], "key")
        if SYMBOLS[symbol] in ("key", "pair_key", "ttl_key") and kind == "text":
            return "key"
        if SYMBOLS[symbol] == "type" and kind in ("name", "keyword"):
            return "type"
        if what in ("column", "name", "source_history_word"):
            return "function" if text[token.end : token.end + 1] == "(" and what == "column" else "name"
    return kind


_JSON: Final = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<constant>true|false|null)|(?P<punctuation>[\[\]{},:])'
)


def _json(text: str, start: int, end: int, out: list[Token]) -> None:
    for m in _JSON.finditer(text, start, end):
        out.append(Token(m.lastgroup or "text", m.start(), m.end()))


def _after_mistake(text: str, seen: Trace, out: list[Token]) -> int:
    """The refused piece; not an error if it stands at the end, where it may still grow into something."""
    if seen.at >= len(text) or text[seen.at] == ";":
        return seen.at
    m = _ROUGH.match(text, seen.at)
    end = m.end() if m else seen.at + 1
    out.append(Token("error", seen.at, end))
    return end


def _rough(text: str, at: int, out: list[Token]) -> None:
    for m in _ROUGH.finditer(text, at):
        out.append(Token((m.lastgroup or "name").replace("word", "name"), m.start(), m.end()))


# ── completion ────────────────────────────────────────────────────────────────────────────────────────────────────


class Expected(NamedTuple):
    """What may stand at a cursor."""

    keywords: tuple[str, ...]
    """In upper case; each of them really parses there."""
    notions: tuple[str, ...]
    """"key", "value", "pattern", "namespace", "user", "duration", "number", "text", "type", "name", "column",
    "function", "expression"."""
    replace_start: int
    """Where the word that is being typed starts; the cursor itself between words."""


_GROWS: Final = frozenset(
    {"NAME", "WORD", "BAREWORD", "READ", "WRITE", "ADMIN", "HISTORY", "TIMESTAMP", "INTERVAL", "SAVEPOINT"}
)


def expected(text: str, cursor: int) -> Expected:
    """What may stand at ``cursor``, where ``text[replace_start:cursor]`` is the beginning of it."""
    before = text[:cursor]
    at = 1 if before.startswith("\ufeff") else 0
    at, _ = _last(before, at)
    start = _start_of(before, at)
    if _in_comment(before, at, start):
        return Expected((), (), cursor)
    seen = trace(before, start)
    stack, place = seen.stack, cursor
    last = seen.tokens[-1] if seen.tokens else None
    if seen.complete or seen.at >= cursor:
        if last is not None and last.end == cursor and (NAMES[last.term] in _GROWS or last.term in KEYWORDS):
            stack, place = seen.before, last.start
    elif any(c.isspace() or c in ",;()[]{}" for c in before[seen.at :]) and before[seen.at] not in "'\"":
        return Expected((), (), cursor)
    else:
        # a word that is no token yet: the beginning of a keyword, or a quote that is still open
        place = seen.at
        if last is not None and last.end == place and before[place] not in "'\"":
            return Expected((), (), cursor)
    found = _expected(stack, place)
    in_quotes = place < cursor and before[place] in "'\""
    return found._replace(keywords=()) if in_quotes else found


def _expected(stack: list[int], place: int) -> Expected:
    can = possible(stack)
    notions = list(can.notions)
    if "expression" in notions:
        notions[notions.index("expression") :] = ["expression", "column", "function"]
    return Expected(tuple(can.keywords), tuple(notions), place)


def _in_comment(text: str, at: int, start: int) -> bool:
    """Does the text end in a ``--`` comment? Its last statement's first token may stand at ``start``, behind ``at``."""
    line = text[text.rfind("\n") + 1 :]
    seen = trace(text, start)
    rest = text[seen.tokens[-1].end if seen.tokens else at :]
    return "--" in line and "--" in rest and skip(text, len(text) - len(rest)) == len(text) and not rest.endswith("\n")


def _last(text: str, at: int) -> tuple[int, int]:
    """Where the last statement starts, and where a quote or comment in it does that never ends (-1 for none)."""
    while True:
        split = extent(text, at)
        if not split.closed:
            return at, split.open_at
        at = split.end + 1


def is_complete(text: str) -> bool:
    """Should Enter run this? No if more text could mend it: it stops within a statement, a quote or a bracket."""
    at, open_at = _last(text, 0)
    start = _start_of(text, at)
    if start >= len(text):
        return not _open_comment(text, at)
    if open_at >= 0:
        return False
    seen = trace(text, start)
    return seen.complete or seen.at < len(text)


def _open_comment(text: str, at: int) -> bool:
    return extent(text, at).open_at >= 0


# ── a server's errors ─────────────────────────────────────────────────────────────────────────────────────────────

KEY, VALUE, NAMESPACE, PATTERN, TTL = 1, 2, 3, 4, 5
"""Parts of a statement that an error on the wire may blame (``Part`` in kvql.proto)."""


def locate(text: str, item: int, part: int, statement: int = 0) -> Span | None:
    """Where in ``text`` the operand stands that a server's error means; ``item`` counts pairs or keys from 1.

    ``statement`` says which one of several it is. None if there is no such place.
    """
    try:
        parsed = parse(text)
    except errors.Error:
        return None
    return locate_in(parsed[statement], item, part) if statement < len(parsed) else None


def locate_in(node: ast.Statement, item: int, part: int) -> Span | None:
    """The same for a statement that is parsed already."""
    operand: object = None
    match part:
        case 1 | 2:
            operand = _operand(node, max(item, 1) - 1, part)
        case 3 if isinstance(node, ast.Explain | ast.DryRun):
            return locate_in(node.statement, item, part)
        case 3:
            operand = getattr(node, "namespace", None)
            if operand is None and isinstance(node, ast.Select) and node.source is not None:
                operand = node.source.namespace
        case 4:
            operand = getattr(node, "pattern", None)
        case 5:
            operand = getattr(node, "ttl", None)
    span = getattr(operand, "span", None)
    return span if isinstance(span, Span) else None


def _operand(node: ast.Statement, index: int, part: int) -> object:
    match node:
        case ast.Put(pairs=pairs) | ast.Upsert(pairs=pairs):
            pair = pairs[index] if index < len(pairs) else None
        case ast.UpdateKey(pair=pair):
            pass
        case ast.Get(keys=keys) | ast.Has(keys=keys) | ast.DeleteKeys(keys=keys) | ast.Restore(keys=keys):
            return keys[index] if part == KEY and index < len(keys) else None
        case ast.Expire(key=key) | ast.Persist(key=key):
            return key if part == KEY else None
        case ast.Insert(rows=rows, columns=columns):
            if part != KEY:  # counted over all rows
                row, place = divmod(index, len(rows[0]))
                return rows[row][place] if row < len(rows) else None
            names = [column.text.lower() for column in columns] or ["key"]
            return rows[index][names.index("key")] if index < len(rows) and "key" in names else None
        case ast.Explain(statement=inner) | ast.DryRun(statement=inner):
            return _operand(inner, index, part)
        case _:
            return None
    return None if pair is None else pair.key if part == KEY else pair.value


__all__ = ["Expected", "Token", "expected", "is_complete", "locate", "locate_in", "tokens"]
