"""Linked patients in the database: adapter of the port `LinkedPatients`.

Links make groups, and a group is one person.  That two patients were told apart
(`patient_distinct`) contradicts a group which has both.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

from isocenter.services.archive.corrections.values import PatientKey
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.text import replace_surrogates

log = logging.getLogger("isocenter.storage")

#: A Patient ID and its issuer.
Key = tuple[str, str]

#: Both ways.
_NEXT: Final = """
    SELECT other_patient_id, other_issuer FROM patient_link
    WHERE patient_id = :id AND issuer = :issuer
    UNION SELECT patient_id, issuer FROM patient_link
    WHERE other_patient_id = :id AND other_issuer = :issuer
"""
#: A patient whose issuer is not said may be of any.
_OF_ANY_ISSUER: Final = """
    SELECT issuer FROM patient_link WHERE patient_id = :id
    UNION SELECT other_issuer FROM patient_link WHERE other_patient_id = :id
"""
#: Of two patients the one that sorts first stands first.
_APART: Final = """
    SELECT other_patient_id, other_issuer FROM patient_distinct
    WHERE patient_id = :id AND issuer = :issuer
"""
#: Patients that are one person: more is a mistake, and would be a question without an end.
MOST_ASKED: Final = 100
_MOST_IN_GROUP: Final = 10_000


class DatabaseLinks:
    """See `isocenter.services.archive.corrections.ports.LinkedPatients`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_told = False

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        """See `LinkedPatients.linked`."""
        found, is_cut = await self._database.read(_linked, replace_surrogates(patient_id), issuer)
        if is_cut and not self._is_told:
            self._is_told = True  # whoever searches does it all day
            log.warning(
                "more than %d patients are linked as one person, and searches for one of them "
                "find those first ones only: look at isocenter link list",
                MOST_ASKED,
            )
        return found


def _linked(
    connection: Connection, patient_id: str, issuer: str | None
) -> tuple[list[PatientKey], bool]:
    """Who is linked, and whether there are more than are asked for."""
    issuers = [issuer]
    if issuer is None:
        rows = connection.execute(_OF_ANY_ISSUER, {"id": patient_id}).fetchall()
        issuers = [found for (found,) in rows]
    asked = [(patient_id, each or "") for each in issuers]
    # One more shows that there are more.
    group = group_of(connection, asked, most=MOST_ASKED + 1)
    is_cut = len(group) > MOST_ASKED
    group = group[: max(MOST_ASKED, len(asked))]
    if told_apart_in(connection, group):
        return [], is_cut
    found = [
        PatientKey(*key)
        for key in group
        if key not in asked and (issuer is not None or key[0] != patient_id)
    ]
    return found, is_cut


def group_of(
    connection: Connection, members: Collection[Key], *, most: int = _MOST_IN_GROUP
) -> list[Key]:
    """The group of some patients, them among it."""
    found = dict.fromkeys(members)
    todo = list(found)
    while todo and len(found) < most:
        patient_id, issuer = todo.pop()
        for row in connection.execute(_NEXT, {"id": patient_id, "issuer": issuer}).fetchall():
            key = (row[0], row[1])
            if key not in found:
                found[key] = None
                todo.append(key)
    return list(found)


def told_apart_in(connection: Connection, group: Collection[Key]) -> list[tuple[Key, Key]]:
    """Pairs of a group who were told apart."""
    members = frozenset(group)
    return [
        ((patient_id, issuer), (other, other_issuer))
        for patient_id, issuer in group
        for other, other_issuer in connection.execute(
            _APART, {"id": patient_id, "issuer": issuer}
        ).fetchall()
        if (other, other_issuer) in members
    ]
