"""Requests that are never carried out twice: what became of a request with a key is a pair, and the commit that the
outcome tells of writes it, so there is one exactly if there is the other.

A repeated request reads the pair first and answers with it. The pair is among what its transaction read, so of two at
once the second finds that it has changed, and reads the first one's outcome. A request that failed wrote nothing and
leaves no pair: it is carried out anew.

Two kinds of keys share the form. A user's key has a pair of its own for 24 hours, with a hash of the request to tell
another one by. The keys by which a client repeats what a broken connection left open count: the pair of a key holds the
outcome of its newest sequence and no hash, because only the client can have made it.

The value is MessagePack: [sequence, hash, place, pairs, statements, reply]. ``place`` is ``WHOLE``, ``NEVER`` (the
fence of a COMMIT that came too late), or the next statement of a run that is half carried out. ``reply`` is empty where
the two counts say all, else a ``pb.Response``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from kvql import errors
from kvql.codec import (
    CODE_OF_TYPE,
    TYPE_OF_CODE,
    decode_error,
    decode_notices,
    decode_rows,
    encode_error,
    encode_notices,
    encode_rows,
)
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.engines.base import SYSTEM_NAMESPACE, Entry, Put
from kvql_server.executor.call import Call
from kvql_server.transaction import Transaction

OUTCOME: Final = "outcome/"
"""Before the key in hexadecimal digits and the user: the keys of the pairs."""
KEPT_US: Final = 24 * 3600 * 1_000_000
WHOLE: Final = -1
NEVER: Final = -2
_UNSENT: Final[tuple[Any, ...]] = (
    "id",
    "lane",
    "deadline_ms",
    "idempotency_key",
    "on_error",
    "repeat_key",
    "repeat_sequence",
)
"""Fields that say how a request travels, and not what it asks for."""

_State = tuple[int, bytes, int, int, int, bytes]


class Overtaken(Exception):
    """The same run is being carried out by another request, and is further."""


class Key:
    """The key of a request and what is to be kept under it."""

    __slots__ = ("_bytes_max", "_hash", "_sequence", "name", "own")

    def __init__(self, name: str, own: bytes, sequence: int, hash_: bytes, bytes_max: int) -> None:
        self.name = name
        self.own = own
        """The user's key, which also goes into the log; empty for a client's."""
        self._sequence = sequence
        self._hash = hash_
        self._bytes_max = bytes_max

    @classmethod
    def of(cls, call: Call) -> Key | None:
        """The key of the request; None without one. 22023 if it cannot be one."""
        request = call.request
        key, user = request.idempotency_key, call.principal.name
        if key:
            rules.check_idempotency_key(key)
            if request.repeat_key:
                raise errors.error(errors.INVALID, "a request has an idempotency key or a repeat key, not both")
            hash_ = b"" if request.WhichOneof("command") == "transaction" else _hash(call)
            return cls(f"{OUTCOME}{key.hex()}/{user}", key, 0, hash_, call.settings.outcome_bytes_max)
        key = request.repeat_key
        if not key:
            return None
        rules.check_idempotency_key(key)
        if not request.repeat_sequence:
            raise errors.error(errors.INVALID, "a repeat key needs a sequence")
        name = f"{OUTCOME}{key.hex()}+/{user}"
        return cls(name, b"", request.repeat_sequence, b"", call.settings.outcome_bytes_max)

    # ── what was kept ─────────────────────────────────────────────────────────────────────────────────────────────

    async def outcome(self, transaction: Transaction) -> Result | None:
        """What became of the request if it was carried out; 22023 if that was another one."""
        entry = await transaction.get(SYSTEM_NAMESPACE, self.name)
        return None if entry is None else self.known(entry)

    async def outcome_by_now(self, transaction: Transaction) -> Result | None:
        """The same at COMMIT: other transactions may have used the key since this one began."""
        entry = await transaction.get_newest(SYSTEM_NAMESPACE, self.name)
        return None if entry is None else self.known(entry)

    def known(self, entry: Entry) -> Result | None:
        """The outcome that the pair tells, if it is this request's. Of a run that is not at its end there is none."""
        state = self._state(entry)
        if state is None or state[2] >= 0:
            return None
        if state[2] == NEVER:
            raise errors.error(
                errors.INVALID, "a COMMIT with this key was asked for before and found no transaction",
                hint="nothing was committed; run the transaction again with a new key",
            )  # fmt: skip
        return _result(state, entry.revision)

    def _state(self, entry: Entry) -> _State | None:
        assert isinstance(entry.value, bytes)
        state: _State = msgspec.msgpack.decode(entry.value, type=_State)
        if state[0] < self._sequence:
            return None
        if state[0] > self._sequence:
            raise errors.error(errors.INVALID, "the sequence of the repeat key is not the newest any more")
        if state[1] != self._hash:
            raise errors.error(
                errors.INVALID, "the idempotency key was used for another request",
                hint="a key belongs to one request for 24 hours; take a new one for each",
            )  # fmt: skip
        return state

    # ── what is to be kept ────────────────────────────────────────────────────────────────────────────────────────

    def remember(self, transaction: Transaction, result: Result, place: int = WHOLE) -> None:
        """Make the outcome a part of the transaction."""
        put = self.put(result, transaction.time, place)
        transaction.idempotency_key = self.own
        transaction.put(put.namespace, put.key, put.value, put.expires_at)

    def put(self, result: Result, now: int, place: int = WHOLE) -> Put:
        state = (self._sequence, self._hash, place, result.row_count, result.completed, self._reply(result))
        return Put(SYSTEM_NAMESPACE, self.name, msgspec.msgpack.encode(state), now + KEPT_US)

    def _reply(self, result: Result) -> bytes:
        """What the counts do not tell. Rows that are too many are left out; the header without them says so."""
        if result.columns is None and not (result.notices or result.failed):
            return b""
        reply = pb.Response()
        if result.columns is not None:
            assert isinstance(result.rows, list)
            reply.rows_header.names.extend(column.name for column in result.columns)
            reply.rows_header.types = bytes(CODE_OF_TYPE[column.type] for column in result.columns)
            rows = encode_rows(result.rows, len(result.columns))
            if rows.ByteSize() <= self._bytes_max:
                reply.rows.CopyFrom(rows)
        encode_notices(result.notices, reply.done.notices)
        reply.done.failed = result.failed
        for error in result.errors:
            encode_error(error, reply.done.errors.add())
        return reply.SerializeToString()


