"""Access tokens (EdDSA-signed JWT, 15 minutes) and refresh tokens (256 random bits, stored hashed, used once).

The signing key lives in the store (``key/KID``), is made at the first start and kept, so that a restart ends nobody's
login. Refresh tokens form families: each use gives a new one; a second use of an old one means that it was stolen, and
revokes the whole family, its access tokens included.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kvql import errors
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json
from kvql_server.catalog import Catalog, User, prefix_end
from kvql_server.engines.base import SYSTEM_NAMESPACE, Engine
from kvql_server.records import change
from kvql_server.transaction import Transaction

ISSUER: Final = "kvql"
AUDIENCE: Final = "kvql"
ALGORITHM: Final = "EdDSA"
REQUIRED: Final = ["exp", "iat", "sub", "iss", "aud", "jti"]
TOKEN_BYTES_MAX: Final = 4096
LEEWAY_S: Final = 10
_KEY: Final = "key/"
_REFRESH: Final = "token/refresh/"
_REVOKED: Final = "token/revoked/"
_HEADERS: Final = frozenset({"alg", "typ", "kid"})
_VERIFIED_MAX: Final = 10_000
_SYSTEM: Final = "kvql-server"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says."""

    user: str
    jti: str
    family: str
    expires_s: int


class Tokens:
    """Issues, checks and revokes. ``load`` it once before use."""

    def __init__(self, engine: Engine, catalog: Catalog, lifetime_s: int, refresh_lifetime_s: int) -> None:
        self._engine = engine
        self._catalog = catalog
        self._lifetime_s = lifetime_s
        self._refresh_lifetime_s = refresh_lifetime_s
        self._kid = ""
        self._private: Ed25519PrivateKey | None = None
        self._public: dict[str, Ed25519PublicKey] = {}
        self._verified: dict[str, Claims] = {}
        self._revoked: dict[str, int] = {}

    async def load(self) -> int:
        """Read the keys and revocations, make the first key if there is none; the revision to wait for."""

        async def read(transaction: Transaction) -> None:
            async for page in transaction.scan(SYSTEM_NAMESPACE, _KEY, prefix_end(_KEY)):
                for key, entry in page:
                    assert isinstance(entry.value, Json)
                    self._use(key[len(_KEY) :], entry.value.load()["private"])
            async for page in transaction.scan(SYSTEM_NAMESPACE, _REVOKED, prefix_end(_REVOKED)):
                for key, entry in page:
                    self._revoked[key[len(_REVOKED) :]] = (entry.expires_at or 0) // 1_000_000
            if self._private is None:
                kid, private = secrets.token_hex(8), Ed25519PrivateKey.generate()
                raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
                text = b64encode(raw).decode()
                transaction.put(SYSTEM_NAMESPACE, _KEY + kid, Json.dump({"private": text}), None)
                self._use(kid, text)

        return (await change(self._engine, _SYSTEM, read))[1]

    def _use(self, kid: str, private: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(b64decode(private))
        self._kid = kid
        self._public[kid] = self._private.public_key()

    # ── access tokens ─────────────────────────────────────────────────────────────────────────────────────────

    def verify(self, token: str) -> Claims:
        """What the token says, or 28000: one answer for every fault, so that nothing can be learned from it."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            if len(self._verified) >= _VERIFIED_MAX:
                self._verified.clear()
            self._verified[token] = claims
        self.check(claims)
        return claims

    def check(self, claims: Claims) -> None:
        """28000 if the token has ended or was revoked since it was verified."""
        if time.time() > claims.expires_s + LEEWAY_S or claims.jti in self._revoked or claims.family in self._revoked:
            raise invalid()

    def _decode(self, token: str) -> Claims:
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise invalid()
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("alg") != ALGORITHM or not isinstance(kid, str) or not set(header) <= _HEADERS:
                raise invalid()
            public = self._public.get(kid)
            if public is None:
                raise invalid()
            said: dict[str, Any] = jwt.decode(
                token, public, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_S,
                options={"require": REQUIRED, "strict_aud": True},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise invalid() from None
        user, jti, family, ends = said.get("sub"), said.get("jti"), said.get("family", ""), said.get("exp")
        if not (isinstance(user, str) and isinstance(jti, str) and isinstance(family, str) and isinstance(ends, int)):
            raise invalid()
        return Claims(user, jti, family, ends)

    def _issue(self, user: str, family: str) -> str:
        assert self._private is not None
        now = int(time.time())
        claims = {
            "sub": user, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + self._lifetime_s,
            "jti": secrets.token_hex(16), "family": family,
        }  # fmt: skip
        return jwt.encode(claims, self._private, ALGORITHM, headers={"kid": self._kid})

    # ── refresh tokens ────────────────────────────────────────────────────────────────────────────────────────

    async def log_in(self, user: str, record: User) -> tuple[pb.Tokens, int]:
        """Tokens of a new family for a user whose password was right; and the revision to wait for."""
        family, refresh = secrets.token_hex(16), secrets.token_urlsafe(32)

        async def store(transaction: Transaction) -> None:
            self._put(transaction, refresh, {"user": user, "family": family, "password": _digest(record.hash)})

        _, revision = await change(self._engine, user, store)
        return self._reply(user, family, refresh), revision

    async def refresh(self, token: str) -> tuple[pb.Tokens, str, int]:
        """New tokens for a refresh token, which is used up; 28000 otherwise. Also the user and the revision."""
        fresh = secrets.token_urlsafe(32)

        async def rotate(transaction: Transaction) -> tuple[str, str, bool]:
            record = await self._stored(transaction, token)
            user = await self._catalog.user(transaction, record["user"])
            if user is None or _digest(user.hash) != record["password"] or record["family"] in self._revoked:
                raise invalid()
            if record.get("used"):
                self._revoke(transaction, record["family"], self._refresh_lifetime_s)
                return record["user"], record["family"], True
            self._put(transaction, token, {**record, "used": True})
            self._put(transaction, fresh, record)
            return record["user"], record["family"], False

        (name, family, stolen), revision = await change(self._engine, _SYSTEM, rotate)
        if stolen:
            await self._engine.synced(revision)
            raise invalid()
        return self._reply(name, family, fresh), name, revision

    async def log_out(self, claims: Claims, token: str) -> int:
        """Revoke the access token and its family; a refresh token of somebody else is 28000."""

        async def revoke(transaction: Transaction) -> None:
            if token:
                record = await self._stored(transaction, token)
                if record["user"] != claims.user:
                    raise invalid()
                self._revoke(transaction, record["family"], self._refresh_lifetime_s)
            if claims.family:
                self._revoke(transaction, claims.family, self._refresh_lifetime_s)
            self._revoke(transaction, claims.jti, self._lifetime_s + LEEWAY_S)

        return (await change(self._engine, claims.user, revoke))[1]

    def _reply(self, user: str, family: str, refresh: str) -> pb.Tokens:
        return pb.Tokens(
            access_token=self._issue(user, family), refresh_token=refresh, expires_in_s=self._lifetime_s,
            keeps_outcomes=True,
        )  # fmt: skip

    async def _stored(self, transaction: Transaction, token: str) -> dict[str, Any]:
        if len(token) > 256:
            raise invalid()
        entry = await transaction.get(SYSTEM_NAMESPACE, _REFRESH + _digest(token))
        if entry is None:
            raise invalid()
        assert isinstance(entry.value, Json)
        record: dict[str, Any] = entry.value.load()
        return record

    def _put(self, transaction: Transaction, token: str, record: dict[str, Any]) -> None:
        ends = transaction.time + self._refresh_lifetime_s * 1_000_000
        transaction.put(SYSTEM_NAMESPACE, _REFRESH + _digest(token), Json.dump(record), ends)

    def _revoke(self, transaction: Transaction, what: str, lifetime_s: int) -> None:
        ends = transaction.time + lifetime_s * 1_000_000
        transaction.put(SYSTEM_NAMESPACE, _REVOKED + what, Json.dump({}), ends)
        now = time.time()
        for gone in [name for name, until in self._revoked.items() if until < now]:
            del self._revoked[gone]
        self._revoked[what] = ends // 1_000_000


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def invalid() -> Error:
    return errors.error(errors.TOKEN_INVALID, "the access token is missing, invalid or has ended", hint="log in again")
