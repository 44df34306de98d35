"""Statements as texts with parameters, what the model says that they answer, and what it does for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.isolation.model import SECOND, Failed, Transaction

Answer = Any
"""Rows, or the number of pairs changed where there are none."""


@dataclass(frozen=True)
class Operation:
    """``text`` is for the namespace in use; ``model`` does the same to a transaction of the model, or raises
    ``Failed``. ``writes`` false: it reads only."""

    space: str
    text: str
    parameters: Sequence[Any]
    model: Callable[[Transaction], Answer]
    writes: bool = True
    comment: str | None = None

    def whole(self) -> str:
        return self.text + (f" COMMENT '{self.comment}'" if self.comment else "")

    def apply(self, transaction: Transaction) -> Answer:
        transaction.spaces_used.add(self.space)
        if self.comment:
            transaction.comment = self.comment
        return self.model(transaction)

    def __repr__(self) -> str:
        return f"{self.space}: {self.whole()} {list(self.parameters)}"


def put(space: str, pairs: Sequence[tuple[str, int]], ttl: int | None) -> Operation:
    def model(t: Transaction) -> Answer:
        if len({key for key, _ in pairs}) < len(pairs):
            raise Failed("23505")
        ends = _ends(t, space, ttl)
        for key, value in pairs:
            if t.get(space, key) is not None:
                raise Failed("23505")
            t.put(space, key, value, ends)
        return len(pairs)

    return Operation(space, _pairs("PUT", pairs, ttl), _flat(pairs), model)


def upsert(space: str, pairs: Sequence[tuple[str, int]], ttl: int | None) -> Operation:
    def model(t: Transaction) -> Answer:
        ends = _ends(t, space, ttl)
        for key, value in pairs:
            t.put(space, key, value, ends)
        return len(pairs)

    return Operation(space, _pairs("UPSERT", pairs, ttl), _flat(pairs), model)


def _pairs(word: str, pairs: Sequence[tuple[str, int]], ttl: int | None) -> str:
    return f"{word} " + ", ".join(["? ?"] * len(pairs)) + (f" TTL {ttl}s" if ttl else "")


def _flat(pairs: Sequence[tuple[str, int]]) -> list[Any]:
    return [part for pair in pairs for part in pair]


def _ends(t: Transaction, space: str, ttl: int | None) -> int | None:
    """A time to live counts from the statement on, also in a long transaction."""
    seconds = ttl or t.model.ttl[space]
    return t.model.now() + seconds * SECOND if seconds else None


def update(space: str, key: str, value: int) -> Operation:
    def model(t: Transaction) -> Answer:
        pair = t.get(space, key)
        if pair is None:
            raise Failed("02000")
        t.put(space, key, value, pair.expires)
        return 1

    return Operation(space, "UPDATE ? ?", [key, value], model)


def delete(space: str, keys: Sequence[str]) -> Operation:
    def model(t: Transaction) -> Answer:
        rows = []
        for key in keys:
            pair = t.get(space, key)
            if pair is None:
                raise Failed("02000")
            t.delete(space, key)
            rows.append((key, pair.value))
        return rows

    return Operation(space, "DELETE " + ", ".join("?" * len(keys)), keys, model)


def expire(space: str, key: str, ttl: int | None) -> Operation:
    def model(t: Transaction) -> Answer:
        pair = t.get(space, key)
        if pair is None:
            raise Failed("02000")
        t.put(space, key, pair.value, t.model.now() + ttl * SECOND if ttl else None)
        return 1

    return Operation(space, f"EXPIRE ? {ttl}s" if ttl else "PERSIST ?", [key], model)


def insert(space: str, key: str, value: int, conflict: str, ttl: int | None) -> Operation:
    clause = {"": "", "nothing": " ON CONFLICT DO NOTHING"}.get(
        conflict, " ON CONFLICT DO UPDATE SET value = value + EXCLUDED.value"
    )

    def model(t: Transaction) -> Answer:
        ends = _ends(t, space, ttl)
        pair = t.get(space, key)
        if pair is None:
            t.put(space, key, value, ends)
            return 1
        if conflict == "nothing":
            return 0
        if not conflict:
            raise Failed("23505")
        t.put(space, key, pair.value + value, pair.expires)
        return 1

    text = f"INSERT INTO {space} VALUES (?, ?)" + (f" TTL {ttl}s" if ttl else "") + clause
    return Operation(space, text, [key, value], model)


def update_rows(space: str, bound: int, by: int) -> Operation:
    def model(t: Transaction) -> Answer:
        found = {key: pair for key, pair in t.scan(space).items() if pair.value < bound}
        for key, pair in found.items():
            t.put(space, key, pair.value + by, pair.expires)
        return len(found)

    return Operation(space, f"UPDATE {space} SET value = value + ? WHERE value < ?", [by, bound], model)


def update_row(space: str, key: str, value: int) -> Operation:
    def model(t: Transaction) -> Answer:
        pair = t.get(space, key)
        if pair is None:
            return []
        t.put(space, key, value, pair.expires)
        return [(key, pair.value, value)]

    text = f"UPDATE {space} SET value = ? WHERE key = ? RETURNING key, OLD.value, NEW.value"
    return Operation(space, text, [value, key], model)


def let_expire(space: str, bound: int) -> Operation:
    """Pairs that are over at once."""

    def model(t: Transaction) -> Answer:
        found = {key: pair for key, pair in t.scan(space).items() if pair.value < bound}
        for key, pair in found.items():
            t.put(space, key, pair.value, t.time - SECOND)
        return len(found)

    return Operation(space, f"UPDATE {space} SET expires_at = now() - 1s WHERE value < ?", [bound], model)


def delete_rows(space: str, bound: int) -> Operation:
    def model(t: Transaction) -> Answer:
        found = [(key, pair.value) for key, pair in t.scan(space).items() if pair.value < bound]
        for key, _ in found:
            t.delete(space, key)
        return found

    return Operation(space, f"DELETE FROM {space} WHERE value < ? RETURNING key, value", [bound], model)


def truncate(space: str) -> Operation:
    def model(t: Transaction) -> Answer:
        count = len(t.scan(space))
        t.clear(space)
        return count

    return Operation(space, f"TRUNCATE NAMESPACE {space}", [], model)


# ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def get(space: str, keys: Sequence[str]) -> Operation:
    def model(t: Transaction) -> Answer:
        pairs = [t.get(space, key) for key in keys]
        if None in pairs:
            raise Failed("02000")
        return [(key, pair.value) for key, pair in zip(keys, pairs, strict=True) if pair is not None]

    return Operation(space, "GET " + ", ".join("?" * len(keys)), keys, model, writes=False)


def has(space: str, keys: Sequence[str]) -> Operation:
    def model(t: Transaction) -> Answer:
        return [(key, t.get(space, key) is not None) for key in keys]

    return Operation(space, "HAS " + ", ".join("?" * len(keys)), keys, model, writes=False)


def count(space: str) -> Operation:
    return Operation(space, "COUNT", [], lambda t: [(len(t.scan(space)),)], writes=False)


def select(space: str, prefix: str, bound: int) -> Operation:
    def model(t: Transaction) -> Answer:
        found = t.scan(space, prefix).items()
        return [(key, pair.value, pair.version) for key, pair in found if pair.value >= bound]

    text = f"SELECT key, value, version FROM {space} WHERE key ^= ? AND value >= ?"
    return Operation(space, text, [prefix, bound], model, writes=False)


def ttl(space: str) -> Operation:
    """What is left of the times to live, in microseconds: by the transaction's ``now()``."""

    def model(t: Transaction) -> Answer:
        pairs = t.scan(space).items()
        return [(key, pair.expires - t.time) for key, pair in pairs if pair.expires is not None]

    return Operation(space, f"SELECT key, expires_at FROM {space} WHERE expires_at > now()", [], model, writes=False)
