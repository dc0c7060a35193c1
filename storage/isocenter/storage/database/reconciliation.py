"""Reconciliation in the database: adapter of the port `ReconciliationBook`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Contradiction,
    Identifier,
    IdentityConflict,
    PatientLink,
    ReconciliationKind,
    SeenPatient,
    ToldApartError,
)
from isocenter.storage.database.corrections.links import Key, group_of, told_apart_in
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import named_rows
from isocenter.storage.database.text import replace_surrogates

#: For so long it is kept that there was nothing to do: most messages are about patients of whom
#: nothing is here.
_IN_VAIN_SECONDS: Final = 30 * 86_400.0
_INSERT: Final = """
    INSERT INTO reconciliation (kind, patient_id, issuer, other_patient_id, other_issuer, actor,
        message, at, outcome, instances, corrections, fault)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING reconciliation_pk
"""
_FORGET: Final = "DELETE FROM reconciliation WHERE outcome = 'nothing to do' AND at < ?"
_ATTEMPTS: Final = """
    SELECT reconciliation_pk AS number, kind, patient_id, issuer, other_patient_id, other_issuer,
        actor, message, at, outcome, instances, corrections, fault
    FROM reconciliation
    WHERE (:patient = '' OR patient_id = :patient OR other_patient_id = :patient)
      AND (:before = 0 OR reconciliation_pk < :before)
    ORDER BY reconciliation_pk DESC LIMIT :limit
"""
_LINKS: Final = """
    SELECT patient_id, issuer, other_patient_id, other_issuer, actor, at FROM patient_link
    WHERE :patient = '' OR patient_id = :patient OR other_patient_id = :patient
    ORDER BY at DESC, patient_id, other_patient_id LIMIT :limit
"""
_LINK: Final = """
    INSERT INTO patient_link (patient_id, issuer, other_patient_id, other_issuer, actor, at)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_TELL_APART: Final = """
    INSERT INTO patient_distinct (patient_id, issuer, other_patient_id, other_issuer, actor, at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (patient_id, issuer, other_patient_id, other_issuer) DO NOTHING
"""
_PAIR: Final = "patient_id = ? AND issuer = ? AND other_patient_id = ? AND other_issuer = ?"
_IS_LINKED: Final = f"SELECT 1 FROM patient_link WHERE {_PAIR}"
_UNLINK: Final = f"DELETE FROM patient_link WHERE {_PAIR}"
_NOT_APART: Final = f"DELETE FROM patient_distinct WHERE {_PAIR}"
_LINKS_OF: Final = """
    SELECT patient_id, issuer, other_patient_id, other_issuer, actor, at FROM patient_link
    WHERE patient_id = ? AND issuer = ? ORDER BY other_patient_id, other_issuer
"""
#: Only who has a link can be in a group.
_APART_AND_LINKED: Final = """
    SELECT d.patient_id, d.issuer, d.other_patient_id, d.other_issuer FROM patient_distinct d
    WHERE EXISTS (SELECT 1 FROM patient_link l
          WHERE l.patient_id = d.patient_id OR l.other_patient_id = d.patient_id)
      AND EXISTS (SELECT 1 FROM patient_link l
          WHERE l.patient_id = d.other_patient_id OR l.other_patient_id = d.other_patient_id)
    ORDER BY d.patient_id, d.issuer, d.other_patient_id, d.other_issuer
"""


