"""SQLite connection with the function by which SQL asks the reference matcher."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from isocenter.storage.database.database import Matcher, Question, Values


class MatchingConnection(sqlite3.Connection):
    """See `isocenter.storage.database.database.Connection`.

    ``dicom_matches(number, text, …)`` calls a matcher of the question that is asked; so one is
    fetched to its end before the next one begins.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._matchers: Sequence[Matcher] = ()
        self.create_function("dicom_matches", -1, self._dicom_matches, deterministic=True)

    def _dicom_matches(self, number: int, *texts: str) -> bool:
        return self._matchers[number](*texts)

    def execute_all(self, statements: Iterable[tuple[str, Iterable[Values]]], /) -> None:
        """See `Connection.execute_all`."""
        for statement, rows in statements:
            self.executemany(statement, rows)

    #: SQLite has one writer.
    has_turn = True

    def lock(self, names: Iterable[str]) -> None:
        """See `Connection.lock`."""

    def need_turn(self) -> None:
        """See `Connection.need_turn`."""

    def ask(self, question: Question) -> sqlite3.Cursor:
        """See `Connection.ask`."""
        self._matchers = question.matchers
        return self.execute(question.text, question.parameters)
