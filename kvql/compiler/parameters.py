"""What stands for ``?``, ``?2`` and ``:name``, and the operands that may be parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias, final

from kvql import ast, errors
from kvql.errors import Error
from kvql.span import Span
from kvql.values import Type, from_python, type_of

Given: TypeAlias = "Sequence[Any] | Mapping[str, Any] | None"
"""What callers pass: values by place, values by name, or nothing."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_NOTHING: Final[dict[str, Any]] = {}


@final
class Parameters:
    """The values of one call, by place and by name; remembers the highest place that a statement asked for.

    Names that no statement uses are fine (the variables of a script, a row given as a dict); places are not, because a
    list that is too long is a mistake in counting.
    """

    __slots__ = ("_names", "_places", "_used")

    def __init__(self, places: Sequence[Any] = (), names: Mapping[str, Any] = _NOTHING) -> None:
        self._places = places
        self._names = names
        self._used = 0

    @classmethod
    def of(cls, given: Given) -> Parameters:
        """From what a caller passed; text is refused, because a forgotten comma makes a list of letters."""
        if type(given) is list or type(given) is tuple:
            return cls(given)
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls((), given)
        if isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview):
            return cls(given)
        raise errors.error(
            errors.UNDEFINED_PARAMETER,
            f"parameters must be a list, a tuple or a dict, not {type(given).__name__}",
            hint="write [value] for one parameter" if isinstance(given, str | bytes | int | float) else None,
        )

    def get(self, param: ast.Param) -> Any:
        """The KVQL value (or ``timedelta``) that stands for ``param``; 42P02 if none was given."""
        name = param.name
        try:
            if isinstance(name, int):
                value = self._places[name]
                if name >= self._used:
                    self._used = name + 1
            else:
                value = self._names[name]
        except LookupError:
            raise self._missing(param) from None
        if type(value) is str and value.isascii():
            return value
        try:
            return from_python(value)
        except Error as e:
            raise e.at(param.span) from None

    def finish(self, span: Span | None = None) -> None:
        """After the last statement: 42P02 if more values were given than places were used."""
        if len(self._places) > self._used:
            raise errors.error(
                errors.UNDEFINED_PARAMETER,
                f"{_count(len(self._places), 'parameter')} given, but the statement has {self._used or 'none'}",
                hint="each ? takes one value; text in quotes holds no parameters",
                span=span,
            )

    def _missing(self, param: ast.Param) -> Error:
        if isinstance(param.name, str):
            shown = f":{param.name}"
            hint = f'pass a dict: {{"{param.name}": …}}' if not self._names else None
        else:
            shown = f"?{param.name + 1}"
            given = len(self._places)
            hint = "pass a list for ?, or write :name" if self._names else f"{_count(given, 'value')} given"
        return errors.error(errors.UNDEFINED_PARAMETER, f"no value for parameter {shown}", hint=hint, span=param.span)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


# ── operands ──────────────────────────────────────────────────────────────────────────────────────────────────────


def value_of(operand: ast.Operand, parameters: Parameters) -> Any:
    """The value of a constant or a parameter."""
    return operand.value if isinstance(operand, ast.Literal) else parameters.get(operand)


def key_of(operand: ast.Operand, parameters: Parameters) -> str:
    """A key: text and nothing else, so that 7 and '7' can never be two names of one thing."""
    value = operand.value if isinstance(operand, ast.Literal) else parameters.get(operand)
    if type(value) is not str:
        raise errors.error(
            errors.INVALID, f"a key must be text, not {kind_of(value)}", hint="pass str(…)", span=operand.span, part=1
        )
    if not value.isascii() and type(operand) is ast.Literal:
        encodable(value, operand.span)
    return value


def encodable(text: str, span: Span | None) -> str:
    """``text`` itself; 22023 with the place if it is not valid Unicode."""
    try:
        from_python(text)
    except Error as e:
        raise e.at(span) from None
    return text


def text_of(operand: ast.Operand, parameters: Parameters, what: str) -> str:
    """Text for a pattern or a comment."""
    value = value_of(operand, parameters)
    if type(value) is not str:
        raise errors.error(errors.INVALID, f"{what} must be text, not {kind_of(value)}", span=operand.span)
    return encodable(value, operand.span)


def ttl_ms_of(operand: ast.Operand, parameters: Parameters) -> int:
    """A time to live in whole milliseconds, rounded up."""
    value = value_of(operand, parameters)
    if type(value) is not timedelta:
        raise errors.error(
            errors.INVALID,
            f"a TTL must be a duration, not {kind_of(value)}",
            hint="write it with a unit (60s, 5m, 2h), or pass a timedelta",
            span=operand.span,
            part=5,
        )
    if value <= timedelta(0):
        raise errors.error(errors.INVALID, "a TTL must be longer than 0", span=operand.span, part=5)
    return -(-value // _MILLISECOND)


def number_of(operand: ast.Operand, parameters: Parameters, what: str) -> int:
    """A count for LIMIT or OFFSET."""
    value = value_of(operand, parameters)
    if type(value) is not int:
        raise errors.error(
            errors.INVALID,
            f"{what} must be an integer, not {kind_of(value)}",
            hint=f"leave {what} out for no limit" if value is None else None,
            span=operand.span,
        )
    if value < 0:
        raise errors.error(errors.INVALID, f"{what} must not be negative", span=operand.span)
    return value


def kind_of(value: object) -> str:
    """The name of a value's type for a message."""
    try:
        kind = type_of(value)
    except TypeError:
        return type(value).__name__
    return "a duration" if kind is Type.INTERVAL else kind.name
