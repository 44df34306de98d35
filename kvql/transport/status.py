"""What a gRPC status means: the server's own error from its details, or the nearest of ours."""

from __future__ import annotations

from typing import Final

import grpc

from kvql import errors
from kvql.codec import decode_error
from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb

_DETAILS: Final = "grpc-status-details-bin"
_DEAD_CALL: Final = "Internal error from Core"
"""What grpc.aio says of a write to a call that is over; it hides the reason."""
_SQLSTATES: Final = {
    grpc.StatusCode.UNAVAILABLE: errors.CONNECTION_LOST,
    grpc.StatusCode.UNAUTHENTICATED: errors.TOKEN_INVALID,
    grpc.StatusCode.PERMISSION_DENIED: errors.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LIMIT,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.CANCELLED,
    grpc.StatusCode.CANCELLED: errors.CANCELLED,
    grpc.StatusCode.UNIMPLEMENTED: errors.NOT_SUPPORTED,
}


def error_of(status: grpc.aio.AioRpcError, address: str) -> Error:
    """The error to raise for a call that ended with ``status``."""
    told = _told(status)
    if told is not None:
        return told
    sqlstate = _SQLSTATES.get(status.code(), errors.INTERNAL)
    if status.details() == _DEAD_CALL:
        sqlstate = errors.CONNECTION_LOST
    if sqlstate == errors.CONNECTION_LOST:
        return connection_lost(address)
    if sqlstate == errors.TOKEN_INVALID:
        return errors.error(sqlstate, "the login has ended", hint="connect again")
    return errors.error(sqlstate, f"the server answered: {status.details() or status.code().name.lower()}")


def connection_lost(address: str) -> Error:
    return errors.error(errors.CONNECTION_LOST, f"the connection to {address} was lost")


def _told(status: grpc.aio.AioRpcError) -> Error | None:
    """The ``Error`` message in the details, if the server put one there."""
    for name, value in status.trailing_metadata() or ():
        if name == _DETAILS:
            from google.rpc import status_pb2

            for detail in status_pb2.Status.FromString(value).details:
                message = pb.Error()
                if detail.Unpack(message):
                    return decode_error(message)
    return None
