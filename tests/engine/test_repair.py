"""``verify --repair``: what follows on is kept, what is dropped is told, what is changed is copied first, and what
would take guessing is left alone."""

from __future__ import annotations

import copy
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from kvql_server.clock import ManualClock
from kvql_server.engines.base import Put
from kvql_server.engines.hashtable import HashTableEngine, manifest
from kvql_server.engines.hashtable.files import OsFiles, OsReader
from kvql_server.tools import repair
from kvql_server.tools.contents import contents
from kvql_server.tools.examine import NoStore, examine
from kvql_server.tools.findings import Effect

from tests.engine.disk import PowerLoss
from tests.engine.test_verify import FOLDER, mutated, small_store
from tests.stores import RECORDS, abandon, commit, ends, expected, log_of, state_of


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def repaired(folder: Path) -> str:
    """Repair, see that all is as it should be afterwards; what was said."""
    before = files_of(folder)
    plan = repair.plan(OsReader(), examine(OsReader(), str(folder)))
    assert files_of(folder) == before, "a plan changes nothing"
    copies = repair.carry_out(OsFiles(), plan)
    after = files_of(folder)
    for name, data in before.items():
        if after.get(name) != data:
            assert after[f"{name}.before-repair"] == data
    assert sorted(copies) == sorted(name for name in after if ".before-repair" in name and name not in before)
    assert all((folder / name).stat().st_mode & 0o777 == 0o600 for name in after if name not in before)
    assert examine(OsReader(), str(folder)).effect is None
    assert repair.plan(OsReader(), examine(OsReader(), str(folder))).is_empty
    return "\n".join(plan.said)


def reopened(folder: Path) -> tuple[dict[str, Any], int]:
    """The state, and the next revision."""
    engine = HashTableEngine.open(folder)
    assert not engine.warnings
    state = state_of(engine)
    revision = commit(engine, Put("z", "k", 1))
    engine.close_now()
    assert examine(OsReader(), str(folder)).effect is None
    return state, revision


def test_a_torn_end_is_cut_off_as_a_start_does_it(store: Path) -> None:
    log = log_of(store)
    os.truncate(log, log.stat().st_size - 5)
    said = repaired(store)
    assert f"{log.name}: cut off at offset" in said and "goes on" not in said
    assert reopened(store) == (expected(RECORDS - 1), RECORDS + 1)


def test_damage_before_whole_records_drops_them_and_their_revisions(store: Path) -> None:
    log = log_of(store)
    data = bytearray(log.read_bytes())
    bounds = ends(bytes(data))
    data[bounds[3] + 60] ^= 1
    log.write_bytes(data)
    said = repaired(store)
    assert f"{log.name}: cut off at offset {bounds[3]}, which drops {len(data) - bounds[3]:,} bytes" in said
    assert "dropped: revisions 6 to 9; 3 whole records with revisions 7 to 9 can still be read in the copies" in said
    state, revision = reopened(store)
    assert state == expected(4)
    assert revision > RECORDS + 1 and f"goes on with revision {revision}" in said


def test_a_repaired_store_can_be_damaged_and_repaired_again(store: Path) -> None:
    for _ in range(2):
        log = log_of(store)
        with log.open("ab") as file:
            file.write(b"garbage")
        repair.carry_out(OsFiles(), repair.plan(OsReader(), examine(OsReader(), str(store))))
    assert {path.name for path in store.glob("*.before-repair*")} == {
        f"{log.name}.before-repair", f"{log.name}.before-repair-2"
    }  # fmt: skip
    assert reopened(store)[0] == expected(RECORDS)


@pytest.mark.parametrize("content", [None, b"", b"nonsense\n", "flipped"])
def test_a_manifest_is_built_from_the_other_files(store: Path, content: Any) -> None:
    path = store / "MANIFEST"
    whole = path.read_bytes()
    found = manifest.decode(whole, "MANIFEST")
    before = contents(OsReader(), str(store), found)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(whole.replace(b"1", b"7", 1) if content == "flipped" else content)
    said = repaired(store)
    assert "MANIFEST is written anew from checkpoint-0000000000000001.kvc and 1 segment of the log" in said
    assert "reach revision 9" in said
    new = manifest.decode(path.read_bytes(), "MANIFEST")
    assert new == found
    assert contents(OsReader(), str(store), new) == before
    assert reopened(store) == (expected(RECORDS), RECORDS + 2)


def test_an_older_manifest_gives_way_to_the_files(tmp_path: Path) -> None:
    engine = HashTableEngine.open(tmp_path)
    commit(engine, Put("a", "k", 1))
    old = (tmp_path / "MANIFEST").read_bytes()
    engine.checkpoint()
    commit(engine, Put("a", "k", 2))
    engine.close_now()
    (tmp_path / "MANIFEST").write_bytes(old)
    assert examine(OsReader(), str(tmp_path)).effect is Effect.REFUSED
    repaired(tmp_path)
    assert reopened(tmp_path) == ({"k": 2}, 3)


