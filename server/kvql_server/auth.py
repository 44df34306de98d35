"""Who may do what: owner or administrator, decided from the live pairs of the catalog, never from a token's claims.

Everything else is refused, and in such a way that a namespace which may not be read looks like one that does not exist:
the same error for every statement that needs the namespace to exist. Only creating a taken name says 42501, because the
name cannot be had either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvql import errors
from kvql.errors import Error
from kvql.names import nearest
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.catalog import Catalog, Namespace
from kvql_server.transaction import Transaction

LOCAL_USER: Final = "admin"
"""Under this name the operating-system user of an in-process store writes; it is the first administrator's name, so
that what was made in process belongs to an administrator when a server opens the same folder."""
CREATES: Final = "the first PUT or UPSERT creates it"
_LOOKED_AT_MAX: Final = 200
"""Names that a mistyped one is compared with: 3 ms, which every other client waits."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``local``: the operating-system user of an in-process store, who is administrator without a user
    pair."""

    name: str
    local: bool = False


LOCAL: Final = Principal(LOCAL_USER, local=True)


class Access:
    """The questions that statements ask; each answers from the transaction's own snapshot and leaves its guards
    there."""

    def __init__(self, catalog: Catalog, create_namespaces: str, start_namespace: str = "") -> None:
        self.catalog = catalog
        self._everyone_creates = create_namespaces == "everyone"
        self._start_namespace = start_namespace

    async def is_admin(self, transaction: Transaction, principal: Principal) -> bool:
        """Whether the user is an administrator now; 28000 if there is no such user any more."""
        if principal.local:
            return True
        user = await self.catalog.user(transaction, principal.name)
        if user is None:
            raise errors.error(errors.TOKEN_INVALID, "the user of this session does not exist any more")
        return user.is_admin

    async def existing(self, transaction: Transaction, principal: Principal, name: str) -> Namespace:
        """The namespace, for a statement that reads it or changes what is there; else 3F000."""
        record = await self.find(transaction, principal, name)
        if record is None:
            raise await self.no_such(transaction, principal, name)
        return record

    async def find(self, transaction: Transaction, principal: Principal, name: str) -> Namespace | None:
        """The namespace, if there is one that the user may see."""
        rules.check_namespace(name)
        admin = await self.is_admin(transaction, principal)
        record = await self.catalog.namespace(transaction, name)
        if record is not None and (admin or record.owner == principal.name):
            return record
        if record is None and principal.local and name == self._start_namespace:
            # where an in-process session starts reads as empty before the first write
            return Namespace(principal.name, since=transaction.revision)
        return None

    async def no_such(self, transaction: Transaction, principal: Principal, name: str) -> Error:
        """3F000 for a namespace that was not found."""
        near = await self.near(transaction, principal, name)
        return errors.error(
            errors.NO_SUCH_NAMESPACE, f"namespace {name} does not exist",
            hint=f"{f'did you mean {near}?' if near else CREATES + ';'} SHOW NAMESPACES lists yours",
            part=pb.PART_NAMESPACE,
        )  # fmt: skip

    async def near(self, transaction: Transaction, principal: Principal, name: str) -> str | None:
        """The namespace that ``name`` is most likely a slip of, among those that the user may see."""
        owner = None if await self.is_admin(transaction, principal) else principal.name
        return nearest(name, await self.catalog.names(transaction, owner, _LOOKED_AT_MAX))

    async def writable(self, transaction: Transaction, principal: Principal, name: str) -> tuple[Namespace, bool]:
        """The namespace for a statement that may create it, and whether it is new; 42501 if it is another user's."""
        rules.check_namespace(name)
        admin = await self.is_admin(transaction, principal)
        record = await self.catalog.namespace(transaction, name)
        if record is not None and (admin or record.owner == principal.name):
            return record, False
        if not admin and not self._everyone_creates:
            raise errors.error(
                errors.PERMISSION_DENIED, f"permission denied for namespace {name}",
                hint="on this server only administrators create namespaces", part=pb.PART_NAMESPACE,
            )  # fmt: skip
        if record is not None:
            raise taken(name)
        if name in transaction.writes.cleared:
            # dropped by this transaction: what others write to it until the commit would be younger than ``since``
            transaction.guard(name)
        return Namespace(principal.name, since=transaction.revision), True


def taken(name: str) -> Error:
    return errors.error(
        errors.PERMISSION_DENIED, f"permission denied for namespace {name}",
        hint="the name is taken; choose another", part=pb.PART_NAMESPACE,
    )  # fmt: skip
