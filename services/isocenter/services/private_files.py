"""Files that hold secrets: private from the first byte, whole or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644
PRIVATE_DIRECTORY: Final = 0o700


def make_private_directory(path: Path) -> None:
    """Make *path* and what is missing above it; what we make is for its owner only.

    Raises:
        OSError: it cannot be made, or is something else.
    """
    if not path.is_dir():
        if not path.parent.is_dir():
            make_private_directory(path.parent)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def write_file(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Write a whole file that survives power failure, or leave what was there.

    Raises:
        FileExistsError: it is there, and *replace* is False.
        OSError: it could not be written.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.name == "posix" and os.geteuid() == 0:
                # An operator may be root; whoever owns the folder, the server, has to read it.
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            staged.replace(path)
        elif os.name == "posix":
            path.hardlink_to(staged)  # unlike a rename, fails when the name is taken
        else:
            staged.rename(path)
    finally:
        with suppress(FileNotFoundError):
            staged.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (where the system knows such a thing)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory against other processes and tasks of this machine."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
