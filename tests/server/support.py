"""Requests built by hand, without our client: what anybody can send."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.rpc import status_pb2

from kvql.codec import decode_error, decode_rows, encode_values
from kvql.compiler import compile_statement
from kvql.errors import Error
from kvql.parser import parse
from kvql.v1 import kvql_pb2 as pb
from kvql.v1 import kvql_pb2_grpc
from tests.servers import PASSWORDS, WAIT_S, Server

PUT, UPDATE, UPSERT = pb.WRITE_MODE_PUT, pb.WRITE_MODE_UPDATE, pb.WRITE_MODE_UPSERT
BEGIN, COMMIT, ROLLBACK = (pb.TransactionCommand.Action.Value(n) for n in ("BEGIN", "COMMIT", "ROLLBACK"))


def write(mode: int, pairs: Sequence[tuple[str, Any]], **fields: Any) -> pb.WriteCommand:
    return pb.WriteCommand(
        mode=mode, keys=[k for k, _ in pairs], values=encode_values([v for _, v in pairs]), **fields
    )  # fmt: skip


def request(namespace: str = "shop", *, id: int = 0, lane: int = 0, on_error: int = 0, **command: Any) -> pb.Request:
    return pb.Request(id=id, lane=lane, namespace=namespace, on_error=on_error, **command)


def put(pairs: Sequence[tuple[str, Any]], namespace: str = "shop", **fields: Any) -> pb.Request:
    return request(namespace, write=write(PUT, pairs), **fields)


def get(*keys: str, namespace: str = "shop", **fields: Any) -> pb.Request:
    return request(namespace, get=pb.GetCommand(keys=keys), **fields)


def act(action: int, **fields: Any) -> pb.Request:
    return request(transaction=pb.TransactionCommand(action=action), **fields)


class Wire:
    """A channel and the tokens of a user."""

    def __init__(self, server: Server, user: str = "admin", *, log_in: bool = True) -> None:
        credentials = grpc.ssl_channel_credentials(server.ca.read_bytes())
        self.channel = grpc.secure_channel(
            f"localhost:{server.port}", credentials, [("grpc.use_local_subchannel_pool", 1)]
        )
        self.stub: Any = kvql_pb2_grpc.KvqlStub(self.channel)
        self.user = user
        if log_in:
            self.tokens = self.stub.Login(pb.LoginRequest(user=user, password=PASSWORDS[user]), timeout=WAIT_S)

    def metadata(self, token: str | None = None) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.tokens.access_token if token is None else token}"),)

    def execute(self, request: pb.Request) -> pb.ExecuteReply:
        return self.stub.Execute(request, metadata=self.metadata(), timeout=WAIT_S)

    def rows(self, request: pb.Request) -> list[tuple[Any, ...]]:
        return [row for r in self.execute(request).responses if r.HasField("rows") for row in decode_rows(r.rows)]

    def refusal(self, request: pb.Request) -> Error:
        """The error that the request must end in."""
        return refused(lambda: self.execute(request))

    def session(self) -> Session:
        return Session(self)

    def close(self) -> None:
        self.channel.close()


def refused(call: Any) -> Error:
    """The server's own error of a call that fails."""
    try:
        call()
    except grpc.RpcError as e:
        return error_of(e)
    raise AssertionError("it was not refused")


def error_of(failure: Any) -> Error:
    for name, value in failure.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                message = pb.Error()
                if detail.Unpack(message):
                    return decode_error(message)
    raise AssertionError(f"no details: {failure}")


class Session:
    """A bidirectional stream, driven by hand."""

    def __init__(self, wire: Wire) -> None:
        self._out: queue.SimpleQueue[pb.ClientBatch | None] = queue.SimpleQueue()
        self._call = wire.stub.Session(self._batches(), metadata=wire.metadata(), timeout=WAIT_S)
        self.responses: list[pb.Response] = []

    def _batches(self) -> Iterator[pb.ClientBatch]:
        while (batch := self._out.get()) is not None:
            yield batch

    def send(self, *requests: pb.Request, **fields: Any) -> None:
        self._out.put(pb.ClientBatch(requests=requests, **fields))

    def receive(self, *ids: int) -> dict[int, pb.Response]:
        """The last responses of these requests, in whatever order they come."""
        found: dict[int, pb.Response] = {}
        while True:
            for response in self.responses:
                if response.last and response.id in ids:
                    found[response.id] = response
            if set(found) == set(ids):
                return found
            self.responses += next(self._call).responses

    def ask(self, request: pb.Request) -> pb.Response:
        self.send(request)
        return self.receive(request.id)[request.id]

    def order(self) -> list[int]:
        """Ids in the order in which they were done."""
        return [r.id for r in self.responses if r.last]

    def rows_of(self, id: int) -> list[tuple[Any, ...]]:
        return [row for r in self.responses if r.id == id and r.HasField("rows") for row in decode_rows(r.rows)]

    def finish(self) -> list[pb.Response]:
        """Half-close; everything that still comes."""
        self._out.put(None)
        for batch in self._call:
            self.responses += batch.responses
        return self.responses

    def failure(self) -> Error:
        """The error that ends the stream."""

        def drain() -> None:
            for batch in self._call:
                self.responses += batch.responses

        return refused(drain)

    def close(self) -> None:
        self._out.put(None)
        self._call.cancel()


def command(statement: str, namespace: str = "t", **fields: Any) -> pb.Request:
    """The typed request of a statement."""
    made = compile_statement(parse(statement)[0])
    made.namespace = namespace
    for name, value in fields.items():
        setattr(made, name, value)
    return made
