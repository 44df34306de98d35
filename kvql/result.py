"""What a statement answers, on both sides of the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kvql.errors import Error
from kvql.values import Type


class ResultColumn(NamedTuple):
    """A column of a result; ``type`` is None where rows may differ."""

    name: str
    type: Type | None = None


class Notice(NamedTuple):
    """Something worth saying that is no error; ``sqlstate`` 00000 or a warning's."""

    message: str
    hint: str | None = None
    sqlstate: str = "00000"


@dataclass(slots=True)
class Result:
    """The outcome of one statement that went well.

    ``columns`` is None for a statement that returns no rows. ``rows`` are tuples of KVQL values in the order of the
    columns; they may be an iterator that is read once and computes as it goes. ``row_count`` is the number of pairs
    changed or rows returned, -1 where neither makes sense or is not known yet. ``revision`` is the newest revision that
    the statement committed or saw. ``namespace`` is set by USE. ``completed``, ``failed`` and ``errors`` belong to a
    run of statements (see ``WriteCommand`` and ``GetCommand``); ``revisions`` are what the completed statements of a
    run of writes committed, in order, where that is known one by one.
    """

    columns: tuple[ResultColumn, ...] | None = None
    rows: Iterable[tuple[Any, ...]] = ()
    row_count: int = -1
    notices: list[Notice] = field(default_factory=list)
    revision: int = 0
    namespace: str | None = None
    completed: int = 0
    failed: int = 0
    errors: list[Error] = field(default_factory=list)
    revisions: Sequence[int] = ()
