"""Reconciliation in the database: adapter of the port `ReconciliationBook`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Identifier,
    PatientLink,
    ReconciliationKind,
)
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
        one, other = _in_order(link.one, link.other)
        return await self._database.write(
            _change,
            "INSERT INTO patient_link (patient_id, issuer, other_patient_id, other_issuer, "
            "actor, at) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (patient_id, issuer, other_patient_id, other_issuer) DO NOTHING",
            (*one, *other, replace_surrogates(link.actor), link.at),
        )

    async def unlink(self, one: Identifier, other: Identifier) -> bool:
        """See `ReconciliationBook.unlink`."""
        first, second = _in_order(one, other)
        return await self._database.write(
            _change,
            "DELETE FROM patient_link WHERE patient_id = ? AND issuer = ? "
            "AND other_patient_id = ? AND other_issuer = ?",
            (*first, *second),
        )

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
    return [
        PatientLink(
            one=Identifier(row["patient_id"], row["issuer"]),
            other=Identifier(row["other_patient_id"], row["other_issuer"]),
            actor=row["actor"],
            at=row["at"],
        )
        for row in named_rows(connection.execute(_LINKS, values))
    ]


def _change(connection: Connection, statement: str, values: tuple[object, ...]) -> bool:
    return bool(connection.execute(statement, values).rowcount)
