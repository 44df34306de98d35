"""Text to AST, and everything else that needs to know where a text stands in the grammar.

How a text becomes an AST, in order of control flow:

1. ``grammar/kvql.lark`` is the language. ``tools/make_grammar.py`` lets Lark check it and compute its LALR tables, and
   writes those to ``kvql/_gen/tables.py``. At run time there is neither Lark nor grammar text; in the tests Lark reads
   the same texts and must agree, token for token.
2. ``tables`` turns the tables into what a loop can walk: for each state the actions, the gotos, and a scanner, which is
   one regular expression that knows only the terminals of that state. That is why ``GET select`` has a key and no
   keyword in it.
3. ``scripts`` takes a text, or a stream, statement by statement. Each goes to ``shapes``, which knows the statements
   that differ from an earlier one only in their literals and fills those in; and else to
   ``loop``. Who asks for it gets runs of ``PUT k v;`` from ``columns``, which reads them at once and makes no nodes.
4. ``loop``, which scans, shifts and reduces in one pass, and calls a builder for each rule that means something.
5. ``build`` makes the nodes of ``kvql.ast``, with the ranges of numbers and the escapes of texts checked on the way.
6. ``checks`` looks at what a grammar cannot say: depth, length, where a subquery may stand.

A text that is refused is walked again by ``trace``, which keeps what the loop throws away; from that ``explain`` and
``hints`` make the error, and ``assist`` makes colours and completions.

Spans count code points: in the whole text given to ``parse``, and in the statement's own text (``Parsed.text``) where
statements come out of a script. ``Error.source`` is always the text in which ``Error.span`` counts.
"""

from kvql.parser.assist import Expected, Token, expected, is_complete, locate, locate_in, tokens
from kvql.parser.columns import Columns
from kvql.parser.scripts import Parsed, parse, parse_script, read_columns, read_statements

__all__ = [
    "Columns",
    "Expected",
    "Parsed",
    "Token",
    "expected",
    "is_complete",
    "locate",
    "locate_in",
    "parse",
    "parse_script",
    "read_columns",
    "read_statements",
    "tokens",
]
