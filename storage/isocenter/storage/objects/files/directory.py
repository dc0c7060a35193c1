"""Directory of a file store: made, synced, tried before use, and locked."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.file_lock import HAS_FILE_LOCKS, open_lock_file, try_lock
from isocenter.services.system.private_files import match_owner
from isocenter.storage.objects.files.file_system import (
    FOLDER_MODE,
    NO_LINKS,
    OUT_OF_RESOURCES,
    OsFileSystem,
    storage_error,
)


def prepare_folder(path: str) -> tuple[str, bool]:
    """Make the folders, try to write; the absolute path, and whether there are hard links.

    Raises:
        StorageError: the folder cannot be made or written; the message says what to do.
    """
    root = os.path.abspath(path)
    objects, staging = os.path.join(root, "objects"), os.path.join(root, "staging")
    probe = f"+probe{secrets.token_hex(8)}"  # "+": can be no key, nor part of one
    names = os.path.join(staging, probe), os.path.join(objects, probe)
    try:
        # Parents that are missing get the process's own mode: they are not only ours.
        os.makedirs(os.path.dirname(root), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(root, FOLDER_MODE)
        if not os.path.isdir(objects):  # it is made once all above it is durable
            _sync_ancestry(root)
        for folder in (objects, staging, os.path.join(root, "journal")):
            with suppress(FileExistsError):
                os.mkdir(folder, FOLDER_MODE)
                match_owner(Path(root), Path(folder))  # the server has to write there, too
        OsFileSystem().sync_folder(root)
        try:
            os.close(os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                os.link(*names)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise StorageError(
                        f"{objects} and {staging} lie on different file systems; "
                        "put both on one, or choose another directory with --data-dir"
                    ) from error
                if error.errno not in NO_LINKS:
                    raise
                os.rename(*names)
                return root, False
            return root, True
        finally:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name)
    except OSError as error:
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        raise StorageError(
            f"cannot write in the data directory {root}: {text_of(error)}; give {user} "
            "the right to write there (chown, chmod), make room, or choose another "
            "directory with --data-dir",
            out_of_resources=error.errno in OUT_OF_RESOURCES,
        ) from error


def lock_folder(root: str, *, shared: bool) -> int:
    """A descriptor that holds the lock of a data directory; it ends with that.

    Args:
        shared: for the worker processes of one server.

    Raises:
        StorageError: another server has it.
    """
    if not HAS_FILE_LOCKS:
        raise StorageError(
            f"the data directory {root} cannot be locked against a second server: this "
            "system has no POSIX file locks; run the archive on Linux or another POSIX "
            "system, or in memory (--data-dir :memory:)"
        )
    path = os.path.join(root, "lock")
    try:
        descriptor = open_lock_file(path)
    except OSError as error:
        raise storage_error(f"open the lock file {path}", error) from error
    try:
        is_ours = try_lock(descriptor, shared=shared)
    except OSError as error:
        os.close(descriptor)
        raise storage_error(f"lock {path}", error) from error
    if not is_ours:
        os.close(descriptor)
        raise StorageError(
            f"the data directory {root} is in use by another server; "
            "stop that one, or choose another directory with --data-dir"
        )
    return descriptor


def _sync_ancestry(folder: str) -> None:
    """Make its own name durable, and those of all folders above it: any of them may be new."""
    files = OsFileSystem()
    while (parent := os.path.dirname(folder)) != folder:
        # One that we may pass but not read was there before us.
        with suppress(PermissionError):
            files.sync_folder(parent)
        folder = parent
