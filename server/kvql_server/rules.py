"""The rules of LANGUAGE §1 and §2 for keys, names, values and times, checked on every path, whoever built the request.

Bulk comes first: a run of thousands of keys is judged by a few passes over one joined string (about 0.1 µs a key), and
only a run that fails is looked at key by key to find out which one is at fault and why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import (
    DECIMAL_DIGITS_MAX,
    KEY_BYTES_MAX,
    NAMESPACE_LENGTH_MAX,
    VALUE_BYTES_MAX,
    Json,
    encoded_size,
    quote,
)

SAVEPOINT_LENGTH_MAX: Final = 64
COMMENT_BYTES_MAX: Final = 1024
ASSERTION_BYTES_MAX: Final = 1024
TTL_MS_MAX: Final = 36_525 * 86_400_000
"""A hundred years: far beyond use, and far from the end of the calendar."""
PATTERN_BYTES_MAX: Final = 50_000
IDEMPOTENCY_KEY_BYTES_MAX: Final = 64

# white space (Unicode's, as str.isspace sees it), control characters, bidirectional controls, and the dot
_FORBIDDEN: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069.]")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_SPACE: Final = re.compile(r"\s")
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _shorten(text: str) -> str:
    return quote(text if len(text) <= 60 else text[:57] + "...")


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_are_valid(keys: Sequence[str]) -> bool:
    """Whether every key obeys the rules; fast, and silent about which one does not."""
    if len(keys) == 1:
        key = keys[0]
        if not 0 < len(key) <= KEY_BYTES_MAX or _FORBIDDEN.search(key) is not None:
            return False
        return key.isascii() or len(key.encode()) <= KEY_BYTES_MAX
    lengths = set(map(len, keys))
    if not lengths or 0 in lengths:
        return False
    joined = "".join(keys)
    plain = joined.isprintable() and " " not in joined and "." not in joined
    if not plain and _FORBIDDEN.search(joined) is not None:
        return False
    longest = max(lengths)
    if longest * 4 <= KEY_BYTES_MAX or (longest <= KEY_BYTES_MAX and joined.isascii()):
        return True
    return all(len(key.encode()) <= KEY_BYTES_MAX for key in keys)


def key_error(key: str, item: int) -> Error | None:
    """What is wrong with ``key``, the ``item``-th of its statement (from 1); None if nothing is."""
    if not key:
        return _invalid("a key cannot be empty", None, item, pb.PART_KEY)
    found = _FORBIDDEN.search(key)
    if found is not None:
        return _invalid(*_forbidden_in_key(key, found[0], found.start()), item, pb.PART_KEY)
    size = len(key.encode())
    if size > KEY_BYTES_MAX:
        return _invalid(
            f"invalid key {_shorten(key)}: a key has at most {KEY_BYTES_MAX} bytes, this one has {size:,}",
            None, item, pb.PART_KEY,
        )  # fmt: skip
    return None


def _forbidden_in_key(key: str, character: str, at: int) -> tuple[str, str | None]:
    head = f"invalid key {_shorten(key)}: "
    if character == ".":
        namespace, name = key[:at], key[at + 1 :]
        hint = None
        if _NAMESPACE.fullmatch(namespace) and name and not _FORBIDDEN.search(name):
            hint = f"for key {name} of namespace {namespace}: USE {namespace}, then name the key alone"
        return head + "a key holds no dots", hint
    if character.isspace() and not "\x1c" <= character <= "\x1f":
        return head + "a key holds no white space", None
    if character in _BIDI:
        return head + f"a key holds no bidirectional control characters (U+{ord(character):04X})", None
    return head + f"a key holds no control characters (U+{ord(character):04X})", None


def check_keys(keys: Sequence[str]) -> None:
    """Every key of one statement, or 22023 naming the first that is wrong."""
    if not keys:
        raise _invalid("a statement needs at least one key", None, 0, 0)
    if not keys_are_valid(keys):
        for item, key in enumerate(keys, 1):
            wrong = key_error(key, item)
            if wrong is not None:
                raise wrong


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_namespace(name: str) -> None:
    """A namespace's name, or 22023."""
    if _NAMESPACE.fullmatch(name) is None:
        raise _invalid(
            f"invalid namespace name {_shorten(name)}",
            f"a name is 1 to {NAMESPACE_LENGTH_MAX} letters and digits: A-Z, a-z, 0-9",
            0, pb.PART_NAMESPACE,
        )  # fmt: skip


