"""Backups of a store in use hold a committed prefix, all of what was confirmed before them, and are sound."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kvql_server.engines import base
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine, manifest, recovery
from kvql_server.engines.hashtable.checkpointer import Job
from kvql_server.engines.hashtable.files import OsFiles, OsReader
from kvql_server.engines.hashtable.store import Store
from kvql_server.tools import backup as module
from kvql_server.tools.backup import NoBackup, back_up
from kvql_server.tools.examine import NoStore, examine
from kvql_server.tools.findings import Effect

from tests.servers import wait_until
from tests.stores import RECORDS, abandon, commit, ends, expected, log_of, state_of, step

WRITER = """
import asyncio, os, random, sys
from kvql_server.engines.base import Put, Transaction
from kvql_server.engines.hashtable import HashTableEngine
from tests.servers import wait_until

async def main(folder, journal, mode):
    engine = HashTableEngine.open(folder, checkpoint_interval_s=0.15, sync=mode)
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rng = random.Random(1)

    async def writer():
        while True:
            revision = engine.status()["revision"] + 1
            size = rng.choice([10, 10, 10, 100, 1000, 300_000 if rng.random() < 0.02 else 10])
            writes = [Put("a", str(revision), "x" * size), Put("a", "hot", revision)]
            if revision > 400:
                writes[0] = Put("a", str(1 + revision % 400), "x" * size)
            (made,) = await engine.commit_many([Transaction((), writes)])
            assert made == revision
            await engine.synced(revision)
            os.write(fd, b"%d\\n" % revision)
            await asyncio.sleep(0)

    async def upkeep():
        while True:
            engine.tick()
            await asyncio.sleep(0.005)

    await asyncio.gather(upkeep(), *[writer() for _ in range(4)])

asyncio.run(main(*sys.argv[1:]))
"""


class Writers:
    """Another process with four writers; ``confirmed`` is what they were told is durable."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.journal = folder.parent / "journal"
        command = [sys.executable, "-c", WRITER, str(folder), str(self.journal), mode]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_until(lambda: self.confirmed >= 50 or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    @property
    def confirmed(self) -> int:
        try:
            lines = self.journal.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return 0
        return max(map(int, lines), default=0)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Callable[[str], Writers]]:
    started: list[Writers] = []

    def start(mode: str) -> Writers:
        started.append(Writers(tmp_path / "live", mode))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def loaded(folder: Path) -> tuple[dict[str, Any], int]:
    """The entries, and the newest revision, as a start would have them."""
    tables = Store()
    found = manifest.decode((folder / "MANIFEST").read_bytes(), "MANIFEST")
    recovery.load(OsReader(), str(folder), found, tables)
    point = 0 if found.checkpoint is None else found.checkpoint.revision
    return dict(tables.table("a").entries), max(tables.revision, point)


def written(revision: int) -> dict[str, int]:
    """What the writers have written up to a revision: which one wrote each key last."""
    last = {str(n): n for n in range(1, min(revision, 400) + 1)}
    for n in range(max(401, revision - 399), revision + 1):
        last[str(1 + n % 400)] = n
    return {**last, "hot": revision} if revision else last


@pytest.mark.parametrize("mode", ["always", "interval"])
def test_backups_while_others_write(tmp_path: Path, writers: Callable[[str], Writers], mode: str) -> None:
    live = writers(mode)
    points: set[str] = set()
    taken: list[int] = []
    number = 0
    while number < 20 or len(points) < 4:
        number += 1
        to = tmp_path / f"backup-{number}"
        confirmed = live.confirmed
        if number == 15 and mode == "always":
            # the process dies while the backup is taken
            threading.Timer(0.01, live.process.kill).start()
        done = back_up(OsReader(), OsFiles(), str(tmp_path / "live"), str(to))
        assert examine(OsReader(), str(to)).effect is None
        pairs, revision = loaded(to)
        assert revision == done.revision >= (confirmed if mode == "always" else 0)
        assert {key: entry.revision for key, entry in pairs.items()} == written(revision), "a prefix without gaps"
        assert revision == 0 or pairs["hot"].value == revision
        points |= {path.name for path in to.glob("checkpoint-*")}
        taken.append(revision)
        if number == 15 and mode == "always":
            live.kill()
            live = writers(mode)
    assert live.process.poll() is None
    assert taken == sorted(taken) and taken[-1] > taken[0]
    live.kill()
    done = back_up(OsReader(), OsFiles(), str(tmp_path / "live"), str(tmp_path / "last"))
    engine = HashTableEngine.open(tmp_path / "last")
    assert not engine.warnings
    assert engine.snapshot().revision >= done.revision >= (live.confirmed if mode == "always" else 1)
    commit(engine, Put("a", "after", 1))
    engine.close_now()
    assert examine(OsReader(), str(tmp_path / "last")).effect is None
    assert not list(tmp_path.glob("*.tmp"))


