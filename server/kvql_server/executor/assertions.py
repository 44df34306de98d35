"""ASSERT: a condition that must be TRUE, over constants and what its subqueries read."""

from __future__ import annotations

from typing import Any, Final

from kvql import errors
from kvql.result import Result
from kvql.v1 import kvql_pb2 as pb
from kvql.values import display, quote
from kvql_server import rules
from kvql_server.executor import subqueries, turns
from kvql_server.executor.call import Call
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.executor.expressions import text as sql
from kvql_server.executor.subqueries import Answers
from kvql_server.transaction import Transaction

_SHOWN_MAX: Final = 5
_SHOWN_LENGTH_MAX: Final = 60


async def check(transaction: Transaction, call: Call) -> Result:
    """P0004 unless the condition is TRUE: NULL is not."""
    command = call.request.assertion
    rules.check_assertion(command.message)
    answers = await subqueries.read(transaction, call, command.condition, command.subqueries)
    scope = Scope(hint="a subquery reads pairs: (SELECT value FROM ns WHERE key = 'k')")
    builder = Builder(scope, transaction.time, call.settings.expression_steps_max, call.places)
    builder.clause = "ASSERT"
    builder.subqueries = answers.values
    steps = len(command.condition.steps)
    value = await turns.aside(call.work, steps, lambda: _value(builder, command.condition))
    if value is not True:
        raise errors.error(
            errors.ASSERTION_FAILED,
            command.message or f"assertion failed: {sql.text(command.condition, command.subqueries)}",
            hint=_why(value, answers), item=steps, part=pb.PART_STEP,
        )  # fmt: skip
    return Result(notices=answers.notices)


def _value(builder: Builder, condition: pb.Expression) -> Any:
    item = builder.program(condition, 0)
    return builder.run(f"def holds(k, e):\n return {item.logical}\n", "holds")(None, None)


def _why(value: Any, answers: Answers) -> str | None:
    """What may explain the failure: a field that no row has, what the subqueries gave, a NULL instead of a value."""
    if answers.notices:
        told = answers.notices[0]
        return told.message + (f"; {told.hint}" if told.hint else "")
    shown = [_shown(given) for given, _ in answers.values[:_SHOWN_MAX]]
    if shown:
        what = "the subquery is" if len(answers.values) == 1 else "the subqueries are"
        return f"{what} {', '.join(shown)}{', …' if len(answers.values) > _SHOWN_MAX else ''}"
    return "the condition is NULL, which is not TRUE" if value is None else None


def _shown(value: Any) -> str:
    text = quote(value) if isinstance(value, str) else display(value)
    return text if len(text) <= _SHOWN_LENGTH_MAX else text[: _SHOWN_LENGTH_MAX - 1] + "…"
