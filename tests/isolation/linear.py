"""Is a history of operations on one key linearizable? (Wing and Gong's search with Lowe's memo, as Porcupine has it.)

Each operation takes effect at one moment between its call and its return. The search tries, in the order of the calls,
which operation was next, and goes back where an outcome does not fit; what it has tried is remembered as the set of
operations that are done (a bit each) and the state that they led to. An operation whose outcome nobody knows is open to
the end, fits whatever it finds, and may as well never have happened. A crash leaves several of those behind, and every
subset of them would be tried: so they are taken last, and what was reached with some of them is not tried again with
more, because to have one left can only help.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, Final, NamedTuple

ABSENT: Final = "absent"
"""The state of a key that is not there, and what reading it, or changing what is not there, gives."""
UNKNOWN: Final = "unknown"


class Operation(NamedTuple):
    """``kind`` and ``argument``: ``get``; ``put``, ``update``, ``upsert`` v; ``delete``; ``cas`` (expected, new).

    ``outcome``: the value, ABSENT (get, delete, update), "ok", "exists" (put), True or False (cas), or UNKNOWN.
    """

    client: int
    kind: str
    argument: Any
    outcome: Any
    call: float
    returned: float = inf


def apply(state: Any, op: Operation) -> tuple[Any, Any]:
    """(outcome, new state) of an operation on a key."""
    match op.kind:
        case "get":
            return state, state
        case "put":
            return ("ok", op.argument) if state == ABSENT else ("exists", state)
        case "update":
            return (ABSENT, ABSENT) if state == ABSENT else ("ok", op.argument)
        case "upsert":
            return "ok", op.argument
        case "delete":
            return state, ABSENT
        case "cas":
            expected, new = op.argument
            return (True, new) if state == expected else (False, state)
    raise AssertionError(f"unknown kind {op.kind}")


class _Entry:
    """A call or a return in the history, in a list from which calls are lifted with their returns."""

    __slots__ = ("after", "before", "known", "number", "partner")

    def __init__(self, number: int, *, known: bool = True) -> None:
        self.number = number
        self.known = known
        self.partner: _Entry | None = None  # of a call whose outcome is known: its return
        self.before: _Entry | None = None
        self.after: _Entry | None = None


def _linked(operations: Sequence[Operation]) -> _Entry:
    """The head of the list; unknown operations never return."""
    events: list[tuple[float, int, int]] = []
    for number, op in enumerate(operations):
        events.append((op.call, 0, number))
        if op.outcome != UNKNOWN:
            events.append((op.returned, 1, number))
    # at one moment calls come first: the operations may then overlap, which is what is known for sure
    events.sort()
    head = last = _Entry(-1)
    calls: dict[int, _Entry] = {}
    for _, is_return, number in events:
        entry = _Entry(number, known=operations[number].outcome != UNKNOWN)
        if is_return:
            calls[number].partner = entry
        else:
            calls[number] = entry
        entry.before, last.after = last, entry
        last = entry
    return head


def _lift(call: _Entry) -> None:
    for entry in (call, call.partner):
        if entry is not None:
            assert entry.before is not None
            entry.before.after = entry.after
            if entry.after is not None:
                entry.after.before = entry.before


def _put_back(call: _Entry) -> None:
    for entry in (call.partner, call):
        if entry is not None:
            assert entry.before is not None
            entry.before.after = entry
            if entry.after is not None:
                entry.after.before = entry


def _next_calls(head: _Entry) -> Iterator[_Entry]:
    """Those that may take effect next: called before any that is left returned; the unknown ones last."""
    known, unknown = [], []
    entry = head.after
    while entry is not None and (entry.partner is not None or not entry.known):
        (known if entry.known else unknown).append(entry)
        entry = entry.after
    return iter(known + unknown)


def explain(operations: Sequence[Operation], start: Any = ABSENT) -> str | None:
    """None if the history of a key is linearizable from the state ``start``; else how far the best attempt came."""
    head = _linked(operations)
    left = sum(op.outcome != UNKNOWN for op in operations)
    state, done, used = start, 0, 0
    tried: dict[tuple[int, Any], list[int]] = {}
    way: list[tuple[_Entry, Any, Iterator[_Entry]]] = []
    best: tuple[int, list[int], Any] = (-1, [], start)
    calls = _next_calls(head)
    while left:
        for call in calls:
            op = operations[call.number]
            outcome, new = apply(state, op)
            if call.known:
                fits, now, spent = outcome == op.outcome, done | 1 << call.number, used
            else:
                fits, now, spent = new != state, done, used | 1 << call.number
            if fits and _is_new(tried.setdefault((now, new), []), spent):
                way.append((call, state, calls))
                state, done, used = new, now, spent
                left -= call.known
                _lift(call)
                calls = _next_calls(head)
                break
        else:
            if len(way) > best[0]:
                best = (len(way), [entry.number for entry, _, _ in way], state)
            if not way:
                return _told(operations, best)
            call, state, calls = way.pop()
            _put_back(call)
            left += call.known
            if call.known:
                done &= ~(1 << call.number)
            else:
                used &= ~(1 << call.number)
    return None


def _is_new(tried: list[int], used: int) -> bool:
    """Whether the same was not reached before with these unknown operations or fewer; it is remembered."""
    if any(other & used == other for other in tried):
        return False
    tried[:] = [other for other in tried if other & used != used]
    tried.append(used)
    return True


def _told(operations: Sequence[Operation], best: tuple[int, list[int], Any]) -> str:
    count, way, state = best
    done = set(way)
    shown = [f"  {operations[n]}" for n in way[-4:]]
    waiting = sorted((op.call, n) for n, op in enumerate(operations) if n not in done and op.outcome != UNKNOWN)[:6]
    return "\n".join(
        [
            f"not linearizable: {max(count, 0)} of {len(operations)} operations fit; the last of them",
            *shown, f"lead to {state!r}, and none of these can follow", *(f"  {operations[n]}" for _, n in waiting),
        ]
    )  # fmt: skip
