"""Users and namespaces as pairs of the reserved namespace, so that they are transactional, backed up and durable as
data is.

Keys: ``namespace/NAME``, ``user/NAME``, ``key/KID`` (signing keys), ``token/…`` (refresh tokens and revocations),
``known/NAME`` (users.json was applied for that user once). Values are JSON objects. Reading one through a transaction
records it as a guard: what was authorised at use is thereby authorised again at commit.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from kvql.values import Json
from kvql_server.engines.base import SYSTEM_NAMESPACE, Entry
from kvql_server.transaction import Transaction

NAMESPACE: Final = "namespace/"
USER: Final = "user/"
KNOWN: Final = "known/"
ADMIN: Final = "ADMIN"


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """A declared field: the type's name as it was written (``varchar``), with its arguments (``[20]``)."""

    name: str
    type: str
    arguments: tuple[int, ...] = ()
    not_null: bool = False


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store knows of a namespace. ``options`` are those of CREATE NAMESPACE … WITH, checked; with ``fields``
    its values are JSON objects of these."""

    owner: str
    options: dict[str, Any] = {}
    fields: tuple[Field, ...] = ()
    since: int = 0
    """The namespace was created after this revision. Whatever is known of its name up to then is another namespace's,
    perhaps another owner's, and no reader of the past may see it. 0: of a release that did not say."""


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user: the Argon2id hash of the password, and permissions (``ADMIN`` or none)."""

    hash: str
    perms: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.perms


_Record = TypeVar("_Record", Namespace, User)


def encode(record: Namespace | User) -> Json:
    """The record as the value of its pair."""
    return Json.dump(msgspec.to_builtins(record))


def decode_namespace(value: Any) -> Namespace:
    """The record that ``encode`` made a value."""
    assert isinstance(value, Json)
    return msgspec.json.decode(value.text, type=Namespace)


class Catalog:
    """Reads records, and keeps those decoded that did not change since: one revision, one decoding."""

    CACHE_MAX: Final = 10_000

    def __init__(self) -> None:
        self._decoded: dict[str, tuple[int, Any]] = {}

    async def namespace(self, transaction: Transaction, name: str) -> Namespace | None:
        key = NAMESPACE + name
        return self._decode(key, await transaction.get(SYSTEM_NAMESPACE, key), Namespace)

    async def since(self, transaction: Transaction, name: str) -> int:
        """The first revision that may be one of the namespace, by which it is told from earlier ones of its name; 0 if
        there is none."""
        record = await self.namespace(transaction, name)
        return 0 if record is None else record.since + 1

    async def user(self, transaction: Transaction, name: str) -> User | None:
        key = USER + name
        return self._decode(key, await transaction.get(SYSTEM_NAMESPACE, key), User)

    async def namespaces(self, transaction: Transaction) -> list[tuple[str, Namespace]]:
        """All of them, in the order of their names."""
        return await self._all(transaction, NAMESPACE, Namespace)

    async def names(self, transaction: Transaction, owner: str | None, most: int) -> list[str]:
        """The first ``most`` that ``owner`` owns, or of all, for a hint: nobody's conflict."""
        out: list[str] = []
        async for page in transaction.look(SYSTEM_NAMESPACE, NAMESPACE, prefix_end(NAMESPACE)):
            for key, entry in page:
                record = self._decode(key, entry, Namespace)
                if record is not None and (owner is None or record.owner == owner):
                    out.append(key[len(NAMESPACE) :])
            if len(out) >= most:
                break
        return out[:most]

    async def users(self, transaction: Transaction) -> list[tuple[str, User]]:
        return await self._all(transaction, USER, User)

    async def _all(self, transaction: Transaction, prefix: str, kind: type[_Record]) -> list[tuple[str, _Record]]:
        out: list[tuple[str, _Record]] = []
        async for page in transaction.scan(SYSTEM_NAMESPACE, prefix, prefix_end(prefix)):
            for key, entry in page:
                record = self._decode(key, entry, kind)
                if record is not None:
                    out.append((key[len(prefix) :], record))
        return out

    def _decode(self, key: str, entry: Entry | None, kind: type[_Record]) -> _Record | None:
        if entry is None:
            return None
        revision = entry.revision
        known = self._decoded.get(key)
        if known is not None and known[0] == revision and revision > 0:
            record: _Record = known[1]
            return record
        value = entry.value
        assert isinstance(value, Json)
        record = msgspec.json.decode(value.text, type=kind)
        if revision > 0:
            if len(self._decoded) >= self.CACHE_MAX:
                self._decoded.clear()
            self._decoded[key] = (revision, record)
        return record


def prefix_end(prefix: str) -> str | None:
    """The smallest text above everything that starts with ``prefix``; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # surrogates are no characters: the next one above U+D7FF is U+E000
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None
