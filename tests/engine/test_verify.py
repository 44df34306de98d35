"""``verify`` says what a start would do: on whatever a crash leaves, and on files changed in every way."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines import base
from kvql_server.engines.base import Delete, Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, checkpoint, manifest, record, recovery
from kvql_server.engines.hashtable.files import OsReader
from kvql_server.engines.hashtable.store import Store
from kvql_server.tools.examine import Examination, NoStore, examine
from kvql_server.tools.findings import Effect

from tests.engine.disk import Disk
from tests.engine.test_crash import lives
from tests.stores import RECORDS, abandon, commit, ends, log_of, state_of, step

FOLDER = "/store"


def start_on(disk: Disk) -> Effect | None:
    """What a start does: refuses, cuts off, or neither."""
    path = os.path.join(FOLDER, manifest.NAME)
    try:
        file = disk.open(path)
        found = manifest.decode(file.read_at(file.size(), 0), path)
        state = recovery.load(disk, FOLDER, found, Store())
    except (base.EngineError, OSError):
        return Effect.REFUSED
    return Effect.CUT if any(scan.damaged for scan in state.scans) else None


def agrees(done: Examination, started: Effect | None) -> bool:
    found = {finding.effect for finding in done.findings}
    if started is Effect.REFUSED:
        return Effect.REFUSED in found
    return Effect.REFUSED not in found and (started is Effect.CUT) == (Effect.CUT in found)


def small_store() -> tuple[Disk, dict[int, dict[str, Any]]]:
    """Six openings, in all modes, some killed; checkpoints, the last one never finished. And the state at each
    revision."""
    disk, clock = Disk(), ManualClock()
    history: dict[int, dict[str, Any]] = {0: {}}
    for opening, mode in enumerate(("always", "interval", "always", "checkpoint", "always", "always")):
        engine = HashTableEngine.open(FOLDER, files=disk, clock=clock, sync=mode)
        if opening == 5:
            engine.checkpoint()
        for n in range(6):
            revision = commit(engine, Put("a", f"k{n}", opening * 10 + n), Put("b", f"o{opening}", "x" * 40))
            history[revision] = state_of(engine)
        if opening == 2:
            engine.checkpoint()
            revision = commit(engine, Delete("a", "k1"), Put("a", "ttl", 1, clock.now() + 10**9))
            history[revision] = state_of(engine)
        if opening == 5:
            revision = commit(engine, Put("a", "more", 1))
            history[revision] = state_of(engine)
            fail_the_checkpoint(disk, engine)
            revision = commit(engine, Put("a", "last", 1))
            history[revision] = state_of(engine)
        if opening in (0, 2):
            engine.close_now()
        else:
            engine._log.flush()
            abandon(engine)
            disk.killed()
    return disk, history


def fail_the_checkpoint(disk: Disk, engine: HashTableEngine) -> None:
    """It has its segment, and no file."""

    def fail(name: str, path: str) -> None:
        if name == "create" and path.endswith(".kvc.tmp"):
            raise OSError(28, "no space left on device")

    disk.on_call = fail
    with pytest.raises(base.EngineError):
        engine.checkpoint()
    disk.heal()


# ── stores that nobody damaged ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(120))
def test_what_a_crash_leaves_is_sound_or_torn(seed: int) -> None:
    for disk, states, confirmed in lives(seed, 5):
        if "MANIFEST" not in disk.names(FOLDER):
            continue  # the power went before the store was made
        done = examine(disk, FOLDER)
        assert done.effect is start_on(disk), [str(finding) for finding in done.findings]
        assert done.revision in states and done.revision >= confirmed


@pytest.mark.parametrize("mode", ["always", "interval", "checkpoint"])
@pytest.mark.parametrize("seed", range(12))
def test_revisions_that_were_left_out_are_no_damage(mode: Any, seed: int) -> None:
    rng = random.Random(seed)
    disk, clock = Disk(), ManualClock()
    for _ in range(7):
        engine = HashTableEngine.open(
            FOLDER, files=disk, clock=clock, sync=mode if rng.random() < 0.7 else "always"
        )  # fmt: skip
        for n in range(rng.choice([0, 0, 1, 20])):
            step(engine.commit_many([Transaction((), [Put("a", f"k{n}", n, clock.now() + rng.randrange(10**7))])]))
            clock.advance(rng.random())
            engine.tick()
            if rng.random() < 0.1:
                engine.checkpoint()
        if rng.random() < 0.4:
            engine.close_now()
        else:
            abandon(engine)
            disk = disk.crashed(rng) if rng.random() < 0.7 else disk.killed()
        done = examine(disk, FOLDER)
        assert done.effect is start_on(disk), [str(finding) for finding in done.findings]


def test_the_lines(store: Path) -> None:
    done = examine(OsReader(), str(store))
    assert done.effect is None and done.revision == RECORDS + 1
    assert [(line.file, line.what.split(", ", 1)[-1]) for line in done.lines()[1:]] == [
        ("checkpoint-0000000000000001.kvc", "1 pair, revision 1"),
        ("log-00000002.kvl", "16 changes, revisions 2 to 9"),
    ]


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def mutated(disk: Disk, rng: random.Random) -> tuple[Disk, str]:
    """One file changed behind the store's back, and how."""
    disk = copy.deepcopy(disk)
    path = rng.choice(sorted(disk.names_now))
    data = disk.names_now[path].data
    used = len(bytes(data).rstrip(b"\0"))
    at = rng.randrange(max(used, 1))
    what = rng.choice(["flip", "flip", "zeros", "cut", "garbage", "remove", "double", "swap"])
    match what:
        case "flip":
            data[at] ^= 1 << rng.randrange(8)
        case "zeros":
            at = at // 64 * 64
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        case "cut":
            del data[at:]
        case "garbage":
            data[used : used + 50] = rng.randbytes(50)
        case "remove":
            del disk.names_now[path]
        case "double":
            data[at:at] = data[at : at + 60]
        case "swap":
            other = rng.choice(sorted(disk.names_now))
            disk.names_now[path], disk.names_now[other] = disk.names_now[other], disk.names_now[path]
    return disk, f"{what} {os.path.basename(path)} at {at}"


