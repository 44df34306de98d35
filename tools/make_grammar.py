"""Make ``kvql/_gen/tables.py`` and ``kvql/_gen/help.py`` from ``grammar/kvql.lark``.

    python tools/make_grammar.py            write the files
    python tools/make_grammar.py --check    fail if they were not made from this grammar by this release of lark

Lark checks the grammar (strict: no conflicts, no colliding terminals) and computes the LALR tables; the parser walks
those tables with its own loop and needs neither lark nor the grammar at run time. Two runs of lark number the states
differently; here they are numbered as a walk from the start meets them, so equal grammars give equal files.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any, Final

import lark
from lark.grammar import Terminal
from lark.parsers.lalr_analysis import Shift

ROOT: Final = Path(__file__).resolve().parent.parent
GRAMMAR: Final = ROOT / "grammar" / "kvql.lark"
OUT: Final = ROOT / "kvql" / "_gen"
START: Final = "statement"

# What users call the parts of a statement; the outermost one that may stand somewhere names what is missing there.
# (notion, nonterminals), outermost first.
NOTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("key", ("key", "pair_key", "ttl_key")),
    ("value", ("value",)),
    ("pattern", ("pattern",)),
    ("namespace", ("namespace", "target", "scope")),
    ("user", ("user",)),
    ("duration", ("duration",)),
    ("number", ("number",)),
    ("text", ("text",)),
    ("type", ("type",)),
    ("name", ("alias", "field_name")),
    ("expression", ("expr", "op_expr", "in_expr", "cmp_expr", "not_expr", "add_expr", "mul_expr", "unary")),
    ("json value", ("json_value",)),
    ("json member", ("member",)),
)


def build() -> lark.Lark:
    """The grammar as Lark reads it; a pattern that the collision check cannot read is an error, not a log line."""
    complaints: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    listener = Listener()
    logging.getLogger("interegular").addHandler(listener)
    lark.logger.addHandler(listener)
    try:
        made = lark.Lark(
            GRAMMAR.read_text(encoding="utf-8"), parser="lalr", lexer="contextual", start=START, strict=True
        )
    finally:
        lark.logger.removeHandler(listener)
        logging.getLogger("interegular").removeHandler(listener)
    if complaints:
        raise SystemExit("\n".join(["the grammar is not checked in full:", *complaints]))
    return made


class Tables:
    """Lark's tables as tuples of numbers."""

    def __init__(self, parser: lark.Lark) -> None:
        table: Any = parser.parser.parser._parse_table
        terminals = [t for t in parser.terminals if t.name not in ("WS", "COMMENT")]
        # the order in which Lark's lexer tries them
        terminals.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
        self.terminals = [(t.name, t.pattern.to_regexp()) for t in terminals]
        self.ignored = [t.pattern.to_regexp() for t in parser.terminals if t.name in ("WS", "COMMENT")]
        self.ids = {name: i for i, (name, _) in enumerate(self.terminals)} | {"$END": len(self.terminals)}
        self.symbols = sorted({str(r.origin.name) for r in parser.rules})
        self.rules = [self._recipe(rule) for rule in parser.rules]
        self._number = {rule: i for i, rule in enumerate(parser.rules)}
        self.kept = {s.name for r in parser.rules for s in r.expansion if isinstance(s, Terminal) and not s.filter_out}
        order = _walk(table.states, table.start_states[START])
        self._renumber = {s: i for i, s in enumerate(order)}
        self.rows: list[tuple[int, ...]] = []
        self.states: list[int] = []
        self.gotos: list[dict[int, int]] = []
        unique: dict[tuple[int, ...], int] = {}
        for state in order:
            row, goto = self._row(table.states[state])
            self.states.append(unique.setdefault(row, len(unique)))
            self.gotos.append(goto)
        self.rows = list(unique)
        self.end_state = self._renumber[table.end_states[START]]
        self.json_open = self._json_open()
        self.firsts = self._firsts(parser)

    def _recipe(self, rule: Any) -> tuple[str, int, str, tuple[int, ...]]:
        """(symbol, length, what to do, which children): see ``kvql.parser.tables`` for the words."""
        size = len(rule.expansion)
        kept = tuple(i for i, s in enumerate(rule.expansion) if not (s.is_term and s.filter_out))
        origin = str(rule.origin.name)
        if origin.startswith("__"):
            grows = bool(size and rule.expansion[0].name == origin)
            return origin, size, "+more" if grows else "+list", kept[1:] if grows else kept
        if not size:
            return origin, 0, "+none" if rule.options.expand1 else origin, ()
        if (
            rule.options.expand1
            and not rule.alias
            and len(kept) == 1
            and not rule.expansion[kept[0]].name.startswith("_")
        ):
            return origin, size, "+pass", kept
        return origin, size, str(rule.alias or origin), ()

    def _row(self, actions: Any) -> tuple[tuple[int, ...], dict[int, int]]:
        row: dict[int, int] = {}
        goto: dict[int, int] = {}
        for symbol, (action, argument) in actions.items():
            if action is not Shift:
                row[self.ids[symbol]] = ~self._number[argument]
            elif symbol in self.ids:
                row[self.ids[symbol]] = self._renumber[argument]
            else:
                goto[self.symbols.index(symbol)] = self._renumber[argument]
        return tuple(x for pair in sorted(row.items()) for x in pair), goto

    def _json_open(self) -> dict[int, int]:
        """States after the `{` or `[` of a JSON literal, each with the state after an empty one's closing bracket."""
        found = {}
        for state, row_number in enumerate(self.states):
            row = dict(zip(self.rows[row_number][::2], self.rows[row_number][1::2], strict=True))
            for closing, name in (("RBRACE", "json_empty_object"), ("RSQB", "json_empty_array")):
                target = row.get(self.ids[closing], -1)
                if target >= 0 and any(
                    self.rules[~a][2] == name for a in self.rows[self.states[target]][1::2] if a < 0
                ):
                    found[state] = target
        return found

    def _firsts(self, parser: lark.Lark) -> dict[str, set[str]]:
        """The terminals with which each nonterminal can start."""
        nullable: set[str] = set()
        firsts: dict[str, set[str]] = {s: set() for s in self.symbols}
        changed = True
        while changed:
            changed = False
            for rule in parser.rules:
                origin = rule.origin.name
                before = len(firsts[origin]) + (origin in nullable)
                for symbol in rule.expansion:
                    firsts[origin] |= {symbol.name} if symbol.is_term else firsts[symbol.name]
                    if symbol.is_term or symbol.name not in nullable:
                        break
                else:
                    nullable.add(origin)
                changed |= len(firsts[origin]) + (origin in nullable) != before
        return firsts

    def notions(self) -> tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]:
        """(notion, its nonterminals, the terminals that it can start with)."""
        return tuple(
            (
                notion,
                tuple(self.symbols.index(n) for n in names),
                tuple(sorted({self.ids[t] for n in names for t in self.firsts[n]})),
            )
            for notion, names in NOTIONS
        )


