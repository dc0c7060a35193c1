"""Folder of rejected HL7 messages, each with its fault.

Its files hold patients' data: the folder is for its owner only, and bounded.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from isocenter.services.system.private_files import PRIVATE_FILE, make_private_directory, write_file

#: What somebody can still look through; the oldest goes first.
MOST_MESSAGES: Final = 500
MOST_BYTES: Final = 64 << 20
_NAME_LENGTH: Final = 16
_MESSAGE: Final = ".hl7"
_FAULT: Final = ".txt"


def name_of(message: bytes) -> str:
    """What a message is called here and in the log: nothing of it can be told from that."""
    return hashlib.sha256(message).hexdigest()[:_NAME_LENGTH]


class RejectedMessages:
    """Keeps refused messages; several processes may use the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, message: bytes, fault: str) -> None:
        """Write *message* and its *fault*, once for a message that is sent again and again.

        Raises:
            OSError: it cannot be written.
        """
        make_private_directory(self.folder)
        name = name_of(message)
        if any(self.folder.glob(f"*-{name}{_MESSAGE}")):
            return
        path = self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z-{name}"
        write_file(path.with_name(path.name + _FAULT), f"{fault}\n".encode(), PRIVATE_FILE,
                   replace=True)  # fmt: skip
        write_file(path.with_name(path.name + _MESSAGE), message, PRIVATE_FILE, replace=True)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        messages = sorted(self.folder.glob(f"*{_MESSAGE}"))
        sizes = {}
        for path in messages:
            with suppress(FileNotFoundError):  # another process was quicker
                sizes[path] = path.stat().st_size
        total = sum(sizes.values())
        for index, (path, size) in enumerate(sizes.items()):
            if len(sizes) - index <= MOST_MESSAGES and total <= MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            path.with_suffix(_FAULT).unlink(missing_ok=True)
            total -= size
