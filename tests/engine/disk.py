"""A file layer in memory that knows what is on the disk and what is only on its way there.

A crash keeps what was synced; of writes that were not, any subset, torn anywhere, may have arrived; of names that were
created, renamed or removed since the folder was synced, any prefix. ``crashed`` makes one such outcome.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable

from kvql_server.engines import base


class Inode:
    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[str, int, bytes]] = []  # since the last sync

    def lose(self, rng: random.Random) -> None:
        """What a crash leaves: the durable bytes, and of the pending operations what ``rng`` says."""
        data = bytearray(self.durable)
        mode = rng.choice(["none", "prefix", "torn", "subset", "only last"])
        operations = self.pending
        keep = set(range(len(operations)))
        if mode == "none":
            keep = set()
        elif mode in ("prefix", "torn") and operations:
            keep = set(range(rng.randrange(len(operations) + 1)))
        elif mode == "subset":
            keep = {n for n in keep if rng.random() < 0.5}
        elif mode == "only last":
            keep = {len(operations) - 1}
        for number, (kind, offset, payload) in enumerate(operations):
            if kind == "size":
                _resize(data, offset)
            elif number in keep:
                if mode == "torn" and number == max(keep):
                    payload = payload[: rng.choice([1, 4, 8, 9, len(payload) // 2, len(payload) - 1])]
                if mode == "subset" and len(payload) > 1024 and rng.random() < 0.5:
                    hole = rng.randrange(len(payload) // 512) * 512
                    payload = payload[:hole] + bytes(512) + payload[hole + 512 :]
                if len(data) < offset + len(payload):
                    _resize(data, offset + len(payload))
                data[offset : offset + len(payload)] = payload
            elif len(data) < offset + len(payload) and rng.random() < 0.5:
                _resize(data, offset + len(payload))
        self.data, self.durable, self.pending = data, bytearray(data), []


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


class Disk:
    """:class:`Files`. ``on_call(name, path)`` may raise OSError, or return a number of bytes for a short write."""

    def __init__(self) -> None:
        self.names_now: dict[str, Inode] = {}
        self.names_durable: dict[str, Inode] = {}
        self.changes: list[dict[str, Inode]] = []  # the folder after each change since it was synced
        self.locked = False
        self.calls = 0
        self.on_call: Callable[[str, str], int | None] = lambda name, path: None

    def call(self, name: str, path: str) -> int | None:
        self.calls += 1
        return self.on_call(name, path)

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
        self._change({**self.names_now, path: Inode()})
        return DiskFile(self, path, self.names_now[path])

    def open(self, path: str) -> DiskFile:
        self.call("open", path)
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return DiskFile(self, path, self.names_now[path])

    def rename(self, path: str, new_path: str) -> None:
        self.call("rename", path)
        names = dict(self.names_now)
        names[new_path] = names.pop(path)
        self._change(names)

    def remove(self, path: str) -> None:
        self.call("remove", path)
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._change({name: inode for name, inode in self.names_now.items() if name != path})

    def sync_folder(self, folder: str) -> None:
        self.call("sync_folder", folder)
        self.names_durable = self.names_now
        self.changes = []

    def _change(self, names: dict[str, Inode]) -> None:
        self.names_now = names
        self.changes.append(names)

    def crashed(self, rng: random.Random) -> Disk:
        """Another disk, as it may look after the power went."""
        new = Disk()
        steps = [self.names_durable, *self.changes]
        names = steps[rng.randrange(len(steps))]
        copies: dict[int, Inode] = {}
        for path, inode in names.items():
            copy = copies.get(id(inode))
            if copy is None:
                copy = copies[id(inode)] = Inode()
                copy.durable, copy.pending = bytearray(inode.durable), list(inode.pending)
                copy.lose(rng)
            new.names_now[path] = copy
        new.names_durable = new.names_now
        return new

    def killed(self) -> Disk:
        """The same disk after only the process died: everything written is there, synced or not."""
        self.locked = False
        self.on_call = lambda name, path: None
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
        inode = self._inode
        if len(inode.data) < offset + len(data):
            _resize(inode.data, offset + len(data))
        inode.data[offset : offset + len(data)] = data
        inode.pending.append(("write", offset, bytes(data)))
        return len(data)

    def read_at(self, length: int, offset: int) -> bytes:
        self._disk.call("read", self._path)
        return bytes(self._inode.data[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.data)

    def allocate(self, offset: int, length: int) -> None:
        self._disk.call("allocate", self._path)
        length = min(length, 1 << 16)  # the engine asks for much; the rest of it comes as it is written
        if len(self._inode.data) < offset + length:
            _resize(self._inode.data, offset + length)
            self._inode.pending.append(("size", offset + length, b""))

    def truncate(self, length: int) -> None:
        self._disk.call("truncate", self._path)
        _resize(self._inode.data, length)
        self._inode.pending.append(("size", length, b""))

    def sync(self) -> None:
        self._disk.call("sync", self._path)
        self._inode.durable = bytearray(self._inode.data)
        self._inode.pending = []

    def close(self) -> None: ...
