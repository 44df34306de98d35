"""What a change is to a watch: PUT, UPDATE, DELETE, EXPIRE, and ENTER or LEAVE where a pair begins or ends to match.

A pair that is created or removed is told as PUT, DELETE or EXPIRE if the state that it got or lost matches. One that
changes is UPDATE where it matches before and after, ENTER or LEAVE where only one state does, and nothing where none
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvql import errors
from kvql.result import ResultColumn
from kvql.v1 import kvql_pb2 as pb
from kvql.values import Type
from kvql_server.catalog import Namespace
from kvql_server.engines.base import Change, Commit, Page
from kvql_server.executor import expressions, turns
from kvql_server.executor.access_path import FULL, Path
from kvql_server.executor.call import Call, Work
from kvql_server.executor.expressions import Builder, Scope

COLUMNS: Final = (
    ResultColumn("event", Type.TEXT), ResultColumn("revision", Type.INTEGER), ResultColumn("key", Type.TEXT),
    ResultColumn("old_value"), ResultColumn("value"), ResultColumn("by", Type.TEXT),
)  # fmt: skip
INITIAL: Final = "INITIAL"
LIVE: Final = "LIVE"
"""The initial part is over."""

Row = tuple[str, int, str | None, Any, Any, str | None]
Told = tuple[Commit, Change]
_STRANGERS: Final = frozenset(("old", "new", "excluded"))


class Rows(list[Row]):
    """Events that all watches with one condition tell who stand at one place of the history."""

    __slots__ = ("sent",)

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self.sent: tuple[int, Any] | None = None
        """For who sends them: the request that they were first sent to, and what they are on the wire."""


class Condition:
    """WHERE of a watch, which is asked of single states of pairs for as long as the watch runs."""

    def __init__(self, builder: Builder, path: Path, code: str, asked: bytes) -> None:
        """``path``: the keys that can satisfy it; ``code``: what is left to check, empty for nothing; ``asked``: the
        condition on the wire. In one namespace the same is true of all that were asked the same."""
        self.path = path
        self.asked = asked
        self._builder = builder
        self._function: Callable[[Page], list[bool]] | None = None
        if code:
            self._function = expressions.test_function(builder, code)

    async def of(self, page: Page, work: Work) -> list[bool]:
        """Whether each of these states satisfies it; they are known to be in ``path``."""
        function = self._function
        if function is None:
            return [True] * len(page)
        out: list[bool] = []
        async for piece in turns.in_turns(turns.single(page), work, self._builder, None):
            out += await turns.computed(function, piece)
        return out


def condition(call: Call, namespace: str, record: Namespace, where: pb.Expression | None, now: int) -> Condition:
    """Compiled as the condition of a SELECT is; 0A000 if it asks what time it is."""
    scope = Scope(namespace, record.fields, strangers=_STRANGERS)
    builder = Builder(scope, now, call.settings.expression_steps_max, call.places)
    if where is None:
        return Condition(builder, FULL, "", b"")
    _check_timeless(where, namespace)
    path, code = expressions.condition_of(builder, where, 0)
    return Condition(builder, path, code, where.SerializeToString(deterministic=True))


def _check_timeless(where: pb.Expression, namespace: str) -> None:
    """A pair that begins to match because time passes changes nothing, and nobody would be told."""
    for at, step in enumerate(where.steps):
        names = where.names[step.argument : step.argument + max(step.arity, 1)]
        if step.op == pb.OP_COLUMN and len(names) > 1 and names[0] == namespace:
            names = names[1:]
        name = names[0].lower() if names else ""
        if (step.op == pb.OP_COLUMN and name == "ttl" and len(names) == 1) or (step.op == pb.OP_CALL and name == "now"):
            shown = "now()" if name == "now" else "ttl"
            raise errors.error(
                errors.NOT_SUPPORTED, f"a condition of WATCH cannot depend on the time of asking ({shown})",
                hint="compare expires_at or updated_at with a constant, or pass the time as a parameter",
                item=at + 1, part=pb.PART_STEP,
            )  # fmt: skip


def in_order(changes: Iterable[Change]) -> Sequence[Change]:
    """The changes of a commit in the order in which they are told: that of their keys; what expired in one commit, in
    the order in which it expired."""
    listed = changes if isinstance(changes, list) else list(changes)
    return listed if len(listed) < 2 else sorted(listed, key=_order)


def _order(change: Change) -> tuple[int, str]:
    return change.previous.expires_at or 0 if change.expired else 0, change.key


def behind(changes: Sequence[Change], key: str) -> Sequence[Change]:
    """Those that are told after the change of ``key``; all of them if there is none."""
    place = next((at for at, change in enumerate(changes, 1) if change.key == key), 0)
    return changes[place:]


async def rows(told: Sequence[Told], where: Condition, work: Work) -> list[Row]:
    """The events that some changes are, in their order."""
    holds = where.path.holds
    everything = where.path == FULL
    asked = [pair for pair in told if everything or holds(pair[1].key)]
    if not asked:
        return []
    answers = iter(await where.of(_states(asked), work))
    out: list[Row] = []
    for commit, change in asked:
        old, new = change.previous, change.entry
        was = old is not None and next(answers)
        now = new is not None and next(answers)
        if not (was or now):
            continue
        if new is None:
            event = "EXPIRE" if change.expired else "DELETE"
        elif old is None:
            event = "PUT"
        else:
            event = "UPDATE" if was and now else "ENTER" if now else "LEAVE"
        out.append(
            (
                event, commit.revision, change.key, None if old is None else old.value,
                None if new is None else new.value, commit.user or None,
            )
        )  # fmt: skip
    return out


def _states(told: Sequence[Told]) -> Page:
    """What the pairs were before and after each change, as far as they were there."""
    keys: list[str] = []
    entries: list[Any] = []
    for _, change in told:
        for state in (change.previous, change.entry):
            if state is not None:
                keys.append(change.key)
                entries.append(state)
    return Page(keys, entries)


async def initial(page: Page, where: Condition, revision: int, work: Work) -> list[Row]:
    """The pairs of a page of a snapshot at ``revision``, as a watch that begins with them tells them."""
    answers = await where.of(page, work)
    return [
        (INITIAL, revision, key, None, entry.value, entry.updated_by or None)
        for (key, entry), holds in zip(page, answers, strict=True)
        if holds
    ]


def live(revision: int) -> Row:
    return (LIVE, revision, None, None, None, None)
