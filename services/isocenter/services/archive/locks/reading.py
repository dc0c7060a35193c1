"""Time that the task at hand may still read a study, by its lock.

Whoever changes a study waits for those who read it.  A process that the database does not hear of
for long is not waited for any more, and what its tasks still read may be another's by then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from isocenter.services.errors import StorageError


class Reading:
    """Some studies, read by a task and those that it starts.

    Attributes:
        is_over: the task reads them no more.
    """

    __slots__ = ("_is_waited_for", "is_over")

    def __init__(self, is_waited_for: Callable[[], bool]) -> None:
        self._is_waited_for = is_waited_for
        self.is_over = False

    @property
    def is_void(self) -> bool:
        """Whether somebody else may change, or have changed, what is read."""
        return not self.is_over and not self._is_waited_for()


#: That of the task that asks, and of whoever has started it.
READING: Final[ContextVar[Reading | None]] = ContextVar("READING", default=None)


def check_reading() -> None:
    """Before an object is opened.

    Raises:
        StorageError: what this task reads may have been changed.
    """
    reading = READING.get()
    if reading is not None and reading.is_void:
        raise StorageError(
            "this server has not reached its database for so long that what is being read may have "
            "been changed by others; ask again"
        )
