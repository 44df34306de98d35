"""Whoever folds the initial pairs and all events after them has, at every revision, exactly the state of the store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.watching import Folded, Watched, events

CONDITIONS: dict[str, Callable[[str, Any], bool]] = {
    "": lambda key, entry: True,
    "WHERE value > 5": lambda key, entry: type(entry.value) is int and entry.value > 5,
    "WHERE key ^= 'a'": lambda key, entry: key.startswith("a"),
    "WHERE key IN ('a1', 'b2', 'c3')": lambda key, entry: key in ("a1", "b2", "c3"),
    "WHERE key BETWEEN 'a2' AND 'b2' AND value <> 3": lambda key, entry: "a2" <= key <= "b2" and entry.value != 3,
    "WHERE version > 1 AND expires_at IS NULL": lambda key, entry: entry.version > 1 and entry.expires_at is None,
    "WHERE type = 'TEXT' OR value = 1": lambda key, entry: type(entry.value) is str or entry.value == 1,
    "WHERE FALSE": lambda key, entry: False,
}
KEYS = [f"{letter}{number}" for letter in "abc" for number in range(4)]
SEEDS = range(4)


def _change(store: Watched, choose: random.Random) -> None:
    """A random write: of one pair, of many, of all, or one that expires soon."""
    key, value = choose.choice(KEYS), choose.choice([*range(12), "'t'"])
    some = ", ".join(f"{k} {choose.randrange(12)}" for k in choose.sample(KEYS, 5))
    text = choose.choice(
        [
            f"UPSERT {key} {value}", f"UPSERT {key} {value}", f"UPSERT {some}",
            f"DELETE FROM main WHERE key = '{key}'",
            f"UPSERT {key} {value} TTL {choose.randrange(1, 12)}ms",
            "UPDATE main SET value = value + 1 WHERE value < 6",
            "DELETE FROM main WHERE value > 8", choose.choice(["TRUNCATE NAMESPACE main", *["UPSERT other 1"] * 4]),
            "INSERT INTO elsewhere VALUES ('x', 1) ON CONFLICT DO UPDATE SET value = 2",
        ]
    )  # fmt: skip
    store.run(text)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("engine", ["memory", "hashtable"])
def test_initial_and_events_give_every_state(engine: str, condition: str, seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    choose = random.Random(f"{seed} {condition}")
    store = Watched(":memory:" if engine == "memory" else str(tmp_path / "store"))
    holds = CONDITIONS[condition]
    try:
        store.run("PUT a1 1, b1 2, c1 9, other 0")
        for _ in range(choose.randrange(20)):
            _change(store, choose)
        folded, checked = Folded(), 0
        watch = store.connection.watch(f"WATCH main {condition} WITH INITIAL")

        def take() -> bool:
            nonlocal checked
            event = watch.next(0.0)
            if event is None:
                return False
            folded.take(event)
            position = watch.position
            assert position is not None
            if not position.key and not position.initial:  # the whole of the commit has been taken in
                state = store.state(position.revision)
                assert folded.pairs == {k: e.value for k, e in state.items() if holds(k, e)}, event
                checked += 1
            return True

        for _ in range(60):
            match choose.randrange(8):
                case 0:
                    time.sleep(0.004)
                case 1:  # the connection breaks anywhere, also in the middle of a commit or of the initial pairs
                    position = watch.position
                    watch.close()
                    watch = store.connection.watch(f"WATCH main {condition}", after=position)
                case 2 | 3 | 4:
                    take()
                case _:
                    _change(store, choose)
        time.sleep(0.02)
        store.engine.expire_due()
        if engine == "hashtable":  # what is not on the disk is told to nobody
            store.engine.sync(store.engine.status()["revision"])
        for event in events(watch, 0.15):
            folded.take(event)
        newest = store.engine.status()["revision"]
        assert folded.pairs == {k: e.value for k, e in store.state(newest).items() if holds(k, e)}
        assert folded.live and (checked or "FALSE" in condition)
    finally:
        store.close()
