"""Leaves: words, literals, names, parameters, JSON."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from kvql import errors
from kvql.ast import Expression, JsonArray, JsonObject, Literal, Name, Param
from kvql.node import maker
from kvql.parser.matching import known
from kvql.span import Span
from kvql.values import INTEGER_MAX, INTEGER_MIN, Json, bare_value, check_decimal, parse_interval, parse_timestamp

_new: Final = tuple.__new__
_literal: Final = maker(Literal)
_name: Final = maker(Name)
_param: Final = maker(Param)


def span_of(start: int, end: int) -> Span:
    """``Span(start, end)`` at half the price; there is one on every node."""
    return _new(Span, (start, end))


# ── words and text ────────────────────────────────────────────────────────────────────────────────────────────────


def word(v: list[Any], start: int, end: int) -> Literal:
    """A bare word where only text may stand: a key or a pattern."""
    text = v[0]
    if not text.isascii():
        check_text(text, start, end)
    return _literal(text, _new(Span, (start, end)))


def bare(v: list[Any], start: int, end: int) -> Literal:
    """A bare word as a value: a number or a boolean if that prints as the same text."""
    text = v[0]
    if not text.isascii():
        check_text(text, start, end)
    return _literal(bare_value(text), _new(Span, (start, end)))


def text(v: list[Any], start: int, end: int) -> Literal:
    """``'it''s'``"""
    body = v[0][1:-1]
    if "'" in body:
        body = body.replace("''", "'")
    if not body.isascii():
        check_text(body, start, end)
    return _literal(body, _new(Span, (start, end)))


_ESCAPE: Final = re.compile(
    r"''|\\(?:(n)|(t)|(r)|(\\)|(')|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([\s\S]))"
)
_SIMPLE: Final = ("", "\n", "\t", "\r", "\\", "'")


def escaped_text(v: list[Any], start: int, end: int) -> Literal:
    r"""``e'\n\u00e9'``"""

    def replace(m: re.Match[str]) -> str:
        kind = m.lastindex
        if kind is None:
            return "'"
        if kind <= 5:
            return _SIMPLE[kind]
        if kind == 9 or int(m[kind], 16) > 0x10FFFF:
            place = start + 2 + m.start()
            raise errors.error(
                errors.INVALID,
                f"invalid escape {m[0][:10]!s} in a text" if m[0].isprintable() else "invalid escape in a text",
                hint=r"the escapes are \n \t \r \\ \' \xHH \uXXXX \UXXXXXXXX",
                span=Span(place, place + len(m[0])),
            )
        return chr(int(m[kind], 16))

    body = _ESCAPE.sub(replace, v[0][2:-1])
    check_text(body, start, end)
    return _literal(body, _new(Span, (start, end)))


def check_text(text: str, start: int, end: int) -> None:
    """22023 for lone surrogates: they are no Unicode and cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise errors.error(
            errors.INVALID,
            f"text holds a lone surrogate (\\u{ord(text[e.start]):04x}) and is not valid Unicode",
            span=Span(start, end),
        ) from None


def bytes_(v: list[Any], start: int, end: int) -> Literal:
    """``x'1fff'``"""
    digits = v[0][2:-1]
    try:
        if digits.isalnum() or not digits:
            return _literal(bytes.fromhex(digits), _new(Span, (start, end)))
    except ValueError:
        pass
    raise errors.error(
        errors.BAD_CAST,
        f"invalid hexadecimal digits in {_shorten(v[0])}",
        hint="two digits of 0-9 and a-f for each byte: x'1fff'",
        span=Span(start, end),
    )


# ── numbers, times ────────────────────────────────────────────────────────────────────────────────────────────────


def integer(v: list[Any], start: int, end: int) -> Literal:
    """An INTEGER, or a DECIMAL if 64 bits do not hold it."""
    digits = v[0]
    if len(digits) < 19:
        return _literal(int(digits), _new(Span, (start, end)))
    return _literal(_big(digits, start, end), _new(Span, (start, end)))


def _big(text: str, start: int, end: int) -> int | Decimal:
    number = _exact(text, start, end)
    return int(number) if number <= INTEGER_MAX else number


