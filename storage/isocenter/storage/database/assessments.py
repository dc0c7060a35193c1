"""Assessments of AI results in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.integration.ai.assessment import (
    Assessment,
    AssessmentStatus,
    Opinion,
    Verdict,
)
from isocenter.services.integration.ai.ports import AssessmentCount
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.text import replace_surrogates

_COLUMNS: Final = """
    sop_instance_uid, study_instance_uid, result, result_class, service, assessor, institution,
    verdict, status, reason, comment, modified, predecessor, at
"""
_NOTE: Final = f"""
    INSERT INTO assessment_begun ({_COLUMNS})
    VALUES (:uid, :study, :result, :class, :service, :assessor, :institution, :verdict, :status,
        :reason, :comment, :modified, :predecessor, :at)
"""
_ADD: Final = f"""
    INSERT INTO assessment ({_COLUMNS})
    VALUES (:uid, :study, :result, :class, :service, :assessor, :institution, :verdict, :status,
        :reason, :comment, :modified, :predecessor, :at)
    ON CONFLICT (sop_instance_uid) DO NOTHING
"""
#: It came late, and another one follows the same: it follows the last.
_FOLLOW: Final = """
    UPDATE assessment SET predecessor = (
        SELECT last.sop_instance_uid FROM assessment AS last
        WHERE last.result = :result AND last.sop_instance_uid <> :uid AND NOT EXISTS (
            SELECT 1 FROM assessment AS next WHERE next.predecessor = last.sop_instance_uid)
        ORDER BY last.at DESC, last.sop_instance_uid LIMIT 1)
    WHERE sop_instance_uid = :uid AND EXISTS (
        SELECT 1 FROM assessment AS other
        WHERE other.result = :result AND other.predecessor = :predecessor
          AND other.sop_instance_uid <> :uid)
"""
_FORGET: Final = "DELETE FROM assessment_begun WHERE sop_instance_uid = :uid"
_IS_STORED: Final = "SELECT 1 FROM instance WHERE sop_instance_uid = :uid"
#: Whoever was about it is dead, or late.
_OVER: Final = """
    NOT EXISTS (SELECT 1 FROM assessment_claim c
        WHERE c.sop_instance_uid = assessment_begun.sop_instance_uid AND c.until > :now)
"""
_STORED: Final = f"""
    SELECT sop_instance_uid AS uid, study_instance_uid AS study, result, result_class AS class,
        service, assessor, institution, verdict, status, reason, comment, modified, predecessor, at
    FROM assessment_begun
    WHERE {_OVER} AND EXISTS (SELECT 1 FROM instance i
        WHERE i.sop_instance_uid = assessment_begun.sop_instance_uid)
    ORDER BY at, sop_instance_uid
"""
#: Nobody is so late with a report.
_LATEST_SECONDS: Final = 86_400.0
_FORGET_OLD: Final = f"DELETE FROM assessment_begun WHERE {_OVER} AND at < :before"
#: Nobody says anything of a result at the same time, or has said what was to follow the same.
_BEGIN: Final = """
    INSERT INTO assessment_claim (result, sop_instance_uid, until)
    SELECT :result, :uid, :until
    WHERE NOT EXISTS (
        SELECT 1 FROM assessment WHERE result = :result AND predecessor = :predecessor
    )
    ON CONFLICT (result) DO UPDATE
    SET sop_instance_uid = excluded.sop_instance_uid, until = excluded.until
    WHERE assessment_claim.until <= :now
"""
_TAKE: Final = """
    DELETE FROM assessment_claim WHERE result = :result AND sop_instance_uid = :uid
"""
_IS_IN_TIME: Final = """
    SELECT 1 FROM assessment_claim
    WHERE result = :result AND sop_instance_uid = :uid AND until > :now
"""
_IS_KEPT: Final = "SELECT 1 FROM assessment WHERE sop_instance_uid = :uid"
_FIND: Final = f"SELECT {_COLUMNS} FROM assessment"
_STATISTICS: Final = """
    SELECT service, verdict, count(*) AS results FROM assessment
    WHERE sop_instance_uid NOT IN (SELECT predecessor FROM assessment)
    GROUP BY service, verdict ORDER BY service, verdict
