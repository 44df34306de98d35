"""Who we are to a server: from user and password to tokens, and new tokens before the old ones end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from kvql import errors
from kvql.errors import Error
from kvql.transport.status import error_of
from kvql.transport.target import Target
from kvql.v1 import kvql_pb2 as pb

_EARLY: Final = 0.2
"""The last fifth of a token's life is for renewing it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that it takes to get in, kept in memory to get in again."""

    target: Target
    user: str | None
    password: str | None = field(repr=False)
    ca: str | None = None
    insecure: bool = False
    timeout_s: float = 10.0

    @property
    def plain(self) -> bool:
        """Whether the bytes travel as they are; 08001 if that would leave this machine."""
        if self.target.kind == "unix":
            return True
        if self.insecure and not self.target.loopback:
            raise errors.error(
                errors.CANNOT_CONNECT,
                f"plain text to {self.target.address} is refused: it would cross a network",
                hint="leave out insecure; TLS needs no more than the ca.pem of the server",
            )
        return self.insecure


class Login:
    """The tokens of one connection."""

    def __init__(self, access: Access) -> None:
        if not access.user:
            raise errors.error(
                errors.LOGIN_FAILED, "no user name given", hint=f"write kvql://USER@{access.target.address}"
            )
        self._access = access
        self._user: str = access.user
        self._tokens: pb.Tokens | None = None
        self._renew_at = 0.0

    @property
    def due(self) -> bool:
        """Whether the access token should be renewed before it is used."""
        return time.monotonic() >= self._renew_at

    @property
    def token(self) -> str:
        assert self._tokens is not None
        return self._tokens.access_token

    @property
    def keeps_outcomes(self) -> bool:
        """Whether the server can be asked what became of a write (``pb.Request.repeat_key``)."""
        return self._tokens is not None and self._tokens.keeps_outcomes

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call but Login carries."""
        return (("authorization", f"Bearer {self.token}"),)

    def refused(self) -> None:
        """A server did not accept the access token: get another before the next call."""
        self._renew_at = 0.0

    async def renew(self, stub: Any) -> None:
        """Fresh tokens, silently if the refresh token still works, else with the password; 28P01, 28000 or class 08."""
        try:
            if self._tokens is not None:
                try:
                    self._take(await stub.Refresh(
                        pb.RefreshRequest(refresh_token=self._tokens.refresh_token), timeout=self._access.timeout_s
                    ))  # fmt: skip
                    return
                except grpc.aio.AioRpcError as e:
                    if e.code() is not grpc.StatusCode.UNAUTHENTICATED:
                        raise
                    self._tokens = None
            self._take(await stub.Login(
                pb.LoginRequest(user=self._user, password=self._need_password()), timeout=self._access.timeout_s
            ))  # fmt: skip
        except grpc.aio.AioRpcError as e:
            raise self._explained(e) from None

    async def logout(self, stub: Any, timeout_s: float) -> None:
        """Make the tokens worthless. A server that is gone keeps them until they end by themselves."""
        if self._tokens is None:
            return
        request = pb.LogoutRequest(refresh_token=self._tokens.refresh_token)
        # whoever closes a connection can do nothing about a server that is gone
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.Logout(request, metadata=self.metadata(), timeout=timeout_s)
        self._tokens = None

    def _take(self, tokens: pb.Tokens) -> None:
        self._tokens = tokens
        self._renew_at = time.monotonic() + tokens.expires_in_s * (1 - _EARLY)

    def _need_password(self) -> str:
        if self._access.password is None:
            raise errors.error(
                errors.LOGIN_FAILED,
                f'no password given for user "{self._user}"',
                hint="pass password=…, or set KVQL_PASSWORD",
            )
        return self._access.password

    def _explained(self, e: grpc.aio.AioRpcError) -> Error:
        error = error_of(e, self._access.target.address)
        if error.sqlstate == errors.TOKEN_INVALID:
            return errors.error(errors.LOGIN_FAILED, f'login failed for user "{self._user}"')
        return error
