"""One typo gives one error, at its place, with a hint in the user's words; and no text makes it slow."""

from __future__ import annotations

import time

import pytest

from kvql.errors import Error
from kvql.parser import parse

TYPOS = [
    ("SELCT key FROM ns", "SELCT", "did you mean SELECT?"),
    ("SELECT key FORM ns", "FORM", "did you mean FROM?"),
    ("SELECT key FROM ns WERE value > 5", "WERE", "did you mean WHERE?"),
    ("SELECT key FROM ns WHERE value > 5 ORDR BY key", "ORDR", "did you mean ORDER?"),
    ("SELECT key, FROM ns", "ns", "an expression is missing before FROM"),
    ("SELECT key FROM WHERE value > 5", "value", "a namespace is missing before WHERE"),
    ("SELECT key FROM ns WHERE value == 5", "=", "write ="),
    ("SELECT key FROM ns WHERE value => 5", ">", "write >="),
    ("SELECT key FROM ns ORDER value", "value", "expected BY"),
    ("SELECT key k2 FROM ns", "k2", "to name a column write AS k2"),
    ("SELECT key FROM ns WHERE name = 'abc", "'", "the text that starts here has no closing quote"),
    ("SELECT (1 + 2", "", "expected )"),
    ("PUT a TTL 5s", "5s", "a key or value is missing before TTL"),
    ("PUT k v TTL 60", "60", "a duration needs a unit: 60s"),
    ("PUT k", "", "expected a value"),
    ("PUT greeting hello world", "world", "a value with a space or a comma must stand in single quotes"),
    ('PUT k "v"', '"v"', "double quotes name a column; write a text in single quotes"),
    ("PUT k it's", "it", "a word cannot hold '; put it in single quotes"),
    ("PUT k b--c", "b--c", "a word that holds -- or /* must stand in single quotes: 'b--c'"),
    ("PUT :k/x v", ":k/x", "a parameter stands alone"),
    ("PUT k {a: 1}", "a", "inside JSON a name stands in double quotes"),
    ("GET k k2", "k2", "separate keys with a comma"),
    ("SHOW TABLES", "TABLES", "did you mean NAMESPACES?"),
    ("SHOW KEY", "KEY", "did you mean KEYS?"),
    ("EXPIRE k 60", "60", "a duration needs a unit: 60s"),
    ("INSERT INTO ns VALUE (1)", "VALUE", "did you mean VALUES?"),
    ("GRANT READ TO ann", "TO", "expected ON or ,"),
    ("SELECT 60x", "60x", "trailing junk after a number: 60x"),
    ("SET k v", "SET", "did you mean PUT or UPSERT?"),
    ("DEL k", "DEL", "did you mean DELETE?"),
    ("SELECT key LIMIT 5 WHERE value > 1", "WHERE", "WHERE comes before LIMIT"),
    ("SELECT key WHERE name = 'O'Brien'", "Brien", "a quote inside a text is written twice"),
    ("SELECT key WHERE 1 < value < 3", "<", "comparisons do not chain"),
]


@pytest.mark.parametrize(("text", "piece", "hint"), TYPOS, ids=[t[0] for t in TYPOS])
def test_typo(text: str, piece: str, hint: str) -> None:
    with pytest.raises(Error) as caught:
        parse(text)
    error = caught.value
    assert error.sqlstate == "42601"
    assert error.span is not None
    assert text[error.span.start : error.span.end] == piece
    assert hint in (error.hint or "")
    shown = error.render()
    assert shown.startswith("ERROR 42601: ") and "^" in shown


@pytest.mark.parametrize("name", ["JOIN", "UNION"])
def test_what_will_not_come_is_refused_by_name(name: str) -> None:
    text = f"SELECT key FROM a {name} " + ("b" if name == "JOIN" else "SELECT key FROM b")
    with pytest.raises(Error, match=f"{name} is not supported") as caught:
        parse(text)
    assert caught.value.sqlstate == "0A000"


HOSTILE = {
    "a long word": "v" * 2_000_000,
    "a long word after a statement": "GET a " + "v" * 2_000_000,
    "backslashes": "PUT k e'" + "\\" * 1_000_000,
    "quotes": "PUT k " + "'" * 999_999,
    "brackets": "SELECT " + "(" * 1_000_000,
    "braces": "PUT k " + '{"a":' * 200_000,
    "signs": "SELECT " + "-" * 3 + " - " * 300_000 + "1",
    "comments": "GET a " + "/* */" * 300_000 + "/*",
    "digits": "SELECT " + "9" * 2_000_000,
    "terms": "SELECT 1 " + "+ 1" * 300_000 + " +",
    "names": "SELECT a " + ".a" * 300_000 + " .",
    "not": "SELECT " + "NOT " * 300_000 + "1",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_refused_in_no_time(text: str) -> None:
    """Linear in the text's length: the limit is generous, an accident with squares takes minutes of the processor."""
    start = time.process_time()
    with pytest.raises(Error) as caught:
        parse(text)
    assert time.process_time() - start < 20
    assert len(caught.value.message) < 300
    assert len(caught.value.hint or "") < 300
    assert len(caught.value.render()) < 2_000
