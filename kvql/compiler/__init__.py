"""Statements to requests: pure, no I/O, no knowledge of names, rights or data.

In order of control flow: ``statements`` takes a statement and its parameters and fills one command of a ``pb.Request``,
the larger ones in ``reads`` and ``writes``; ``operands`` is what they share; ``parameters`` hands out the bound values;
``expressions`` writes an expression as the wire's flat postfix program; ``bulk`` merges runs of single-pair writes, and
the rows of ``executemany``, into messages of typed columns; ``points`` takes statements about one pair down to what
those of many tasks can share a message with; ``places`` finds the text that an error counts to.

Nothing is computed and no rule of the language is checked here that the server could check: whoever builds a request by
hand must meet the very same rules. What is refused here could not be written on the wire at all.
"""

from kvql.compiler.bulk import RowRuns, Run
from kvql.compiler.parameters import Given, Parameters
from kvql.compiler.places import span_of
from kvql.compiler.statements import compile_statement

__all__ = ["Given", "Parameters", "RowRuns", "Run", "compile_statement", "span_of"]
