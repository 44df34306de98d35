"""What the clients are apart from waiting: one lane, the texts that are known, and what every statement goes through.

Without any I/O. ``sync`` and ``tasks`` add the waiting, each in its own way.
"""

from __future__ import annotations

from kvql import ast, errors
from kvql.client.events import as_watch
from kvql.client.lane import Lane, TransactionState, located
from kvql.client.texts import Texts
from kvql.compiler import Given, compile_statement
from kvql.compiler.parameters import encodable
from kvql.compiler.points import Point, point_shape
from kvql.errors import Error
from kvql.transport import Transport
from kvql.transport.fetching import Position, resumed
from kvql.v1 import kvql_pb2 as pb


class BaseClient:
    """One lane of a transport."""

    def __init__(self, transport: Transport, lane: Lane, texts: Texts) -> None:
        self._transport = transport
        self._lane = lane
        self._texts = texts

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def user(self) -> str:
        return self._transport.user

    @property
    def namespace(self) -> str:
        """The namespace in use; empty for none."""
        return self._lane.namespace

    @namespace.setter
    def namespace(self, namespace: str) -> None:
        self._lane.namespace = namespace

    @property
    def transaction_state(self) -> TransactionState:
        """``none``, ``open``, or ``failed``: an error has ended it and only ROLLBACK is accepted."""
        return self._lane.transaction

    @property
    def closed(self) -> bool:
        return self._transport.closed

    def check_open(self) -> None:
        """InterfaceError once the connection is closed."""
        if self.closed:
            raise errors.InterfaceError("the connection is closed", sqlstate="08003", hint="connect again")

    def cancel(self) -> None:
        """Stop what runs: it ends with 57014, the connection stays usable. From any thread or signal handler."""
        self._transport.cancel()

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def parse_one(self, text: str) -> ast.Statement:
        """The statement that ``text`` is; 42601 if it is none or several."""
        return self._texts.one(text)

    def read(self, statement: str | ast.Statement) -> tuple[ast.Statement, str | None]:
        """A statement given as text or as a syntax tree: the tree, and the text if there is one."""
        return (self._texts.one(statement), statement) if isinstance(statement, str) else (statement, None)

    def point(self, statement: str | ast.Statement, parameters: Given) -> Point | None:
        """The statement as one about one pair; None if it is none, or if only the general road can tell what it is."""
        shape = self._texts.point(statement) if isinstance(statement, str) else point_shape(statement)
        return None if shape is None else shape.bind(parameters)

    def check(self, statement: ast.Statement, parameters: Given, source: str | None) -> None:
        """Raise what is wrong with ``statement`` as far as it can be told without the server."""
        try:
            compile_statement(statement, parameters)
        except Error as e:
            raise located(e, source) from None

    def _request(
        self,
        statement: ast.Statement,
        parameters: Given,
        timeout: float | None,
        source: str | None,
        key: bytes | str | None,
    ) -> pb.Request | None:
        """The request for ``statement``; None if it ends a transaction that the server has forgotten already."""
        lane = self._lane
        try:
            if lane.lost and lane.settled_here(statement):
                return None
            request = compile_statement(statement, parameters)
            lane.prepare(request, timeout)
            if key is not None:
                request.idempotency_key = _checked(key)
        except Error as e:
            raise located(e, source) from None
        return request

    def _watch_request(
        self, statement: str | ast.Statement, parameters: Given, after: Position | None
    ) -> tuple[pb.Request, str | None]:
        """The request of a watch, whatever transaction may be open here, and the text if there is one."""
        self.check_open()
        parsed, source = self.read(statement)
        try:
            request = compile_statement(as_watch(parsed, source), parameters)
        except Error as e:
            raise located(e, source) from None
        request.namespace = self.namespace
        return (request if after is None else resumed(request, after)), source

    def _failed(self, statement: ast.Statement, error: Error, source: str | None) -> Error:
        """``error`` with its place in the source, after taking note of it."""
        self._lane.failed(statement, error)
        return located(error, source)


def _checked(key: bytes | str) -> bytes:
    """An idempotency key as it is sent; an empty one would be none, and protect from nothing."""
    if not isinstance(key, str | bytes):
        raise errors.InterfaceError(
            f"an idempotency key is text or bytes, not {type(key).__name__}",
            sqlstate=errors.INVALID,
            hint="pass str(…)",
        )
    if not key:
        raise errors.error(errors.INVALID, "an idempotency key has at least 1 byte")
    return encodable(key, None).encode() if isinstance(key, str) else key
