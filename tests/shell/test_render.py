"""Every format on the same rows, and what must hold for any text that somebody stored."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvql_shell.render import Format, Style, plural, screen, write_rows
from wcwidth import wcswidth

from kvql.values import Json

ROWS: list[tuple[Any, ...]] = [
    ("a", 1),
    ("name", "名前"),
    ("nothing", None),
    ("raw", b"\x1f\xff"),
    ("when", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("doc", Json.parse('{"a": [1, 2.50]}')),
    ("lines", "one\ntwo\ttab"),
    ("price", Decimal("1.50")),
    ("yes", True),
    ("nan", float("nan")),
    ("empty", ""),
]


def rendered(form: Format, rows: Any = ROWS, columns: tuple[str, ...] = ("key", "value"), **style: bool) -> str:
    out = io.StringIO()
    write_rows(form, columns, iter(rows), out, Style(**style))
    return out.getvalue()


def test_table() -> None:
    assert rendered(Format.TABLE) == (
        "   key   |        value\n"
        "---------+----------------------\n"
        " a       | 1\n"
        " name    | 名前\n"
        " nothing | NULL\n"
        " raw     | x'1fff'\n"
        " when    | 2026-01-02T03:04:05Z\n"
        ' doc     | {"a": [1, 2.50]}\n'
        " lines   | one\\ntwo\\ttab\n"
        " price   | 1.50\n"
        " yes     | true\n"
        " nan     | NaN\n"
        " empty   | \n"
        "(11 rows)\n"
    )


def test_table_of_numbers_is_right_aligned() -> None:
    assert rendered(Format.TABLE, [("a", 1), ("b", 100), ("c", None)]) == (
        " key | value\n-----+-------\n a   |     1\n b   |   100\n c   |  NULL\n(3 rows)\n"
    )


def test_table_without_rows_and_with_one() -> None:
    assert rendered(Format.TABLE, []) == " key | value\n-----+-------\n(0 rows)\n"
    assert rendered(Format.TABLE, [("k", "v")]).endswith("(1 row)\n")


def test_null_is_told_from_the_text_null_by_colour() -> None:
    text = rendered(Format.TABLE, [("a", None), ("b", "NULL")], color=True)
    assert "| \x1b[2mNULL\x1b[0m" in text
    assert " b   | NULL\n" in text


def test_vertical() -> None:
    assert rendered(Format.VERTICAL, [("a", 1), ("b", None)]) == (
        "-[ row 1 ]---------------\nkey   | a\nvalue | 1\n"
        "-[ row 2 ]---------------\nkey   | b\nvalue | NULL\n(2 rows)\n"
    )


def test_csv_is_rfc_4180() -> None:
    rows = [("a", 'say "hi", you'), ("b", "two\r\nlines"), ("c", None), ("d", ""), ("e", 5)]
    text = rendered(Format.CSV, rows)
    assert text == 'key,value\r\na,"say ""hi"", you"\r\nb,"two\r\nlines"\r\nc,\r\nd,""\r\ne,5\r\n'
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert back[1] == ["a", 'say "hi", you']
    assert back[2] == ["b", "two\r\nlines"]


def test_tsv() -> None:
    rows = [("a", "x\ty\nz\\"), ("b", None), ("c", "\\N")]
    assert rendered(Format.TSV, rows) == "key\tvalue\na\tx\\ty\\nz\\\\\nb\t\\N\nc\t\\\\N\n"
    assert rendered(Format.TSV, [("a", 1)], header=False) == "a\t1\n"


def test_json_and_jsonl() -> None:
    objects = json.loads(rendered(Format.JSON))
    assert objects == [json.loads(line) for line in rendered(Format.JSONL).splitlines()]
    values = {o["key"]: o["value"] for o in objects}
    assert values["nothing"] is None
    assert values["doc"] == {"a": [1, 2.5]}
    assert values["raw"] == "1fff"
    assert values["nan"] == "NaN"
    assert values["yes"] is True
    assert '"value": 1.50' in rendered(Format.JSON)
    assert rendered(Format.JSON, []) == "[]\n"
    assert rendered(Format.JSONL, []) == ""


def test_markdown() -> None:
    assert rendered(Format.MARKDOWN, [("a|b", "<x>\ny"), ("n", None)]) == (
        "| key | value |\n| --- | --- |\n| a\\|b | &lt;x><br>y |\n| n | *NULL* |\n"
    )


@pytest.mark.parametrize("form", list(Format))
def test_a_result_of_any_length_streams(form: Format) -> None:
    """A long result needs no more memory than a short one; 200,000 rows of 100 bytes would be 60 MB in lists."""
    if form is Format.KVQL:
        pytest.importorskip("kvql.printer")

    class Sink(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    def rows(count: int) -> Iterator[tuple[str, str]]:
        for i in range(count):
            yield f"key:{i}", "x" * 90

    tracemalloc.start()
    try:
        count = write_rows(form, ("key", "value"), rows(20_000), Sink(), Style())
        assert count == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()


WIDE = st.text(st.sampled_from("ab 名前é🎉👩\u200d👩\u0301\x1b[31m\n\t\r\u202e\u2028\x00\x9b"), max_size=12)


@given(st.lists(st.tuples(WIDE, WIDE, WIDE), min_size=1, max_size=8))
def test_columns_line_up_and_no_control_character_gets_through(rows: list[tuple[str, str, str]]) -> None:
    lines = rendered(Format.TABLE, rows, ("a", "b", "c")).split("\n")
    assert len(lines) == len(rows) + 4
    for line in lines:
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2028" for c in line)
    ruler = lines[1]
    edges = [i for i, c in enumerate(ruler) if c == "+"]
    for row, line in zip(rows, lines[2:], strict=False):
        first, second, _ = (screen.safe(v) for v in row)
        head = f" {first}"
        assert line.startswith(head)
        space = edges[0] - 1 - wcswidth(head)
        assert line[len(head) :].startswith(" " * (space + 1) + "| ")
        middle = line[len(head) + space + 3 :]
        assert middle.startswith(second)
        assert middle[len(second) :].lstrip(" ").startswith("| ")


@given(st.text(max_size=30))
def test_safe_text_holds_no_control_character(text: str) -> None:
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in screen.safe(text))


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_csv_reads_back(rows: list[tuple[str, str]]) -> None:
    text = rendered(Format.CSV, rows)
    assert [tuple(r) for r in csv.reader(io.StringIO(text, newline=""))][1:] == rows


def test_plural() -> None:
    assert [plural(n, "pair") for n in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]