@pytest.mark.parametrize("seed", range(10))
def test_the_verdict_is_what_a_start_does(seed: int) -> None:
    rng = random.Random(seed)
    whole, _ = small_store()
    assert examine(whole, FOLDER).effect is None
    outcomes = set()
    for _ in range(200):
        disk, how = mutated(whole, rng)
        if rng.random() < 0.3:
            disk, again = mutated(disk, rng)
            how += f", {again}"
        started = start_on(disk)
        done = examine(disk, FOLDER)
        assert agrees(done, started), f"{how}: {started}, but {[str(finding) for finding in done.findings]}"
        outcomes.add(started)
    assert outcomes == {None, Effect.CUT, Effect.REFUSED}


def test_every_byte_of_the_last_records_cut(store: Path) -> None:
    log = log_of(store)
    data = log.read_bytes()
    bounds = ends(data)
    for cut in range(bounds[-3], len(data)):
        os.truncate(log, cut)
        done = examine(OsReader(), str(store))
        good = max(end for end in bounds if end <= cut)
        if cut == good:
            assert done.effect is None
        else:
            (finding,) = done.findings
            assert (finding.file, finding.offset, finding.effect) == (log.name, good, Effect.CUT)
            assert "cut short" in finding.reason
        assert done.revision == 1 + sum(end <= cut for end in bounds)
        log.write_bytes(data)


def test_damage_names_file_offset_and_reason(store: Path) -> None:
    log = log_of(store)
    data = bytearray(log.read_bytes())
    bounds = ends(bytes(data))
    data[bounds[2] + 60] ^= 1  # the payload of the fourth record
    data[bounds[5] + 20] ^= 1  # the header of the seventh
    log.write_bytes(data)
    point = next(store.glob("checkpoint-*"))
    changed = bytearray(point.read_bytes())
    changed[70] ^= 1
    point.write_bytes(changed)
    done = examine(OsReader(), str(store))
    assert done.effect is Effect.REFUSED and done.revision == 4
    assert [str(finding) for finding in done.findings] == [
        f"{point.name}, offset 44: a block's checksum does not match; a start refuses",
        f"{log.name}, offset {bounds[2]}: the checksum of a record does not match, and the record at offset "
        f"{bounds[3]} after it is whole; a start refuses",
        f"{log.name}, offset {bounds[5]}: the checksum of a record's header does not match; a start refuses",
    ]


def test_a_record_of_another_place_is_told(store: Path) -> None:
    log = log_of(store)
    data = log.read_bytes()
    bounds = ends(data)
    log.write_bytes(data[: bounds[2]] + data[bounds[3] :])
    (finding,) = examine(OsReader(), str(store)).findings
    assert (finding.offset, finding.reason) == (bounds[2], "the record does not follow the one before it")


