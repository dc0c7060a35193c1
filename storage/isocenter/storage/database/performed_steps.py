"""Performed procedure steps in the database: adapter of the port `Steps`.

The data set is the truth; the columns and the tables beside it are made of it with each
change, so that a step is found by its study, its series, and the instances that it names.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import Final

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import (
    MODALITY,
    MPPS_NOTIFICATION,
    PERFORMED_STEP_ID,
    START_DATE,
    START_TIME,
    STATION_AE_TITLE,
    PerformedStep,
    StepState,
    step_event,
)
from isocenter.services.service_classes.mpps.ports import StepSummary
from isocenter.services.service_classes.normalized.ports import NewReport
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import joined
from isocenter.storage.database.event_reports import insert_report
from isocenter.storage.database.rows import rows_as

#: What is done in the transaction of a change: the connection, the step before (None: it is
#: new) and after.
ChangeHook = Callable[[Connection, PerformedStep | None, PerformedStep], None]

#: What was kept was judged when it came.
_KEPT_LIMITS: Final = replace(DEFAULT_LIMITS, identifier=1 << 30, identifier_elements=1 << 30)

_TABLES: Final = ("performed_step_scheduled", "performed_step_series", "performed_step_instance")
_COLUMNS: Final = (
    "state", "source_ae_title", "station_ae_title", "modality", "performed_step_id",
    "start_date", "start_time", "created_at", "changed_at", "data_set",
)  # fmt: skip


class DatabaseSteps:
    """See `isocenter.services.service_classes.mpps.ports.Steps`.

    Args:
        on_change: what else is written in the transaction of each change.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._on_change = tuple(on_change)
        self._now = now

    async def create(self, step: PerformedStep, *, notify: Sequence[str], as_ae_title: str) -> bool:
        """See `Steps.create`."""
        return await self._database.write(
            _create, step, partial(self._changed, notify, as_ae_title, None)
        )

    async def change(
        self,
        sop_instance_uid: str,
        change: Callable[[PerformedStep], PerformedStep],
        *,
        notify: Sequence[str],
        as_ae_title: str,
    ) -> PerformedStep:
        """See `Steps.change`."""
        return await self._database.write(
            _change, sop_instance_uid, change, partial(self._changed, notify, as_ae_title)
        )

    def _changed(
        self,
        notify: Sequence[str],
        as_ae_title: str,
        before: PerformedStep | None,
        connection: Connection,
        after: PerformedStep,
    ) -> None:
        for destination in notify:
            report = NewReport(
                destination=destination,
                calling_ae_title=as_ae_title,
                sop_class_uid=MPPS_NOTIFICATION,
                sop_instance_uid=after.sop_instance_uid,
                event_type=step_event(before, after).value,
            )
            insert_report(connection, report, self._now())
        for each in self._on_change:
            each(connection, before, after)

    async def get(self, sop_instance_uid: str) -> PerformedStep | None:
        """See `Steps.get`."""
        return await self._database.read(_get, sop_instance_uid)

    async def rows(
        self,
        *,
        state: StepState | None = None,
        study_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        limit: int = 100,
    ) -> Sequence[StepSummary]:
        """See `Steps.rows`."""
        return await self._database.read(_rows, state, study_instance_uid, sop_instance_uid, limit)


def _values(step: PerformedStep) -> tuple[object, ...]:
    text = step.attributes.text
    return (
        step.state.value,
        step.source_ae_title,
        text(STATION_AE_TITLE),
        text(MODALITY),
        text(PERFORMED_STEP_ID),
        text(START_DATE),
        text(START_TIME),
        step.created_at,
        step.changed_at,
        step.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN),
    )


def _create(
    connection: Connection,
    step: PerformedStep,
    changed: Callable[[Connection, PerformedStep], None],
) -> bool:
    if _key(connection, step.sop_instance_uid) is not None:
        return False
    (key,) = connection.execute(
        f"INSERT INTO performed_step (sop_instance_uid, {', '.join(_COLUMNS)}) "
        f"VALUES (?{', ?' * len(_COLUMNS)}) RETURNING step_pk",
        (step.sop_instance_uid, *_values(step)),
    ).fetchone()
    _link(connection, key, step)
    changed(connection, step)
    return True


