"""From what the user wrote to an open transport."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvql.transport.target import Target, parse_target

if TYPE_CHECKING:
    from kvql.client.sync import Client
    from kvql.transport.wire import Access


def connect(
    target: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    insecure: bool = False,
    timeout: float = 10.0,
) -> Client:
    """Open ``target`` (see ``kvql.transport.target``) and return a client of it.

    ``user`` and ``password`` win over those in the target; without a password KVQL_PASSWORD is asked. ``ca`` is the
    file of certificates that the server's must descend from: else KVQL_CA, else, for a server on this machine,
    certs/ca.pem if there is one, else the public authorities. ``insecure`` sends everything in plain text, on loopback
    only. ``timeout`` bounds the connecting, in seconds.

    Errors: 08001 (no connection, or a certificate that is not trusted), 28P01 (user or password), 0A000 (a store in
    process without the server's package), and what opening a folder raises.
    """
    from kvql.client.sync import Client  # here, so that `import kvql` does not pay for protobuf

    place = parse_target(target)
    if place.remote:
        access = access_of(place, user=user, password=password, ca=ca, insecure=insecure, timeout=timeout)
        return Client.over_network(access, namespace or place.namespace or "")
    return Client.in_process(place.place, namespace or place.namespace)


def access_of(
    place: Target,
    *,
    user: str | None,
    password: str | None,
    ca: str | os.PathLike[str] | None,
    insecure: bool,
    timeout: float,
) -> Access:
    """Everything that logging in to a server takes, from the arguments, the target and the environment."""
    from kvql.transport.wire import Access

    return Access(
        target=place,
        user=user or place.user,
        password=next((p for p in (password, place.password) if p is not None), os.environ.get("KVQL_PASSWORD")),
        ca=ca_of(place, ca),
        insecure=insecure,
        timeout_s=timeout,
    )


def ca_of(place: Target, ca: str | os.PathLike[str] | None) -> str | None:
    """The file to trust; None for the public authorities. Never "whatever the server shows"."""
    named = os.fspath(ca) if ca is not None else os.environ.get("KVQL_CA")
    if named:
        return named
    # only for this machine: a folder that somebody else prepared must not decide whom we trust far away
    beside = os.path.join("certs", "ca.pem")
    return beside if place.kind == "server" and place.loopback and os.path.exists(beside) else None
