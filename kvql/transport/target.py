"""TARGET: where a store is, as users write it.

==============================================  ======================================================================
``kvql://ann@localhost:7443/shop``              a server, TLS; port 7443 and no namespace if left out
``kvql+unix://ann@/run/kvql.sock?ns=shop``      a server on a Unix socket, plain text (the kernel guards the file)
``data/shop``                                   a folder, opened in this process; namespace ``main``
``kvql+file:data/shop?ns=orders``               the same with another namespace to start in
``:memory:``                                    a store in memory, gone with the connection
==============================================  ======================================================================
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from kvql import errors
from kvql.errors import Error

PORT: Final = 7443
MEMORY: Final = ":memory:"
Kind = Literal["server", "unix", "folder", "memory"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST_AND_PORT: Final = re.compile(
    r"(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+:[0-9]{1,5}(?:/\w*)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """``place`` is HOST, the socket's path or the folder; ``namespace`` None where nothing was said."""

    kind: Kind
    place: str
    port: int = PORT
    user: str | None = None
    password: str | None = None
    namespace: str | None = None

    @property
    def remote(self) -> bool:
        return self.kind in ("server", "unix")

    @property
    def address(self) -> str:
        """For people: ``localhost:7443`` or the path."""
        if self.kind != "server":
            return self.place
        return f"[{self.place}]:{self.port}" if ":" in self.place else f"{self.place}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the name can only mean this machine."""
        return self.place == "localhost" or self.place == "::1" or bool(re.fullmatch(r"127(\.\d{1,3}){3}", self.place))


def parse_target(text: str | os.PathLike[str]) -> Target:
    """Read ``text``; 08001 with a hint if it cannot be meant."""
    if isinstance(text, os.PathLike):
        return Target("folder", os.fspath(text))
    if text == MEMORY:
        return Target("memory", MEMORY)
    if text.startswith("kvql+file:"):
        path, _, query = text[len("kvql+file:") :].partition("?")
        if not path:
            raise _invalid(text, "write kvql+file:PATH")
        return Target("folder", unquote(path), namespace=_namespace(query, text))
    scheme = _SCHEME.match(text)
    if scheme is None:
        if not text:
            raise _invalid(text, "write kvql://user@host:7443/namespace, a folder, or :memory:")
        if _HOST_AND_PORT.fullmatch(text) and not os.path.exists(text):
            raise _invalid(text, f"a server is written kvql://{text}; a folder of that name ./{text}")
        return Target("folder", text)
    match scheme[1].lower():
        case "kvql":
            return _server(text)
        case "kvql+unix":
            return _unix(text)
    raise _invalid(text, f"{scheme[1]}:// is not known here; write kvql://user@host:7443/namespace")


def _server(text: str) -> Target:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise _invalid(text, str(e).lower()) from None
    if not host:
        raise _invalid(text, "the host is missing: kvql://user@localhost:7443")
    namespace = unquote(parts.path[1:]).removesuffix("/") or None
    if parts.query or parts.fragment or (namespace and "/" in namespace):
        raise _invalid(text, "after the host stands /namespace and nothing more")
    return Target(
        "server", host, PORT if port is None else port, _decoded(parts.username), _decoded(parts.password), namespace
    )


def _unix(text: str) -> Target:
    try:
        parts = urlsplit(text)
        user, password = parts.username, parts.password
    except ValueError as e:
        raise _invalid(text, str(e).lower()) from None
    if parts.hostname or len(parts.path) < 2:
        raise _invalid(text, "write three slashes and the path: kvql+unix:///run/kvql.sock")
    return Target(
        "unix",
        unquote(parts.path),
        user=_decoded(user),
        password=_decoded(password),
        namespace=_namespace(parts.query, text),
    )


def _namespace(query: str, text: str) -> str | None:
    settings = dict(parse_qsl(query, keep_blank_values=True))
    namespace = settings.pop("ns", None)
    if settings:
        raise _invalid(text, f'"{next(iter(settings))}" is not known; ?ns= names the namespace')
    return namespace


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _invalid(text: str, hint: str) -> Error:
    shown = re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:…@", text)  # never a password in a message
    return errors.error(errors.CANNOT_CONNECT, f'invalid target: "{shown}"', hint=hint)
