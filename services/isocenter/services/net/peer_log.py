"""Bounded logging about one peer: the first lines in full, then a count.

A peer that repeats a fault for hours would fill the disk with it, and hide what
others do wrong.
"""

from __future__ import annotations

import logging
from typing import Final

log = logging.getLogger("isocenter.association")

#: Characters of lines about one peer: with the lines of its beginning and its end,
#: and with time and level before each, a connection stays below 4 KiB of log.
_MOST_CHARACTERS: Final = 2_500
#: Time, level and logger in front of each.
_LINE_OVERHEAD: Final = 60
#: One line of them.
_LONGEST: Final = 500


class PeerLog:
    """About one peer, to whoever reads the log.

    Args:
        peer_address: stands in front of each line.
    """

    __slots__ = ("_left", "_omitted", "peer_address")

    def __init__(self, peer_address: str) -> None:
        self.peer_address = peer_address
        self._left = _MOST_CHARACTERS
        self._omitted = 0

    def write(
        self, logger: logging.Logger, level: int, text: str, *args: object, exc_info: bool = False
    ) -> None:
        """Write a line, or, when there were enough, count it and write it for debugging only.

        Args:
            exc_info: with the traceback of the exception that is being handled; for a
                fault of ours, and once.
        """
        line = f"{self.peer_address}: {text % args}"
        if len(line) > _LONGEST:
            line = line[:_LONGEST] + "…"
        if self._omitted or self._left <= 0:
            self._omitted += 1
            logger.debug("%s", line, exc_info=exc_info)
            return
        # Fits or not, this one is written: the bound leaves room for it.
        self._left -= _MOST_CHARACTERS if exc_info else len(line) + _LINE_OVERHEAD
        logger.log(level, "%s", line, exc_info=exc_info)

    def reset(self) -> None:
        """The peer did as it should: what it does wrong from now on is news again."""
        self.log_suppressed()
        self._left = _MOST_CHARACTERS

    def log_suppressed(self) -> None:
        """How many lines were left out; said once, at the end."""
        omitted, self._omitted = self._omitted, 0
        if omitted:
            self._left = 0
            log.warning(
                "%s: %d more lines were left out; --log-level debug shows all",
                self.peer_address,
                omitted,
            )