class Step:
    """A statement of a run under a key: its commit also says how far the run is."""

    def __init__(self, key: Key, index: int, total: Result) -> None:
        """``total``: what became of the statements before it."""
        self._key = key
        self._index = index
        self._total = total

    async def outcome(self, transaction: Transaction) -> Result | None:
        """None: it is this statement's turn."""
        entry = await transaction.get(SYSTEM_NAMESPACE, self._key.name)
        state = None if entry is None else self._key._state(entry)
        if state is not None and (state[2] == WHOLE or state[2] > self._index):
            raise Overtaken
        return None

    def remember(self, transaction: Transaction, result: Result) -> None:
        total = self._total
        told = Result(
            row_count=total.row_count + result.row_count, completed=total.completed + 1, failed=total.failed,
            errors=total.errors,
        )  # fmt: skip
        self._key.remember(transaction, told, self._index + 1)


async def progress(key: Key, transaction: Transaction) -> tuple[Result, int]:
    """What became of the statements of a run so far, and which is next (``WHOLE``: none)."""
    entry = await transaction.get(SYSTEM_NAMESPACE, key.name)
    state = None if entry is None else key._state(entry)
    if entry is None or state is None:
        return Result(row_count=0), 0
    return _result(state, entry.revision), state[2]


def fence(key: Key, transaction: Transaction) -> None:
    """Nothing is to be committed under the key any more."""
    key.remember(transaction, Result(), NEVER)


def _result(state: _State, revision: int) -> Result:
    _, _, _, row_count, completed, reply = state
    result = Result(row_count=row_count, completed=completed, revision=revision)
    if not reply:
        return result
    response = pb.Response.FromString(reply)
    if response.HasField("rows_header"):
        if not response.HasField("rows"):
            raise errors.error(
                errors.TOO_COMPLEX,
                f"the statement was carried out at revision {revision}, but its {row_count:,} rows were too many to be "
                "kept for a repeat",
                hint="read what is there now",
            )
        header = response.rows_header
        result.columns = tuple(
            ResultColumn(name, TYPE_OF_CODE.get(code)) for name, code in zip(header.names, header.types, strict=True)
        )
        result.rows = decode_rows(response.rows)
    result.notices = decode_notices(response.done.notices)
    result.failed = response.done.failed
    result.errors = [decode_error(e) for e in response.done.errors]
    return result


def _hash(call: Call) -> bytes:
    """Of what the request asks for, wherever it stands."""
    asked = pb.Request()
    asked.CopyFrom(call.request)
    for field in _UNSENT:
        asked.ClearField(field)
    asked.namespace = call.request.namespace or call.lane.namespace
    return blake2b(asked.SerializeToString(deterministic=True), digest_size=16).digest()


def of_text(key: bytes, number: int, count: int) -> bytes:
    """The key of a statement of a text that has ``count``."""
    return key if count == 1 else blake2b(key, digest_size=32, salt=number.to_bytes(8, "big")).digest()


def refused_inside() -> Error:
    return errors.error(
        errors.NOT_SUPPORTED, "a statement of a transaction has no idempotency key", hint="give the key to COMMIT"
    )


Remembered = Key | Step
