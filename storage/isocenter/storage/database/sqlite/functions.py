"""SQLite connection with the function by which SQL asks the reference matcher."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from isocenter.storage.database.database import Matcher, Question


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

    def ask(self, question: Question) -> sqlite3.Cursor:
        """See `Connection.ask`."""
        self._matchers = question.matchers
        return self.execute(question.text, question.parameters)