"""


class DatabaseAssessments:
    """See `isocenter.services.integration.ai.ports.AssessmentBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Clock = time) -> None:
        self._database = database
        self._now = now

    async def begin(self, assessment: Assessment, seconds: float) -> bool:
        """See `AssessmentBook.begin`."""
        now = self._now()
        values = _values(assessment) | {"until": now + seconds, "now": now}
        return await self._database.write(_begin, values)

    async def give_up(self, assessment: Assessment) -> None:
        """See `AssessmentBook.give_up`."""
        await self._database.write(_give_up, _values(assessment) | {"now": self._now()})

    async def add(self, assessment: Assessment) -> bool:
        """See `AssessmentBook.add`."""
        return await self._database.write(_add, _values(assessment) | {"now": self._now()})

    async def find(
        self, *, study: str = "", result: str = "", assessor: str = "", limit: int
    ) -> Sequence[Assessment]:
        """See `AssessmentBook.find`."""
        conditions = ["1 = 1"]
        if study:
            conditions.append("study_instance_uid = :study")
        if result:
            conditions.append("result = :result")
        if assessor:
            conditions.append("assessor = :assessor")
        statement = (
            f"{_FIND} WHERE {' AND '.join(conditions)} "
            "ORDER BY at DESC, sop_instance_uid LIMIT :limit"
        )
        values = {
            "study": study,
            "result": result,
            "assessor": replace_surrogates(assessor),
            "limit": limit,
        }
        return await self._database.read(_find, statement, values)

    async def statistics(self) -> Sequence[AssessmentCount]:
        """See `AssessmentBook.statistics`."""
        return await self._database.read(_statistics)


def _values(assessment: Assessment) -> dict[str, Any]:
    opinion = assessment.opinion
    return {
        "uid": assessment.sop_instance_uid,
        "study": assessment.study_instance_uid,
        "result": assessment.result,
        "class": assessment.result_class,
        "service": assessment.service,
        "assessor": replace_surrogates(assessment.assessor),
        "institution": replace_surrogates(opinion.institution),
        "verdict": opinion.verdict.value,
        "status": opinion.status.value,
        "reason": opinion.reason,
        "comment": replace_surrogates(opinion.comment),
        "modified": opinion.modified,
        "predecessor": assessment.predecessor,
        "at": assessment.at,
    }


def _begin(connection: Connection, values: Mapping[str, Any]) -> bool:
    settle_assessments(connection, values["now"])
    if not connection.execute(_BEGIN, values).rowcount:
        return False
    connection.execute(_NOTE, values)
    return True


def _give_up(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(_TAKE, values)
    # Whoever was told that its report could not be stored may be wrong: the answer was lost.
    settle_assessments(connection, values["now"])


def _add(connection: Connection, values: Mapping[str, Any]) -> bool:
    is_in_time = connection.execute(_IS_IN_TIME, values).fetchone() is not None
    connection.execute(_TAKE, values)
    if is_in_time or connection.execute(_IS_STORED, values).fetchone() is not None:
        _keep(connection, values)
    return connection.execute(_IS_KEPT, values).fetchone() is not None


def _keep(connection: Connection, values: Mapping[str, Any]) -> None:
    if connection.execute(_ADD, values).rowcount:
        connection.execute(_FOLLOW, values)
    connection.execute(_FORGET, values)


def settle_assessments(connection: Connection, now: float) -> None:
    """Keep those whose reports were stored by who died over it, and forget the others: not at
    once, since whoever is late may still store one."""
    values = {"now": now, "before": now - _LATEST_SECONDS}
    for row in list(named_rows(connection.execute(_STORED, values))):
        _keep(connection, row)
    connection.execute(_FORGET_OLD, values)


def _find(connection: Connection, statement: str, values: Mapping[str, Any]) -> list[Assessment]:
    return [_assessment(row) for row in named_rows(connection.execute(statement, values))]


def _assessment(row: Mapping[str, Any]) -> Assessment:
    return Assessment(
        sop_instance_uid=row["sop_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        result=row["result"],
        result_class=row["result_class"],
        service=row["service"],
        assessor=row["assessor"],
        opinion=Opinion(
            verdict=Verdict(row["verdict"]),
            status=AssessmentStatus(row["status"]),
            institution=row["institution"],
            comment=row["comment"],
            reason=row["reason"],
            modified=row["modified"],
        ),
        predecessor=row["predecessor"],
        at=row["at"],
    )


def _statistics(connection: Connection) -> list[AssessmentCount]:
    return rows_as(AssessmentCount, connection.execute(_STATISTICS), verdict=Verdict)