class Meanwhile(OsReader):
    """Lets the store's own process do something between any two calls of the backup."""

    def __init__(self, after: int, steps: Iterator[None]) -> None:
        self.calls = 0
        self._after = after
        self._steps = steps

    def call(self) -> None:
        self.calls += 1
        if self.calls > self._after:
            next(self._steps, None)

    def open(self, path: str) -> Any:
        self.call()
        return MeanwhileFile(self, super().open(path))


class MeanwhileFile:
    def __init__(self, reader: Meanwhile, file: Any) -> None:
        self._reader = reader
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read_at(self, length: int, offset: int) -> bytes:
        self._reader.call()
        data: bytes = self._file.read_at(length, offset)
        return data


def a_checkpoint_in_steps(engine: HashTableEngine) -> Iterator[None]:
    """Commits between all that a checkpoint does, twice."""
    for _ in range(2):
        job = Job(engine._folder, engine._log, engine._store, gently=False)

        def put(*, sync: bool = True) -> None:
            commit(engine, Put("a", "hot", 1), sync=sync)

        def end(job: Job = job) -> None:
            job.write()
            assert job.error is None
            engine._end_checkpoint(job)

        steps: list[Callable[[], object]] = [
            put, job.prepare, put, put, lambda job=job: engine._begin(job), lambda: put(sync=False), put, end
        ]  # fmt: skip
        for each in steps:
            each()
            yield


def test_a_checkpoint_between_any_two_calls(tmp_path: Path) -> None:
    """Deterministic: however far the writing process is with a checkpoint, and whenever it goes on, the copy is a
    prefix."""
    engine = HashTableEngine.open(tmp_path / "s")
    commit(engine, Put("a", "first", 1))
    engine.checkpoint()
    tried = 0
    for begun in (0, 3):
        calls = after = 0
        while after <= calls:
            steps = a_checkpoint_in_steps(engine)
            for _ in range(begun):
                next(steps)
            confirmed = commit(engine, Put("a", "hot", 1))
            reader, to = Meanwhile(after, steps), tmp_path / f"copy-{begun}-{after}"
            done = back_up(reader, OsFiles(), str(tmp_path / "s"), str(to))
            for _ in steps:
                pass
            assert examine(OsReader(), str(to)).effect is None
            entries, revision = loaded(to)
            assert entries["hot"].revision == revision == done.revision >= confirmed
            calls, after, tried = reader.calls, after + 1, tried + 1
    engine.close_now()
    assert tried > 40


def test_a_stopped_store_and_its_copy_go_separate_ways(store: Path, tmp_path: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.iterdir()}
    to = tmp_path / "copy"
    done = back_up(OsReader(), OsFiles(), str(store), str(to))
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.iterdir()}
    assert done.revision == RECORDS + 1 and done.size == sum(path.stat().st_size for path in to.iterdir())
    assert to.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in to.iterdir()} == {path.name for path in store.iterdir()} - {"LOCK"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in to.iterdir())
    engine = HashTableEngine.open(to)
    assert state_of(engine) == expected(RECORDS)
    commit(engine, Put("a", "k", "another"))
    engine.close_now()
    # a file of the one is refused by the other
    (store / log_of(store).name).write_bytes((to / log_of(store).name).read_bytes())
    with pytest.raises(base.Corrupted, match="belongs elsewhere"):
        HashTableEngine.open(store)


def test_an_empty_store(tmp_path: Path) -> None:
    HashTableEngine.open(tmp_path / "s").close_now()
    done = back_up(OsReader(), OsFiles(), str(tmp_path / "s"), str(tmp_path / "copy"))
    assert done.revision == 0
    HashTableEngine.open(tmp_path / "copy").close_now()


def test_only_files_of_the_store_are_copied(store: Path, tmp_path: Path) -> None:
    """A link that MANIFEST names is read through, and the copy is a file of its own."""
    log = log_of(store)
    log.rename(tmp_path / "elsewhere.kvl")
    log.symlink_to(tmp_path / "elsewhere.kvl")
    (store / "users.json").write_text("[]")
    (store / "log-00000001.kvl").write_text("left over")
    back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "MANIFEST", "checkpoint-0000000000000001.kvc", log.name
    }  # fmt: skip
    assert not (tmp_path / "copy" / log.name).is_symlink()


