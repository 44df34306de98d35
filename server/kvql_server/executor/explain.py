"""EXPLAIN: the stages of a statement as rows, and with ANALYZE what each of them did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from kvql.result import Notice, Result, ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type, literal
from kvql_server.engines.base import Order
from kvql_server.executor.access_path import Path
from kvql_server.executor.pipeline import Stage

EXPLAIN: Final = (ResultColumn("stage", Type.TEXT), ResultColumn("detail", Type.TEXT))
ANALYZE: Final = (*EXPLAIN, ResultColumn("rows", Type.INTEGER), ResultColumn("time_ms", Type.DECIMAL))
_KEYS_SHOWN: Final = 5


def described(path: Path, namespace: str, order: Order) -> str:
    """``prefix 'user:' of namespace shop``: which keys are read, and how."""
    name = path.name
    if name == "empty":
        return f"empty: no key of namespace {namespace} can satisfy the condition"
    if path.keys is not None:
        keys = sorted(path.keys)
        shown = ", ".join(map(literal, keys[:_KEYS_SHOWN])) + (", …" if len(keys) > _KEYS_SHOWN else "")
        what = f"{name} {shown}" if name == "point" else f"{name} of {len(keys):,} keys: {shown}"
    elif name == "prefix":
        what = f"prefix {literal(path.start)}"
    elif name == "range":
        what = f"range {_start(path.start)} {_end(path.end)}"
    else:
        what = "full: every pair"
    return f"{what} of namespace {namespace}" + (", last key first" if order == "reverse" else "")


def counted(number: int, what: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _start(key: str) -> str:
    """The first key behind ``m`` is ``m\\0``."""
    if not key:
        return "from the first"
    return f"after {literal(key[:-1])}" if key.endswith("\0") else f"from {literal(key)}"


def _end(key: str | None) -> str:
    if key is None:
        return "to the last"
    return f"to {literal(key[:-1])}" if key.endswith("\0") else f"to below {literal(key)}"


def explained(stages: Sequence[Stage], mode: int = pb.MODE_EXPLAIN) -> Result:
    """The stages as rows."""
    if mode == pb.MODE_EXPLAIN:
        return Result(EXPLAIN, [(s.name, s.detail) for s in stages], len(stages))
    return _measured(stages)


async def analyzed(
    stages: Sequence[Stage], rows: AsyncIterator[Any], notices: Callable[[Any], list[Notice]], builder: Any
) -> Result:
    """The same after all rows were computed and thrown away."""
    async for _ in rows:
        pass
    return _measured(stages, notices(builder))


def _measured(stages: Sequence[Stage], notices: Sequence[Notice] = ()) -> Result:
    """Rows that left each stage and the time that it took by itself; a part of the stage before it shows none."""
    out: list[tuple[Any, ...]] = []
    before = 0.0
    for stage in stages:
        if stage.time_s is None:
            out.append((stage.name, stage.detail, None, None))
            continue
        own = max(0.0, stage.time_s - before)
        before = stage.time_s
        out.append((stage.name, stage.detail, stage.rows, milliseconds(own)))
    return Result(ANALYZE, out, len(out), notices=list(notices))


def milliseconds(seconds: float) -> Any:
    from decimal import Decimal

    return Decimal(f"{seconds * 1000:.3f}")
