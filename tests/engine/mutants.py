"""Faults planted in the store, one at a time, and whether the crash and damage suites see them (``make mutants``).

A mutant is a fragment of a function's source that is replaced. The function is compiled again where it stands and its
code put into the function that is there, so every caller has it; afterwards the old code is put back. Every call in the
store that makes something durable has its mutant, which ``test_mutants`` checks.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

import pytest

from tests.engine.damage import harm
from tests.engine.powerloss import explore
from tests.engine.test_crash import (
    test_a_checkpoint_is_read_back,
    test_the_copy_of_a_damaged_end_is_durable,
    test_the_first_sector_of_a_write_may_be_the_one_that_is_lost,
)
from tests.engine.test_log_ends import test_what_a_failed_sync_left_in_memory_only_is_written_again
from tests.engine.workload import MODES

PACKAGE: Final = "kvql_server.engines.hashtable"


class Mutant(NamedTuple):
    what: str
    module: str
    function: str
    old: str
    new: str
    judge: str = "always"
    """Which suite is asked first; a mutant is caught by any."""
    equivalent: str = ""
    """Why nothing can show it, for those that nothing can."""


MUTANTS: Final = (
    # ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────
    Mutant("the log is not synced", "log", "Log._sync", "segment.file.sync()", "pass"),
    Mutant(
        "the old segment is not synced before the new one is written", "log", "Log._write",
        "                self._sync()", "                pass",
        "checkpoint",
    ),
    Mutant(
        "synced is said before the sync", "log", "Log.flush",
        "                self._write(batches)",
        "                self._on_synced(batches[-1].revision if batches else 0)\n"
        "                self._write(batches)\n                sync = False\n"
        "                self.synced_revision = batches[-1].revision if batches else self.synced_revision",
    ),
    Mutant(
        "who watches is told before the sync", "engine", "HashTableEngine._after_append",
        "self._mode != \"always\"", "True",
    ),
    Mutant(
        "a new segment's header is not synced", "checkpointer", "Folder.new_segment",
        "file.sync()", "pass",
    ),
    Mutant(
        "the folder is not synced after a new segment", "checkpointer", "Folder.new_segment",
        "self.files.sync_folder(self.path)", "pass",
    ),
    Mutant(
        "MANIFEST does not learn of a new segment", "checkpointer", "Folder.new_segment",
        "(*found.segments, listed)", "found.segments",
    ),
    Mutant(
        "the closing vouches for what goes with it", "engine", "HashTableEngine.close_now",
        "self._log.drain()", "self._log.stop(); self._log.synced_revision = self._store.revision",
        "checkpoint",
    ),
    # ── MANIFEST ──────────────────────────────────────────────────────────────────────────────────────────────────
    Mutant("MANIFEST is not synced before its rename", "manifest", "write_start", "file.sync()", "pass"),
    Mutant(
        "the folder is not synced after MANIFEST's rename", "manifest", "write", "files.sync_folder(folder)", "pass"
    ),
    Mutant(
        "MANIFEST is written in place", "manifest", "write",
        'write_whole(files, path + ".tmp", encode(manifest))\n    files.rename(path + ".tmp", path)',
        "write_whole(files, path, encode(manifest))",
    ),
    # ── the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────
    Mutant("the checkpoint is not synced", "checkpoint", "Writer.finish", "self._file.sync()", "pass"),
    Mutant(
        "the folder is not synced after the checkpoint's rename", "checkpointer", "Job._write",
        "files.rename(beside, path)\n            files.sync_folder(folder.path)",
        "files.rename(beside, path)",
    ),
    Mutant(
        "the log is not flushed before a checkpoint", "checkpointer", "Job._write", "self._log.flush()", "pass",
        "checkpoint",
    ),
    Mutant(
        "old files go before MANIFEST is written", "checkpointer", "Job._write",
        "        folder.write(msgspec.structs.replace(before, checkpoint=named, segments=kept))\n",
        "        for each in before.segments:\n            if each not in kept:\n"
        "                files.remove(os.path.join(folder.path, each.file))\n        files.sync_folder(folder.path)\n"
        "        folder.write(msgspec.structs.replace(before, checkpoint=named, segments=kept))\n",
    ),
    Mutant(
        "MANIFEST is written before the checkpoint", "checkpointer", "Job._write",
        "            self._write_file(beside)\n",
        "            folder.write(msgspec.structs.replace(folder.manifest, checkpoint="
        "manifest.Checkpoint(os.path.basename(path), revision), segments=tuple("
        "s for s in folder.manifest.segments if s.number >= self._new.number)))\n"
        "            self._write_file(beside)\n",
    ),
    Mutant(
        "the folder is not synced after old files went", "checkpointer", "Job._write",
        "                files.remove(os.path.join(folder.path, name))\n        files.sync_folder(folder.path)",
        "                files.remove(os.path.join(folder.path, name))",
        equivalent="what MANIFEST does not name is removed at the next opening, whether or not it came back",
    ),
    Mutant(
        "a checkpoint is not read back", "checkpointer", "Job._write",
        "length = checkpoint.verify(files, beside)", "length = self.bytes",
        "tests",
    ),
    # ── recovery ──────────────────────────────────────────────────────────────────────────────────────────────────
    Mutant(
        "recovery does not sync what it read", "recovery", "_sync_all", "            file.sync()", "            pass"
    ),
    Mutant(
        "what a failed sync left in memory is not written again", "recovery", "_sync_all",
        "_write_again(file, scan)", "pass", "tests",
    ),
    Mutant(
        "more of the log is taken for durable than is called so", "recovery", "_Vouched.take",
        "durable = read.durable", "durable = read.durable + 1", "tests",
    ),
    Mutant(
        "recovery does not sync the folder", "recovery", "_sync_all", "files.sync_folder(folder)", "pass",
    ),
    Mutant("the damaged end is not cut off", "recovery", "_cut_tails", "file.truncate(scan.end)", "pass"),
    Mutant(
        "the cut is not synced", "recovery", "_cut_tails", "            file.sync()", "            pass",
        equivalent="_sync_all syncs the same file before anything else is written",
    ),
    Mutant(
        "the folder is not synced after the copy of a damaged end", "recovery", "_cut_tails",
        "files.sync_folder(folder)", "pass",
        "tests",
    ),
    Mutant(
        "zeros behind the end stay", "recovery", "_sync_all", "file.truncate(scan.end)", "pass",
        equivalent="zeros read as the end, and no record is written behind them: an opening begins a new segment",
    ),
    Mutant(
        "the payload's checksum is not looked at", "record", "read_record",
        "crc32(payload, header_crc) != crc", "0",
    ),
    Mutant(
        "the header's checksum is not looked at", "record", "read_record",
        "crc32(data[offset : start - 4]) != header_crc", "0",
    ),
    Mutant(
        "the chain of records is not looked at", "recovery", "_replay",
        "read.epoch != segment.epoch or (read.previous != state.crc and not first)", "0",
        "damage",
    ),
    Mutant(
        "the first record's revision is not looked at", "recovery", "_replay", "read.revision > expected", "0", "damage"
    ),
    Mutant(
        "every damaged end is taken for a crash's", "recovery", "_replay",
        "        if at is not None:", "        if 0:",
        "damage",
    ),
    Mutant("a damaged end is never a crash's", "recovery", "_is_lost", "bytes(_LOST_BYTES) in gap", "False"),
    Mutant(
        "a lost first sector is not a crash's", "recovery", "_is_lost",
        "begun <= len(gap) and not any(gap[:begun])", "0",
        "tests",
    ),
    Mutant(
        "an earlier segment may be damaged", "recovery", "_judge_tails",
        "scan.damaged and whole is not None", "0", "damage",
    ),
    Mutant(
        "a block's checksum is not looked at", "checkpoint", "read_blocks", "crc != expected", "0", "damage",
    ),
    Mutant(
        "the checkpoint's header is not looked at", "checkpoint", "read_header",
        "crc != crc32(data[:-4])", "0", "damage",
    ),
    Mutant(
        "the checkpoint's footer is not looked at", "checkpoint", "read_blocks",
        "len(foot) != _FOOTER.size or _FOOTER.unpack(foot)[1:] != (blocks, pairs, crc32(foot[:-4], crc))", "0",
        "damage",
    ),
    Mutant(
        "MANIFEST's checksum is not looked at", "manifest", "decode", 'tail != f"{crc32(body):08x}".encode()', "0",
        "damage",
    ),
    # ── revisions ─────────────────────────────────────────────────────────────────────────────────────────────────
    Mutant(
        "no revisions are reserved", "engine", "HashTableEngine._reserve",
        "self._reserve_revisions(revisions)", "pass", "checkpoint",
    ),
    Mutant(
        "a reservation is not synced", "engine", "HashTableEngine._reserve_revisions", "self._log.flush()", "pass",
        "checkpoint",
    ),
    Mutant(
        "a reservation is not repeated at a checkpoint", "engine", "HashTableEngine._begin",
        "self._reserve_in_new_segment()", "pass",
        "checkpoint",
    ),
    Mutant(
        "recovery forgets the reservation", "recovery", "load", "max(state.revision, state.reserved)", "state.revision",
        "checkpoint",
    ),
    Mutant(
        "an opening does not go on behind the reservation", "recovery", "_replay",
        "max(state.revision, state.reserved)", "state.revision",
        "checkpoint",
    ),
    Mutant(
        "a checkpoint leaves out history", "checkpointer", "Job._write_history",
        "writer.add_payload(checkpoint.HISTORY, payload, steps)", "pass",
    ),
    Mutant(
        "recovery takes a step for a put where there was a state before", "checkpoint_history", "Past.add",
        "if flags & _HAD else None", "if flags & _HAD and not flags & _GONE else None",
    ),
    Mutant(
        "a decimal comes back from the log as text", "record", "_plain_decimal", "type(write.value) is Decimal", "0"
    ),
    Mutant(
        "the clock is not moved to the time of the log", "recovery", "_carry_out",
        "max(state.time, read.time)", "state.time",
    ),
    Mutant(
        "the clock is not moved to the time of the checkpoint", "recovery", "load",
        "state.revision, state.time = header.revision, header.time", "state.revision = header.revision",
    ),
    Mutant(
        "with each checkpoint history begins anew", "checkpoint_history", "keep",
        "            records = journal.records(journal.floor, revision)\n"
        "            out.append(Kept(journal.namespace, journal.floor, journal.floor_time, records))",
        "            out.append(Kept(journal.namespace, revision, now, []))",
    ),
    Mutant(
        "nobody looks for the first puts that no file tells of", "checkpoint_history", "Past.load",
        "row.floor < revision", "0",
    ),
    Mutant(
        "a checkpoint forgets what expired and what was deleted", "checkpoint_history", "_encode_steps",
        "(_EXPIRED if step.expired else 0)", "0",
    ),
    Mutant(
        "a checkpoint leaves out users, namespaces and outcomes", "checkpointer", "Job._write_file",
        "sorted(store.tables)", "sorted(name for name in store.tables if name != '$system')",
    ),
    Mutant(
        "a pair of a checkpoint never expires", "checkpoint", "_load_block",
        "store.wheel.add(columns.namespace, columns.keys[at], expires_at)", "pass",
    ),
    Mutant(
        "a checkpoint leaves out what is due", "engine", "HashTableEngine._begin",
        "            self._expire_all(now)\n", "",
        equivalent="a pair that is due is in the checkpoint too, so its expiry can come after it",
    ),
)  # fmt: skip


def function_of(mutant: Mutant) -> FunctionType:
    found: Any = importlib.import_module(f"{PACKAGE}.{mutant.module}")
    for name in mutant.function.split("."):
        found = getattr(found, name)
    assert isinstance(found, FunctionType)
    return found


def mutated(mutant: Mutant) -> CodeType:
    """The function's code with the fault in it; its lines stay where they are where the fault has as many."""
    function = function_of(mutant)
    module = sys.modules[function.__module__]
    text, own = inspect.getsource(module), inspect.getsource(function)
    assert own.count(mutant.old) == 1, f"{mutant.what}: {mutant.old!r} is not there once in {mutant.function}"
    assert text.count(own) == 1
    whole = compile(
        text.replace(own, own.replace(mutant.old, mutant.new)), inspect.getfile(module), "exec", dont_inherit=True
    )
    return next(code for code in _codes(whole) if code.co_qualname == function.__qualname__)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    function = function_of(mutant)
    old = function.__code__
    function.__code__ = mutated(mutant)
    try:
        yield
    finally:
        function.__code__ = old


