"""COUNT, SHOW KEYS, SHOW DATA, SHOW NAMESPACES. Each reads its own namespace and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.engines.base import Order, Page, Snapshot
from kvql_server.executor import expressions
from kvql_server.executor.access_path import FULL, Path
from kvql_server.executor.call import Call, Pages
from kvql_server.executor.keys import KEY_VALUE
from kvql_server.executor.pipeline import limited
from kvql_server.transaction import Transaction

COUNT: Final = (ResultColumn("count", Type.INTEGER),)
KEY: Final = (ResultColumn("key", Type.TEXT),)
NAMESPACES: Final = (
    ResultColumn("namespace", Type.TEXT), ResultColumn("owner", Type.TEXT), ResultColumn("count", Type.INTEGER),
)  # fmt: skip

Rows = list[tuple[Any, ...]]


async def show(transaction: Transaction, call: Call) -> Result:
    """COUNT, SHOW KEYS, SHOW DATA; in the order of the keys."""
    command = call.request.list
    namespace = call.namespace(command.namespace)
    await call.access.existing(transaction, call.principal, namespace)
    path, matches = FULL, None
    if command.HasField("pattern"):
        like = expressions.compiled_like(command.pattern, "\\", False)
        path = expressions.like_path(like, command.pattern)
        matches = None if path.exact else like.matches
    if command.what == pb.ListCommand.COUNT:
        return Result(COUNT, [(await _count(transaction, call, namespace, path, matches),)], 1)
    limit = command.limit if command.HasField("limit") else None
    if command.what == pb.ListCommand.KEYS:
        return rows_of(transaction, call, namespace, path, KEY, _keys(matches), limit=limit)
    return rows_of(transaction, call, namespace, path, KEY_VALUE, _pairs(matches), limit=limit)


async def _count(
    transaction: Transaction, call: Call, namespace: str, path: Path, matches: Callable[[str], bool] | None
) -> int:
    if path == FULL and matches is None:
        return await transaction.count(namespace)
    total = 0
    async for page in read(transaction, namespace, path):
        await call.work.turn()
        total += len(page) if matches is None else sum(map(matches, page.keys))
    return total


def _keys(matches: Callable[[str], bool] | None) -> Callable[[Page], Rows]:
    if matches is None:
        return lambda page: list(zip(page.keys, strict=True))
    return lambda page: [(key,) for key in page.keys if matches(key)]


def _pairs(matches: Callable[[str], bool] | None) -> Callable[[Page], Rows]:
    if matches is None:
        return lambda page: [(key, entry.value) for key, entry in page]
    return lambda page: [(key, entry.value) for key, entry in page if matches(key)]


async def read(
    transaction: Transaction | Snapshot, namespace: str, path: Path, order: Order = "key"
) -> AsyncIterator[Page]:
    """The pairs that a path names: one by one if their keys are known, else a range."""
    if path.keys is None:
        async for page in transaction.scan(namespace, path.start, path.end, order):
            yield page
        return
    keys = sorted(path.keys, reverse=order == "reverse")
    for at in range(0, len(keys), 4096):
        some = keys[at : at + 4096]
        entries = await transaction.get_many(namespace, some)
        yield Page.of((key, entry) for key, entry in zip(some, entries, strict=True) if entry is not None)


def rows_of(
    transaction: Transaction, call: Call, namespace: str, path: Path, columns: tuple[ResultColumn, ...],
    page_rows: Callable[[Page], Rows], *, limit: int | None = None,
) -> Result:  # fmt: skip
    """A result whose rows are computed page by page while they are read, from a snapshot that stays open for them."""
    shared = transaction.share()

    async def pages() -> AsyncIterator[Rows]:
        async for page in read(transaction, namespace, path):
            await call.work.turn()
            rows = page_rows(page)
            if rows:
                yield rows

    return Result(columns, Pages(limited(pages(), limit, 0), shared.release), -1)


async def show_namespaces(transaction: Transaction, call: Call) -> Result:
    """Those that the user may read, with owner and number of pairs."""
    admin = await call.access.is_admin(transaction, call.principal)
    rows = []
    for name, record in await call.access.catalog.namespaces(transaction):
        await call.work.turn()
        if admin or record.owner == call.principal.name:
            rows.append((name, record.owner, await transaction.count(name)))
    return Result(NAMESPACES, rows, len(rows))
