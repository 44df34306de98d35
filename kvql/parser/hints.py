"""What to do about a mistake: the hints, from the most particular to the most general."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from kvql.parser.tables import KEYWORDS, NAMES, TERMINALS
from kvql.parser.trace import Possible, Trace, possible


class Mistake(NamedTuple):
    """A refused piece of text, and everything that is known about the place."""

    text: str
    start: int
    end: int
    seen: Trace
    can: Possible

    @property
    def piece(self) -> str:
        return self.text[self.start : self.end]

    @property
    def word(self) -> str:
        """The refused piece in upper case if it is a plain word, else nothing."""
        piece = self.piece
        return piece.upper() if _PLAIN_WORD.fullmatch(piece) else ""

    def last(self, back: int = 1) -> tuple[str, str]:
        """(name of the terminal, text) of a token before the mistake; two empty texts if there is none."""
        if len(self.seen.tokens) < back:
            return "", ""
        token = self.seen.tokens[-back]
        return NAMES[token.term], self.text[token.start : token.end]

    def first(self) -> str:
        """The statement's first word in upper case."""
        return self.text[self.seen.tokens[0].start : self.seen.tokens[0].end].upper() if self.seen.tokens else ""


_PLAIN_WORD: Final = re.compile(r"[A-Za-z_]\w*")

_ARTICLES: Final = {
    "key": "a key", "value": "a value", "pattern": "a pattern", "namespace": "a namespace", "user": "a name",
    "duration": "a duration such as 60s", "number": "a number", "text": "a text in single quotes", "type": "a type",
    "name": "a name", "expression": "an expression", "json value": "a JSON value",
    "json member": 'a name in double quotes',
}  # fmt: skip

# ── words that other systems have ─────────────────────────────────────────────────────────────────────────────────

_NEIGHBOURS: Final[dict[str, tuple[str, ...]]] = {
    "SET": ("PUT", "UPSERT"), "ADD": ("PUT",), "CREATE": ("PUT",), "STORE": ("PUT",), "REPLACE": ("UPSERT",),
    "MERGE": ("UPSERT",), "DEL": ("DELETE",), "REMOVE": ("DELETE",), "UNSET": ("DELETE",), "RM": ("DELETE",),
    "UNLINK": ("DELETE",), "READ": ("GET",), "FETCH": ("GET",), "MGET": ("GET",), "MSET": ("PUT", "UPSERT"),
    "EXISTS": ("HAS",), "CONTAINS": ("HAS",), "LIST": ("SHOW",), "SCAN": ("SHOW",), "KEYS": ("SHOW",),
    "DBSIZE": ("COUNT",), "TABLES": ("NAMESPACES",), "DATABASES": ("NAMESPACES",), "SCHEMAS": ("NAMESPACES",),
    "BUCKETS": ("NAMESPACES",), "DATABASE": ("NAMESPACE",), "SCHEMA": ("NAMESPACE",), "BUCKET": ("NAMESPACE",),
    "KEYSPACE": ("NAMESPACE",), "VALUES": ("DATA",), "PAIRS": ("DATA",), "START": ("BEGIN",), "MULTI": ("BEGIN",),
    "EXEC": ("COMMIT",), "DISCARD": ("ROLLBACK",), "ABORT": ("ROLLBACK",), "DESC": ("DESCRIBE",),
    "SUBSCRIBE": ("WATCH",),
    "CONNECT": ("USE",), "FLUSHDB": ("TRUNCATE",), "LOGIN": ("USER",), "IDENTIFIED": ("PASSWORD",), "TOP": ("LIMIT",),
    "FIND": ("GET", "SELECT"), "KILL": ("CANCEL",),
}  # fmt: skip

_OPERATORS: Final = {
    "&&": "write AND", "<=>": "write IS NOT DISTINCT FROM", "!": "write NOT", "&": "write AND",
    "`": 'quote a name as "name"',
    "\\": "a backslash means something in e'…' only", "^": "write ^= for starts with", "|": "write || to join texts",
}  # fmt: skip

_UNSUPPORTED: Final = {
    "JOIN": "JOIN", "INNER": "JOIN", "LEFT": "JOIN", "RIGHT": "JOIN", "FULL": "JOIN", "CROSS": "JOIN",
    "NATURAL": "JOIN",
    "UNION": "UNION", "INTERSECT": "INTERSECT", "EXCEPT": "EXCEPT", "MINUS": "EXCEPT",
}  # fmt: skip