def _exact(text: str, start: int, end: int) -> Decimal:
    try:
        return check_decimal(Decimal(text))
    except errors.Error as e:
        raise e.at(Span(start, end)) from None


def decimal(v: list[Any], start: int, end: int) -> Literal:
    """``0.1``: exact."""
    return _literal(_exact(v[0], start, end), _new(Span, (start, end)))


def float_(v: list[Any], start: int, end: int) -> Literal:
    """``1e3``: an IEEE double."""
    number = float(v[0])
    if number in (float("inf"), float("-inf")):
        raise errors.error(errors.OVERFLOW, f"{_shorten(v[0])} is out of range for type float", span=Span(start, end))
    return _literal(number, _new(Span, (start, end)))


_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")


def duration(v: list[Any], start: int, end: int) -> Literal:
    """``60s``"""
    number, unit = known(_DURATION.fullmatch(v[0])).groups()
    try:
        if len(number) > 30:
            raise OverflowError
        return _literal(timedelta(milliseconds=int(number) * _UNITS[unit]), _new(Span, (start, end)))
    except OverflowError:
        raise errors.error(errors.OVERFLOW, "interval out of range", span=Span(start, end)) from None


def timestamp(v: list[Any], start: int, end: int) -> Literal:
    """``TIMESTAMP '2026-01-02T03:04:05Z'``"""
    try:
        return _literal(parse_timestamp(_body(v[1])), _new(Span, (start, end)))
    except errors.Error as e:
        raise e.at(Span(end - len(v[1]), end)) from None


def interval(v: list[Any], start: int, end: int) -> Literal:
    """``INTERVAL '5 minutes'``"""
    try:
        return _literal(parse_interval(_body(v[1])), _new(Span, (start, end)))
    except errors.Error as e:
        raise e.at(Span(end - len(v[1]), end)) from None


def _body(text: str) -> str:
    return text[1:-1].replace("''", "'")


def true(v: list[Any], start: int, end: int) -> Literal:
    return _literal(True, _new(Span, (start, end)))


def false(v: list[Any], start: int, end: int) -> Literal:
    return _literal(False, _new(Span, (start, end)))


def null(v: list[Any], start: int, end: int) -> Literal:
    return _literal(None, _new(Span, (start, end)))


# ── names and parameters ──────────────────────────────────────────────────────────────────────────────────────────


def name(v: list[Any], start: int, end: int) -> Name:
    text = v[0]
    if not text.isascii():
        check_text(text, start, end)
    return _name(text, _new(Span, (start, end)))


def quoted_name(v: list[Any], start: int, end: int) -> Name:
    return _name(identifier(v[0], start, end), _new(Span, (start, end)))


def identifier(quoted: str, start: int, end: int) -> str:
    """``"a""b"`` without its quotes; 42601 for an empty one, as in SQL."""
    text = quoted[1:-1].replace('""', '"')
    if not text:
        raise errors.error(errors.SYNTAX, "a name in double quotes must not be empty", span=Span(start, end))
    check_text(text, start, end)
    return text


def param(v: list[Any], start: int, end: int) -> Param:
    """``?`` comes with its place already; ``?2`` counts from 1."""
    given = v[0]
    if type(given) is int:
        return _param(given, _new(Span, (start, end)))
    if given[0] == ":":
        return _param(given[1:], _new(Span, (start, end)))
    place = int(given[1:]) if len(given) < 8 else 0
    if not place:
        raise errors.error(
            errors.UNDEFINED_PARAMETER,
            f"there is no parameter {_shorten(given)}",
            hint="parameters count from ?1",
            span=Span(start, end),
        )
    return _param(place - 1, _new(Span, (start, end)))


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(text: str, at: int, start: int) -> tuple[Literal, int] | None:
    """The JSON literal without parameters that starts at ``at``, and where it ends; None if it is no such thing."""
    try:
        value, end = Json.scan(text, at)
    except errors.Error as e:
        raise e.at(Span(start, start + 1)) from None
    except ValueError:
        return None
    return Literal(value, span=span_of(start, start + end - at)), end