def _walk(states: Any, start: int) -> list[int]:
    """The states in the order in which a walk from ``start`` meets them, symbols in the order of their names."""
    order = {start: None}
    queue = [start]
    for state in queue:
        for _, (action, target) in sorted(states[state].items(), key=lambda item: str(item[0])):
            if action is Shift and target not in order:
                order[target] = None
                queue.append(target)
    return [*order, *(s for s in states if s not in order)]


_KEYWORD: Final = re.compile(r"\(\?i:([A-Z]+)(\(\?!.*\))\)")


def write_tables(tables: Tables) -> str:
    keywords: dict[int, str] = {}
    ends_as_word: list[int] = []
    for number, (_, pattern) in enumerate(tables.terminals):
        keyword = _KEYWORD.fullmatch(pattern)
        if keyword:
            keywords[number] = keyword[1]
            if keyword[2] != r"(?!\w)":
                ends_as_word.append(number)
    parts = [
        '"""Made by tools/make_grammar.py from grammar/kvql.lark. Never edit: run `make grammar`."""',
        _lines("TERMINALS", tables.terminals),
        f"IGNORED = {tuple(sorted(tables.ignored, key=len))!r}",
        f"KEYWORDS = {keywords!r}",
        f"ENDS_AS_WORD = {tuple(ends_as_word)!r}",
        f"KEPT = {tuple(int(name in tables.kept) for name, _ in tables.terminals)!r}",
        f"SYMBOLS = {tuple(tables.symbols)!r}",
        _lines("RULES", [(tables.symbols.index(o), n, what, kept) for o, n, what, kept in tables.rules]),
        _lines("ROWS", tables.rows),
        f"STATES = {tuple(tables.states)!r}",
        _lines("GOTOS", [tuple(x for pair in sorted(g.items()) for x in pair) for g in tables.gotos]),
        f"END_STATE = {tables.end_state}",
        f"JSON_OPEN = {tables.json_open!r}",
        f"NOTIONS = {tables.notions()!r}",
    ]
    return "\n".join(parts) + "\n"


def _lines(name: str, rows: list[Any]) -> str:
    return f"{name} = (\n" + "".join(f"    {row!r},\n" for row in rows) + ")"


_FORM: Final = re.compile(r"[A-Z]{2}")


def statement_docs(grammar: str) -> dict[str, tuple[str, str]]:
    """rule -> (forms, what it does), from the comment right above each statement's rule."""
    docs: dict[str, tuple[str, str]] = {}
    for block, rule in re.findall(r"((?:^//.*\n)+)^\??([a-z_]+):", grammar, re.MULTILINE):
        lines = [line[2:].strip() for line in block.splitlines()]
        forms: list[str] = []
        while lines and (_FORM.match(lines[0]) or (forms and lines[0].startswith("["))):
            line = lines.pop(0)
            if line.startswith("["):
                forms[-1] += " " + line
            else:
                forms.append(line)
        if forms and lines:
            docs[rule] = ("\n".join(forms), " ".join(lines))
    return docs


def write_help(grammar: str) -> str:
    docs = "".join(f"    {rule!r}: {doc!r},\n" for rule, doc in statement_docs(grammar).items())
    return (
        '"""Made by tools/make_grammar.py from the comments in grammar/kvql.lark. Never edit."""\n'
        f"# rule: (its forms, one a line; what it does)\nSTATEMENTS = {{\n{docs}}}\n"
    )


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    tables = Tables(build())
    files = {
        OUT / "__init__.py": '"""Generated from the grammar: committed, never edited, checked for drift."""\n',
        OUT / "tables.py": write_tables(tables),
        OUT / "help.py": write_help(GRAMMAR.read_text(encoding="utf-8")),
    }
    if arguments:
        drifted = [p.name for p, text in files.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
        if drifted:
            print(f"kvql/_gen was not made from this grammar ({drifted}): run `make grammar`", file=sys.stderr)
        return 1 if drifted else 0
    OUT.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(tables.states)} states, {len(tables.rules)} rules, {len(tables.terminals)} terminals")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
