"""Results as messages: headers, chunks of rows small enough to send, the last word of a statement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc

from kvql import errors
from kvql.codec import CODE_OF_TYPE, encode_error, encode_notices, encode_rows
from kvql.errors import Error
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Json
from kvql_server.executor import Work
from kvql_server.executor.call import overdue
from kvql_server.executor.watcher import Progress

_ROWS_MAX: Final = 2048
_headers: dict[tuple[ResultColumn, ...], pb.RowsHeader] = {}


def header(columns: tuple[ResultColumn, ...]) -> pb.RowsHeader:
    """The header for these columns; the few that statements without expressions have are made once."""
    found = _headers.get(columns)
    if found is None:
        types = bytes([CODE_OF_TYPE[column.type] for column in columns])
        found = pb.RowsHeader(names=[column.name for column in columns], types=types)
        if len(_headers) < 64:
            _headers[columns] = found
    return found


def chunks(rows: Sequence[tuple[Any, ...]], bytes_max: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    """The rows in pieces of about ``bytes_max`` each, at least one row a piece."""
    if len(rows) == 1:
        yield rows
        return
    start, size = 0, 0
    for at, row in enumerate(rows):
        weight = 0
        for cell in row:
            kind = type(cell)
            weight += 4 * len(cell) + 4 if kind is str or kind is bytes else len(cell.text) + 4 if kind is Json else 12
        if size and (size + weight > bytes_max or at - start >= _ROWS_MAX):
            yield rows[start:at]
            start, size = at, 0
        size += weight
    if start < len(rows):
        yield rows[start:]


def fill_rows(response: pb.Response, rows: Sequence[tuple[Any, ...]], width: int, message_bytes_max: int) -> int:
    """Put a chunk into the response; its size in bytes. A row that no message can hold is 54001."""
    response.rows.CopyFrom(encode_rows(rows, width))
    size: int = response.rows.ByteSize()
    if size > message_bytes_max - 65_536:
        response.ClearField("rows")
        raise errors.error(
            errors.TOO_COMPLEX, f"a row of {size:,} bytes is too large to send", hint="select fewer columns at a time"
        )
    return size


def fill_done(response: pb.Response, result: Result, row_count: int, transaction_state: int) -> None:
    """A statement that went well."""
    done = response.done
    done.row_count = row_count
    done.revision = result.revision
    if transaction_state:
        done.transaction = transaction_state  # type: ignore[assignment]  # an int: enums are one when they run
    if result.notices:
        encode_notices(result.notices, done.notices)
    if result.namespace:
        done.namespace = result.namespace
    if result.completed:
        done.completed = result.completed
    if result.failed:
        done.failed = result.failed
        for error in result.errors:
            encode_error(error, done.errors.add())
    if result.revisions:
        done.revisions.extend(result.revisions)


def fill_progress(response: pb.Response, progress: Progress) -> None:
    """How far a watch has come."""
    told = response.progress
    told.store, told.since, told.revision, told.initial, told.key = progress


async def write_in_time(context: grpc.aio.ServicerContext[Any, Any], response: pb.Response, work: Work) -> None:
    """Send; a client that does not read holds a snapshot no longer than a statement may take."""
    try:
        async with asyncio.timeout(work.left_s):
            await context.write(response)
    except TimeoutError:
        raise overdue() from None


def fill_error(response: pb.Response, error: Error) -> None:
    encode_error(error, response.error)
    if error.skipped:
        response.error.skipped = True


def skipped() -> Error:
    """For what stands behind a failed statement of its lane."""
    made = errors.error(errors.CANCELLED, "not carried out: a statement before it failed")
    made.skipped = True
    return made
