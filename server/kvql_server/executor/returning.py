"""RETURNING: the rows that a write shows, computed and measured before it commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from kvql import errors
from kvql.codec import encode_rows
from kvql.result import Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql_server.catalog import Namespace
from kvql_server.executor import expressions
from kvql_server.executor.call import Call
from kvql_server.executor.expressions import Builder, Scope
from kvql_server.executor.expressions.generated import cells
from kvql_server.executor.pipeline import Memory, weight
from kvql_server.executor.turns import aside
from kvql_server.transaction import Transaction

Change = tuple[str, Any, Any]
"""(key, the entry that unqualified columns mean, the other one)."""

MESSAGE_SPARE_BYTES = 65_536
_ROWS: Final = 1_024
_HEAVY_ROWS: Final = 16


class Returning:
    """``old`` and ``new``: which variable holds the pair before and after, and whether it may be absent."""

    def __init__(
        self, transaction: Transaction, call: Call, namespace: str, record: Namespace,
        projections: Sequence[pb.Projection], base: int, *, old: tuple[str, bool], new: tuple[str, bool],
    ) -> None:  # fmt: skip
        self.rows: list[tuple[Any, ...]] = []
        self._work = call.work
        self._reply = 0
        self.columns: tuple[ResultColumn, ...] = ()
        self._function: Callable[..., list[Any]] | None = None
        if not projections:
            return
        self._memory = Memory(call.settings.query_bytes_max)
        self._row_max = call.settings.message_bytes_max - MESSAGE_SPARE_BYTES
        scope = Scope(namespace, record.fields, {"old": old, "new": new})
        self._builder = Builder(scope, transaction.time, call.settings.expression_steps_max, call.places)
        self._builder.clause = "RETURNING"
        items, names = [], []
        for projection in projections:
            steps = projection.expression.steps
            if len(steps) == 1 and steps[0].op == pb.OP_STAR:
                for name in expressions.star(record.fields):
                    column = pb.Expression(steps=[pb.Step(op=pb.OP_COLUMN, arity=1)], names=[name])
                    items.append(self._builder.program(column, base))
                    names.append(name)
            else:
                items.append(self._builder.program(projection.expression, base))
                names.append(projection.name)
            base += len(steps)
        self.columns = tuple(ResultColumn(n, i.type) for n, i in zip(names, items, strict=True))
        self._function = expressions.change_function(self._builder, cells(self._builder, items))

    @property
    def wanted(self) -> bool:
        return self._function is not None

    async def add(self, changes: Sequence[Change]) -> None:
        """The rows of some changes; 53400 if there are too many, 54001 if one is too large to be sent."""
        if self._function is None:
            return
        size = _HEAVY_ROWS if self._builder.heavy else _ROWS
        for at in range(0, len(changes), size):
            await self._work.breathe()
            await self._add(changes[at : at + size])

    async def _add(self, changes: Sequence[Change]) -> None:
        function = self._function
        assert function is not None
        rows = await aside(self._work, self._builder.steps, lambda: function(changes))
        self._memory.hold(rows)
        self._reply = self._work.check_reply(rows, self._reply)
        for row in rows:
            if weight(row) * 4 > self._row_max:
                size = encode_rows([row], len(row)).ByteSize()
                if size > self._row_max:
                    raise errors.error(
                        errors.TOO_COMPLEX, f"a row of {size:,} bytes is too large to send",
                        hint="return fewer columns; nothing was written",
                    )  # fmt: skip
        self.rows += rows

    def result(self, count: int) -> Result:
        """The outcome of a write that changed ``count`` pairs."""
        if self._function is None:
            return Result(row_count=count)
        return Result(self.columns, self.rows, count, notices=expressions.notices(self._builder))
