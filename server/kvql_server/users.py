"""``users.json`` and the users of the store.

The file is the bootstrap list in the first system's form. At each start, users in it that the store has never known are
created, so a dropped user stays dropped; plain passwords in it become Argon2id hashes in place. ``sync`` applies the
file again to all users in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kvql import errors
from kvql.values import Json
from kvql_server import passwords
from kvql_server.catalog import ADMIN, KNOWN, USER, Catalog, User, encode
from kvql_server.engines.base import SYSTEM_NAMESPACE, Engine
from kvql_server.records import change
from kvql_server.transaction import Transaction

NAME_LENGTH_MAX: Final = 128
_FIELDS: Final = {"username", "password", "perms"}
_SYSTEM: Final = "kvql-server"


class UsersFileError(Exception):
    """users.json cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A user as the file has it."""

    name: str
    password: str
    perms: tuple[str, ...]

    @property
    def is_known_default(self) -> bool:
        """The first system's password for this user, plain or as a hash of it."""
        known = passwords.DEFAULTS.get(self.name)
        if known is None:
            return self.password in passwords.DEFAULTS.values()
        return passwords.verify(known, self.password) if passwords.is_hash(self.password) else self.password == known


def read(path: Path) -> list[Listed]:
    """The users in the file, checked; none if there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as e:
        raise UsersFileError(f"cannot read {path}: {e}") from None
    try:
        rows = json.loads(text)
    except ValueError as e:
        raise UsersFileError(f"{path} is not valid JSON: {e}") from None
    if not isinstance(rows, list):
        raise UsersFileError(f"{path} must hold a list of users")
    users = [_listed(path, place, row) for place, row in enumerate(rows, 1)]
    if len({user.name for user in users}) != len(users):
        raise UsersFileError(f"{path} names a user twice")
    return users


def _listed(path: Path, place: int, row: Any) -> Listed:
    if not isinstance(row, dict) or not _FIELDS >= set(row) >= {"username", "password"}:
        raise UsersFileError(f'user {place} in {path} must have "username", "password" and "perms", and nothing else')
    name, password, perms = row["username"], row["password"], row.get("perms", [])
    if not isinstance(name, str) or not isinstance(password, str) or not password:
        raise UsersFileError(f"user {place} in {path} needs a name and a password that is not empty")
    try:
        check_name(name)
    except errors.Error as e:
        raise UsersFileError(f"user {place} in {path}: {e.message}") from None
    if not isinstance(perms, list) or not all(isinstance(p, str) for p in perms) or not set(perms) <= {ADMIN}:
        raise UsersFileError(f'the perms of user {place} in {path} may be [] or ["{ADMIN}"]')
    return Listed(name, password, tuple(perms))


def check_name(name: str) -> None:
    """1 to 128 characters, none of them white space or control characters."""
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable() or any(c.isspace() for c in name):
        raise errors.error(errors.INVALID, f"a user's name has 1 to {NAME_LENGTH_MAX} characters and no white space")


def hash_in_place(path: Path, users: Sequence[Listed]) -> list[Listed]:
    """Replace plain passwords in the file by hashes, atomically; the users as they are then."""
    hashed = [
        user
        if passwords.is_hash(user.password)
        else Listed(user.name, passwords.hash_password(user.password), user.perms)
        for user in users
    ]
    if hashed != list(users) or (path.exists() and path.stat().st_mode & 0o077):
        write(path, hashed)
    return hashed


def write(path: Path, users: Sequence[Listed]) -> None:
    """The file anew: written beside, synced, renamed, mode 0600. No copy of the old one is left."""
    rows = [{"username": u.name, "password": u.password, "perms": list(u.perms)} for u in users]
    text = "[\n" + ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ── the store's users ─────────────────────────────────────────────────────────────────────────────────────────────


async def apply(engine: Engine, listed: Sequence[Listed], *, again: bool = False) -> tuple[list[str], int]:
    """Create the users that the store has never known (``again``: set all of them); their names, and the revision."""

    async def act(transaction: Transaction) -> list[str]:
        changed = []
        for user in listed:
            if again or await transaction.get(SYSTEM_NAMESPACE, KNOWN + user.name) is None:
                put(transaction, user.name, User(user.password, user.perms))
                changed.append(user.name)
        return changed

    return await change(engine, _SYSTEM, act)


def put(transaction: Transaction, name: str, user: User) -> None:
    """Write the user, and that the store has known one of that name."""
    transaction.put(SYSTEM_NAMESPACE, USER + name, encode(user), None)
    transaction.put(SYSTEM_NAMESPACE, KNOWN + name, Json.dump({}), None)


async def add(engine: Engine, name: str, password: str, perms: tuple[str, ...]) -> int:
    """A new user; 42710's stand-in 22023 if there is one of that name."""
    check_name(name)
    hashed = passwords.hash_password(password)

    async def act(transaction: Transaction) -> None:
        if await transaction.get(SYSTEM_NAMESPACE, USER + name) is not None:
            raise errors.error(
                errors.INVALID, f"user {name} already exists", hint="kvql-server users passwd changes a password"
            )
        put(transaction, name, User(hashed, perms))

    return (await change(engine, _SYSTEM, act))[1]


async def set_password(engine: Engine, name: str, password: str) -> int:
    """Another password for a user; open refresh tokens end with the old one."""
    hashed = passwords.hash_password(password)

    async def act(transaction: Transaction) -> None:
        user = await Catalog().user(transaction, name)
        if user is None:
            raise errors.error(errors.INVALID, f"user {name} does not exist", hint="kvql-server users list names them")
        put(transaction, name, User(hashed, user.perms))

    return (await change(engine, _SYSTEM, act))[1]


async def listing(engine: Engine) -> list[tuple[str, User]]:
    """The store's users in the order of their names."""
    transaction = Transaction(engine, _SYSTEM, tracked=False)
    try:
        return await Catalog().users(transaction)
    finally:
        transaction.close()