def test_an_older_manifest_is_not_believed_though_only_a_segment_is_missing(tmp_path: Path) -> None:
    """Nothing was committed after the checkpoint: cutting the log off would throw all away."""
    engine = HashTableEngine.open(tmp_path)
    commit(engine, Put("a", "k", 1))
    old = (tmp_path / "MANIFEST").read_bytes()
    engine.checkpoint()
    abandon(engine)
    engine._lock.release()
    (tmp_path / "MANIFEST").write_bytes(old)
    repaired(tmp_path)
    assert reopened(tmp_path)[0] == {"k": 1}


def test_a_segments_header_is_written_anew(store: Path) -> None:
    log = log_of(store)
    whole = log.read_bytes()
    data = bytearray(whole)
    data[12:20] = bytes(8)
    log.write_bytes(data)
    said = repaired(store)
    assert "its header is written anew" in said and "goes on" not in said
    assert log.read_bytes() == whole
    assert reopened(store) == (expected(RECORDS), RECORDS + 2)


def many_segments(folder: Path) -> list[Path]:
    """Four openings, three commits each; the segments."""
    for opening in range(4):
        engine = HashTableEngine.open(folder)
        for n in range(3):
            commit(engine, Put("a", f"k{opening}", n))
        engine.close_now()
    return sorted(folder.glob("log-*.kvl"))


def test_a_missing_segment_drops_those_after_it(tmp_path: Path) -> None:
    logs = many_segments(tmp_path)
    logs[1].unlink()
    said = repaired(tmp_path)
    assert f"{logs[1].name}: taken out of MANIFEST; what it held is lost" in said
    assert f"{logs[2].name}: dropped whole (4 whole records, revisions 7 to 9)" in said
    assert "dropped: revisions 4 to 12; 8 whole records with revisions 7 to 12" in said
    state, revision = reopened(tmp_path)
    assert state == {"k0": 2} and revision > 12


def test_the_last_segment_missing(tmp_path: Path) -> None:
    logs = many_segments(tmp_path)
    logs[3].unlink()
    assert "nobody can tell how much" in repaired(tmp_path)
    state, revision = reopened(tmp_path)
    assert state == {"k0": 2, "k1": 2, "k2": 2} and revision > 1_000_000


def test_a_missing_segment_that_held_nothing(tmp_path: Path) -> None:
    """A checkpoint that failed leaves one: the chain shows that nothing is missing."""
    engine = HashTableEngine.open(tmp_path)
    commit(engine, Put("a", "k", 1))
    empty = engine._folder.new_segment()
    empty.file.close()
    engine._log.rotate(engine._folder.new_segment())
    commit(engine, Put("a", "k", 2))
    engine.close_now()
    os.unlink(empty.path)
    assert "nothing that the store needs was in it" in repaired(tmp_path)
    assert reopened(tmp_path) == ({"k": 2}, 3)


def test_garbage_behind_a_segment_that_others_follow(tmp_path: Path) -> None:
    logs = many_segments(tmp_path)
    with logs[1].open("ab") as file:
        file.write(b"garbage" * 10)
    done = examine(OsReader(), str(tmp_path))
    assert done.effect is Effect.REFUSED and f"{logs[2].name} after it is whole" in done.findings[0].reason
    said = repaired(tmp_path)
    assert "dropped:" not in said and "goes on" not in said
    assert reopened(tmp_path) == ({"k0": 2, "k1": 2, "k2": 2, "k3": 2}, 13)


def test_a_damaged_checkpoint_takes_a_backup(store: Path) -> None:
    path = next(store.glob("checkpoint-*"))
    for damage in ("flip", "missing"):
        data = path.read_bytes()
        if damage == "flip":
            path.write_bytes(data[:50] + b"!" + data[51:])
        else:
            path.unlink()
        with pytest.raises(repair.Unrepairable, match="cannot be repaired without guessing"):
            repair.plan(OsReader(), examine(OsReader(), str(store)))
        path.write_bytes(data)


def test_a_damaged_checkpoint_whose_log_is_still_whole(tmp_path: Path) -> None:
    """The power went between MANIFEST and the removal of what came before."""
    engine = HashTableEngine.open(tmp_path / "s")
    commit(engine, Put("a", "k", 1))
    kept = {path: path.read_bytes() for path in (tmp_path / "s").glob("log-*")}
    engine.checkpoint()
    commit(engine, Put("a", "k", 2))
    abandon(engine)
    engine._lock.release()
    for path, data in kept.items():
        path.write_bytes(data)
    point = next((tmp_path / "s").glob("checkpoint-*"))
    point.write_bytes(point.read_bytes()[:-3])
    assert "MANIFEST is written anew from no checkpoint and 2 segments" in repaired(tmp_path / "s")
    assert reopened(tmp_path / "s") == ({"k": 2}, 3)


