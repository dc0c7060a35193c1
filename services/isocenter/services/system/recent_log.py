"""Latest lines of the log in memory, for people who look at pages."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import association_name

#: Lines that are kept.
MOST_LINES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line.

    Attributes:
        time: in seconds since 1970.
        level: as `logging` counts.
        association: that it is about; empty: none.
    """

    time: float
    level: int
    logger: str
    association: str
    message: str

    def is_wanted(self, level: str, words: str) -> bool:
        """Whether it is at least so grave, and holds these words in any spelling."""
        text = f"{self.logger} {self.association} {self.message}".lower()
        return self.level >= logging.getLevelNamesMapping()[level.upper()] and words.lower() in text


class RecentLog(logging.Handler):
    """Keeps the latest lines of this process.

    Args:
        most: how many.
    """

    def __init__(self, most: int = MOST_LINES) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            # Of what went wrong here the kind; the rest stands where the log is written.
            text = f"{text} ({record.exc_info[0].__name__})"
        self._lines.append(
            LogLine(
                time=record.created,
                level=record.levelno,
                logger=record.name,
                association=association_name.get(),
                message=text,
            )
        )

    def lines(self) -> Sequence[LogLine]:
        """The lines, the latest first."""
        return tuple(reversed(self._lines))
