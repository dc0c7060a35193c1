"""File system operations of the file store, in one place.

They stand behind a small protocol so that a test can fail any of them, stop the
world between any two, or keep account of what a power failure would leave.  All of
them block and raise `OSError`; the store calls them in worker threads.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError, text_of

#: Patient data: for the owner alone (PS3.15 leaves it to us; umask can only narrow it).
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

#: Never follow a link that somebody planted under a name of ours; absent on Windows.
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


class FileSystem(Protocol):
    """What the file store asks of the operating system."""

    def create(self, path: str) -> int:
        """A descriptor to write a new file; `FileExistsError` when there is one."""
        ...

    def write(self, descriptor: int, data: Buffer) -> None:
        """Append all of *data*."""
        ...

    def write_at(self, descriptor: int, data: Buffer, offset: int) -> None:
        """Write all of *data* from *offset* on."""
        ...

    def use_direct_io(self, descriptor: int, on: bool) -> bool:
        """Have the file written straight to the disk, in whole blocks; whether that can be."""
        ...

    def truncate(self, descriptor: int, length: int) -> None: ...

    def sync(self, descriptor: int) -> None:
        """The file's content is on stable storage on return."""
        ...

    def sync_data(self, descriptor: int) -> None:
        """The same; of what the system keeps about the file only what reading it needs."""
        ...

    def sync_file(self, path: str) -> None:
        """As `sync`, for a file that was closed."""
        ...

    def close(self, descriptor: int) -> None: ...

    def link(self, source: str, target: str) -> None:
        """A second name; `FileExistsError` when *target* exists."""
        ...

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def make_folder(self, path: str) -> None: ...

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        ...

    def sync_folder(self, path: str) -> None:
        """The names in the folder are on stable storage on return."""
        ...

    def sync_file_system(self, path: str) -> bool:
        """All files and names of the file system that *path* lies on are on stable storage on
        return; False: the system cannot do that, or does not say whether it failed."""
        ...


class OsFileSystem:
    """The real thing."""

    def create(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, FILE_MODE)

    def write(self, descriptor: int, data: Buffer) -> None:
        written = os.write(descriptor, data)
        if written != len(data):
            view = memoryview(data)
            while written < len(view):
                try:
                    written += os.write(descriptor, view[written:])
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    # Past the cache, from within a block: some of it was written, unlike else.
                    raise OSError(errno.EIO, os.strerror(errno.EIO)) from error

    def write_at(self, descriptor: int, data: Buffer, offset: int) -> None:
        view = memoryview(data)
        while view:
            if hasattr(os, "pwrite"):
                written = os.pwrite(descriptor, view, offset)
            else:  # Windows
                os.lseek(descriptor, offset, os.SEEK_SET)
                written = os.write(descriptor, view)
            view, offset = view[written:], offset + written

    def use_direct_io(self, descriptor: int, on: bool) -> bool:
        direct: int = getattr(os, "O_DIRECT", 0)
        if sys.platform != "linux" or not direct:
            return False
        import fcntl

        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        flags = flags | direct if on else flags & ~direct
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        except OSError:
            return False  # a file system in memory, or one that compresses
        return True

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        if sys.platform == "darwin":
            import fcntl

            # fsync(2) of macOS leaves the data in the drive's own cache.
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        if sys.platform == "darwin" or not hasattr(os, "fdatasync"):
            self.sync(descriptor)
        else:
            os.fdatasync(descriptor)

    def sync_file(self, path: str) -> None:
        # Windows syncs only what is open to be written.
        flags = os.O_RDONLY if os.name == "posix" else os.O_RDWR
        descriptor = os.open(path, flags | _NOFOLLOW | _BINARY)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.mkdir(path, FOLDER_MODE)

    def remove_folder(self, path: str) -> None:
        os.rmdir(path)

    def sync_folder(self, path: str) -> None:
        if not hasattr(os, "O_DIRECTORY"):
            return  # Windows: no such operation; NTFS journals names by itself
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_file_system(self, path: str) -> bool:
        call = _syncfs()
        if call is None:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return call(descriptor)
        finally:
            os.close(descriptor)


#: The first Linux whose syncfs(2) says when something could not be written.
_SYNCFS_TELLS: Final = (5, 8)
#: By their numbers in statfs(2): ext4, XFS, Btrfs, F2FS, tmpfs.  Of others, FUSE among them,
#: nobody knows whether it waits until everything is on the disk.
_SYNCFS_KEEPS: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994})
#: More than the structure that statfs(2) fills has; it begins with the number.
_STATFS_BYTES: Final = 512


@lru_cache
def _syncfs() -> Callable[[int], bool] | None:
    """syncfs(2), which Python has not, where it can be relied upon; None: nowhere here."""
    if sys.platform != "linux":
        return None
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if version is None or (int(version[1]), int(version[2])) < _SYNCFS_TELLS:
        return None
    import ctypes

    try:
        library = ctypes.CDLL(None, use_errno=True)
        look, sync = library.fstatfs, library.syncfs
    except (OSError, AttributeError):
        return None

    def call(descriptor: int) -> bool:
        status = ctypes.create_string_buffer(_STATFS_BYTES)
        if look(descriptor, status):
            return False
        if ctypes.c_ulong.from_buffer(status).value not in _SYNCFS_KEEPS:
            return False
        if sync(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return True

    return call


#: The volume, a quota, or what the process may have is used up: the peer may try again later.
OUT_OF_RESOURCES: Final = frozenset(
    {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)

#: The file system has no hard links (FAT, some network and FUSE file systems), or forbids them.
NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def storage_error(what: str, error: OSError) -> StorageError:
    """The port's error for one of the operating system.

    It names no file: with some naming schemes a path holds a date of the patient's.
    """
    return StorageError(
        f"cannot {what}: {text_of(error)}",
        out_of_resources=error.errno in OUT_OF_RESOURCES,
    )