def judges(seeds: int) -> dict[str, list[Callable[[], object]]]:
    """The suites, by the names that ``Mutant.judge`` uses."""
    found: dict[str, list[Callable[[], object]]] = {
        mode: [partial(explore, seed, mode, 40, whole=False) for seed in range(seeds)] for mode in MODES
    }
    found["damage"] = [partial(harm, seed, 600) for seed in range(1, seeds + 1)]
    found["tests"] = [
        test_a_checkpoint_is_read_back, test_the_copy_of_a_damaged_end_is_durable,
        test_the_first_sector_of_a_write_may_be_the_one_that_is_lost,
        partial(test_what_a_failed_sync_left_in_memory_only_is_written_again, "always", 3),
    ]  # fmt: skip
    return found


def caught(mutant: Mutant, seeds: int) -> str | None:
    """What the suites say with the fault planted; None if they see nothing."""
    suites = judges(seeds)
    first = suites.pop(mutant.judge)
    with planted(mutant), pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.root.manager, "disable", logging.CRITICAL)
        for judge in [*first, *(judge for suite in suites.values() for judge in suite)]:
            try:
                judge()
            except (Exception, pytest.fail.Exception) as e:  # noqa: BLE001 - a store with a fault may fail in any way
                return f"{type(e).__name__}: {e}".splitlines()[0]
    return None


def main() -> int:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    print(f"{len(MUTANTS)} planted faults; {seeds} seeds of each of {len(MODES)} modes and of damage, to find each")
    missed = 0
    for mutant in MUTANTS:
        began = time.monotonic()
        seen = caught(mutant, seeds)
        took = time.monotonic() - began
        verdict = "caught" if seen else "equivalent" if mutant.equivalent else "MISSED"
        if seen and mutant.equivalent:
            verdict = "caught, though said to be equivalent"
        missed += verdict not in ("caught", "equivalent")
        print(f"{verdict:10} {took:5.1f} s  {mutant.what}\n{'':20}{(seen or mutant.equivalent)[:150]}", flush=True)
    kept = sum(not mutant.equivalent for mutant in MUTANTS)
    print(f"{kept - missed} of {kept} caught, {len(MUTANTS) - kept} equivalent ones not counted")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