def refused_by_name(mistake: Mistake) -> tuple[str, str | None] | None:
    """What SQL has and KVQL will not: (message, hint) of a 0A000."""
    if mistake.first() not in ("SELECT", "INSERT", "EXPLAIN", "CHECK", "ASSERT", "LET"):
        return None
    name = _UNSUPPORTED.get(mistake.word)
    sets = name != "JOIN" and re.match(r"\s+(ALL\s+)?SELECT\b", mistake.text[mistake.end :], re.IGNORECASE)
    if name is not None and (sets or any(NAMES[t.term] == "_FROM" for t in mistake.seen.tokens)):
        return f"{name} is not supported", "query one namespace at a time"
    if mistake.word == "SELECT" and mistake.first() == "INSERT":
        return "INSERT … SELECT is not supported", "use VALUES, or EXPORT and IMPORT"
    if mistake.last()[1].upper() == "SELECT" and mistake.last(2)[1] == "(":
        return "a subquery is supported in ASSERT and LET only", "LET x = (SELECT …) and then :x"
    return None


# ── hints for what stands in a wrong place ────────────────────────────────────────────────────────────────────────


def near(mistake: Mistake) -> str | None:
    """The hint for a refused piece of text."""
    for rule in _RULES:
        hint = rule(mistake)
        if hint is not None:
            return hint
    return None


def at_end(mistake: Mistake) -> str | None:
    """The hint for a statement that stops too early."""
    depth: list[str] = []
    for token in mistake.seen.tokens:
        mark = mistake.text[token.start : token.end]
        if mark in _BRACKETS:
            depth.append(_BRACKETS[mark])
        elif mark in (")", "]", "}") and depth:
            depth.pop()
    missing = _missing(mistake)
    if missing is not None and not (mistake.can.notions and mistake.last()[0] in ("_FROM", "_WHERE")):
        return missing
    if depth and _mark(depth[-1]) in mistake.can.others:
        return f"expected {depth[-1]}"
    if mistake.last()[0] == "_SET":
        return "expected a column"
    return expected(mistake.can)


_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_MARKS: Final = {"(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", "{": "LBRACE", "}": "RBRACE", ",": "COMMA"}


def _mark(mark: str) -> int:
    return NAMES.index(_MARKS[mark])


def _short_form_words(m: Mistake) -> str | None:
    """Words and quotes of the short forms."""
    piece = m.piece
    following = m.text[m.end : m.end + 1]
    if m.can.notions and m.can.notions[0] in ("key", "value", "pattern"):
        if piece[0] in ":?":
            return "a parameter stands alone; put a word that starts with : or ? in single quotes"
        if "--" in piece or "/*" in piece:
            return f"a word that holds -- or /* must stand in single quotes: '{piece}'"
        if piece[0] == '"':
            return "double quotes name a column; write a text in single quotes"
        if following and following in "'\"([{":
            return f"a word cannot hold {following}; put it in single quotes"
    if piece[0] == '"' and "text" in m.can.notions:
        return "double quotes name a column; write a text in single quotes"
    return None


def _word_after_word(m: Mistake) -> str | None:
    """PUT greeting hello world · GET k k2"""
    first, last = m.first(), m.last()[0]
    if last not in ("BAREWORD", "STRING", "E_STRING", "WPARAM") or not _WORDLIKE.match(m.piece):
        return None
    if _close(m.word, m.can.keywords):
        return None
    if first in ("PUT", "UPSERT", "UPDATE") and len(m.seen.tokens) > 2 and last == "BAREWORD":
        return "a value with a space or a comma must stand in single quotes"
    if first in ("PUT", "UPSERT"):
        return "separate pairs with a comma"
    if first in ("GET", "HAS", "DELETE", "RESTORE") and _mark(",") in m.can.others:
        return "separate keys with a comma"
    return None


_WORDLIKE: Final = re.compile(r"[^\s;,()\[\]{}]")


