"""Log that is recorded, for tests of what is told."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self


class RecordedLog(logging.Handler):
    """Records what a logger is told while the context lasts.

    Args:
        name: of the logger; by default that of all of Isocenter.
        level: the least severe that is recorded.

    Attributes:
        records: in their order.
    """

    def __init__(self, name: str = "isocenter", level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []
        self._logger = logging.getLogger(name)
        self._before = logging.NOTSET
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> Self:
        self._before = self._logger.level
        if self._logger.getEffectiveLevel() > self.level:
            self._logger.setLevel(self.level)
        self._logger.addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        """The texts, without level and logger."""
        return [record.getMessage() for record in self.records]

    @property
    def text(self) -> str:
        """All lines, with tracebacks."""
        return "\n".join(map(self.format, self.records))

    def names(self, *words: str) -> list[str]:
        """The lines that have one of *words* in them, whatever their case: what a log must not
        say of a patient."""
        wanted = [word.lower() for word in words if word]
        return [
            line for line in self.text.splitlines() if any(word in line.lower() for word in wanted)
        ]
