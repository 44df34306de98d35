"""The text door: for clients that have no parser. The only module of the server that parses.

A text is parsed and compiled whole before anything of it runs (a syntax error anywhere, and nothing happened). Its
statements then go through the same executor as typed requests, one by one; an error names its span in the text.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from kvql import errors
from kvql.ast import Statement
from kvql.codec import decode_values
from kvql.errors import Error
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql_server import rules
from kvql_server.auth import Principal
from kvql_server.executor import WRITES, Executor, Lane, Pages, Work, idempotency

INLINE_MAX: Final = 16 * 1024
"""Characters that are parsed at once: some milliseconds."""


@dataclass(frozen=True, slots=True)
class TextStatement:
    """One statement of a text as a typed request, and what places its errors."""

    statement: Statement
    request: pb.Request
    text: str


def requests(request: pb.Request) -> list[TextStatement]:
    """The statements of a text command, in order; 42601 and the like before any is carried out."""
    from kvql.compiler import Parameters, compile_statement  # with the parser: only for those who send text
    from kvql.parser import parse

    command = request.text
    if request.mode:
        raise errors.error(
            errors.NOT_SUPPORTED, "a text has no mode", hint="write EXPLAIN or DRY RUN before the statement"
        )
    text = command.text
    out: list[TextStatement] = []
    try:
        parameters = Parameters.of(_parameters(command))
        used = False
        for statement in parse(text):
            single = compile_statement(statement, parameters)
            single.namespace = "" if used else request.namespace
            single.comment = single.comment or request.comment
            used = used or single.WhichOneof("command") == "use"
            out.append(TextStatement(statement, single, text))
        parameters.finish(out[-1].statement.span if out else None)
    except Error as e:
        raise e.at(None, text)
    if not out:
        raise errors.error(errors.SYNTAX, "the text holds no statement")
    if request.idempotency_key:
        _give_keys(request.idempotency_key, out)
    return out


def _give_keys(key: bytes, statements: list[TextStatement]) -> None:
    """Each write of the text gets a key of its own out of the text's; a transaction would need one for all of it."""
    rules.check_idempotency_key(key)
    for number, one in enumerate(statements):
        command = one.request.WhichOneof("command") or ""
        if command == "transaction" and len(statements) > 1:
            raise errors.error(
                errors.NOT_SUPPORTED, "a text with a transaction in it has no idempotency key",
                hint="send COMMIT alone, with the key", span=one.statement.span, source=one.text,
            )  # fmt: skip
        if command in WRITES or command == "transaction":
            one.request.idempotency_key = idempotency.of_text(key, number, len(statements))


async def requests_aside(request: pb.Request) -> list[TextStatement]:
    """The same; a text that takes long to read is read in a thread, so that nobody else waits for it."""
    if len(request.text.text) <= INLINE_MAX:
        return requests(request)
    return await asyncio.to_thread(requests, request)


def _parameters(command: pb.TextCommand) -> Any:
    """Positional parameters as a list, named ones as a dict."""
    values = decode_values(command.parameters, intervals=True)
    names = list(command.parameter_names)
    if not names:
        return values
    if len(names) != len(values):
        raise errors.error(errors.INVALID, "parameters are either all positional or all named")
    if len(set(names)) != len(names):
        raise errors.error(errors.INVALID, "a parameter is named twice")
    return dict(zip(names, values, strict=True))


async def carry_out(executor: Executor, one: TextStatement, lane: Lane, principal: Principal, work: Work) -> Result:
    """One statement's result; an error carries the place of what it blames, also one among the rows."""
    try:
        result = await executor.execute(one.request, lane, principal, work)
    except Error as e:
        raise _located(e, one) from None
    rows = result.rows
    if isinstance(rows, Pages):
        placed = rows.on_error
        rows.on_error = lambda e: _located(e if placed is None else placed(e), one)
    return result


def _located(error: Error, one: TextStatement) -> Error:
    if error.span is None:
        from kvql.compiler import span_of
        from kvql.parser.assist import locate_in

        find = span_of if error.part >= pb.PART_STEP else locate_in
        error.at(find(one.statement, error.item, error.part) or one.statement.span, one.text)
    return error