def _operators(m: Mistake) -> str | None:
    """Operators of other languages, and our own written twice."""
    piece, (_, before) = m.piece, m.last()
    if piece == "=" and before == "=":
        return "write ="
    if piece == ">" and before == "=":
        return "write >="
    if piece == "<" and before == "=":
        return "write <="
    if piece == ">" and before == "<=":
        return "write IS NOT DISTINCT FROM"
    if piece == ">" and before == "-":
        return f"write {m.last(2)[1]}['a']" if not m.text[m.end :].lstrip("> ").startswith("'") else _arrow(m)
    if piece in ("=", "<", ">", "<=", ">=", "<>", "!=") and any(
        NAMES[t.term] in ("CMP", "EQUAL") for t in m.seen.tokens
    ):
        return "comparisons do not chain: write a < b AND b < c"
    if piece[0] == "$":
        return f"write ?{piece[1:]}" if piece[1:].isdigit() else f"write :{piece[1:]} for a parameter"
    if piece[0] == "@" and len(piece) > 1 and _value_missing(m.can):
        return f"write :{piece[1:]} for a parameter"
    return _OPERATORS.get(piece)


def _arrow(m: Mistake) -> str:
    name = re.match(r"[> ]*('[^']*')", m.text[m.end - 1 :])
    return f"write {m.last(2)[1]}[{name[1]}]" if name else f"write {m.last(2)[1]}['a']"


def _value_missing(can: Possible) -> bool:
    return "expression" in can.notions


def _numbers(m: Mistake) -> str | None:
    if not re.match(r"[0-9]", m.piece):
        return None
    if "duration" in m.can.notions and "expression" not in m.can.notions:
        digits = re.match(r"[0-9]+", m.piece)
        return f"a duration needs a unit: {digits[0] if digits else 60}s"
    if _value_missing(m.can) or "number" in m.can.notions:
        return f"trailing junk after a number: {m.piece}"
    return None


def _json(m: Mistake) -> str | None:
    if m.can.notions and m.can.notions[0] in ("json value", "json member"):
        return "inside JSON a name stands in double quotes, and so does a text"
    return None


def _quotes(m: Mistake) -> str | None:
    """name = 'O'Brien'"""
    kind, before = m.last()
    touching = bool(m.seen.tokens) and m.seen.tokens[-1].end == m.start
    if kind == "STRING" and touching and _PLAIN_WORD.match(m.piece):
        return "a quote inside a text is written twice: '" + before[1:-1] + "''" + m.piece.rstrip("'") + "'"
    return None


_CLAUSES: Final = ("FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET")


def _order_of_clauses(m: Mistake) -> str | None:
    if m.word not in _CLAUSES or m.first() not in ("SELECT", "UPDATE", "DELETE"):
        return None
    later = _CLAUSES[_CLAUSES.index(m.word) + 1 :]
    for token in m.seen.tokens:
        name = KEYWORDS.get(token.term)
        if name in later:
            return f"{m.word} comes before {name}"
    return f"there is a {m.word} already" if any(KEYWORDS.get(t.term) == m.word for t in m.seen.tokens) else None


def _missing(m: Mistake) -> str | None:
    """The word before is a keyword that could stand *here*: what should stand before it was left out."""
    kind, before = m.last()
    word = before.upper()
    if kind not in ("NAME", "WORD", "BAREWORD", "HISTORY") or word not in m.can.keywords:
        return None
    if word not in _CONNECTING:
        return None
    wanted = possible(m.seen.before).notions
    if not wanted:
        return None
    if wanted[0] in ("key", "value"):
        return f"a key or value is missing before {word} (as data it stands in single quotes: '{before}')"
    return f'{_ARTICLES[wanted[0]]} is missing before {word} (as a name it stands in double quotes: "{before}")'


_CONNECTING: Final = frozenset(
    [
        "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "AND", "OR", "IS", "IN", "LIKE", "ILIKE",
        "BETWEEN", "AS", "TTL", "COMMENT", "RETURNING", "ON", "TO", "WITH", "SET", "VALUES", "ESCAPE", "THEN", "ELSE",
        "END", "WHEN",
    ]
)  # fmt: skip