def json_empty_object(v: list[Any], start: int, end: int) -> Any:
    """``{}``, or what ``read_json`` has read and put in the place of its closing bracket."""
    return Literal(Json("{}"), span=span_of(start, end)) if v[1] is None else v[1]


def json_empty_array(v: list[Any], start: int, end: int) -> Any:
    """``[]``, or what ``read_json`` has read."""
    return Literal(Json("[]"), span=span_of(start, end)) if v[1] is None else v[1]


class _Piece(str):
    """JSON text of a part without parameters, while the parts are put together."""


def json_text(v: list[Any], start: int, end: int) -> _Piece:
    raw = v[0]
    try:
        decoded = json.loads(raw)
    except ValueError:
        raise errors.error(errors.BAD_CAST, f"invalid JSON string {_shorten(raw)}", span=Span(start, end)) from None
    check_text(decoded, start, end)
    return _Piece(raw)


def json_number(v: list[Any], start: int, end: int) -> _Piece:
    return _Piece(v[0])


def json_true(v: list[Any], start: int, end: int) -> _Piece:
    return _Piece("true")


def json_false(v: list[Any], start: int, end: int) -> _Piece:
    return _Piece("false")


def json_null(v: list[Any], start: int, end: int) -> _Piece:
    return _Piece("null")


def member(v: list[Any], start: int, end: int) -> tuple[str, Any]:
    return json.loads(json_text(v[:1], start, start + len(v[0]))), v[2]


def sequence(v: list[Any], start: int, end: int) -> list[Any]:
    """``x ("," x)*``"""
    return [v[0], *v[1]] if len(v) > 1 else [v[0]]


def json_object(v: list[Any], start: int, end: int) -> Literal | JsonObject:
    members = dict(v[1])
    if all(_is_constant(value) for value in members.values()):
        text = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {_json_of(x)}" for name, x in members.items())
        return _json_literal("{" + text + "}", start, end)
    return JsonObject(tuple((name, _node(x)) for name, x in members.items()), span=span_of(start, end))


def json_array(v: list[Any], start: int, end: int) -> Literal | JsonArray:
    items = v[1]
    if all(_is_constant(value) for value in items):
        return _json_literal("[" + ", ".join([_json_of(x) for x in items]) + "]", start, end)
    return JsonArray(tuple([_node(x) for x in items]), span=span_of(start, end))


def _is_constant(part: Any) -> bool:
    return type(part) is _Piece or type(part) is Literal


def _json_of(part: Any) -> str:
    """The JSON text of a constant part: a piece as it stands, or a literal that was complete in itself."""
    return part if type(part) is _Piece else part.value.text


def _json_literal(text: str, start: int, end: int) -> Literal:
    try:
        return Literal(Json.parse(text), span=span_of(start, end))
    except errors.Error as e:
        raise e.at(Span(start, end)) from None


def _node(part: _Piece | Expression) -> Expression:
    """A piece beside a parameter: a literal of the type that it has in JSON."""
    if not isinstance(part, _Piece):
        return part
    if part[0] == '"':
        return Literal(json.loads(part))
    if part in _CONSTANTS:
        return Literal(_CONSTANTS[part])
    number = check_decimal(Decimal(part))
    whole = part.lstrip("-").isdigit() and INTEGER_MIN <= number <= INTEGER_MAX
    return Literal(int(number) if whole else number)


_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


BUILDERS: Final = {
    "word": word,
    "bare_value": bare,
    "text": text,
    "escaped_text": escaped_text,
    "bytes": bytes_,
    "integer": integer,
    "decimal": decimal,
    "float": float_,
    "duration": duration,
    "timestamp": timestamp,
    "interval": interval,
    "true": true,
    "false": false,
    "null": null,
    "name": name,
    "quoted_name": quoted_name,
    "param": param,
    "json_empty_object": json_empty_object,
    "json_empty_array": json_empty_array,
    "json_text": json_text,
    "json_number": json_number,
    "json_true": json_true,
    "json_false": json_false,
    "json_null": json_null,
    "member": member,
    "members": sequence,
    "json_values": sequence,
    "json_object": json_object,
    "json_array": json_array,
}
