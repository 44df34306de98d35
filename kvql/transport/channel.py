"""The TCP and TLS side of a connection. After a failure a new channel is made: it waits for no backoff."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from kvql import errors
from kvql.errors import Error
from kvql.transport.login import Access
from kvql.transport.probe import check_ca, explain
from kvql.v1.kvql_pb2_grpc import KvqlStub

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Answers larger than this are refused; the server's chunks are far smaller."""
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),  # also how long one attempt may take; ``connect`` has its own limit
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),  # a proxy for web pages is no way to a database
    ("grpc.use_local_subchannel_pool", 1),  # a new channel must be a new connection
)


class Channel:
    """A gRPC channel that is replaced when it breaks."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._plain = access.plain
        self._roots = check_ca(access.ca) if access.ca and not self._plain else None
        self._channel: Any = None
        self.stub: Any = None

    @property
    def is_ready(self) -> bool:
        return self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def connect(self) -> None:
        """Return when the connection stands; 08001 with the reason if it cannot be made."""
        if self.is_ready:
            return
        await self.drop()
        target = self._access.target
        address = f"unix:{target.place}" if target.kind == "unix" else f"dns:///{target.address}"
        if self._plain:
            self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(self._roots)
            self._channel = grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
        try:
            async with asyncio.timeout(self._access.timeout_s):
                await self._until_ready()
        except (TimeoutError, ConnectionError):
            await self.drop()
            raise await self._explain() from None
        self.stub = KvqlStub(self._channel)

    async def _until_ready(self) -> None:
        state = self._channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                raise ConnectionError
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)

    async def _explain(self) -> Error:
        access = self._access
        timeout_s = min(3.0, access.timeout_s)
        why: Error = await asyncio.to_thread(explain, access.target, access.ca, plain=self._plain, timeout_s=timeout_s)
        assert why.sqlstate == errors.CANNOT_CONNECT
        return why

    async def drop(self) -> None:
        """Forget the connection; the next ``connect`` makes another."""
        channel, self._channel, self.stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        await self.drop()
