"""Every crash of a workload, and every crash of the recovery after it, judged.

For each photo of the workload: the process alone may have died there, or the power may have gone, with any legal state
left on the disk. Recovery of each must give exactly the pairs of one revision, not before what was owed; no revision
comes back, time does not run backwards, and history begins where it began. It is itself photographed, and crashed
again. Then life goes on: times to live end, and what was read there, what history told, and one more commit survive the
next crash, with or without a checkpoint before it.

Each opening is asked one question about the past, another one each time: what was there at an earlier revision, what
each key has been through, what a watcher is told who comes back.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from typing import Final

import pytest
from kvql_server.engines import base
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, log
from kvql_server.engines.hashtable.log import SyncMode

from tests.engine import fates
from tests.engine.disk import MUTATING, Disk
from tests.engine.past import expected, told, wrong_watch
from tests.engine.workload import (
    HISTORIES,
    MODES,
    Photo,
    States,
    Workload,
    expired,
    open_store,
    picture,
    picture_of,
    settle,
    which,
)
from tests.stores import abandon, step

LIFE: Final = ("a", "life goes on")


class Violation(AssertionError):
    """What a crash must not do."""


@dataclass
class Counts:
    photos: int = 0
    states: int = 0
    """Distinct ones after a power loss in the workload."""
    in_recovery: int = 0
    """After a power loss in a recovery of one of those."""
    kills: int = 0
    """Deaths of the process alone, each followed by a power loss."""
    openings: int = 0
    pasts: int = 0
    """Questions about the past."""
    shapes: set[tuple[str, ...]] = field(default_factory=set)
    """Of recoveries: which calls they made."""

    @property
    def all_states(self) -> int:
        return self.states + self.in_recovery + self.kills

    def __str__(self) -> str:
        return (
            f"{self.all_states:,} disk states ({self.states:,} after a power loss in the workload, "
            f"{self.in_recovery:,} in recoveries, {self.kills:,} kills), {self.photos:,} moments, "
            f"{len(self.shapes)} shapes of recovery, {self.openings:,} openings, "
            f"{self.pasts:,} questions about the past"
        )


class Explorer:
    """``whole``: every recovery is crashed at each of its calls; otherwise the first of each shape is, and of the
    others one call is drawn. ``draws``: each opening is in another mode."""

    def __init__(self, seed: int, *, whole: bool, draws: bool = False) -> None:
        self.rng = random.Random(seed)
        self.counts = Counts()
        self._whole = whole
        self._draws = draws
        self._seen: set[int] = set()
        self._seen_in_recovery: set[int] = set()
        self._owed: tuple[int, int] | None = None

    def see(self, photo: Photo) -> None:
        """Judge all that may come of a crash at this moment."""
        self.counts.photos += 1
        if (photo.floor, id(photo.states)) != self._owed:
            # the same bytes are another case when more is owed
            self._owed = photo.floor, id(photo.states)
            self._seen.clear()
            self._seen_in_recovery.clear()
        self.counts.kills += 1
        self._kill(photo)
        for contents in fates.states(photo.disk, self.rng, self._seen):
            self.counts.states += 1
            self._recover(photo, Disk.holding(contents))

    def _kill(self, photo: Photo) -> None:
        """What the next process reads must be on the disk by then."""
        disk = photo.disk.photo()
        engine, photos, owed = self._open(photo, disk)
        self._crash_recovery(photo, photos)
        self._judge(owed, fates.worst(disk))
        self._judge(owed, fates.drawn(disk, self.rng))
        if self.rng.random() < 0.25:
            later = self._live(owed, engine)
            self._judge(later, fates.worst(disk))

    def _recover(self, photo: Photo, disk: Disk) -> None:
        engine, photos, owed = self._open(photo, disk)
        self._crash_recovery(photo, photos)
        if self.rng.random() < 0.25:
            self._judge(owed, fates.worst(disk))
        later = self._live(owed, engine)
        self._judge(later, fates.worst(disk))

    def _crash_recovery(self, photo: Photo, photos: list[tuple[str, Disk]]) -> None:
        shape = tuple(name for name, _ in photos)
        chosen = photos
        if not self._whole and shape in self.counts.shapes:
            chosen = [self.rng.choice(photos)]
        self.counts.shapes.add(shape)
        for _, moment in chosen:
            found = list(fates.states(moment, self.rng, self._seen_in_recovery))
            if not self._whole and len(chosen) == 1 and found:
                found = [self.rng.choice(found)]
            for contents in found:
                self.counts.in_recovery += 1
                self._judge(photo, Disk.holding(contents))

    def _open(self, photo: Photo, disk: Disk) -> tuple[HashTableEngine, list[tuple[str, Disk]], Photo]:
        """A recovery that is photographed before each of its calls; what is owed once it has been read."""
        photos: list[tuple[str, Disk]] = []

        def on_call(name: str, path: str) -> None:
            if name in MUTATING:
                photos.append((name, disk.photo()))

        disk.on_call = on_call
        engine = self._opened(photo, disk)
        disk.heal()
        return engine, photos, photo._replace(floor=which(photo.states, picture(engine), engine.status()["revision"]))

    def _judge(self, photo: Photo, disk: Disk) -> None:
        abandon(self._opened(photo, disk))

    def _opened(self, photo: Photo, disk: Disk) -> HashTableEngine:
        self.counts.openings += 1
        earlier_us = 0 if self.counts.openings % 4 else 3_600_000_000  # the system's clock may have been set back
        mode = MODES[self.counts.openings % 3] if self._draws else photo.mode
        try:
            engine = open_store(disk, photo.now - earlier_us, mode)
        except base.EngineError as e:
            raise Violation(f"recovery refuses what a crash can leave: {e}") from e
        revision, pairs = engine.status()["revision"], picture(engine)
        if revision < photo.given_out:
            raise Violation(f"revision {photo.given_out} was given out, and the store begins again at {revision}")
        if any(pair.updated_at > engine._clock.now() for pair in pairs.values()):
            raise Violation("the store's time is before that of what it holds")
        known = which(photo.states, pairs, revision)
        if known < 0:
            raise Violation(f"the pairs at revision {revision} are those of no revision that was made")
        if known < photo.floor:
            raise Violation(f"revision {photo.floor} was confirmed or read, the pairs are those of {known}")
        if not photo.skips and known != revision:
            raise Violation(f"the store calls itself {revision}, the pairs are those of {known}")
        # where commits may be lost, what is there is that of any revision with these pairs
        self._judge_past(photo, engine, [r for r in sorted(photo.states) if r <= known and photo.states[r] == pairs])
        return engine

    def _judge_past(self, photo: Photo, engine: HashTableEngine, known: list[int]) -> None:
        """One question, another one with each opening; the store is at one of the revisions ``known``, which have the
        same pairs."""
        if 0 not in photo.states:  # nobody knows what came before these
            return
        number = self.counts.openings
        namespace = HISTORIES[number // 3 % len(HISTORIES)]
        begins = max(map(engine.oldest, HISTORIES))
        if begins:
            raise Violation(f"history begins at revision {begins}, and nobody had it forgotten")
        past = [revision for revision in photo.states if revision < known[0]][-8:] or [0]
        revision = past[number // 6 % len(past)]
        if number % 3 == 0 and revision < known[0]:
            found = step(picture_of(engine, revision, HISTORIES))
            if found != {place: pair for place, pair in photo.states[revision].items() if place[0] in HISTORIES}:
                raise Violation(f"history does not tell revision {revision} as it was; the newest is {known}")
        elif number % 3 == 1 or not known[0]:
            whole = step(told(engine, namespace))
            if all(whole != expected(photo.states, namespace, until) for until in known):
                raise Violation(f"what became of the keys of {namespace} is not told as it was up to {known}: {whole}")
        else:
            wrong = wrong_watch(engine, photo.states, namespace, revision, known[0])
            if wrong:
                raise Violation(f"a watcher of {namespace} who comes back at {revision}: {wrong}; it is {known}")
        self.counts.pasts += 1

    def _live(self, photo: Photo, engine: HashTableEngine) -> Photo:
        """Some seconds later one more commit, and perhaps a checkpoint; what is owed after that."""
        now = photo.now + self.rng.choice((0, 1, 6)) * 1_000_000
        engine._clock.advance_to(now)
        there = picture(engine)
        before = expired(there, now)
        if step(picture_of(engine, None)) != before:
            raise Violation("whoever reads after the recovery sees what is over, or not what is there")
        revision, *_ = step(engine.commit_many([Transaction((), [Put(*LIFE, 1)], "ann")]))
        if not isinstance(revision, int) or revision <= photo.given_out:
            raise Violation(f"revision {revision} comes again; {photo.given_out} was given out")
        settle(engine)
        after = picture(engine)
        if self.rng.random() < 0.1:
            engine.checkpoint()
        abandon(engine)
        if {place: pair for place, pair in after.items() if place != LIFE} != before or LIFE not in after:
            raise Violation(f"a commit after the recovery changed more than its own pair: {before} {after}")
        states: States = {}
        if (
            sum(state == there for r, state in photo.states.items() if r <= photo.floor) == 1
        ):  # which one is no question
            states = {r: state for r, state in photo.states.items() if r <= photo.floor}
        if before != there:
            states[revision - 1] = before
        return photo._replace(states={**states, revision: after}, floor=revision, given_out=revision, now=now)


def explore(seed: int, mode: SyncMode | None, steps: int, *, whole: bool) -> Counts:
    """One workload and all its crashes; :class:`Violation`, with the seed, for the first that is not survived. The mode
    ``None``: each opening has one of its own."""
    explorer = Explorer(seed, whole=whole, draws=mode is None)
    photos: list[Photo] = []
    with pytest.MonkeyPatch.context() as patch:
        # the log's own thread never wakes by itself, so that a run is the same each time; and torn ends are no news
        patch.setattr(log, "INTERVAL_S", 3600.0)
        patch.setattr(logging.root.manager, "disable", logging.CRITICAL)
        try:
            Workload(seed, mode, steps, photos.append).run()
            for photo in photos:
                explorer.see(photo)
        except Violation as e:
            raise Violation(f"seed {seed}, sync {mode}, moment {explorer.counts.photos}: {e}") from e
    return explorer.counts
