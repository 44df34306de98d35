"""A peer for single GETs: etcd over TLS, and the cheapest client of it that there can be.

The published Python clients of etcd are years old; this is what they would be at best: a blocking gRPC call a request,
with nothing around it. The messages are etcd's ``Range`` and ``Put``, described here as far as they are used.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELDS = {
    "RangeRequest": [("key", 1, "bytes", False)],
    "KeyValue": [("key", 1, "bytes", False), ("value", 5, "bytes", False)],
    "RangeResponse": [("kvs", 2, "KeyValue", True), ("count", 4, "int64", False)],
    "PutRequest": [("key", 1, "bytes", False), ("value", 2, "bytes", False)],
    "PutResponse": [],
}  # type: dict[str, list[tuple[str, int, str, bool]]]


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench/etcd.proto", package="etcdserverpb", syntax="proto3")
    kinds = {
        "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
        "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    }
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.type = kinds.get(kind, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE)
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            if kind not in kinds:
                added.type_name = f".etcdserverpb.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"etcdserverpb.{n}")) for n in _FIELDS}


class Client:
    """GET and PUT, one at a time."""

    def __init__(self, port: int, ca: Path) -> None:
        self._messages = made = _messages()
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        self._channel = grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.enable_http_proxy", 0)])
        self._range = self._call("Range", made["RangeRequest"], made["RangeResponse"])
        self._put = self._call("Put", made["PutRequest"], made["PutResponse"])

    def _call(self, name: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.KV/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def get(self, key: str) -> bytes:
        """The value; the read is linearizable, as etcd's are unless it is told otherwise."""
        (found,) = self._range(self._messages["RangeRequest"](key=key.encode())).kvs
        value: bytes = found.value
        return value

    def put(self, key: str, value: str) -> None:
        self._put(self._messages["PutRequest"](key=key.encode(), value=value.encode()), timeout=10)

    def wait(self) -> None:
        grpc.channel_ready_future(self._channel).result(timeout=20)

    def close(self) -> None:
        self._channel.close()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def etcd(certs: Path) -> Iterator[Client]:
    """A server of one member, with the certificates of ``kvql-server certs``, and a client of it."""
    port, peer = _free_port(), _free_port()
    here, there = f"https://localhost:{port}", f"http://localhost:{peer}"
    with tempfile.TemporaryDirectory(prefix="kvql-bench-etcd-") as folder:
        process = subprocess.Popen(
            ["etcd", "--data-dir", folder,
             "--listen-client-urls", f"https://127.0.0.1:{port}", "--advertise-client-urls", here,
             "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", there,
             "--initial-cluster", f"default={there}", "--cert-file", str(certs / "server.pem"),
             "--key-file", str(certs / "server.key")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        client = Client(port, certs / "ca.pem")
        try:
            client.wait()
            end = time.monotonic() + 20
            while True:
                try:
                    client.put("ready", "1")
                    break
                except grpc.RpcError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait()