#: Values by which conflicts are in order.
_PLACE: Final = 6
#: Of one name and birth date, two IDs that stand in that order: an ID of which nobody says who gave
#: it may be that of any issuer, so it is no conflict with itself.
_CONFLICTS: Final = """
    SELECT DISTINCT a.birth_date, a.patient_name_key, a.patient_id, a.issuer_of_patient_id,
        b.patient_id AS other_id, b.issuer_of_patient_id AS other_issuer
    FROM patient_statement a JOIN patient_statement b
      ON b.birth_date = a.birth_date AND b.patient_name_key = a.patient_name_key
     AND (a.patient_id < b.patient_id OR (a.patient_id = b.patient_id
          AND a.issuer_of_patient_id <> '' AND a.issuer_of_patient_id < b.issuer_of_patient_id))
    WHERE a.birth_date <> '' AND a.patient_name_key <> '' AND a.patient_id <> ''
      AND (a.birth_date, a.patient_name_key, a.patient_id, a.issuer_of_patient_id, b.patient_id,
           b.issuer_of_patient_id) > (:date, :name, :id, :issuer, :other, :other_issuer)
      AND NOT EXISTS (SELECT 1 FROM patient_link l
          WHERE (l.patient_id, l.issuer, l.other_patient_id, l.other_issuer)
              = (a.patient_id, a.issuer_of_patient_id, b.patient_id, b.issuer_of_patient_id)
             OR (l.patient_id, l.issuer, l.other_patient_id, l.other_issuer)
              = (b.patient_id, b.issuer_of_patient_id, a.patient_id, a.issuer_of_patient_id))
      AND NOT EXISTS (SELECT 1 FROM patient_distinct d
          WHERE (d.patient_id, d.issuer, d.other_patient_id, d.other_issuer)
              = (a.patient_id, a.issuer_of_patient_id, b.patient_id, b.issuer_of_patient_id)
             OR (d.patient_id, d.issuer, d.other_patient_id, d.other_issuer)
              = (b.patient_id, b.issuer_of_patient_id, a.patient_id, a.issuer_of_patient_id))
    ORDER BY a.birth_date, a.patient_name_key, a.patient_id, a.issuer_of_patient_id, b.patient_id,
        b.issuer_of_patient_id
    LIMIT :limit
"""
_SEEN: Final = """
    SELECT max(p.patient_name), max(p.sex), count(DISTINCT s.study_pk)
    FROM patient_statement p JOIN study_statement s
      ON s.patient_statement_pk = p.patient_statement_pk
    WHERE p.patient_id = ? AND p.issuer_of_patient_id = ? AND p.birth_date = ?
      AND p.patient_name_key = ?
"""


