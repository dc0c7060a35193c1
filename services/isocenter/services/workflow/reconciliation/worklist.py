"""Worklist entries of a patient who is updated or merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.order_changes import changed_entry
from isocenter.services.service_classes.worklist.order_fields import entry_fields
from isocenter.services.service_classes.worklist.ports import Worklist
from isocenter.services.service_classes.worklist.query_keys import parse_keys
from isocenter.services.workflow.reconciliation.values import (
    Demand,
    Identifier,
    ReconciliationError,
    ReconciliationKind,
)

#: What of a patient an entry has, by tag.
_FIELDS: Final = {0x00100010: "patient_name", 0x00100030: "birth_date", 0x00100040: "sex"}
#: What is over stays as it was done.
_OPEN: Final = (EntryState.SCHEDULED, EntryState.STARTED)


class PatientEntries:
    """Changes the entries of patients as a demand says."""

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist

    async def follow(self, demand: Demand) -> int:
        """Do it; how many entries are others now.

        Raises:
            ReconciliationError: an entry cannot be so; others may have been changed.
        """
        said = {
            _FIELDS[tag]: value or ""
            for tag, value in demand.attributes.items()
            if tag in _FIELDS and (value or tag != 0x00100010)
        }
        done = 0
        if demand.kind is ReconciliationKind.MERGE:
            target = demand.patients[0]
            named = {"patient_id": target.patient_id, "issuer_of_patient_id": target.issuer}
            done += await self._change(demand.others, {**said, **named})
        if demand.kind in (ReconciliationKind.MERGE, ReconciliationKind.UPDATE) and said:
            done += await self._change(demand.patients, said)
        return done

    async def has(self, patients: Sequence[Identifier]) -> bool:
        """Whether there is an open entry of one of these."""
        for patient in patients:
            if await self._keys_of(patient, None):
                return True
        return False

    async def _change(self, patients: Sequence[Identifier], fields: Mapping[str, str]) -> int:
        keys: list[EntryKey] = []
        for patient in patients:
            keys += await self._keys_of(patient, fields)
        done = 0
        for key in dict.fromkeys(keys):
            try:
                done += await self._worklist.change(key, partial(changed_entry, fields))
            except InvalidEntryError as error:
                raise ReconciliationError(f"an entry of the worklist cannot be so: {error}") from (
                    error
                )
        return done

    async def _keys_of(
        self, patient: Identifier, fields: Mapping[str, str] | None
    ) -> list[EntryKey]:
        """Of the entries of a patient that do not say so yet; None: of all."""
        identifier = build_identifier(
            [("PatientID", patient.patient_id)], None, EXPLICIT_VR_LITTLE_ENDIAN
        )
        wanted = parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
        found: list[EntryKey] = []
        async with self._worklist.find(wanted, _OPEN) as blocks:
            async for block in blocks:
                found += [
                    stored.entry.key for stored in block if _is_of(stored.entry, patient, fields)
                ]
        return found


def _is_of(entry: Entry, patient: Identifier, fields: Mapping[str, str] | None) -> bool:
    said = entry_fields(entry)
    # A key may have matched by wild cards.
    return (
        said.get("patient_id", "") == patient.patient_id
        and (not patient.issuer or said.get("issuer_of_patient_id", "") in ("", patient.issuer))
        and (fields is None or any(said.get(name, "") != value for name, value in fields.items()))
    )