def check_savepoint(name: str) -> None:
    """A savepoint's name, or 22023: any word or quoted text that a message can show."""
    if not 0 < len(name) <= SAVEPOINT_LENGTH_MAX or not name.isprintable():
        raise _invalid(
            f"invalid savepoint name {_shorten(name)}",
            f"a name is 1 to {SAVEPOINT_LENGTH_MAX} printable characters",
            1, pb.PART_NAME,
        )  # fmt: skip


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


def values_are_valid(values: Sequence[Any], words_only: bool) -> bool:
    """Whether every value may be stored; fast, and silent about which one may not.

    Types are the codec's business: what comes here is already a KVQL value. ``words_only``: no TEXT with white space.
    """
    if len(values) > 8:
        kinds = set(map(type, values))
        if kinds <= {int, bool, float, type(None)}:
            return True
        if kinds == {str}:
            joined = "".join(values)
            if len(joined) * 4 <= VALUE_BYTES_MAX or len(max(values, key=len)) * 4 <= VALUE_BYTES_MAX:
                return not words_only or _SPACE.search(joined) is None
    return all(value_error(value, words_only, 0) is None for value in values)


def value_error(value: Any, words_only: bool, item: int) -> Error | None:
    """What forbids ``value``, the ``item``-th of its statement (from 1); None if nothing does."""
    kind = type(value)
    if kind is int or kind is bool or kind is float or value is None:
        return None
    if words_only and kind is str and _SPACE.search(value) is not None:
        return _invalid(
            f"invalid value {_shorten(value)}: text in this namespace holds no white space",
            "the namespace or the server was set up with values = 'word'",
            item, pb.PART_VALUE,
        )  # fmt: skip
    if (kind is str or kind is Json) and len(value if kind is str else value.text) * 4 <= VALUE_BYTES_MAX:
        return None
    size = encoded_size(value)
    if size > VALUE_BYTES_MAX:
        return _invalid(
            f"a value has at most {VALUE_BYTES_MAX:,} bytes, this one has {size:,}",
            "split it over several keys", item, pb.PART_VALUE,
        )  # fmt: skip
    if kind is Decimal and len(value.as_tuple().digits) > DECIMAL_DIGITS_MAX:
        return errors.error(
            errors.OVERFLOW, f"a decimal has at most {DECIMAL_DIGITS_MAX:,} digits", item=item, part=pb.PART_VALUE
        )
    return None


# ── times, comments, patterns, idempotency keys ───────────────────────────────────────────────────────────────────


def check_ttl(ttl_ms: int) -> None:
    """A time to live in milliseconds: 1 to 100 years."""
    if ttl_ms < 1:
        raise _invalid(f"invalid time to live {ttl_ms} ms", "the shortest is 1ms", 0, pb.PART_TTL)
    if ttl_ms > TTL_MS_MAX:
        raise _invalid(
            "invalid time to live: the longest is 100 years (36525d)", "leave TTL out to keep the pair", 0, pb.PART_TTL
        )


def check_comment(comment: str) -> None:
    """What COMMENT or a request keeps with a change."""
    if comment and len(comment.encode()) > COMMENT_BYTES_MAX:
        raise _invalid(f"a comment has at most {COMMENT_BYTES_MAX:,} bytes", None, 0, 0)


def check_assertion(message: str) -> None:
    """What the error of an ASSERT says."""
    if len(message.encode()) > ASSERTION_BYTES_MAX:
        raise _invalid(f"the message of ASSERT has at most {ASSERTION_BYTES_MAX:,} bytes", None, 0, 0)


def check_pattern(pattern: str) -> None:
    """A LIKE pattern's length; matching is linear, but its cost grows with the pattern as well."""
    if len(pattern.encode()) > PATTERN_BYTES_MAX:
        raise _invalid(f"a pattern has at most {PATTERN_BYTES_MAX:,} bytes", None, 0, pb.PART_PATTERN)


def check_idempotency_key(key: bytes) -> None:
    if len(key) > IDEMPOTENCY_KEY_BYTES_MAX:
        raise _invalid(f"an idempotency key has at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes", None, 0, 0)


def _invalid(message: str, hint: str | None, item: int, part: int) -> Error:
    return errors.error(errors.INVALID, message, hint=hint, item=item, part=part)
