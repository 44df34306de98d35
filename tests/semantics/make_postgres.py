"""Ask PostgreSQL for the value of every expression in ``expressions.txt``; writes ``postgres.tsv``.

Run once, by hand, where a PostgreSQL server answers ``psql`` (PGHOST and the like): the answers are checked in, so that
the tests need no server. A line of the list is an expression that both languages read alike, or ``ours ⇒ theirs`` where
only the spelling differs. An answer is the type and the text of the value, or the SQLSTATE of the error.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TYPES = {
    "boolean": "BOOLEAN", "integer": "INTEGER", "bigint": "INTEGER", "numeric": "DECIMAL", "double precision": "FLOAT",
    "text": "TEXT", "character varying": "TEXT", "unknown": "TEXT", "bytea": "BYTES",
    "timestamp with time zone": "TIMESTAMP", "interval": "INTERVAL", "jsonb": "JSON",
}  # fmt: skip


def expressions() -> list[tuple[str, str]]:
    """(ours, theirs) of every line."""
    out = []
    for line in (HERE / "expressions.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            ours, _, theirs = line.partition(" ⇒ ")
            out.append((ours, theirs or ours))
    return out


def ask(expression: str) -> tuple[str, str]:
    """The type and the text of PostgreSQL's answer; ("ERROR", SQLSTATE) for a refusal."""
    script = (
        "\\set VERBOSITY sqlstate\nSET timezone = 'UTC';\nSET bytea_output = 'hex';\nSET extra_float_digits = 1;\n"
        f"SELECT pg_typeof(x), CASE WHEN x IS NULL THEN 'NULL' ELSE x::text END FROM (SELECT {expression} AS x) AS t;\n"
    )
    run = subprocess.run(
        ["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode:
        return "ERROR", run.stderr.split("ERROR:")[-1].split()[0]
    kind, _, text = run.stdout.rstrip("\n").partition("\t")
    return ("NULL" if text == "NULL" else TYPES[kind]), text


def main() -> None:
    lines = ["\t".join((ours, *ask(theirs))) for ours, theirs in expressions()]
    (HERE / "postgres.tsv").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} answers", file=sys.stderr)


if __name__ == "__main__":
    main()
