"""Directory of a file store: made, synced, and tried before use."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.private_files import match_owner
from isocenter.storage.objects.files.file_system import (
    FOLDER_MODE,
    NO_LINKS,
    OUT_OF_RESOURCES,
    OsFileSystem,
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


def _sync_ancestry(folder: str) -> None:
    """Make its own name durable, and those of all folders above it: any of them may be new."""
    files = OsFileSystem()
    while (parent := os.path.dirname(folder)) != folder:
        # One that we may pass but not read was there before us.
        with suppress(PermissionError):
            files.sync_folder(parent)
        folder = parent
