"""Policy file: ``access/policy.json`` of the data directory.

A file of its own and no table of the index: an index that is lost or damaged is made again
from the objects, and whoever does that must not find the doors open.  It is replaced as a
whole, under a lock, so that any process sees the old one or the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isocenter.services.errors import text_of
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy, from_text, to_text
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    write_file,
)

log = logging.getLogger("isocenter.access")

#: Where in the data directory policy and rejected callers lie.
ACCESS_FOLDER: Final = "access"
_FILE: Final = "policy.json"
#: Thousands of application entities; a wrong path may lead to a disk image.
_MOST_BYTES: Final = 16 << 20

#: What tells one content of the file from another: inode, size and time of change.
_Stamp = tuple[int, int, int]


class PolicyFile:
    """The policy in a folder.  Every call reads what is there now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / _FILE

    def read(self) -> Policy:
        """The policy; an empty one when there is no file.

        Raises:
            PolicyError: it cannot be read, or is none.
        """
        try:
            with self.path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return Policy()
        except OSError as error:
            raise PolicyError(
                f"{self.path}: {text_of(error)}; let the user who runs isocenter read it"
            ) from error
        if len(text) > _MOST_BYTES:
            raise PolicyError(f"{self.path}: larger than {_MOST_BYTES} bytes")
        try:
            return from_text(text)
        except PolicyError as error:
            raise PolicyError(f"{self.path}: {error}; correct it, or restore a backup") from error

    def change(self, edit: Callable[[Policy], Policy]) -> Policy:
        """Replace the policy by what *edit* makes of it; the new one.

        Raises:
            PolicyError: from *edit*, or it cannot be read or written; nothing has changed.
        """
        try:
            make_private_directory(self.folder)
            match_owner(self.folder.parent, self.folder)
            with directory_lock(self.folder):
                policy = edit(self.read())
                write_file(self.path, to_text(policy), PRIVATE_FILE, replace=True)
        except OSError as error:
            raise PolicyError(
                f"{error.filename or self.path}: {text_of(error)}; let the user who runs isocenter "
                "write it, or give the data directory that is meant"
            ) from error
        return policy

    def stamp(self) -> _Stamp | None:
        """Changes whenever the file does; None: there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class CurrentPolicy:
    """The policy of a running server: looked at again when its file has changed.

    A file that cannot be used, or has gone, changes nothing: the policy in use stays.

    Args:
        file: None: nothing is kept, and nothing is enforced.
        on_change: told of each change, with its fault.
        is_told: the log hears of changes; not of those that another one of the process tells.

    Attributes:
        fault: why what is in the file is not in use; empty: it is.

    Raises on construction:
        PolicyError: there is a policy that cannot be used.
    """

    def __init__(
        self,
        file: PolicyFile | None,
        *,
        on_change: Callable[[str], None] = lambda fault: None,
        is_told: bool = True,
    ) -> None:
        self._file = file
        self._level = logging.INFO if is_told else logging.DEBUG
        self.fault = ""
        self._on_change = on_change
        self._stamp = file.stamp() if file is not None else None
        self.policy = file.read() if file is not None else Policy()

    def refresh(self) -> Policy:
        """The policy as it is now; one look at the file's status when nothing has changed."""
        if self._file is None:
            return self.policy
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return self.policy
        self._stamp = stamp
        self.fault = ""
        try:
            if stamp is None:
                raise PolicyError(f"{self._file.path} has gone; restore it")
            self.policy = self._file.read()
            log.log(self._level, "policy: read again, and in use")
        except PolicyError as error:
            self.fault = str(error)
            log.error("policy: what is in use stays: %s", self.fault)
        self._on_change(self.fault)
        return self.policy
