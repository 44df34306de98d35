"""One server from start to stop: the store, users, keys, the listening socket, signals, and the way out.

Every way in which a start can fail has its exit code and its sentence (``docs/security.md``).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kvql.v1 import kvql_pb2, kvql_pb2_grpc
from kvql_server import audit, certs, exits, passwords, users
from kvql_server.clock import SystemClock
from kvql_server.config import address, is_loopback
from kvql_server.engines import base
from kvql_server.executor import Executor
from kvql_server.service.calls import Service
from kvql_server.service.status import Net
from kvql_server.settings import Settings
from kvql_server.tokens import Tokens

_LOG: Final = logging.getLogger("kvql.server")
_NAME: Final = "kvql.v1.Kvql"


class StartError(Exception):
    """The server cannot start: a sentence for the operator, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def open_engine(settings: Settings, clock: SystemClock) -> Any:
    """The engine that the settings name, recovered and ready."""
    if settings.engine == "memory":
        from kvql_server.engines.memory import MemoryEngine

        return MemoryEngine(clock=clock)
    from kvql_server.engines.hashtable import HashTableEngine

    try:
        Path(settings.data).mkdir(mode=0o700, parents=True, exist_ok=True)
        return HashTableEngine.open(
            settings.data, clock=clock, sync=settings.sync, checkpoint_interval_s=settings.checkpoint_interval_s
        )
    except base.Locked as e:
        raise StartError(str(e), exits.LOCKED) from e
    except base.EngineError as e:
        raise engine_failed(e) from e
    except OSError as e:
        raise StartError(f"cannot use the folder {settings.data}: {e.strerror or e}", exits.FOLDER) from e


def engine_failed(error: base.EngineError) -> StartError:
    """What an engine says while it is opened, filled for the first time, or closed."""
    match error:
        case base.StoreFull():
            code = exits.FULL
        case base.DiskFailed():
            code = exits.DISK
        case base.Unusable():
            code = exits.FOLDER
        case base.OutcomeUnknown():
            code = exits.STOPPED
        case _:
            code = exits.DAMAGED
    return StartError(str(error), code)


def read_users(settings: Settings, *, public: bool) -> list[users.Listed]:
    """users.json, its plain passwords turned into hashes; known default passwords are refused outside loopback."""
    path = Path(settings.data) / "users.json"
    try:
        listed = users.read(path)
        for user in listed:
            plain = not passwords.is_hash(user.password)
            if (plain or public) and user.is_known_default:
                if public:
                    raise users.UsersFileError(
                        f"user {user.name} in {path} has a password that everybody knows; set another one before"
                        " listening outside this machine: kvql-server users passwd"
                    )
                _LOG.warning(
                    "user %s has a password that everybody knows; change it: kvql-server users passwd", user.name
                )
        return users.hash_in_place(path, listed)
    except users.UsersFileError as e:
        raise StartError(str(e), exits.USERS) from e
    except OSError as e:
        raise StartError(f"cannot rewrite {path}: {e.strerror or e}", exits.USERS) from e


async def serve(settings: Settings, *, print_port: bool) -> int:
    """Run until a signal or a failure; the exit code."""
    host, port = address(settings.listen)
    if settings.plain_text and not is_loopback(host, port):
        raise StartError("plain text is for loopback and Unix sockets only; leave out --plain-text", exits.USAGE)
    credentials = _credentials(settings, port)
    clock = SystemClock()
    engine = open_engine(settings, clock)
    try:
        try:
            return await _serve_engine(settings, engine, clock, credentials, host, port, print_port)
        finally:
            await engine.close()
    except base.EngineError as e:
        raise engine_failed(e) from e


def _credentials(settings: Settings, port: int) -> grpc.ServerCredentials | None:
    if settings.plain_text or port < 0:
        return None
    try:
        key, certificate = certs.load(Path(settings.certs))
    except certs.CertificateError as e:
        raise StartError(str(e), exits.CERTIFICATES) from e
    return grpc.ssl_server_credentials([(key, certificate)])


