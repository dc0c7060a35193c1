"""Words and sounds of patients' names, as the index keeps them.

Each statement of a patient has a row for each word of the name, and one for each sound
(`isocenter.services.archive.index.names`); a sound begins with `SOUND`, which no word does.  They
only lead to the rows of which the reference matcher is asked.  A statement that has none yet, as
an earlier version wrote it, is one of those rows, and gets them in the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.archive.index.names import WantedWord, sound_of, wanted_words, words_of
from isocenter.services.archive.index.query import NameComparison, NameMatch
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import matches_pattern
from isocenter.storage.database.index.comparison import LAST_CHARACTER
from isocenter.storage.database.index.fragment import Sql, bound, join

PATIENT_NAME: Final = 0x00100010
#: Statements that get their words in one transaction.
_AT_ONCE: Final = 500
#: Begins a sound.
SOUND: Final = "#"
#: Words of a key that lead to rows; the more, the fewer rows, and a few do.
_LOOKED_UP: Final = 6

_INSERT: Final = (
    "INSERT INTO patient_name_word (patient_statement_pk, word) VALUES (?, ?) "
    "ON CONFLICT (patient_statement_pk, word) DO NOTHING"
)
_SELECT_WITHOUT: Final = (
    "SELECT patient_statement_pk, patient_name FROM patient_statement "
    "WHERE has_name_words = 0 ORDER BY patient_statement_pk LIMIT ?"
)
_WITH_WORD: Final = "SELECT patient_statement_pk FROM patient_name_word WHERE "
_WITHOUT_WORDS: Final = (
    " UNION ALL SELECT patient_statement_pk FROM patient_statement WHERE has_name_words = 0"
)


class DatabaseNames:
    """See `isocenter.services.archive.index.ports.NameBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write_missing(self) -> bool:
        """See `NameBook.write_missing`."""
        return await self._database.write(write_missing_words, _AT_ONCE)


def write_words(connection: Connection, patient_statement_pk: int, name: str) -> None:
    """Write the words of a statement that is new."""
    rows = _rows(patient_statement_pk, name)
    if rows:
        connection.executemany(_INSERT, rows)


def write_missing_words(connection: Connection, most: int) -> bool:
    """Write those of *most* statements that have none yet; whether there were any."""
    statements = connection.execute(_SELECT_WITHOUT, (most,)).fetchall()
    rows = [row for key, name in statements for row in _rows(int(key), name)]
    if rows:
        connection.executemany(_INSERT, rows)
    if statements:
        connection.executemany(
            "UPDATE patient_statement SET has_name_words = 1 WHERE patient_statement_pk = ?",
            [(key,) for key, _ in statements],
        )
    return bool(statements)


def candidates(match: NameMatch) -> Sql | None:
    """Which statements of patients *match* may hold for; None: only the matcher knows."""
    found = []
    for key in match.keys:
        wanted = wanted_words(key)
        if not wanted:
            return None
        # The longest lead to the fewest rows.
        wanted = tuple(sorted(wanted, key=lambda one: -len(one.text)))[:_LOOKED_UP]
        is_fuzzy = match.comparison is NameComparison.FUZZY
        with_all = join(" INTERSECT ", [_WITH_WORD + _word(one, is_fuzzy) for one in wanted])
        found.append(
            "patient_statement.patient_statement_pk IN (" + with_all + _WITHOUT_WORDS + ")"
        )
    return "(" + join(" OR ", found) + ")"


def _word(one: WantedWord, is_fuzzy: bool) -> Sql:
    if one.is_whole:
        sound = sound_of(one.text) if is_fuzzy else ""
        return bound("word = ?", SOUND + sound if sound else one.text)
    if not one.is_open_before:
        return bound("word >= ? AND word < ?", one.text, one.text + LAST_CHARACTER)
    ending = "*" if one.is_open_after else ""
    return bound(matches_pattern("word"), f"*{one.text}{ending}")


def _rows(patient_statement_pk: int, name: str) -> Sequence[tuple[int, str]]:
    rows = []
    # Of several names, which the standard does not know, each word of each counts.
    for each in name.split("\\"):
        for word in words_of(each):
            rows.append((patient_statement_pk, word))
            if sound := sound_of(word):
                rows.append((patient_statement_pk, SOUND + sound))
    return rows
