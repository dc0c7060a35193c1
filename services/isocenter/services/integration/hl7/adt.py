"""ADT messages as demands to reconcile patients (HL7 v2 3.3, IHE RAD-12).

| event | demand |
| --- | --- |
| A01, A04, A05, A08, A28, A31 | PID: the patient's name, birth date and sex |
| A18, A34, A36, A39, A40, A47 | each PID with the MRG behind it: MRG-1 becomes PID-3 |
| A43 | the same, of the studies that a ZDS or an OBR names, else of all |
| A24, A37 | two PID: linked, or linked no more |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from isocenter.services.integration.hl7.data_types import (
    identifier,
    person_of_patient,
    truncated,
)
from isocenter.services.integration.hl7.errors import (
    DATA_TYPE_ERROR,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE_ERROR,
    UNSUPPORTED_EVENT_CODE,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Message, Segment
from isocenter.services.workflow.reconciliation.values import (
    Demand,
    Identifier,
    ReconciliationKind,
)

_UPDATES: Final = frozenset({"A01", "A04", "A05", "A08", "A28", "A31"})
_MERGES: Final = frozenset({"A18", "A34", "A36", "A39", "A40", "A47"})
_MOVES: Final = "A43"
_LINKS: Final = "A24"
_UNLINKS: Final = "A37"
#: Trigger events that are taken.
EVENTS: Final = frozenset({*_UPDATES, *_MERGES, _MOVES, _LINKS, _UNLINKS})
_NAME, _BIRTH_DATE, _SEX = 0x00100010, 0x00100030, 0x00100040
_SEXES: Final = {"M": "M", "F": "F", "O": "O", "A": "O"}
_DATE: Final = re.compile(r"([0-9]{8})[0-9.+-]*", re.ASCII)
_NULL: Final = '""'
_LONG_STRING: Final = 64
_MOST_GROUPS: Final = 200


def read_demands(message: Message) -> list[Demand]:
    """What an ADT message wants.

    Raises:
        Hl7Error: its event is not taken (AR), or something is missing or wrong (AE).
    """
    event = message.header.text(9, 2) or _event_of(message)
    if event not in EVENTS:
        raise Hl7Error(
            f"of ADT only the events {', '.join(sorted(EVENTS))} are taken",
            Location("MSH", 9),
            UNSUPPORTED_EVENT_CODE,
            is_reject=True,
        )
    if event in (_LINKS, _UNLINKS):
        kind = ReconciliationKind.LINK if event == _LINKS else ReconciliationKind.UNLINK
        return [_link(message, kind)]
    groups = list(_groups(message))
    if not groups:
        raise Hl7Error("there is no patient in it", Location("PID"), SEGMENT_SEQUENCE_ERROR)
    if len(groups) > _MOST_GROUPS:
        raise Hl7Error(
            f"more than {_MOST_GROUPS} patients", Location("PID"), SEGMENT_SEQUENCE_ERROR
        )
    if event in _UPDATES:
        return [
            Demand(
                kind=ReconciliationKind.UPDATE,
                patients=_identifiers(pid, 3),
                attributes=_attributes(pid),
            )
            for pid, _ in groups
        ]
    return [_merge(pid, mrg, message, is_move=event == _MOVES) for pid, mrg in groups]


def _event_of(message: Message) -> str:
    evn = message.first("EVN")
    return "" if evn is None else evn.text(1)


def _groups(message: Message) -> Iterator[tuple[Segment, Segment | None]]:
    """Each PID, with the MRG that follows before the next."""
    pid: Segment | None = None
    mrg: Segment | None = None
    for segment in message.segments:
        if segment.name == "PID":
            if pid is not None:
                yield pid, mrg
            pid, mrg = segment, None
        elif segment.name == "MRG" and pid is not None and mrg is None:
            mrg = segment
    if pid is not None:
        yield pid, mrg


def _merge(pid: Segment, mrg: Segment | None, message: Message, *, is_move: bool) -> Demand:
    if mrg is None:
        raise Hl7Error(
            "no MRG segment behind it says who is merged", pid.place(), SEGMENT_SEQUENCE_ERROR
        )
    studies = _studies(message) if is_move else ()
    others = _identifiers(mrg, 1)
    return Demand(
        kind=ReconciliationKind.MOVE_STUDY if studies else ReconciliationKind.MERGE,
        # The ID that the same authority gave stays first: it takes the place of the other.
        patients=_by_authority(_identifiers(pid, 3), others[0].issuer),
        others=others,
        attributes=_attributes(pid),
        studies=studies,
    )


def _link(message: Message, kind: ReconciliationKind) -> Demand:
    pids = list(message.all("PID"))
    if len(pids) != 2:
        raise Hl7Error(
            f"two PID segments say who is linked; there are {len(pids)}",
            Location("PID"),
            SEGMENT_SEQUENCE_ERROR,
        )
    one, other = (_identifiers(pid, 3) for pid in pids)
    return Demand(kind=kind, patients=one, others=other)


def _studies(message: Message) -> tuple[str, ...]:
    names = [each.text(1) for each in message.all("ZDS")]
    names += [each.text(18) for each in message.all("OBR")]
    return tuple(dict.fromkeys(filter(None, names)))


def _identifiers(segment: Segment, field: int) -> tuple[Identifier, ...]:
    """All IDs of a CX, in their order; at least one."""
    found = [
        Identifier(
            identifier(segment.text(field, repetition=number), segment.place(field)),
            truncated(segment.text(field, 4, repetition=number), _LONG_STRING),
        )
        for number in range(1, segment.repetitions(field) + 1)
    ]
    known = tuple(dict.fromkeys(one for one in found if one.patient_id))
    if not known:
        raise Hl7Error("a Patient ID is missing", segment.place(field), REQUIRED_FIELD_MISSING)
    return known


def _by_authority(patients: Sequence[Identifier], issuer: str) -> tuple[Identifier, ...]:
    return tuple(sorted(patients, key=lambda one: one.issuer != issuer))


def _attributes(pid: Segment) -> dict[int, str | None]:
    """What a PID says; an empty field says nothing, and ``""`` that there is no value."""
    found: dict[int, str | None] = {}
    name = person_of_patient(pid, 5)
    if name:
        found[_NAME] = name
    born = pid.text(7)
    date = _DATE.fullmatch(born)
    if born and date is None and len(born) >= len("YYYYMMDD"):
        raise Hl7Error("no date (YYYYMMDD)", pid.place(7), DATA_TYPE_ERROR)
    if date is not None:
        found[_BIRTH_DATE] = date[1]
    elif pid.as_sent(7) == _NULL:
        found[_BIRTH_DATE] = None
    sex = _SEXES.get(pid.text(8))
    if sex is not None:
        found[_SEX] = sex
    elif pid.as_sent(8) == _NULL:
        found[_SEX] = None
    return found