def test_where_a_backup_may_go(store: Path, tmp_path: Path) -> None:
    def refused(to: Path, why: str) -> None:
        with pytest.raises(NoBackup, match=why):
            back_up(OsReader(), OsFiles(), str(store), str(to))

    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "half.tmp").mkdir()
    for name in ("file", "full", "link", "store"):
        refused(tmp_path / name, "not an empty folder")
    refused(tmp_path / "half", "remove it")
    refused(tmp_path / "absent" / "x", "cannot make the folder")
    assert (tmp_path / "half.tmp").is_dir() and (tmp_path / "full" / "x").read_text() == "mine"
    assert back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "empty")).revision == RECORDS + 1
    with pytest.raises(NoStore):
        back_up(OsReader(), OsFiles(), str(tmp_path / "full"), str(tmp_path / "other"))


class Failing(OsFiles):
    """Fails at one call of its own."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def create(self, path: str) -> Any:
        self._count()
        return FailingFile(self, super().create(path))

    def rename(self, path: str, new_path: str) -> None:
        self._count()
        super().rename(path, new_path)

    def sync_folder(self, folder: str) -> None:
        self._count()
        super().sync_folder(folder)


class FailingFile:
    def __init__(self, files: Failing, file: Any) -> None:
        self._files = files
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write_at(self, data: bytes, offset: int) -> int:
        self._files._count()
        written: int = self._file.write_at(data, offset)
        return written

    def sync(self) -> None:
        self._files._count()
        self._file.sync()


def test_of_a_backup_that_fails_nothing_is_left(store: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for at in range(1, 1000):
        files = Failing(at)
        try:
            back_up(OsReader(), files, str(store), str(tmp_path / "copy"))
        except NoBackup as e:
            assert "No space left on device" in str(e) and "nothing of it is left" in str(e)
            assert sorted(tmp_path.iterdir()) == before
        else:
            break
    assert at > 12


def test_a_torn_end_is_left_out(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    log = log_of(store)
    os.truncate(log, log.stat().st_size - 5)
    done = back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
    assert done.revision == RECORDS and done.left_out > 50
    pairs, _ = loaded(tmp_path / "copy")
    assert {key: entry.value for key, entry in pairs.items()} == expected(RECORDS - 1)


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_a_torn_beginning_of_a_segment_is_left_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Any
) -> None:
    """Records behind what the crash took call durable what the segments before hold: that is no damage."""
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    engine = HashTableEngine.open(store, sync=sync)
    step(engine.commit_many([Transaction((), [Put("a", f"n{n}", "x" * 300)]) for n in range(10)]))
    engine._log.flush(sync=False)
    abandon(engine)
    engine._lock.release()
    data = bytearray(log_of(store).read_bytes())
    data[100:512] = bytes(412)
    log_of(store).write_bytes(data)
    assert examine(OsReader(), str(store)).effect is Effect.CUT
    done = back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
    assert done.revision == RECORDS + 1 and done.left_out > 3000
    engine = HashTableEngine.open(tmp_path / "copy")
    assert state_of(engine) == expected(RECORDS)
    engine.close_now()


def test_a_damaged_store_is_not_copied(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    monkeypatch.setattr(module, "OPEN_AGAIN_S", 0.001)
    files = {path: path.read_bytes() for path in store.iterdir()}
    log, point = log_of(store), next(store.glob("checkpoint-*"))
    start = ends(files[log])[2]
    rng = random.Random(3)
    for _ in range(60):
        path = rng.choice([log, point, store / "MANIFEST"])
        changed = bytearray(files[path])
        end = ends(files[log])[-2] if path == log else len(changed)
        changed[rng.randrange(start if path == log else 0, end)] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises((NoBackup, base.Corrupted)) as refused:
            back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
        if isinstance(refused.value, NoBackup):
            assert refused.value.damaged
        path.write_bytes(files[path])
    for path in (log, point):
        path.unlink()
        with pytest.raises(NoBackup, match="is missing, though MANIFEST names it"):
            back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
        path.write_bytes(files[path])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_write_under_way_is_waited_for(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of which only a part is there yet, as a reader may see a write; the rest comes while it waits."""
    log = log_of(store)
    data = log.read_bytes()
    bounds = ends(data)
    os.truncate(log, bounds[-2] + 30)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: log.write_bytes(data))
    done = back_up(OsReader(), OsFiles(), str(store), str(tmp_path / "copy"))
    assert done.revision == RECORDS + 1 and not done.left_out
