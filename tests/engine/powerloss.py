"""Every crash of a workload, and every crash of the recovery after it, judged.

For each photo of the workload: the process alone may have died there, or the power may have gone, with any legal state
left on the disk. Recovery of each must give exactly the pairs of one revision, not before what was owed; it is itself
photographed, and crashed again. Then life goes on: what was read there, and one more commit, survive the next crash.
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
from tests.engine.workload import (
    NAMESPACES,
    Photo,
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
    """Earlier revisions that were read as of then."""
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
            f"{self.pasts:,} earlier revisions read"
        )


class Explorer:
    """``whole``: every recovery is crashed at each of its calls; otherwise the first of each shape is, and of the
    others one call is drawn."""

    def __init__(self, seed: int, *, whole: bool) -> None:
        self.rng = random.Random(seed)
        self.counts = Counts()
        self._whole = whole
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
        abandon(engine)
        self._crash_recovery(photo, photos)
        self._judge(owed, fates.worst(disk))
        self._judge(owed, fates.drawn(disk, self.rng))

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
        disk.on_call = lambda name, path: None
        return engine, photos, photo._replace(floor=which(photo.states, picture(engine), engine.status()["revision"]))

    def _judge(self, photo: Photo, disk: Disk) -> None:
        abandon(self._opened(photo, disk))

    def _opened(self, photo: Photo, disk: Disk) -> HashTableEngine:
        self.counts.openings += 1
        try:
            engine = open_store(disk, photo.now, photo.mode)
        except base.EngineError as e:
            raise Violation(f"recovery refuses what a crash can leave: {e}") from e
        revision, pairs = engine.status()["revision"], picture(engine)
        known = which(photo.states, pairs, revision)
        if known < 0:
            raise Violation(f"the pairs at revision {revision} are those of no revision that was made")
        if known < photo.floor:
            raise Violation(f"revision {photo.floor} was confirmed or read, the pairs are those of {known}")
        if photo.mode == "always" and known != revision:
            raise Violation(f"the store calls itself {revision}, the pairs are those of {known}")
        # where commits may be lost, what is there is that of any revision with these pairs
        self._judge_past(photo, engine, min(r for r in photo.states if r <= known and photo.states[r] == pairs))
        return engine

    def _judge_past(self, photo: Photo, engine: HashTableEngine, known: int) -> None:
        """One of the latest revisions before ``known``, another one with each opening, is still what it was."""
        oldest = max(map(engine.oldest, NAMESPACES))
        past = [revision for revision in photo.states if oldest <= revision < known][-8:]
        if not past:
            return
        revision = past[self.counts.openings % len(past)]
        if step(picture_of(engine, revision)) != photo.states[revision]:
            raise Violation(f"history does not tell revision {revision} as it was; the newest is {known}")
        self.counts.pasts += 1

    def _live(self, photo: Photo, engine: HashTableEngine) -> Photo:
        """One more commit; what is owed after it."""
        before = expired(picture(engine), photo.now)
        revision, *_ = step(engine.commit_many([Transaction((), [Put(*LIFE, 1)], "ann")]))
        if not isinstance(revision, int) or revision <= photo.given_out:
            raise Violation(f"revision {revision} comes again; {photo.given_out} was given out")
        settle(engine)
        after = picture(engine)
        abandon(engine)
        if {place: pair for place, pair in after.items() if place != LIFE} != before or LIFE not in after:
            raise Violation(f"a commit after the recovery changed more than its own pair: {before} {after}")
        return photo._replace(states={revision: after}, floor=revision)


def explore(seed: int, mode: SyncMode, steps: int, *, whole: bool) -> Counts:
    """One workload and all its crashes; :class:`Violation`, with the seed, for the first that is not survived."""
    explorer = Explorer(seed, whole=whole)
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
