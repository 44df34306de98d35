"""A connection with what is needed to open it again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvql.errors import Error
from kvql_shell import config
from kvql_shell.config import Target

if TYPE_CHECKING:
    from kvql.client import Client


@dataclass(slots=True)
class Access:
    """How to get in. A password that was asked for is kept here, in memory, for the next connection."""

    target: Target
    user: str | None = None
    password: str | None = None
    ca: str | None = None

    def connect(self) -> Client:
        """A new connection; asks for the password if a server wants one and none was given."""
        from kvql.client import connect

        place = self.target.place
        if place.remote and self.password is None and place.password is None:
            self.password = config.ask_password(self.user or place.user)
        return connect(self.target.text, user=self.user, password=self.password, ca=self.ca)


class Session:
    """The client of a shell; ``lost`` is set by an error of class 08 and ends with ``reopen``."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.client = access.connect()

    def reopen(self) -> None:
        """Connect again, in the namespace that was in use. What a transaction had done is gone with its connection."""
        namespace = self.client.namespace
        fresh = self.access.connect()
        self._drop()
        self.client = fresh
        if namespace and fresh.namespace != namespace:
            from kvql import ast

            fresh.run(ast.Use(ast.Name(namespace)))

    def _drop(self) -> None:
        with contextlib.suppress(Error):  # it was broken, that is why it goes
            self.client.close()

    def close(self) -> None:
        self.client.close()
