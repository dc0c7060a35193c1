"""Linked patients in the database: adapter of the port `LinkedPatients`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.archive.corrections.values import PatientKey
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.text import replace_surrogates

#: Both ways; a patient whose issuer is not said may be of any.
_NEXT: Final = """
    SELECT other_patient_id, other_issuer FROM patient_link
    WHERE patient_id = :id AND (:any_issuer = 1 OR issuer = :issuer)
    UNION SELECT patient_id, issuer FROM patient_link
    WHERE other_patient_id = :id AND (:any_issuer = 1 OR other_issuer = :issuer)
"""
#: Patients that are one person: more is a mistake, and would be a question without an end.
_MOST: Final = 100


class DatabaseLinks:
    """See `isocenter.services.archive.corrections.ports.LinkedPatients`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        """See `LinkedPatients.linked`."""
        return await self._database.read(_linked, replace_surrogates(patient_id), issuer)


def _linked(connection: Connection, patient_id: str, issuer: str | None) -> list[PatientKey]:
    found: dict[PatientKey, None] = {}
    todo: list[tuple[str, str | None]] = [(patient_id, issuer)]
    while todo and len(found) < _MOST:
        asked, of = todo.pop()
        values = {"id": asked, "issuer": of or "", "any_issuer": int(of is None)}
        for row in connection.execute(_NEXT, values).fetchall():
            key = PatientKey(row[0], row[1])
            if key not in found:
                found[key] = None
                todo.append((row[0], row[1]))
    return [
        each
        for each in found
        if each.patient_id != patient_id or (issuer is not None and each.issuer != issuer)
    ]