def test_files_of_two_stores_are_not_mixed(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    engine = HashTableEngine.open(other)
    commit(engine, Put("a", "k", 1))
    engine.close_now()
    shutil.copy(log_of(other), store)
    (store / "MANIFEST").unlink()
    with pytest.raises(repair.Unrepairable):
        repair.plan(OsReader(), examine(OsReader(), str(store)))


def test_a_newer_format_is_left_alone(store: Path) -> None:
    log = log_of(store)
    data = bytearray(log.read_bytes())
    data[8] = 2
    log.write_bytes(data)
    done = examine(OsReader(), str(store))
    assert "has format 2, this release reads up to 1; use a newer release" in done.findings[0].reason
    with pytest.raises(repair.Unrepairable, match="newer release"):
        repair.plan(OsReader(), done)


def test_leftovers_are_set_aside_and_nothing_else(store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("MANIFEST.tmp", "log-00000001.kvl", "notes.txt", "users.json", "x.broken"):
        (store / name).write_text("half")
    (store / "link").symlink_to(elsewhere)
    said = repaired(store)
    assert said.splitlines() == [
        "MANIFEST.tmp: set aside, the store does not need it",
        "log-00000001.kvl: set aside, the store does not need it",
    ]
    assert (store / "link").is_symlink() and elsewhere.read_text() == "mine"
    assert all((store / name).read_text() == "half" for name in ("notes.txt", "users.json", "x.broken"))


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_damaged_a_repair_leaves_a_state_that_once_was(seed: int) -> None:
    """And never uses a revision again, and never loses a byte that it had."""
    rng = random.Random(seed)
    whole, history = small_store()
    newest = max(history)
    outcomes = {"repaired": 0, "refused": 0}
    for _ in range(120):
        disk, how = mutated(whole, rng)
        before = {path: bytes(inode.data) for path, inode in disk.names_now.items()}
        try:
            done = examine(disk, FOLDER)
            plan = repair.plan(disk, done)
        except (repair.Unrepairable, NoStore):
            assert before == {path: bytes(inode.data) for path, inode in disk.names_now.items()}
            outcomes["refused"] += 1
            continue
        repair.carry_out(disk, plan)
        outcomes["repaired"] += 1
        after = {bytes(inode.data) for inode in disk.names_now.values()}
        assert set(before.values()) <= after, how
        again = examine(disk, FOLDER)
        assert again.effect is None, f"{how}: {[str(f) for f in again.findings]}"
        engine = HashTableEngine.open(FOLDER, files=disk, clock=ManualClock())
        assert not engine.warnings
        assert state_of(engine) == history[again.revision], how
        revision = commit(engine, Put("a", "after", 1))
        if done.effect is Effect.REFUSED and done.manifest is not None and done.only_the_log:
            assert revision > newest, f"{how}: revision {revision} is used again"
        abandon(engine)
    assert outcomes["repaired"] > 60 and outcomes["refused"] > 3, outcomes


@pytest.mark.parametrize("kind", ["middle", "manifest", "missing"])
def test_the_power_may_go_during_a_repair(kind: str) -> None:
    whole, history = small_store()
    path = max(path for path in whole.names_now if len(ends(bytes(whole.names_now[path].data))) > 2)
    if kind == "middle":
        whole.names_now[path].data[ends(bytes(whole.names_now[path].data))[0] - 10] ^= 1
    elif kind == "manifest":
        del whole.names_now[f"{FOLDER}/MANIFEST"]
    else:
        segments = sorted(path for path in whole.names_now if path.endswith(".kvl"))
        del whole.names_now[segments[1]]
    for inode in whole.names_now.values():
        inode.durable, inode.pending = bytearray(inode.data), []
    whole.sync_folder(FOLDER)
    whole.calls = 0
    plain = copy.deepcopy(whole)
    repair.carry_out(plain, repair.plan(plain, examine(plain, FOLDER)))
    good = examine(plain, FOLDER).revision
    for dies_at in range(1, 1000):
        rng = random.Random(dies_at)
        disk = copy.deepcopy(whole)
        plan = repair.plan(disk, examine(disk, FOLDER))
        disk.die_at(disk.calls + dies_at)
        try:
            repair.carry_out(disk, plan)
        except PowerLoss:
            disk = disk.crashed(rng)
        else:
            break
        again = repair.plan(disk, examine(disk, FOLDER))
        repair.carry_out(disk, again)
        done = examine(disk, FOLDER)
        assert done.effect is None and done.revision == good
        engine = HashTableEngine.open(FOLDER, files=disk, clock=ManualClock())
        assert state_of(engine) == history[good]
        assert commit(engine, Put("a", "after", 1)) > max(history) or kind == "manifest"
        abandon(engine)
    else:
        raise AssertionError("it never ended")
