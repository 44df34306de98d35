"""Every legal state of a disk after a power loss, or as many of them as there is time for.

What was synced is there. Each change since then has a fate of its own: it arrived; it is lost; it is lost, but the file
is as long as if it had arrived, with zeros in it; only its first bytes arrived, and nothing later. Or else each sector
of the file is as it was at a moment of its own: sectors are written whole (SQLite's assumption, and PostgreSQL's).
Names arrive or not, each for itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, NamedTuple

from tests.engine.disk import Change, Disk, Inode, Naming, apply, rename_in, resize

SECTOR: Final = 512
"""The smallest that a disk writes whole; what holds for it holds for 4,096 too."""
SUBSETS_UP_TO: Final = 4
"""So many names: every subset of them; of more, a choice."""
PLACES: Final = 8
"""So many pending changes of a file have each their turn in everything; of more, a choice."""

Contents = dict[str, bytes]


class Fate(NamedTuple):
    """What becomes of a change: ``[start, end)`` of its bytes arrive, and zeros where the others should be if
    ``grown``. A size arrives if ``end`` is not 0."""

    start: int
    end: int
    grown: bool


ARRIVED: Final = Fate(0, 1 << 60, True)
LOST: Final = Fate(0, 0, False)
ZEROED: Final = Fate(0, 0, True)


def suffer(inode: Inode, fates: Iterable[Fate]) -> bytes:
    """The file's bytes after each pending change met its fate."""
    data = bytearray(inode.durable)
    for change, fate in zip(inode.pending, fates, strict=True):
        offset, written = change
        if written is None:
            if fate.end:
                resize(data, offset)
            continue
        if fate.grown and len(data) < offset + len(written):
            resize(data, offset + len(written))
        part = written[fate.start : fate.end]
        if part:
            apply(data, Change(offset + fate.start, part))
    return bytes(data)


