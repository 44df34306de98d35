"""Argon2id, and the patience that guessing needs.

Hashing takes tens of milliseconds and 19 MiB on purpose, so it runs in a few threads of its own and never in the event
loop; a queue that is full refuses. A wrong password and an unknown user cost the same and get the same answer. A right
one costs that once: each `kvql -c` logs in anew, and must not take 25 ms of a core each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from kvql import errors
from kvql.errors import Error

PASSWORD_BYTES_MAX: Final = 1024
# the OWASP minimum for Argon2id: 19 MiB, two passes, one lane
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_NOBODY: Final = _HASHER.hash("nobody has this password")
PREFIX: Final = "$argon2id$"
DEFAULTS: Final = {"admin": "password", "user": "userpassword"}
"""The first system's users and passwords, known to everybody."""


def hash_password(password: str) -> str:
    """The Argon2id hash, salted; 22023 for an empty or overlong password."""
    if not password or len(password.encode()) > PASSWORD_BYTES_MAX:
        raise errors.error(errors.INVALID, f"a password has 1 to {PASSWORD_BYTES_MAX:,} bytes")
    return _HASHER.hash(password)


def is_hash(text: str) -> bool:
    """Whether ``text`` in users.json is a hash already."""
    if not text.startswith(PREFIX):
        return False
    try:
        argon2.extract_parameters(text)
    except InvalidHashError:
        return False
    return True


def verify(password: str, hashed: str | None) -> bool:
    """Whether the password is the one that was hashed; as slow for a user that does not exist (None)."""
    if len(password.encode()) > PASSWORD_BYTES_MAX:
        password = ""
    try:
        return _HASHER.verify(_NOBODY if hashed is None else hashed, password) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False


class Verifier:
    """Checks passwords in threads, a few at a time. What was right before is known at once, while the server runs."""

    KNOWN_MAX: Final = 1000
    """Passwords that are known, those used last."""

    def __init__(self, threads: int, queue_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kvql-login")
        self._waiting = 0
        self._waiting_max = queue_max
        self._known: OrderedDict[str, bytes] = OrderedDict()
        """For an Argon2id hash a quick one of the password that it belongs to; another password has another hash."""
        self._key = secrets.token_bytes(32)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password is the one that was hashed; None for a user that does not exist."""
        quick = hashlib.blake2b(password.encode()[: PASSWORD_BYTES_MAX + 1], key=self._key).digest()
        if hashed is not None and hmac.compare_digest(self._known.get(hashed, b""), quick):
            self._known.move_to_end(hashed)
            return True
        if self._waiting >= self._waiting_max:
            raise errors.error(errors.LIMIT, "too many logins at once", hint="try again in a few seconds")
        self._waiting += 1
        try:
            right = await asyncio.get_running_loop().run_in_executor(self._pool, verify, password, hashed)
        finally:
            self._waiting -= 1
        if right and hashed is not None:
            self._known[hashed] = quick
            self._known.move_to_end(hashed)
            if len(self._known) > self.KNOWN_MAX:
                self._known.popitem(last=False)
        return right

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Throttle:
    """Slows guessing down: after some failures each further one doubles the wait, never for good.

    Counted for a user from one place, and for a place over all users; so a stranger cannot lock a user out everywhere.
    """

    FREE_PER_USER: Final = 5
    FREE_PER_PLACE: Final = 50
    WAIT_S_MAX: Final = 300.0
    FORGET_S: Final = 900.0
    KEPT_MAX: Final = 10_000

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def check(self, user: str, place: str) -> None:
        """53400 with the seconds to wait, if this attempt comes too early."""
        now = time.monotonic()
        wait_s = max(
            self._wait_s((user, place), self.FREE_PER_USER, now), self._wait_s(("", place), self.FREE_PER_PLACE, now)
        )
        if wait_s > 0:
            raise _too_many(wait_s)

    def _wait_s(self, who: tuple[str, str], free: int, now: float) -> float:
        count, last = self._failures.get(who, (0, 0.0))
        if count < free or now - last > self.FORGET_S:
            return 0.0
        return last + min(2.0 ** (count - free), self.WAIT_S_MAX) - now

    def failed(self, user: str, place: str) -> None:
        now = time.monotonic()
        for who in ((user, place), ("", place)):
            count, last = self._failures.pop(who, (0, 0.0))
            self._failures[who] = (1 if now - last > self.FORGET_S else count + 1, now)
        while len(self._failures) > self.KEPT_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, user: str, place: str) -> None:
        self._failures.pop((user, place), None)


def _too_many(wait_s: float) -> Error:
    return errors.error(errors.LIMIT, "too many failed logins", hint=f"try again in {max(1, round(wait_s + 0.5))} s")
