"""Errors as gRPC status with google.rpc details, and the net under every call: nothing unforeseen leaks to a client."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from kvql import errors
from kvql.codec import encode_error
from kvql.errors import Error

_LOG: Final = logging.getLogger("kvql.server")
_DETAILS: Final = "grpc-status-details-bin"
_MESSAGE_MAX: Final = 600
"""Metadata above 8 KiB is refused at random; the message travels in it twice."""

_BY_STATE: Final = {
    errors.KEY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    errors.DUPLICATE_NAMESPACE: grpc.StatusCode.ALREADY_EXISTS,
    errors.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    errors.CONFLICT: grpc.StatusCode.ABORTED,
    errors.OUTCOME_UNKNOWN: grpc.StatusCode.UNKNOWN,
    errors.CANCELLED: grpc.StatusCode.CANCELLED,
    errors.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
}
_BY_CLASS: Final = {
    "02": grpc.StatusCode.NOT_FOUND,
    "3F": grpc.StatusCode.NOT_FOUND,
    "0A": grpc.StatusCode.UNIMPLEMENTED,
    "25": grpc.StatusCode.FAILED_PRECONDITION,
    "28": grpc.StatusCode.UNAUTHENTICATED,
    "53": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "54": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "72": grpc.StatusCode.OUT_OF_RANGE,
    "XX": grpc.StatusCode.INTERNAL,
}


def status_code(sqlstate: str) -> grpc.StatusCode:
    return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], grpc.StatusCode.INVALID_ARGUMENT)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Error) -> NoReturn:
    """End the call with ``error``: code and sentence in the status, the whole of it in the details."""
    code = status_code(error.sqlstate)
    message = _short(error.message)
    small = errors.error(
        error.sqlstate, message, hint=_short(error.hint or "") or None, span=error.span, statement=error.statement,
        item=error.item, part=error.part,
    )  # fmt: skip
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in (error_details_pb2.ErrorInfo(reason=error.sqlstate, domain="kvql"), encode_error(small)):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(code, message, ((_DETAILS, status.SerializeToString()),))


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 1] + "…"


def unforeseen(what: str) -> Error:
    """Log the exception that is being handled under an id, and give the client that id and nothing else."""
    identifier = secrets.token_hex(4)
    _LOG.exception("internal error in %s, id=%s", what, identifier)
    return errors.error(
        errors.INTERNAL, f"internal error, id={identifier}", hint="the server's log has it under this id"
    )


class Net(grpc.aio.ServerInterceptor):
    """Around every handler, whoever wrote it."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            function = getattr(handler, kind)
            if function is not None:
                make = getattr(grpc, f"{kind}_rpc_method_handler")
                return make(
                    _guarded(function, details.method), handler.request_deserializer, handler.response_serializer
                )
        return handler


def _guarded(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        async def generate(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                async for reply in function(request, context):
                    yield reply
            except Exception as e:  # noqa: BLE001 - logged under an id
                await _end(context, e, what)

        return generate

    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await function(request, context)
        except Exception as e:  # noqa: BLE001 - logged under an id
            await _end(context, e, what)

    return call


async def _end(context: grpc.aio.ServicerContext[Any, Any], exception: Exception, what: str) -> NoReturn:
    if isinstance(exception, grpc.aio.AbortError | asyncio.CancelledError):
        raise exception
    if isinstance(exception, grpc.aio.InternalError):
        # a write to a client that has gone. gRPC keeps quiet about it only where it knows that already
        raise asyncio.CancelledError from exception
    if isinstance(exception, Error):
        await abort(context, exception)
    await abort(context, unforeseen(what))
