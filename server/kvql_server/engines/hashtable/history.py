"""All that is known of the pairs of a namespace: what is there now, and what the journal keeps of what was there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from kvql_server.engines.base import Page
from kvql_server.engines.journal import past_states, within

if TYPE_CHECKING:
    from kvql_server.engines.hashtable.snapshots import Snapshot
    from kvql_server.engines.hashtable.store import Store

PAGE_KEYS: Final = 1024
_key: Final = itemgetter(0)


async def history(store: Store, snapshot: Snapshot, namespace: str, start: str, end: str | None) -> AsyncIterator[Page]:
    """See :meth:`base.Snapshot.history`."""
    journal = store.journals.get(namespace)
    states: dict[str, list[Any]] = {}
    if journal is not None and journal.keep_us:
        journal.trim(snapshot.time)
        states = past_states(journal.records(journal.floor, snapshot.revision), within(start, end))
    ended = sorted(states, reverse=True)
    async for page in snapshot.scan(namespace, start, end):
        if not len(page):
            continue
        pairs: list[tuple[str, Any]] = []
        last = page.keys[-1]
        while ended and ended[-1] <= last:
            past = ended.pop()
            pairs += [(past, state) for state in states[past]]
        # what is there now comes last among the states of its key
        yield Page.of(sorted([*pairs, *page], key=_key)) if pairs else page
    while ended:
        portion, ended = ended[-PAGE_KEYS:], ended[:-PAGE_KEYS]
        yield Page.of((key, state) for key in reversed(portion) for state in states[key])
