"""Upkeep of the words of names, in the background."""

from __future__ import annotations

import logging
from typing import Final

import trio

from isocenter.services.archive.index.ports import NameBook
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: How often is looked whether another version has written patients without words.
LOOK_SECONDS: Final = 600.0


async def write_missing_names(book: NameBook) -> None:
    """Write words and sounds where they are missing, until cancelled."""
    while True:
        try:
            while await book.write_missing():
                await trio.lowlevel.checkpoint()
        except StorageError as error:
            log.warning("words of names cannot be written now: %s", error)
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            log.error("words of names cannot be written: internal error (%s)", type(error).__name__)
        await trio.sleep(LOOK_SECONDS)
