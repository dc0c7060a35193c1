"""Deleting within a transaction: who was promised what, and what leaves the index.

Plain functions on a `Connection`, for whoever deletes.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from isocenter.services.archive.deletion.records import DeletedStudy, Deletion, DeletionCause
from isocenter.services.archive.ports import StoredInstance
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.index.lookup import STUDY_AS_SAID_LAST
from isocenter.storage.database.index.records import remove_within

#: Called within the transaction that deletes, with what it has deleted.
DeleteHook = Callable[[Connection, Sequence[DeletedStudy], DeletionCause], None]

#: What is still being verified counts: its answer may be on the way.
_PROMISED_TO: Final = f"""
    SELECT DISTINCT sop_instance_uid, requester
    FROM commitment_reference JOIN commitment USING (commitment_pk)
    WHERE sop_instance_uid IN {TEXTS} AND coalesce(failure_reason, 0) = 0
    ORDER BY 1, 2
"""
_STUDIES: Final = f"""
    SELECT study_instance_uid, accession_number, patient_id, patient_name, birth_date
    FROM {STUDY_AS_SAID_LAST}
    WHERE study_instance_uid IN {TEXTS}
"""
_REMAINING: Final = f"""
    SELECT study_instance_uid, num_instances FROM study
    WHERE study_instance_uid IN {TEXTS}
"""
_STUDIES_OF: Final = f"""
    SELECT DISTINCT study_instance_uid
    FROM instance JOIN series USING (series_pk) JOIN study USING (study_pk)
    WHERE sop_instance_uid IN {TEXTS}
"""


def promised_to(
    connection: Connection, sop_instance_uids: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """AE titles which this archive has promised to keep an instance (PS3.4 Annex J), by its SOP
    Instance UID; those that are promised to nobody are left out."""
    promised: dict[str, list[str]] = defaultdict(list)
    for uid, requester in connection.execute(_PROMISED_TO, (_json(sop_instance_uids),)):
        promised[uid].append(requester)
    return promised


def delete_within(
    connection: Connection,
    sop_instance_uids: Sequence[str],
    cause: DeletionCause,
    on_delete: Sequence[DeleteHook] = (),
) -> Deletion:
    """Take instances out of the index, in the caller's transaction, and say of which studies."""
    studies = _json(
        [row[0] for row in connection.execute(_STUDIES_OF, (_json(sop_instance_uids),))]
    )
    described = connection.execute(_STUDIES, (studies,)).fetchall()
    removed = remove_within(connection, sop_instance_uids)
    remaining = dict(connection.execute(_REMAINING, (studies,)).fetchall())
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    gone: dict[str, list[StoredInstance]] = defaultdict(list)
    for stored in removed:
        classes[stored.study_instance_uid][stored.sop_class_uid] += 1
        gone[stored.study_instance_uid].append(stored)
    deleted = [
        DeletedStudy(
            study_instance_uid=study,
            accession_number=accession_number,
            sop_classes=classes[study],
            remaining=remaining.get(study, 0),
            gone=gone[study],
            patient_id=patient_id,
            patient_name=patient_name,
            birth_date=birth_date,
        )
        for study, accession_number, patient_id, patient_name, birth_date in described
    ]
    if deleted:
        for each in on_delete:
            each(connection, deleted, cause)
    return Deletion(instances=removed, studies=deleted)


def _json(texts: Sequence[str]) -> str:
    # Whatever a peer asks for: what is not ASCII is no UID, and is not known.
    return json_list([text for text in texts if text.isascii()])