def _torn(change: Change) -> Iterator[Fate]:
    """The ways in which a write arrives in part."""
    if change.data is None or not change.data:
        return
    length = len(change.data)
    for cut in {1, 4, 8, 9, length // 2, length - 1}:
        if 0 < cut < length:
            yield Fate(0, cut, False)
            yield Fate(0, cut, True)


def of_file(inode: Inode, rng: random.Random) -> list[bytes]:
    """Distinct outcomes; the first is that nothing arrived, the second that all did."""
    pending = inode.pending
    count = len(pending)
    out: dict[bytes, None] = {}

    def add(*fates: Fate) -> None:
        out.setdefault(suffer(inode, fates))

    add(*[LOST] * count)
    add(*[ARRIVED] * count)
    if not count:
        return list(out)
    add(*[ZEROED] * count)
    places = list(range(count))
    if count > PLACES:
        places = sorted({0, count - 1, *rng.sample(places, PLACES - 2)})
    for at in places:
        before, after = at, count - at - 1
        add(*[ARRIVED] * before, *[LOST] * (after + 1))
        for fate in (LOST, ZEROED):
            add(*[ARRIVED] * before, fate, *[ARRIVED] * after)
            add(*[fate] * before, ARRIVED, *[fate] * after)
        for torn in _torn(pending[at]):
            add(*[ARRIVED] * before, torn, *[LOST] * after)
    for _ in range(4 if count > 2 else 0):
        add(*[draw(rng) for _ in pending])
    for data in _sectors(inode, rng):
        out.setdefault(data)
    return list(out)


def _sectors(inode: Inode, rng: random.Random) -> Iterator[bytes]:
    """Each sector as it was after one of the changes, or before all of them: they arrive whole, and when they like."""
    versions = [bytearray(inode.durable)]
    for change in inode.pending:
        versions.append(bytearray(versions[-1]))
        apply(versions[-1], change)
    new, old = versions[-1], versions[0]
    touched = [
        at for at in range(0, len(new), SECTOR) if new[at : at + SECTOR] != old[at : at + SECTOR].ljust(1, b"\0")
    ]
    if len(touched) < 2 and len(versions) < 3:
        return
    choice = touched if len(touched) <= PLACES else sorted({touched[0], touched[-1], *rng.sample(touched, PLACES - 2)})
    for at in choice:
        yield _mixed(versions, {at: 0})
    if len(versions) > 2 or len(touched) > 2:
        for _ in range(4):
            yield _mixed(versions, {at: rng.randrange(len(versions)) for at in touched})


def _mixed(versions: list[bytearray], chosen: dict[int, int]) -> bytes:
    """The last version, with these sectors as they were in an earlier one."""
    data = bytearray(versions[-1])
    for at, number in chosen.items():
        length = min(SECTOR, len(data) - at)
        data[at : at + length] = bytes(versions[number][at : at + length]).ljust(length, b"\0")
    return bytes(data)


def draw(rng: random.Random) -> Fate:
    roll = rng.random()
    return ARRIVED if roll < 0.5 else LOST if roll < 0.8 else ZEROED


def of_folder(disk: Disk, rng: random.Random) -> list[dict[str, Inode]]:
    """Distinct outcomes; the first is that no name arrived, the second that all did."""
    namings = disk.namings
    count = len(namings)
    choices: list[tuple[bool, ...]] = [(False,) * count, (True,) * count]
    if count <= SUBSETS_UP_TO:
        choices += product((False, True), repeat=count)
    else:
        choices += [tuple(n < at for n in range(count)) for at in range(count)]
        choices += [tuple(n != at for n in range(count)) for at in range(count)]
        choices += [tuple(n == at for n in range(count)) for at in range(count)]
        choices += [tuple(rng.random() < 0.5 for _ in range(count)) for _ in range(6)]
    out: dict[tuple[tuple[str, int], ...], dict[str, Inode]] = {}
    for choice in choices:
        names = named(disk.names_durable, [n for n, kept in zip(namings, choice, strict=True) if kept])
        out.setdefault(tuple(sorted((path, id(inode)) for path, inode in names.items())), names)
    return list(out.values())


def named(durable: dict[str, Inode], namings: Iterable[Naming]) -> dict[str, Inode]:
    names = dict(durable)
    for naming in namings:
        rename_in(names, naming)
    return names


def states(disk: Disk, rng: random.Random, seen: set[int]) -> Iterator[Contents]:
    """The states after a power loss now, without those that are in ``seen``; they are added to it."""
    folders = of_folder(disk, rng)
    inodes = {id(inode): inode for names in folders for inode in names.values()}
    outcomes = {number: of_file(inode, rng) for number, inode in inodes.items()}
    pending = [number for number, of in outcomes.items() if len(of) > 1]

    def state(names: dict[str, Inode], chosen: dict[int, bytes], at: int) -> Contents:
        """Files that are not in ``chosen`` have outcome 0 or 1."""
        return {
            path: chosen[id(i)] if id(i) in chosen else outcomes[id(i)][min(at, len(outcomes[id(i)]) - 1)]
            for path, i in names.items()
        }

    def all_of_them() -> Iterator[Contents]:
        for names in folders:
            yield state(names, {}, 0)
            yield state(names, {}, 1)
        for number in pending:
            for content in outcomes[number]:
                yield state(folders[min(1, len(folders) - 1)], {number: content}, 1)
                if len(folders) > 1 or len(pending) > 1:
                    yield state(rng.choice(folders), {number: content}, rng.randrange(2))
        if len(pending) > 1:
            for _ in range(6):
                yield state(rng.choice(folders), {number: rng.choice(outcomes[number]) for number in pending}, 0)

    for found in all_of_them():
        digest = hash(tuple(sorted(found.items())))
        if digest not in seen:
            seen.add(digest)
            yield found


def worst(disk: Disk) -> Disk:
    """Nothing arrived but what was synced."""
    return Disk.holding({path: inode.durable for path, inode in disk.names_durable.items()})


def drawn(disk: Disk, rng: random.Random) -> Disk:
    """One state, drawn."""
    names = named(disk.names_durable, [naming for naming in disk.namings if rng.random() < 0.5])
    how = rng.choice(("none", "all", "one by one", "torn", "sectors"))
    contents: dict[int, bytes] = {}
    for inode in names.values():
        if id(inode) not in contents:
            contents[id(inode)] = _drawn(inode, how, rng)
    return Disk.holding({path: contents[id(inode)] for path, inode in names.items()})


def _drawn(inode: Inode, how: str, rng: random.Random) -> bytes:
    pending = inode.pending
    if how == "sectors" and pending:
        found = list(_sectors(inode, rng))
        if found:
            return rng.choice(found)
    if how == "torn" and pending:
        at = rng.randrange(len(pending))
        torn = list(_torn(pending[at]))
        if torn:
            return suffer(inode, [*[ARRIVED] * at, rng.choice(torn), *[LOST] * (len(pending) - at - 1)])
    fate = {"none": LOST, "all": ARRIVED}.get(how)
    return suffer(inode, [fate or draw(rng) for _ in pending])
