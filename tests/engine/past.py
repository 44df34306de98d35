"""What a store tells of the past, against the model: each state that a key was in, and each commit as a watcher is
told of it.

Three roads lead there in the store, and recovery builds all of them anew: undoing steps (AS OF), listing them (HISTORY
OF), and handing them out (WATCH), where first puts that no file tells of are found in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kvql_server.engines import base
from kvql_server.engines.hashtable import HashTableEngine

from tests.engine.workload import Pair, State, States, pair_of
from tests.stores import step

Told = dict[str, list[tuple[int, Pair | None]]]
"""By key, the revisions that changed it and what it was then; None: gone, and whether it expired is told too."""
Difference = dict[str, tuple[Pair | None, Pair | None]]
"""By key, what was there before and what after."""


def differences(states: States, namespace: str, after: int, until: int) -> Iterator[tuple[int, Difference]]:
    """The revisions after ``after`` and up to ``until`` that changed anything in the namespace, and what, as the model
    has it."""
    revisions = sorted(r for r in states if r <= until)
    for old, new in pairwise(revisions):
        changed = difference(states[old], states[new], namespace) if new > after else {}
        if changed:
            yield new, changed


def difference(old: State, new: State, namespace: str) -> Difference:
    places = sorted(place for place in old.keys() | new.keys() if place[0] == namespace)
    return {key: (old.get((n, key)), new.get((n, key))) for n, key in places if old.get((n, key)) != new.get((n, key))}


def expected(states: States, namespace: str, until: int) -> Told:
    """The whole history of a namespace, as the model has it."""
    out: Told = {}
    for revision, changed in differences(states, namespace, 0, until):
        for key, (_, pair) in changed.items():
            out.setdefault(key, []).append((revision, pair))
    return out


async def told(engine: HashTableEngine, namespace: str) -> Told:
    """The same, as the store has it."""
    out: Told = {}
    snapshot = engine.snapshot(time=-(2**63))
    async for page in snapshot.history(namespace):
        for key, state in page:
            states = out.setdefault(key, [])
            if isinstance(state, base.Gone):
                before = states[-1][1]
                assert before is not None, f"{key} is told twice to be gone"
                over = before.expires_at is not None and before.expires_at <= state.time
                assert state.expired == over, f"{key} expired: {state.expired}, and its time was over: {over}"
            states.append((state.revision, _pair(state)))
    snapshot.close()
    return out


def _pair(state: Any) -> Pair | None:
    return None if state is None or isinstance(state, base.Gone) else pair_of(state)


def wrong_watch(engine: HashTableEngine, states: States, namespace: str, after: int, until: int) -> str | None:
    """What somebody is told wrongly who watches from a revision on; every change up to ``until`` is waiting for him."""
    watching = engine.watch(namespace, after)
    for revision, changed in differences(states, namespace, after, until):
        try:
            commit = step(anext(watching))
        except RuntimeError:  # it would wait for more, and there is no event loop
            return f"revision {revision} is not told of"
        found = {each.key: (_pair(each.previous), _pair(each.entry)) for each in commit.changes}
        if (commit.revision, found) != (revision, changed):
            return f"{commit.revision}: {found} is told instead of {revision}: {changed}"
    return None
