"""The pages of functions, types and errors. Sentences come from the TOML files, results from running the examples."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.values import Json, display, type_of
from tools.reference import examples
from tools.reference.pages import HEAD, anchor, contents, paragraph, section
from tools.reference.statements import read_toml

_NOT_YET: Final = "not carried out yet"


def _code(text: str) -> str:
    """Code in a table's cell."""
    return "`" + text.replace("|", "\\|") + "`"


def _table(*rows: Iterable[str]) -> str:
    """The first row is the head."""
    head, *body = (list(row) for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *body])


def _result(connection: Any, select: str) -> str:
    """What the one value of a query is, or why there is none."""
    try:
        ((value,),) = connection.execute(select).fetchall()
    except Error as e:
        if e.sqlstate in (errors.NOT_SUPPORTED, errors.UNKNOWN_FUNCTION):
            return _NOT_YET
        return f"error [{e.sqlstate}](errors.md#{e.sqlstate})"
    if isinstance(value, dict | list):
        value = Json.dump(value)
    kind = "INTERVAL" if isinstance(value, timedelta) else type_of(value).name
    return _code(display(value)) + ("" if value is None else f" {kind}")


def _examples(connection: Any, entries: list[str], source: str = "") -> str:
    return "<br>".join(f"{_code(e)} → {_result(connection, f'SELECT {e} AS x{source}')}" for e in entries)


# ── functions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def functions() -> str:
    told = read_toml("functions.toml")
    with examples.connect() as connection:
        operators = _table(
            ["operator", "what it does", "examples"],
            *([_code(o["signs"]), o["text"], _examples(connection, o["examples"])] for o in told["operator"]),
        )
        scalars = _functions(connection, told["function"])
        connection.execute(f"USE {told['namespace']}")
        connection.execute(f"PUT {told['pairs']}")
        aggregates = _functions(connection, told["aggregate"], f" FROM {told['namespace']}")
    return (
        HEAD
        + "# Functions and operators\n\n"
        + paragraph(
            "Names of functions may be written in any case. NULL as an argument gives NULL unless said otherwise. "
            "Behind an arrow stands what the example gives, and its [type](types.md)."
        )
        + "\n"
        + contents([("Operators", "operators"), ("Functions", "functions"), ("Aggregates", "aggregates")])
        + "\n"
        + section("operators", "Operators", "The loosest first: those further down bind more tightly.\n", operators)
        + "\n"
        + section("functions", "Functions", scalars)
        + "\n"
        + section(
            "aggregates",
            "Aggregates",
            paragraph(
                "They compute one value from all rows, or from those of each group (`GROUP BY`). NULLs are left out. "
                "`DISTINCT` before the argument takes each value once; `FILTER (WHERE e)` behind the bracket takes "
                f"only rows for which e is true. The examples read a namespace made by `PUT {told['pairs']}`."
            ),
            aggregates,
        )
    )


def _functions(connection: Any, entries: list[dict[str, Any]], source: str = "") -> str:
    return _table(
        ["function", "what it does", "examples"],
        *(
            [f'<a id="{anchor(e["name"])}"></a>{_code(e["signature"])}', e["text"],
             _examples(connection, e["examples"], source)]
            for e in entries
        ),
    )  # fmt: skip


# ── types ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def types() -> str:
    told = read_toml("types.toml")
    with examples.connect() as connection:
        sections = [_type(connection, entry) for entry in told["type"]]
        words = [[_code(f"PUT k {word}"), _stored(connection, word)] for word in told["words"]]
    links = [(t["name"], anchor(t["name"])) for t in told["type"]]
    return (
        HEAD
        + "# Types and columns\n\n"
        + paragraph("Each value has a type of its own; a namespace may hold values of several types.")
        + "\n"
        + contents([*links, ("What a word becomes", "words"), ("Columns of a pair", "columns")])
        + "\n"
        + "\n".join(sections)
        + "\n"
        + section(
            "words",
            "What a word becomes",
            paragraph(
                "In a short form a value without quotes becomes a number or a truth value only if printing it gives "
                "back the very same characters. `GET` always shows what `PUT` was given."
            ),
            _table(["statement", "type of the value"], *words),
        )
        + "\n"
        + section(
            "columns",
            "Columns of a pair",
            paragraph(
                "Any of them may stand in an expression; `SELECT *` shows only the first two. Any other name is a "
                "field of a JSON value: `city` means `value.city`."
            ),
            _table(["column", "what it holds"], *([_code(c["name"]), c["text"]] for c in told["column"])),
            paragraph(
                "`FROM HISTORY OF ns` has one more, `event`: PUT, UPDATE, DELETE or EXPIRE, whichever made that state."
            ),
        )
    )


def _type(connection: Any, entry: dict[str, Any]) -> str:
    names = f"Other names: {', '.join(_code(n) for n in entry['aliases'])}. " if entry["aliases"] else ""
    results = ([_code(e), _result(connection, f"SELECT {e} AS x")] for e in entry["examples"])
    return section(
        anchor(entry["name"]),
        entry["name"],
        paragraph(f"{entry['range'][0].upper()}{entry['range'][1:]}. {entry['text']}"),
        *([paragraph(names)] if names else []),
        _table(["expression", "result"], *results),
    )


def _stored(connection: Any, word: str) -> str:
    connection.execute(f"UPSERT k {word}")
    ((kind,),) = connection.execute("SELECT type FROM main WHERE key = 'k'").fetchall()
    return str(kind)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────


def sqlstates() -> dict[str, str]:
    """constant -> code, of all that ``kvql.errors`` defines."""
    return {n: v for n, v in vars(errors).items() if n.isupper() and not n.startswith("_") and isinstance(v, str)}


def error_codes() -> str:
    told = read_toml("errors.toml")
    defined = sqlstates()
    if told.keys() != defined.keys():
        raise SystemExit(
            f"docs/reference/errors.toml and kvql/errors.py differ: {sorted(told.keys() ^ defined.keys())}"
        )
    rows = [
        [
            f'<a id="{code}"></a>{code}',
            f"`{type(errors.error(code, '')).__name__}`",
            told[n]["means"],
            told[n]["remedy"],
        ]
        for n, code in sorted(defined.items(), key=lambda item: item[1])
    ]
    return (
        HEAD
        + "# Errors\n\n"
        + paragraph(
            "An error has a code of five characters (SQLSTATE), a message that quotes what was wrong, the place in the "
            "text where there is one, and often a hint that says what to do. It is the same in the shell, in scripts, "
            "in Python and on the wire. In Python, `kvql.Error` is the base of the classes below, with the code in "
            "`sqlstate`. A statement that fails has changed nothing, unless its outcome is said to be unknown (40003)."
        )
        + "\n"
        + _table(["code", "in Python", "what it means", "what to do"], *rows)
    )
