"""Regular expressions: what matches, what RE2 refuses and in which words, and that no pattern holds the server up."""

from __future__ import annotations

import time

import pytest
from kvql_server.executor.match import compiled_regex

from kvql import errors

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("pattern", "insensitive", "text", "expected"),
    [
        ("b", False, "abc", True), ("^b", False, "abc", False), ("", False, "", True), ("B", False, "abc", False),
        ("B", True, "abc", True), ("(?-i)B", True, "abc", False), ("ÉCOLE", True, "l'école", True),
        ("a.c", False, "a\nc", True), ("(?-s)a.c", False, "a\nc", False), ("^b$", False, "a\nb\nc", False),
        ("(?m)^b$", False, "a\nb\nc", True), ("b$", False, "b\n", False), ("^.$", False, "\U0001f600", True),
        (r"\pL+", False, "日本", True), (r"^\x00$", False, "\x00", True), ("(?P<n>a)(b)", False, "ab", True),
        (r"^\x{1F600}$", False, "\U0001f600", True), ("é", False, "e\u0301", False),
    ],
)  # fmt: skip
def test_matches(pattern: str, insensitive: bool, text: str, expected: bool) -> None:
    assert compiled_regex(pattern, insensitive)(text) is expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(abc", "missing ): (abc"), ("a**", "bad repetition operator: **"),
        ("*", "no argument for repetition operator: *"),
        ("(?=x)", "invalid perl operator: (?="), (r"(a)\1", r"invalid escape sequence: \1"), ("\\", "trailing \\"),
        ("[b-a]", "invalid character class range: b-a"), ("a{1001}", "invalid repetition size: {1001}"),
        ("(" + "é" * 200, "missing ): (" + "é" * 65 + "..."), (".{1000}" * 90, "it is too large"),
        (r"\pL" * 10_000, "it is too large"), ("x{0,1000}" * 5000, "it is too large"),
        ("x{99}" * 9000, "it is too large"),
    ],
)  # fmt: skip
def test_refusals(pattern: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    with pytest.raises(errors.DataError) as caught:
        compiled_regex(pattern, False)
    assert time.process_time() - start < 5
    assert caught.value.sqlstate == errors.INVALID_REGEX
    assert caught.value.message == f"invalid regular expression: {message}"
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_pattern_has_a_length() -> None:
    assert compiled_regex("a" * 40_000, False)("b") is False
    with pytest.raises(errors.DataError) as caught:
        compiled_regex("é" * 25_001, False)
    assert caught.value.sqlstate == errors.INVALID


@pytest.mark.parametrize("pattern", ["(a*)*$", "(a|a)*b", "(a+)+$", "(.*)(.*)(.*)(.*)x", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_what_explodes_elsewhere_is_quick(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    compiled_regex(pattern, False)("a" * MIB + "!")
    assert time.process_time() - start < 10
    assert capfd.readouterr() == ("", "")


def test_large_pattern_times_long_text_is_refused() -> None:
    pattern = "(a|b)*a(a|b){1000}c"
    assert compiled_regex(pattern, False)("ab" * 5000) is False
    with pytest.raises(errors.OperationalError) as caught:
        compiled_regex(pattern, False)("ab" * 2 * MIB)
    assert caught.value.sqlstate == errors.LIMIT
    assert caught.value.message == "the regular expression is too large for a text of 4,194,304 bytes"


@pytest.mark.parametrize("pattern", ["(a?){900}b", "(?:(?:a?b?){90}){9}c", "(?:[ab]{99}[ab]{99}[ab]{99}){9}c"])
def test_no_row_is_searched_for_seconds(pattern: str) -> None:
    """One search cannot be stopped. The worst patterns take some 4 ns for each byte and instruction."""
    regex = compiled_regex(pattern, False)
    longest = (1 << 28) // regex.size
    assert regex("a" * 10_000) is False
    with pytest.raises(errors.OperationalError, match="too large for a text of"):
        regex("a" * (longest + 1))


def test_running_out_of_memory_while_matching_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    text = "".join("ab"[(i * i * 7 + i // 3) % 2] for i in range(100_000))
    assert compiled_regex("(a|b)*a(a|b){1000}c", False)(text) is False
    assert capfd.readouterr() == ("", "")


def test_compiled_once_while_in_use() -> None:
    assert compiled_regex("x+", False) is compiled_regex("x+", False)
    assert compiled_regex("x+", False) is not compiled_regex("x+", True)
