"""A file layer in memory that knows what is on the disk and what is only on its way there.

A crash keeps what was synced. Of the changes of a file since its sync (writes, sizes), and of the names that were
created, renamed or removed since the folder's sync, any may have arrived and any may be lost, in any order:
``pending`` and ``namings`` hold them, ``fates`` says what may become of them. The death of the process alone loses
nothing of either.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import NamedTuple

from kvql_server.engines import base

ALLOCATE_MAX = 1 << 13
"""The engine asks for megabytes; the rest comes as it is written, and reads as zeros or not at all until then."""
MUTATING = frozenset(("create", "rename", "remove", "sync_folder", "write", "allocate", "truncate", "sync"))


class PowerLoss(BaseException):
    """Not an OSError: nobody may handle it."""


class Change(NamedTuple):
    """Of a file: bytes at an offset; or, with None, that the file ends at ``offset``."""

    offset: int
    data: bytes | None


class Naming(NamedTuple):
    """Of the folder: ``gone`` is no name any more, ``path`` is one of ``inode``; a rename is both at once."""

    gone: str | None
    path: str | None
    inode: Inode


class Inode:
    def __init__(self, durable: bytes = b"") -> None:
        self.data = bytearray(durable)
        self.durable = durable
        self.pending: list[Change] = []  # since the last sync

    def copy(self) -> Inode:
        new = Inode()
        new.data, new.durable, new.pending = bytearray(self.data), self.durable, list(self.pending)
        return new

    def change(self, change: Change) -> None:
        apply(self.data, change)
        self.pending.append(change)


def apply(data: bytearray, change: Change) -> None:
    offset, written = change
    if written is None:
        resize(data, offset)
        return
    if len(data) < offset:
        resize(data, offset)
    data[offset : offset + len(written)] = written


def resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def rename_in(names: dict[str, Inode], naming: Naming) -> None:
    if naming.gone is not None and names.get(naming.gone) is naming.inode:
        del names[naming.gone]
    if naming.path is not None:
        names[naming.path] = naming.inode


class Disk:
    """:class:`Files`. ``on_call(name, path)`` is asked before anything is done; it may raise OSError, or return a
    number of bytes for a short write."""

    def __init__(self) -> None:
        self.names_now: dict[str, Inode] = {}
        self.names_durable: dict[str, Inode] = {}
        self.namings: list[Naming] = []  # since the folder was synced
        self.locked = False
        self.calls = 0
        self.on_call: Callable[[str, str], int | None] = lambda name, path: None

    def die_at(self, call: int) -> None:
        """The power goes at that call, counted from the disk's first: :class:`PowerLoss` from then on."""

        def die(name: str, path: str) -> None:
            if self.calls >= call:
                raise PowerLoss

        self.on_call = die

    def fail(self, call: str, error: BaseException) -> None:
        """Every such call ends in ``error`` from now on, whatever file it is about."""

        def fail(name: str, path: str) -> None:
            if name == call:
                raise error

        self.on_call = fail

    def heal(self) -> None:
        """Nothing fails any more."""
        self.on_call = lambda name, path: None

    @classmethod
    def holding(cls, contents: dict[str, bytes]) -> Disk:
        """A disk with these files, all durable."""
        new = cls()
        new.names_durable = {path: Inode(data) for path, data in contents.items()}
        new.names_now = dict(new.names_durable)
        return new

    def call(self, name: str, path: str) -> int | None:
        self.calls += 1
        return self.on_call(name, path)

    # ── as the engine sees it ─────────────────────────────────────────────────────────────────────────────────

    def make_folder(self, folder: str) -> None: ...

    def names(self, folder: str) -> list[str]:
        return sorted(os.path.basename(path) for path in self.names_now)

    def lock(self, folder: str) -> DiskLock:
        if self.locked:
            raise base.Locked(f"the store in {folder} is in use")
        self.locked = True
        return DiskLock(self)

    def create(self, path: str) -> DiskFile:
        self.call("create", path)
        self._name(Naming(None, path, Inode()))
        return DiskFile(self, path, self.names_now[path])

    def open(self, path: str) -> DiskFile:
        self.call("open", path)
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return DiskFile(self, path, self.names_now[path])

    def rename(self, path: str, new_path: str) -> None:
        self.call("rename", path)
        self._name(Naming(path, new_path, self.names_now[path]))

    def remove(self, path: str) -> None:
        self.call("remove", path)
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._name(Naming(path, None, self.names_now[path]))

    def sync_folder(self, folder: str) -> None:
        self.call("sync_folder", folder)
        self.names_durable = dict(self.names_now)
        self.namings = []

    def _name(self, naming: Naming) -> None:
        rename_in(self.names_now, naming)
        self.namings.append(naming)

    # ── as the world sees it ──────────────────────────────────────────────────────────────────────────────────

    def photo(self) -> Disk:
        """Another disk in the same state, pending changes included: what a new process finds after ``kill -9``."""
        new = Disk()
        copies: dict[int, Inode] = {}

        def copy(inode: Inode) -> Inode:
            if id(inode) not in copies:
                copies[id(inode)] = inode.copy()
            return copies[id(inode)]

        new.names_now = {path: copy(inode) for path, inode in self.names_now.items()}
        new.names_durable = {path: copy(inode) for path, inode in self.names_durable.items()}
        new.namings = [Naming(gone, path, copy(inode)) for gone, path, inode in self.namings]
        return new

    def crashed(self, rng: random.Random) -> Disk:
        """Another disk, as it may look after the power went."""
        from tests.engine import fates

        return fates.drawn(self, rng)

    def killed(self) -> Disk:
        """The same disk after only the process died: everything written is there, synced or not."""
        self.locked = False
        self.heal()
        return self


class DiskLock:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def release(self) -> None:
        self._disk.locked = False


class DiskFile:
    def __init__(self, disk: Disk, path: str, inode: Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode

    def write_at(self, data: bytes, offset: int) -> int:
        short = self._disk.call("write", self._path)
        data = data if short is None else data[:short]
        self._inode.change(Change(offset, bytes(data)))
        return len(data)

    def read_at(self, length: int, offset: int) -> bytes:
        self._disk.call("read", self._path)
        return bytes(self._inode.data[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.data)

    def allocate(self, offset: int, length: int) -> None:
        self._disk.call("allocate", self._path)
        end = offset + min(length, ALLOCATE_MAX)
        if len(self._inode.data) < end:
            self._inode.change(Change(end, None))

    def truncate(self, length: int) -> None:
        self._disk.call("truncate", self._path)
        self._inode.change(Change(length, None))

    def sync(self) -> None:
        """A sync that fails is told once: what it should have written stays readable, is not written, and no later sync
        tries it again (that is what Linux does)."""
        inode = self._inode
        try:
            self._disk.call("sync", self._path)
        except OSError:
            inode.pending = []
            raise
        if inode.pending:
            durable = bytearray(inode.durable)
            for change in inode.pending:
                apply(durable, change)
            inode.durable, inode.pending = bytes(durable), []

    def close(self) -> None: ...
