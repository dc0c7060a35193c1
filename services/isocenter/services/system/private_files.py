"""Files that hold secrets: private from the first byte, whole or absent."""

from __future__ import annotations

import io
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import text_of

PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644
PRIVATE_DIRECTORY: Final = 0o700

#: Nobody has a longer secret; a wrong path may lead to anything.
_MOST_SECRET_BYTES: Final = 4_096


class SecretFileError(IsocenterError):
    """A file that is to hold a secret cannot be used; the message says what to do."""

    error_code = ErrorCode.FILE_NOT_READ


def read_secret(path: Path) -> bytes:
    """The secret in a file, without white space around it.

    Raises:
        SecretFileError: it cannot be read, is empty, or others can read it, too.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(_MOST_SECRET_BYTES).strip()
    except OSError as error:
        raise SecretFileError(f"cannot read {path}: {text_of(error)}") from error
    if os.name == "posix" and mode & 0o077:
        raise SecretFileError(f"{path} is open to others; chmod 600 {path}")
    if not secret:
        raise SecretFileError(f"{path} holds no secret")
    return secret


def make_private_directory(path: Path) -> None:
    """Make *path* and what is missing above it; what we make is for its owner only.

    Raises:
        OSError: it cannot be made, or is something else.
    """
    if not path.is_dir():
        if not path.parent.is_dir():
            make_private_directory(path.parent)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def match_owner(folder: Path, made: Path | int) -> None:
    """An operator may be root; the server, who owns the folder, has to read what was made in it.
    Does nothing for anybody else than root."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def write_file(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Write a whole file that survives power failure, or leave what was there.

    What root replaces belongs to the owner of its folder afterwards.

    Raises:
        FileExistsError: it is there, and *replace* is False.
        OSError: it could not be written.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if replace:
                match_owner(path.parent, file.fileno())
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


def open_private(path: Path) -> io.FileIO:
    """A file to be written from its beginning, for the owner alone, also where it was there.

    Raises:
        OSError: it cannot be.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, PRIVATE_FILE)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and hasattr(os, "fchmod"):
            os.fchmod(descriptor, PRIVATE_FILE)
    except OSError:
        os.close(descriptor)
        raise
    return io.FileIO(descriptor, "w")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (where the system knows such a thing)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
