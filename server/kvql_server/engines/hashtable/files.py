"""All that the store does with files, in one small layer, so that tests can fail any of it and lose what was not
synced.

Only offsets, never positions; no buffering; a short write is reported and not hidden.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Final, NamedTuple, Protocol

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


class Reader(Protocol):
    """What it takes to look at a folder; :class:`Files` can do it, and so can something that changes nothing."""

    def names(self, folder: str) -> list[str]: ...

    def open(self, path: str) -> File: ...


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
    """:class:`File` by system calls; an error says which file it was."""

    __slots__ = ("_fd", "_path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def write_at(self, data: bytes, offset: int) -> int:
        try:
            return os.pwrite(self._fd, data, offset)
        except OSError as e:
            raise self._named(e) from None

    def read_at(self, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        try:
            while length > 0:
                part = os.pread(self._fd, length, offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except OSError as e:
            raise self._named(e) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def allocate(self, offset: int, length: int) -> None:
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as e:
            raise self._named(e) from None

    def truncate(self, length: int) -> None:
        try:
            os.ftruncate(self._fd, length)
        except OSError as e:
            raise self._named(e) from None

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as e:
            raise self._named(e) from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, self._path)


SEE: Final = "kvql-server verify says what can be saved"
"""How a sentence about damage ends."""
LOCK: Final = "LOCK"
_LOCK_BYTES_MAX: Final = 4096
LOCK_AGAIN_S: Final = 0.05
"""``kvql-server status`` holds the lock for a moment to see whether somebody else does."""


class OsLock:
    """``flock`` on the file LOCK; unlike ``lockf`` it is not lost when the process opens and closes the file again."""

    def __init__(self, folder: str) -> None:
        self._fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _flock(self._fd, fcntl.LOCK_EX):
            time.sleep(LOCK_AGAIN_S)
            if not _flock(self._fd, fcntl.LOCK_EX):
                process, url = _told(self._fd)
                os.close(self._fd)
                raise _locked(folder, process, url)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


class OsSharedLock:
    """Keeps others from opening the store while it is looked at, and writes nothing, not even to LOCK.

    Without a LOCK there is nobody to keep out but who comes later; ``came`` tells whether somebody did.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, LOCK)
        self._fd = -1
        self._absent = False
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._absent = True
            return
        if not _flock(self._fd, fcntl.LOCK_SH):
            process, url = _told(self._fd)
            os.close(self._fd)
            raise _locked(folder, process, url)

    @property
    def came(self) -> bool:
        return self._absent and os.path.exists(self._path)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Holder(NamedTuple):
    """Who has a store open."""

    held: bool
    process: int | None
    """None for one that only looks, or is not of this machine."""
    url: str | None
    """Where it is reached, if it is a server that has started."""


def lock_holder(folder: str) -> Holder:
    """Who has the store open, if anybody has."""
    try:
        fd = os.open(os.path.join(folder, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Holder(False, None, None)
    try:
        process, url = _told(fd)
        return Holder(not _flock(fd, fcntl.LOCK_SH), process, url)
    finally:
        os.close(fd)


def announce(folder: str, url: str) -> None:
    """Say in LOCK, which this process holds, where it is reached, to whoever finds the folder in use."""
    fd = os.open(os.path.join(folder, LOCK), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, f"{os.getpid()}\n{url}\n".encode(), 0)
    finally:
        os.close(fd)


def _flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(fd: int) -> tuple[int | None, str | None]:
    """The process and the URL in LOCK; what is left of a process that is gone means nothing."""
    process, _, rest = os.pread(fd, _LOCK_BYTES_MAX, 0).decode("utf-8", "replace").partition("\n")
    url = rest.partition("\n")[0]
    if not (process.isascii() and process.isdigit() and is_alive(int(process))):
        return None, None
    return int(process), url if url.startswith("kvql") and url.isprintable() else None


def _locked(folder: str, process: int | None, url: str | None) -> base.Locked:
    who = "another process" if process is None else f"process {process}"
    if url is not None:
        return base.Locked(
            f"the store in {folder} is in use by {who}, a server; connect to it at {url} instead of opening the "
            "folder, or stop it"
        )
    return base.Locked(
        f"the store in {folder} is in use by {who}; stop it, or connect to it instead of opening the folder"
    )


def is_alive(process: int) -> bool:
    """Whether there is such a process: after ``kill -9`` the id in LOCK is of one that is gone."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


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
        return OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), path)

    def open(self, path: str) -> OsFile:
        return OsFile(os.open(path, os.O_RDWR | os.O_CLOEXEC), path)

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as e:
            raise OSError(e.errno, e.strerror, folder) from None
        finally:
            os.close(fd)


class OsReader:
    """:class:`Reader` that cannot change anything: what it opens is open for reading."""

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(folder))

    def open(self, path: str) -> OsFile:
        # without O_NONBLOCK a pipe of that name would hold us for ever
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return OsFile(fd, path)


def cannot_open(path: str, error: OSError) -> base.EngineError:
    """Rights and read-only disks are for the operator to change; everything else is the disk's fault."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return base.StoreFull(f"no space left to open the store in {path} ({error.strerror}); free some space")
    if error.errno in (errno.EIO, None):
        file, reason = error.filename or "a file", error.strerror or error
        return base.DiskFailed(
            f"cannot open the store in {path}: {file} cannot be used ({reason}); the disk is failing: copy the folder "
            "to another one, and start there"
        )
    return base.Unusable(f"cannot open the store in {path}: {error.strerror}")