def _did_you_mean(m: Mistake) -> str | None:
    if not m.word:
        return None
    known = [w for w in _NEIGHBOURS.get(m.word, ()) if w in m.can.keywords]
    if known and not (m.first() in _STARTERS and m.word in KEYWORDS.values()):
        return f"did you mean {' or '.join(known)}?"
    near_by = _close(m.word, m.can.keywords)
    return f"did you mean {near_by}?" if near_by else None


def _close(word: str, keywords: Iterable[str]) -> str | None:
    """The keyword that ``word`` is a typing mistake of: at most two slips, one in short words."""
    if len(word) < 2:
        return None
    allowed = 1 if len(word) <= 3 else 2
    # a word may be megabytes long: only those of about the same length are worth the square of their lengths
    near_by = [k for k in keywords if abs(len(k) - len(word)) <= allowed]
    best = min(((distance(word, k), k[0] != word[0], abs(len(k) - len(word)), k) for k in near_by), default=None)
    if best is None:
        return None
    return best[3] if best[0] <= allowed and best[0] < len(best[3]) - 1 else None


def distance(a: str, b: str) -> int:
    """Slips between two words: a letter more, less or other, or two neighbours swapped (Damerau, 1964)."""
    before_last: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return last[-1]


def _alias(m: Mistake) -> str | None:
    """SELECT key k2 FROM ns"""
    brackets = sum({"(": 1, ")": -1}.get(m.text[t.start : t.end], 0) for t in m.seen.tokens)
    if not m.word or m.word in KEYWORDS.values() or brackets:
        return None
    if "AS" in m.can.keywords and m.first() in ("SELECT", "EXPLAIN") and m.last()[0] != "WORD":
        return f"to name a column write AS {m.piece}"
    return None


def _written_twice(m: Mistake) -> str | None:
    """WHERE WHERE a = 1"""
    word = m.last()[1].upper()
    if word in _CONNECTING and m.last(2)[1].upper() == word:
        return f"{word} is written twice"
    return None


_STARTERS: Final = {
    "EXPLAIN": "EXPLAIN takes a statement that reads or writes data",
    "CHECK": "CHECK ACCESS takes a statement that reads or writes data",
    "DRY": "DRY RUN takes a statement that writes data",
}  # fmt: skip


def _start(m: Mistake) -> str | None:
    """Where a statement should start."""
    if not m.seen.tokens:
        return "a statement starts with a word such as GET, PUT, SHOW or SELECT"
    if "PUT" in m.can.keywords:
        return _STARTERS.get(m.first())
    return None


def _unquoted_text(m: Mistake) -> str | None:
    if m.can.notions == ["text"] or ("text" in m.can.notions and m.word):
        return "put text in single quotes"
    return None


def _general(m: Mistake) -> str | None:
    return expected(m.can)


def expected(can: Possible) -> str | None:
    """ "expected ON or ,": what may stand there, if that is few enough to be read."""
    words = [_ARTICLES[n] for n in can.notions]
    if not (set(can.notions) & {"expression", "key", "value"}):
        words += can.keywords
    words += [_mark_text(t) for t in can.others if NAMES[t] not in _INFIX or (NAMES[t] == "STAR" and can.notions)]
    if can.end and words:
        words += ["; or the end"]
    words = list(dict.fromkeys(words))
    if not words:
        return "expected the end of the statement" if can.end else None
    if len(words) > _WORDS_MAX:
        if not can.notions:
            return None
        words = [_ARTICLES[n] for n in can.notions]
    *most, last = words
    if not most:
        return f"expected {last}"
    return f"expected {', '.join(most)}{', ' if last.startswith(';') else ' or '}{last}"


_WORDS_MAX: Final = 8
_INFIX: Final = frozenset({"CAST_OP", "CONCAT", "MUL_OP", "ADD_OP", "CMP", "EQUAL", "MATCH_OP", "STAR", "DOT", "LSQB"})
"""What goes on an expression; nobody misses these."""


def _mark_text(term: int) -> str:
    pattern = TERMINALS[term][1]
    return re.sub(r"\\(.)", r"\1", pattern)


_RULES: Final[tuple[Callable[[Mistake], str | None], ...]] = (
    _missing,
    _short_form_words,
    _json,
    _operators,
    _numbers,
    _quotes,
    _order_of_clauses,
    _did_you_mean,
    _word_after_word,
    _written_twice,
    _start,
    _alias,
    _unquoted_text,
    _general,
)
