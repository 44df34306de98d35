"""All that the store does with files, in one small layer, so that tests can fail any of it and lose what was not
synced.

Only offsets, never positions; no buffering; a short write is reported and not hidden.
"""

from __future__ import annotations

import fcntl
import os
from typing import Protocol

from kvql_server.engines import base


class File(Protocol):
    """An open file."""

    def write_at(self, data: bytes, offset: int) -> int:
        """How many bytes were written: fewer than asked for is the caller's to judge."""

    def read_at(self, length: int, offset: int) -> bytes:
        """Fewer bytes only at the end of the file."""

    def size(self) -> int: ...

    def allocate(self, offset: int, length: int) -> None:
        """Make sure of space on the disk for these bytes; they read as zeros until they are written."""

    def truncate(self, length: int) -> None: ...

    def sync(self) -> None:
        """When this returns, what was written is on the disk."""

    def close(self) -> None: ...


class Lock(Protocol):
    """A folder that is ours."""

    def release(self) -> None: ...


class Files(Protocol):
    """Names: creating, renaming and removing one is durable only after ``sync_folder``."""

    def make_folder(self, folder: str) -> None: ...

    def names(self, folder: str) -> list[str]: ...

    def lock(self, folder: str) -> Lock:
        """:class:`base.Locked` if somebody has it."""

    def create(self, path: str) -> File:
        """A new, empty file, readable by its owner only; an old one of that name goes."""

    def open(self, path: str) -> File: ...

    def rename(self, path: str, new_path: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...


class OsFile:
    """:class:`File` by system calls."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write_at(self, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def read_at(self, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(self._fd, length, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def allocate(self, offset: int, length: int) -> None:
        os.posix_fallocate(self._fd, offset, length)

    def truncate(self, length: int) -> None:
        os.ftruncate(self._fd, length)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsLock:
    """``flock`` on the file LOCK; unlike ``lockf`` it is not lost when the process opens and closes the file again."""

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, "LOCK")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise base.Locked(
                f"the store in {folder} is in use by {who}; stop it, or connect to it instead of opening the folder"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


class OsFiles:
    """:class:`Files` on the file system of this machine."""

    def make_folder(self, folder: str) -> None:
        made = not os.path.isdir(folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if made:
            self.sync_folder(os.path.dirname(os.path.abspath(folder)))

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(folder))

    def lock(self, folder: str) -> OsLock:
        return OsLock(folder)

    def create(self, path: str) -> OsFile:
        return OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    def open(self, path: str) -> OsFile:
        return OsFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
