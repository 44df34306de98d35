"""Many statements in one message (``docs/adr/0003``).

A run holds statements of one mode, time to live and comment, each with its own fate: sending it cannot be told from
sending them one by one. Two ways in: ``Run`` takes statement after statement (a script) or whole columns of them,
``RowRuns`` takes the rows of ``executemany`` column by column, which is ten times as fast as looking at each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

from kvql import ast
from kvql.codec import encode_values
from kvql.compiler.expressions import encode_constants
from kvql.compiler.operands import pair_value
from kvql.compiler.parameters import Given, Parameters, key_of, text_of, ttl_ms_of
from kvql.compiler.statements import compile_statement
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import check_decimal

PAIRS_MAX: Final = 2000
"""Pairs a message: larger ones load no faster and make other clients wait (5,000: 5.6 ms for a GET, 2,000: 1.9 ms)."""
BYTES_MAX: Final = 1024 * 1024

MODES: Final = {
    ast.Put: pb.WRITE_MODE_PUT,
    ast.Upsert: pb.WRITE_MODE_UPSERT,
    ast.UpdateKey: pb.WRITE_MODE_UPDATE,
}
_RunWrite = ast.Put | ast.Upsert | ast.UpdateKey


class Run:
    """The statements of one message, in the order in which they were added."""

    __slots__ = ("_bytes", "_comment", "_keys", "_mode", "_single", "_sizes", "_ttl", "_values", "statements_max")

    def __init__(self, statements_max: int = PAIRS_MAX) -> None:
        self.statements_max = statements_max
        self._mode: type | None = None
        self._ttl: ast.Operand | None = None
        self._comment: ast.Operand | None = None
        self._keys: list[str] = []
        self._values: list[Any] = []
        self._sizes: list[int] = []
        self._single = True
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, statement: ast.Statement) -> bool:
        """Take ``statement`` in, or say that it cannot be a part of this run (another kind, TTL, or no room left)."""
        mode = type(statement)
        if type(statement) is ast.Put or type(statement) is ast.Upsert:
            pairs, ttl = statement.pairs, statement.ttl
        elif type(statement) is ast.UpdateKey:
            pairs, ttl = (statement.pair,), None
        else:
            return False
        comment = statement.comment
        if (mode is not self._mode or ttl != self._ttl or comment != self._comment) and (
            self._sizes or not self._begin(mode, ttl, comment)
        ):
            return False
        if self._sizes and (
            self._bytes > BYTES_MAX
            or len(self._keys) + len(pairs) > PAIRS_MAX
            or len(self._sizes) >= self.statements_max
        ):
            return False
        before, size = len(self._keys), self._bytes
        for pair in pairs:
            key, value = pair.key, pair.value
            if (
                type(key) is not ast.Literal or type(key.value) is not str
                or type(value) is not ast.Literal
                or not (type(value.value) in _MERGED or (type(value.value) is Decimal and _is_exact(value.value)))
            ):  # fmt: skip
                del self._keys[before:], self._values[before:]
                self._bytes = size
                return False
            self._keys.append(key.value)
            self._values.append(value.value)
            self._bytes += 4 * len(key.value) + 16
            if isinstance(value.value, str | bytes):
                self._bytes += 4 * len(value.value)
        if self._sizes and self._bytes > 2 * BYTES_MAX:
            # it would make the message too long for the wire, and with it all those that are in it already
            del self._keys[before:], self._values[before:]
            self._bytes = size
            return False
        self._sizes.append(len(pairs))
        self._single = self._single and len(pairs) == 1
        return True

    def take(self, kind: type[ast.Put] | type[ast.Upsert], keys: list[str], values: list[Any], start: int) -> int:
        """Add statements of one pair each, without TTL and comment, from ``start`` on: as many as there is room for.

        The keys and values are literals that came out of a text. The number taken; an empty run takes at least one.
        """
        if not self._sizes:
            self._mode, self._ttl, self._comment = kind, None, None
        elif kind is not self._mode or self._ttl is not None or self._comment is not None:
            return 0
        room = min(PAIRS_MAX - len(self._keys), self.statements_max - len(self._sizes))
        if room <= 0 or self._bytes > BYTES_MAX:
            return 0
        keys, values = keys[start : start + room], values[start : start + room]
        size = 16 * len(keys) + 4 * (sum(map(len, keys)) + sum([len(v) for v in values if type(v) is str]))
        if self._bytes + size > BYTES_MAX:
            taken = self._fitting(keys, values)
            del keys[taken:], values[taken:]
        else:
            self._bytes += size
        self._keys += keys
        self._values += values
        self._sizes += [1] * len(keys)
        return len(keys)

    def _fitting(self, keys: list[str], values: list[Any]) -> int:
        """How many of the pairs bring the message to its limit of bytes; counts those bytes."""
        for taken, (key, value) in enumerate(zip(keys, values, strict=True)):
            if self._bytes > BYTES_MAX:
                return taken
            self._bytes += 16 + 4 * (len(key) + (len(value) if type(value) is str else 0))
        return len(keys)

    @property
    def sizes(self) -> list[int]:
        """Pairs of each statement."""
        return self._sizes

    def _begin(self, mode: type, ttl: ast.Operand | None, comment: ast.Operand | None) -> bool:
        """False if TTL or comment is wrong or a parameter: by itself it is compiled with parameters, or refused."""
        try:
            _options(pb.Request(), ttl, comment)
        except Error:
            return False
        self._mode, self._ttl, self._comment = mode, ttl, comment
        return True

    def request(self) -> pb.Request:
        """The request of the run."""
        assert self._mode is not None
        request = pb.Request()
        write = request.write
        write.mode = MODES[self._mode]
        write.keys.extend(self._keys)
        encode_constants(self._values, write.values)
        if self._single:
            write.each = True
        else:
            write.statement_sizes.extend(self._sizes)
        _options(request, self._ttl, self._comment)
        return request


_MERGED: Final = frozenset({str, int, bool, float, type(None), bytes})
_SIZED: Final = frozenset({str, bytes})


def _is_exact(number: Decimal) -> bool:
    """False for what only a tree built by hand can hold: NaN, or too many digits."""
    try:
        check_decimal(number)
    except Error:
        return False
    return True


def _options(request: pb.Request, ttl: ast.Operand | None, comment: ast.Operand | None) -> None:
    if ttl is not None:
        request.write.ttl_ms = ttl_ms_of(ttl, Parameters())
    if comment is not None:
        request.comment = text_of(comment, Parameters(), "a comment")


# ── executemany ───────────────────────────────────────────────────────────────────────────────────────────────────


class Message(NamedTuple):
    """A request for the rows from ``first`` on; ``size`` of them."""

    first: int
    size: int
    request: pb.Request
    merged: bool = True


class RowRuns:
    """``statement`` with row after row of parameters, as few messages as the limits allow.

    Iterating gives messages and, in its place, the error of a row that cannot be sent, its index in ``statement``.
    """

    def __init__(self, statement: ast.Statement, rows: Iterable[Given]) -> None:
        self._statement = statement
        self._size_max = PAIRS_MAX
        self._rows = iter(rows)
        self._next = 0
        self._places = _places(statement)

    def __iter__(self) -> Iterator[Message | Error]:
        if self._places is None:
            yield from self._one_by_one()
            return
        while chunk := list(islice(self._rows, self._size_max)):
            yield from self._messages(chunk)

    def _one_by_one(self) -> Iterator[Message | Error]:
        for row in self._rows:
            index = self._next
            self._next += 1
            try:
                request = compile_statement(self._statement, row)
            except Error as e:
                e.statement = index
                yield e
            else:
                yield Message(index, 1, request, merged=False)

    def _messages(self, chunk: list[Any]) -> Iterator[Message | Error]:
        columns = self._columns(chunk)
        if columns is None:
            yield from self._looking_at_each(chunk)
            return
        keys, values, size = columns
        step = -(-len(chunk) // min(len(chunk), size // BYTES_MAX + 1))
        try:
            requests = [self._message(keys[i : i + step], values[i : i + step]) for i in range(0, len(keys), step)]
        except ValueError:  # an integer beyond 64 bits, a lone surrogate
            yield from self._looking_at_each(chunk)
            return
        for request in requests:
            size = len(request.write.keys)
            yield Message(self._next, size, request)
            self._next += size

    def _columns(self, chunk: list[Any]) -> tuple[list[str], list[Any], int] | None:
        """Keys, values and a bound on their bytes, if every row is of the plain kind; else None."""
        assert self._places is not None
        key, value, width = self._places
        if not set(map(type, chunk)) <= _ROWS or set(map(len, chunk)) != {width}:
            return None
        keys = [row[key] for row in chunk]
        values = [row[value] for row in chunk]
        kinds = set(map(type, values))
        if set(map(type, keys)) != {str} or not kinds <= _MERGED:
            return None
        size = 4 * sum(map(len, keys)) + 16 * len(keys)
        if kinds & _SIZED:
            lengths = [len(v) for v in values if type(v) in _SIZED]
            # one huge value beside small ones would make parts of uneven size: look at each
            if max(lengths) > BYTES_MAX // 16:
                return None
            size += 4 * sum(lengths)
        return keys, values, size

    def _message(self, keys: list[str], values: list[Any]) -> pb.Request:
        statement = self._statement
        request = pb.Request()
        write = request.write
        write.mode = MODES[type(statement)]
        write.keys.extend(keys)
        encode_values(values, write.values)
        write.each = True
        assert isinstance(statement, _RunWrite)
        _options(request, getattr(statement, "ttl", None), statement.comment)
        return request

    def _looking_at_each(self, chunk: list[Any]) -> Iterator[Message | Error]:
        statement = self._statement
        assert isinstance(statement, _RunWrite)
        pair = statement.pair if isinstance(statement, ast.UpdateKey) else statement.pairs[0]
        keys: list[str] = []
        values: list[Any] = []
        size = 0
        failed: Error | None = None
        for row in chunk:
            try:
                bound = Parameters.of(row)
                key, value = key_of(pair.key, bound), pair_value(pair.value, bound)
                bound.finish(statement.span)
            except Error as e:
                failed = e
            if keys and (failed or size > BYTES_MAX):
                yield Message(self._next, len(keys), self._message(keys, values))
                self._next += len(keys)
                keys, values, size = [], [], 0
            if failed:
                failed.statement = self._next
                yield failed
                failed = None
                self._next += 1
                continue
            keys.append(key)
            values.append(value)
            size += len(key) + (4 * len(value) if type(value) in _SIZED else 64)
        if keys:
            yield Message(self._next, len(keys), self._message(keys, values))
            self._next += len(keys)


_ROWS: Final = frozenset({tuple, list})


def _places(statement: ast.Statement) -> tuple[Any, Any, int] | None:
    """Where key and value stand in a row and how wide it is, for ``PUT ? ?`` and its kin; None for anything else."""
    if isinstance(statement, ast.UpdateKey):
        pair, ttl = statement.pair, None
    elif isinstance(statement, ast.Put | ast.Upsert) and len(statement.pairs) == 1:
        pair, ttl = statement.pairs[0], statement.ttl
    else:
        return None
    if isinstance(ttl, ast.Param) or isinstance(statement.comment, ast.Param):
        return None
    if not (isinstance(pair.key, ast.Param) and isinstance(pair.value, ast.Param)):
        return None
    key, value = pair.key.name, pair.value.name
    if isinstance(key, int) and isinstance(value, int):
        return key, value, max(key, value) + 1
    # rows given by name are looked at one by one, but still travel together
    return key, value, -1
