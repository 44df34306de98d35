"""The conversation of a connection without any network: what is not sent after a failure that the server never saw."""

from __future__ import annotations

import asyncio

import pytest

from kvql import errors
from kvql.errors import Error
from kvql.transport.session import REQUEST_BYTES_MAX, Conversation, SessionExchange
from kvql.v1 import kvql_pb2 as pb


def put(key: str, *, stop: bool = True, lane: int = 1) -> pb.Request:
    request = pb.Request(lane=lane, on_error=pb.ON_ERROR_STOP if stop else pb.ON_ERROR_CONTINUE)
    request.write.keys.append(key)
    request.write.values.types = b"\x00"
    return request


def failure(exchange: SessionExchange) -> Error:
    with pytest.raises(Error) as caught:
        asyncio.run(exchange.result())
    return caught.value


def sent(conversation: Conversation) -> list[str]:
    batch = conversation.batch()
    return [] if batch is None else [request.write.keys[0] for request in batch.requests]


def test_what_follows_a_statement_that_was_cancelled_before_it_left_is_not_carried_out() -> None:
    conversation = Conversation()
    first, second = conversation.add(put("a")), conversation.add(put("b"))
    conversation.cancel_all()
    third = conversation.add(put("c"))
    other = conversation.add(put("d", lane=2))
    assert [failure(e).skipped for e in (first, second, third)] == [False, False, True]
    assert failure(first).sqlstate == errors.CANCELLED
    assert sent(conversation) == ["d"]
    assert not other.ended
    conversation.error_seen(1)
    assert not conversation.add(put("e")).ended


def test_what_follows_a_statement_that_is_too_long_to_send_is_not_carried_out() -> None:
    conversation = Conversation()
    long, later = conversation.add(put("k" * REQUEST_BYTES_MAX)), conversation.add(put("b"))
    assert (failure(long).sqlstate, failure(later).skipped) == (errors.LIMIT, True)
    assert sent(conversation) == []


def test_who_goes_on_after_errors_is_not_stopped() -> None:
    conversation = Conversation()
    cancelled = conversation.add(put("a", stop=False))
    conversation.cancel_all()
    conversation.add(put("b", stop=False))
    assert failure(cancelled).sqlstate == errors.CANCELLED
    assert sent(conversation) == ["b"]