class DatabaseReconciliation:
    """See `isocenter.services.workflow.reconciliation.ports.ReconciliationBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, attempt: Attempt) -> int:
        """See `ReconciliationBook.note`."""
        return await self._database.write(_note, attempt)

    async def attempts(
        self, *, patient_id: str = "", before: int = 0, limit: int
    ) -> Sequence[Attempt]:
        """See `ReconciliationBook.attempts`."""
        values = {"patient": patient_id, "before": before, "limit": limit}
        return await self._database.read(_attempts, values)

    async def link(self, link: PatientLink) -> bool:
        """See `ReconciliationBook.link`."""
        return await self._database.write(_link, link)

    async def unlink(self, link: PatientLink) -> bool:
        """See `ReconciliationBook.unlink`."""
        return await self._database.write(_unlink, link)

    async def group(self, one: Identifier, other: Identifier) -> Sequence[PatientLink]:
        """See `ReconciliationBook.group`."""
        return await self._database.read(_group, *_in_order(one, other))

    async def contradictions(self, *, limit: int) -> Sequence[Contradiction]:
        """See `ReconciliationBook.contradictions`."""
        return await self._database.read(_contradictions, limit)

    async def tell_apart(self, link: PatientLink) -> bool:
        """See `ReconciliationBook.tell_apart`."""
        return await self._database.write(_tell_apart, link)

    async def conflicts(
        self, *, after: Sequence[str] = (), limit: int
    ) -> Sequence[IdentityConflict]:
        """See `ReconciliationBook.conflicts`."""
        place = [*after, *[""] * _PLACE][:_PLACE]
        names = ("date", "name", "id", "issuer", "other", "other_issuer")
        values = dict(zip(names, place, strict=True)) | {"limit": limit}
        return await self._database.read(_conflicts, values)

    async def links(self, *, patient_id: str = "", limit: int) -> Sequence[PatientLink]:
        """See `ReconciliationBook.links`."""
        return await self._database.read(_links, {"patient": patient_id, "limit": limit})


def _in_order(one: Identifier, other: Identifier) -> list[tuple[str, str]]:
    return sorted(_columns(each) for each in (one, other))


def _columns(identifier: Identifier) -> tuple[str, str]:
    return replace_surrogates(identifier.patient_id), replace_surrogates(identifier.issuer)


def _note(connection: Connection, attempt: Attempt) -> int:
    values = (
        attempt.kind.value, *_columns(attempt.patient), *_columns(attempt.other),
        replace_surrogates(attempt.actor), replace_surrogates(attempt.message), attempt.at,
        attempt.outcome.value, attempt.instances, " ".join(map(str, attempt.corrections)),
        replace_surrogates(attempt.fault),
    )  # fmt: skip
    (number,) = connection.execute(_INSERT, values).fetchone()
    if attempt.outcome is AttemptOutcome.NOTHING:
        connection.execute(_FORGET, (attempt.at - _IN_VAIN_SECONDS,))
    return int(number)


def _attempts(connection: Connection, values: dict[str, object]) -> list[Attempt]:
    return [
        Attempt(
            kind=ReconciliationKind(row.pop("kind")),
            patient=Identifier(row.pop("patient_id"), row.pop("issuer")),
            other=Identifier(row.pop("other_patient_id"), row.pop("other_issuer")),
            outcome=AttemptOutcome(row.pop("outcome")),
            corrections=tuple(map(int, row.pop("corrections").split())),
            **row,
        )
        for row in named_rows(connection.execute(_ATTEMPTS, values))
    ]


def _links(connection: Connection, values: dict[str, Any]) -> list[PatientLink]:
    return _shown_links(connection.execute(_LINKS, values))


def _shown_links(cursor: Any) -> list[PatientLink]:
    return [
        PatientLink(
            one=Identifier(row["patient_id"], row["issuer"]),
            other=Identifier(row["other_patient_id"], row["other_issuer"]),
            actor=row["actor"],
            at=row["at"],
        )
        for row in named_rows(cursor)
    ]


def _conflicts(connection: Connection, values: dict[str, Any]) -> list[IdentityConflict]:
    return [
        IdentityConflict(
            one=_seen(connection, one, issuer, date, key),
            other=_seen(connection, other, other_issuer, date, key),
            place=(date, key, one, issuer, other, other_issuer),
        )
        for date, key, one, issuer, other, other_issuer in connection.execute(
            _CONFLICTS, values
        ).fetchall()
    ]


def _seen(
    connection: Connection, patient_id: str, issuer: str, birth_date: str, name_key: str
) -> SeenPatient:
    row = connection.execute(_SEEN, (patient_id, issuer, birth_date, name_key)).fetchone()
    assert row is not None
    return SeenPatient(
        identifier=Identifier(patient_id, issuer),
        name=row[0] or "",
        birth_date=birth_date,
        sex=row[1] or "",
        studies=int(row[2]),
    )


def _link(connection: Connection, link: PatientLink) -> bool:
    one, other = _in_order(link.one, link.other)
    pair = (*one, *other)
    if connection.execute(_IS_LINKED, pair).fetchone() is not None:
        return False
    apart = told_apart_in(connection, group_of(connection, (one, other)))
    if set(apart) - {(one, other)}:
        raise ToldApartError(
            "patients that are linked with them were told apart, or these are linked with two who "
            "were; take back the link that is wrong first"
        )
    connection.execute(_NOT_APART, pair)
    connection.execute(_LINK, (*pair, replace_surrogates(link.actor), link.at))
    return True


def _unlink(connection: Connection, link: PatientLink) -> bool:
    one, other = _in_order(link.one, link.other)
    if not connection.execute(_UNLINK, (*one, *other)).rowcount:
        return False
    if other in group_of(connection, (one,)):
        _tell_apart(connection, link)
    return True


def _tell_apart(connection: Connection, link: PatientLink) -> bool:
    one, other = _in_order(link.one, link.other)
    values = (*one, *other, replace_surrogates(link.actor), link.at)
    return bool(connection.execute(_TELL_APART, values).rowcount)


def _group(connection: Connection, one: Key, other: Key) -> list[PatientLink]:
    group = group_of(connection, (one,))
    return _links_of(connection, group) if other in group else []


def _links_of(connection: Connection, group: Sequence[Key]) -> list[PatientLink]:
    """The links between patients of a group."""
    return [
        link
        for patient_id, issuer in group
        for link in _shown_links(connection.execute(_LINKS_OF, (patient_id, issuer)))
    ]


def _contradictions(connection: Connection, limit: int) -> list[Contradiction]:
    found: list[Contradiction] = []
    for one, issuer, other, other_issuer in connection.execute(_APART_AND_LINKED).fetchall():
        links = _group(connection, (one, issuer), (other, other_issuer))
        if links:
            found.append(
                Contradiction(
                    one=Identifier(one, issuer),
                    other=Identifier(other, other_issuer),
                    links=tuple(links),
                )
            )
        if len(found) >= limit:
            break
    return found