async def _serve_engine(
    settings: Settings, engine: Any, clock: SystemClock, credentials: grpc.ServerCredentials | None, host: str,
    port: int, print_port: bool,
) -> int:  # fmt: skip
    public = not is_loopback(host, port)
    listed = read_users(settings, public=public)
    executor = Executor(engine, clock, settings)
    await executor.start()
    if public:
        await _refuse_known_passwords(engine)
    created, revision = await users.apply(engine, listed)
    tokens = Tokens(engine, executor.catalog, settings.token_lifetime_s, settings.refresh_lifetime_s)
    await engine.synced(max(revision, await tokens.load()))
    for name in created:
        audit.event("create_user", "ok", actor="kvql-server", what=name)
    service = Service(engine, executor, tokens, settings)
    server, healthy = _grpc_server(settings, service)
    bound = _bind(server, credentials, host, port)
    await server.start()
    ticking = asyncio.create_task(service.tick())
    place = f"unix:{host}" if port < 0 else f"{host}:{bound}"
    audit.event("start", "ok", actor="kvql-server", what=place)
    if settings.engine == "hashtable":
        _announce(settings.data, host, bound)
    # what stands now stays: the collector need not look at it again
    gc.collect()
    gc.freeze()
    try:
        return await _until_stopped(settings, service, server, healthy, bound if print_port else None)
    finally:
        ticking.cancel()
        service.close()
        audit.event("stop", "ok", actor="kvql-server", what=place)


def _announce(folder: str, host: str, port: int) -> None:
    """Tell whoever finds the folder in use where we are; to serve does not depend on it."""
    from kvql_server.engines.hashtable.files import announce

    everywhere = host in ("0.0.0.0", "::") or is_loopback(host, port)
    name = "localhost" if everywhere else f"[{host}]" if ":" in host else host
    try:
        announce(folder, f"kvql+unix://{quote(os.path.abspath(host))}" if port < 0 else f"kvql://{name}:{port}")
    except OSError as e:
        _LOG.warning("cannot say in %s where the server is: %s", folder, e.strerror or e)


async def _refuse_known_passwords(engine: Any) -> None:
    for name, user in await users.listing(engine):
        known = passwords.DEFAULTS.get(name)
        if known is not None and passwords.verify(known, user.hash):
            raise StartError(
                f"user {name} still has the password that everybody knows; set another one before listening outside"
                f" this machine: kvql-server users passwd {name}",
                exits.USERS,
            )


def _grpc_server(settings: Settings, service: Service) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    handshake_ms = int(settings.handshake_timeout_s * 1000)
    server = grpc.aio.server(
        interceptors=[Net()],
        maximum_concurrent_rpcs=settings.calls_max,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            ("grpc.max_send_message_length", settings.message_bytes_max),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 5),
            ("grpc.server_handshake_timeout_ms", handshake_ms),
        ],
    )
    kvql_pb2_grpc.add_KvqlServicer_to_server(service, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if settings.reflection:
        from grpc_reflection.v1alpha import reflection

        names = (_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        assert kvql_pb2.DESCRIPTOR.services_by_name
        reflection.enable_server_reflection(names, server)
    return server, healthy


def _bind(server: grpc.aio.Server, credentials: grpc.ServerCredentials | None, host: str, port: int) -> int:
    place = f"unix:{host}" if port < 0 else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if port > 0:
        _check_free(host, port)
    try:
        bound = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise StartError(
            f"cannot listen on {place}: the address is in use or not of this machine; choose another with --listen",
            exits.PORT_IN_USE,
        )
    if port < 0:
        os.chmod(host, 0o600)
    return bound


def _check_free(host: str, port: int) -> None:
    """gRPC binds what it can of a name's addresses; a port taken on one of them must not go unnoticed."""
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(where)
            except OSError as e:
                if e.errno in (98, 48):
                    message = f"port {port} on {host} is in use; choose another with --listen"
                    raise StartError(message, exits.PORT_IN_USE) from None


async def _until_stopped(
    settings: Settings, service: Service, server: grpc.aio.Server, healthy: health.aio.HealthServicer,
    port: int | None,
) -> int:  # fmt: skip
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)  # a second signal: do not wait any longer
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    for name in ("", _NAME):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    if port is not None:  # whoever reads it may send a signal at once
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
    stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
    failed: asyncio.Future[Any] = service.failed
    await asyncio.wait([stopped, failed], return_when=asyncio.FIRST_COMPLETED)
    await healthy.enter_graceful_shutdown()
    service.stop_serving()
    if service.failed.done():
        stopped.cancel()
        sys.stderr.write(f"kvql-server: stopped: {service.failed.result()}\n")
        _LOG.error("the engine has stopped: %s", service.failed.result())
        service.end_sessions()
        await server.stop(1.0)
        return exits.STOPPED
    await _drain(settings, service)
    service.end_sessions()
    await server.stop(1.0)
    return 0


async def _drain(settings: Settings, service: Service) -> None:
    """Let what is being carried out end; sessions in which nothing is going on are not waited for."""
    ends = asyncio.get_running_loop().time() + settings.shutdown_grace_s
    while service.busy and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 - at the end of a process
        await asyncio.sleep(0.02)