def rewritten(data: bytes, change: Any) -> bytes:
    """The log with its records made anew, checksums and all, ``change`` applied to each: a fault of our own."""
    out, at, crc = data[: record.SEGMENT_HEADER_BYTES], record.SEGMENT_HEADER_BYTES, None
    number = 0
    while (read := record.read_record(data, at)) is not None:
        crc = read.previous if crc is None else crc
        new = change(number, read)
        part, crc = record.frame(new.kind, new.epoch, crc, new.revision, new.durable, new.time, new.payload)
        out += part
        at, number = read.end, number + 1
    return out


@pytest.mark.parametrize(
    ("fields", "reason", "effect"),
    [
        ({"revision": 50, "durable": 1}, "revision 50 comes, 6 was expected", Effect.UNSEEN),
        ({"time": 5}, "its time is before", Effect.UNSEEN),
        ({"durable": 99}, "calls itself durable", Effect.UNSEEN),
        ({"kind": 7}, "no record of kind 7", Effect.REFUSED),
        ({"payload": b"\xc1"}, "cannot be read", Effect.REFUSED),
        ({"payload": record.encode_transactions([Transaction((), [Put("a", 5, 5)])])[0]}, "not text", Effect.UNSEEN),
        ({"payload": record.encode_transactions([Transaction((), [Put("a", "k", 2**63)])])[0]}, "64 bits",
         Effect.UNSEEN),
    ],
)  # fmt: skip
def test_what_checksums_cannot_tell(store: Path, fields: dict[str, Any], reason: str, effect: Effect) -> None:
    log = log_of(store)
    log.write_bytes(rewritten(log.read_bytes(), lambda n, read: read._replace(**fields) if n == 4 else read))
    done = examine(OsReader(), str(store))
    assert any(reason in finding.reason and finding.effect is effect for finding in done.findings)


def test_blocks_that_checksums_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.checkpoint_name(5)
    from kvql_server.engines.hashtable.entries import Entry, Meta
    from kvql_server.engines.hashtable.files import OsFiles
    from kvql_server.tools.check_checkpoint import CheckpointCheck

    def check(*blocks: tuple[str, list[tuple[str, Any, int]]]) -> str:
        file = OsFiles().create(str(path))
        writer = checkpoint.Writer(file, checkpoint.Header(1, bytes(8), 5, 0))
        for namespace, pairs in blocks:
            writer.add(namespace, [(key, Entry(value, revision, Meta(0, "", ""))) for key, value, revision in pairs])
        writer.finish()
        file.close()
        found = CheckpointCheck(OsReader(), str(tmp_path), path.name).finding
        return "" if found is None else found.reason

    assert check(("a", [("k", 1, 1), ("l", 2, 2)]), ("a", [("m", 1, 1)]), ("b", [("a", 1, 1)])) == ""
    assert "'k' comes after 'l'" in check(("a", [("l", 1, 1)]), ("a", [("k", 1, 1)]))
    assert "'k' comes after 'k'" in check(("a", [("k", 1, 1), ("k", 1, 1)]))
    assert "namespace 'a' comes after 'b'" in check(("b", [("k", 1, 1)]), ("a", [("k", 1, 1)]))
    assert "newer than its checkpoint" in check(("a", [("k", 1, 6)]))
    assert "64 bits" in check(("a", [("k", 2**63, 1)]))


def test_folders_that_hold_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        examine(OsReader(), str(tmp_path))
    (tmp_path / "LOCK").touch()
    (tmp_path / "MANIFEST.tmp").touch()
    (tmp_path / "notes.txt").write_text("log-00000001.kvl")
    with pytest.raises(NoStore):
        examine(OsReader(), str(tmp_path))


def test_pipes_and_folders_in_the_place_of_files(store: Path) -> None:
    log = log_of(store)
    log.unlink()
    os.mkfifo(log)
    (finding,) = examine(OsReader(), str(store)).findings
    assert "not a regular file" in finding.reason and finding.effect is Effect.REFUSED
    log.unlink()
    log.mkdir()
    (finding,) = examine(OsReader(), str(store)).findings
    assert finding.effect is Effect.REFUSED


def test_leftovers_are_named(store: Path) -> None:
    for name in ("MANIFEST.tmp", "log-00000001.kvl", "checkpoint-0000000000000009.kvc.tmp", "notes.txt", "users.json"):
        (store / name).write_text("half")
    done = examine(OsReader(), str(store))
    assert done.effect is None
    assert done.leftovers == ["MANIFEST.tmp", "checkpoint-0000000000000009.kvc.tmp", "log-00000001.kvl"]