def _change(
    connection: Connection,
    sop_instance_uid: str,
    change: Callable[[PerformedStep], PerformedStep],
    changed: Callable[[PerformedStep | None, Connection, PerformedStep], None],
) -> PerformedStep:
    before = _get(connection, sop_instance_uid)
    if before is None:
        raise KeyError(sop_instance_uid)
    after = change(before)
    key = _key(connection, sop_instance_uid)
    assert key is not None
    connection.execute(
        f"UPDATE performed_step SET {', '.join(f'{name} = ?' for name in _COLUMNS)} "
        "WHERE step_pk = ?",
        (*_values(after), key),
    )
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE step_pk = ?", (key,))
    _link(connection, key, after)
    changed(before, connection, after)
    return after


def _key(connection: Connection, sop_instance_uid: str) -> int | None:
    row = connection.execute(
        "SELECT step_pk FROM performed_step WHERE sop_instance_uid = ?", (sop_instance_uid,)
    ).fetchone()
    return None if row is None else row[0]


def _link(connection: Connection, key: int, step: PerformedStep) -> None:
    connection.executemany(
        "INSERT INTO performed_step_scheduled (step_pk, position, study_instance_uid, "
        "accession_number, requested_procedure_id, scheduled_step_id) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                key,
                position,
                each.study_instance_uid,
                each.accession_number,
                each.requested_procedure_id,
                each.scheduled_step_id,
            )
            for position, each in enumerate(step.scheduled)
        ],
    )
    # A series may stand twice, and an instance: some modalities list it with each protocol.
    connection.executemany(
        "INSERT INTO performed_step_series (step_pk, series_instance_uid) VALUES (?, ?) "
        "ON CONFLICT (step_pk, series_instance_uid) DO NOTHING",
        [(key, series.series_instance_uid) for series in step.series],
    )
    connection.executemany(
        "INSERT INTO performed_step_instance "
        "(step_pk, sop_instance_uid, sop_class_uid, series_instance_uid) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (step_pk, sop_instance_uid) DO NOTHING",
        [
            (key, sop_instance_uid, sop_class_uid, series.series_instance_uid)
            for series in step.series
            for sop_class_uid, sop_instance_uid in series.instances
        ],
    )


def _get(connection: Connection, sop_instance_uid: str) -> PerformedStep | None:
    row = connection.execute(
        "SELECT state, source_ae_title, created_at, changed_at, data_set "
        "FROM performed_step WHERE sop_instance_uid = ?",
        (sop_instance_uid,),
    ).fetchone()
    if row is None:
        return None
    return PerformedStep(
        sop_instance_uid=sop_instance_uid,
        state=StepState(row[0]),
        source_ae_title=row[1],
        created_at=row[2],
        changed_at=row[3],
        attributes=AttributeList.read(row[4], EXPLICIT_VR_LITTLE_ENDIAN, _KEPT_LIMITS),
    )


def _rows(
    connection: Connection,
    state: StepState | None,
    study_instance_uid: str | None,
    sop_instance_uid: str | None,
    limit: int,
) -> list[StepSummary]:
    rows = connection.execute(
        "SELECT sop_instance_uid, state, source_ae_title, station_ae_title, modality, "
        "performed_step_id, start_date, start_time, changed_at, "
        f"(SELECT {joined('study_instance_uid')} FROM "
        "(SELECT DISTINCT study_instance_uid FROM performed_step_scheduled "
        "WHERE step_pk = s.step_pk) AS scheduled) AS studies, "
        "(SELECT count(*) FROM performed_step_series WHERE step_pk = s.step_pk) AS series, "
        "(SELECT count(*) FROM performed_step_instance WHERE step_pk = s.step_pk) AS instances, "
        "(SELECT count(*) FROM performed_step_instance JOIN instance USING (sop_instance_uid) "
        "WHERE step_pk = s.step_pk) AS arrived "
        "FROM performed_step s WHERE (:state IS NULL OR state = :state) "
        "AND (:study IS NULL OR step_pk IN "
        "(SELECT step_pk FROM performed_step_scheduled WHERE study_instance_uid = :study)) "
        "AND (:uid IS NULL OR sop_instance_uid = :uid) "
        "ORDER BY step_pk DESC LIMIT :limit",
        {
            "state": None if state is None else state.value,
            "study": study_instance_uid,
            "uid": sop_instance_uid,
            "limit": limit,
        },
    )
    return rows_as(
        StepSummary, rows, state=StepState, studies=lambda text: tuple((text or "").split("\\"))
    )
