"""Procedure steps of an order message, with their identifiers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final
from uuid import UUID, uuid5

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.data_types import identifier
from isocenter.services.integration.hl7.errors import SEGMENT_SEQUENCE_ERROR, Hl7Error, Location
from isocenter.services.integration.hl7.message import Message, Segment
from isocenter.services.service_classes.worklist.order_fields import DATE_TIME

#: Each costs about a millisecond; no request has so many.
MOST_STEPS: Final = 200
_BEGINNING_STEPS: Final = frozenset({"OBR", "IPC", "ORC"})
#: For the names of studies without a UID (PS3.5 B.2).
_STUDIES: Final = UUID("3b8e5e0c-52f5-4b8e-9d53-5b1d6b4c7a10")


@dataclass(slots=True)
class SharedSegments:
    """The other segments behind an OBR; all its steps share them.

    Each value is looked for once, however many steps want it: there may be thousands of
    segments and hundreds of steps.
    """

    segments: list[Segment] = field(default_factory=list)
    _found: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def first(self, name: str, field: int, component: int) -> str:
        """The first value of a field in the segments of that name."""
        key = (name, field, component)
        if key not in self._found:
            self._found[key] = next(filter(None, self._texts(*key)), "")
        return self._found[key]

    def joined(self, name: str, field: int) -> str:
        """The values of a field in all segments of that name."""
        key = (name, field, 0)
        if key not in self._found:
            self._found[key] = " ".join(self._texts(name, field, 1))
        return self._found[key]

    def _texts(self, name: str, field: int, component: int) -> Iterator[str]:
        return (s.text(field, component) for s in self.segments if s.name == name)


@dataclass(slots=True)
class Step:
    """What belongs to one step: its ORC, and what stands behind it."""

    orc: Segment
    obr: Segment | None = None
    ipc: Segment | None = None
    zds: Segment | None = None
    others: SharedSegments = field(default_factory=SharedSegments)

    def text(self, name: str, field: int, component: int = 1) -> str:
        """Of OBR, IPC or ZDS; empty where there is none."""
        segment: Segment | None = {"OBR": self.obr, "IPC": self.ipc, "ZDS": self.zds}[name]
        return "" if segment is None else segment.text(field, component)

    def other(self, name: str, field: int, component: int = 1) -> str:
        """The first value of a field in the other segments of that name."""
        return self.others.first(name, field, component)

    def place(self, name: str) -> Location:
        """Where the field of the worklist *name* is expected."""
        if name in _PATIENT_PLACES:
            return _PATIENT_PLACES[name]
        in_obr, in_ipc = _PLACES.get(name, (("OBR", 0), ("IPC", 0)))
        segment, field = in_ipc if self.ipc is not None else in_obr
        found = {"ORC": self.orc, "OBR": self.obr, "IPC": self.ipc, "ZDS": self.zds}.get(segment)
        return Location(segment, field, 1 if found is None else found.number)


_PATIENT_PLACES: Final = {
    "patient_name": Location("PID", 5),
    "patient_id": Location("PID", 3),
    "birth_date": Location("PID", 7),
    "sex": Location("PID", 8),
}
_PLACES: Final = {
    "accession_no": (("OBR", 18), ("IPC", 1)),
    "requested_proc_id": (("OBR", 19), ("IPC", 2)),
    "study_uid": (("ZDS", 1), ("IPC", 3)),
    "step_id": (("OBR", 20), ("IPC", 4)),
    "modality": (("OBR", 24), ("IPC", 5)),
    "station_ae": (("OBR", 21), ("IPC", 9)),
    DATE_TIME: (("ORC", 7), ("TQ1", 7)),
}


def steps_of(message: Message) -> list[Step]:
    """Each OBR begins a step, each further IPC of an OBR another one.

    A ZDS counts for all steps before it that have none: in RAD-4 it stands at the end.

    Raises:
        Hl7Error: there is none, too many, or an OBR without ORC.
    """
    count = sum(segment.name in _BEGINNING_STEPS for segment in message.segments)
    if count > MOST_STEPS:
        raise Hl7Error(
            f"more than {MOST_STEPS} steps in a message", Location("OBR"), SEGMENT_SEQUENCE_ERROR
        )
    steps: list[Step] = []
    orc: Segment | None = None
    is_new = False
    for segment in message.segments:
        if segment.name == "ORC":
            orc, is_new = segment, True
            steps.append(Step(segment))
            continue
        if segment.name == "OBR" and orc is None:
            raise Hl7Error("there is no ORC before it", segment.place(), SEGMENT_SEQUENCE_ERROR)
        if orc is None:
            continue
        step = steps[-1]
        match segment.name:
            case "OBR" if is_new:
                step.obr, is_new = segment, False
            case "OBR":
                steps.append(Step(orc, obr=segment))
            case "IPC" if step.ipc is None:
                step.ipc = segment
            case "IPC":
                steps.append(Step(orc, obr=step.obr, ipc=segment, zds=step.zds, others=step.others))
            case "ZDS":
                for before in steps:
                    before.zds = before.zds or segment
            case _:
                step.others.segments.append(segment)
    if not steps:
        raise Hl7Error("there is no order in it", Location("ORC"), SEGMENT_SEQUENCE_ERROR)
    return steps


@dataclass(frozen=True, slots=True)
class StepIdentifiers:
    """Of a step, with fallbacks."""

    accession: str
    procedure_id: str
    #: Empty: the message names no step.
    given_step_id: str

    @classmethod
    def of(cls, step: Step) -> StepIdentifiers:
        filler = step.orc.text(3) or step.text("OBR", 3)
        accession = step.text("IPC", 1) or step.text("OBR", 18) or filler
        procedure_id = step.text("IPC", 2) or step.text("OBR", 19)
        step_id = step.text("IPC", 4) or step.text("OBR", 20)
        return cls(
            accession=identifier(accession, step.place("accession_no")),
            procedure_id=identifier(procedure_id, step.place("requested_proc_id")),
            given_step_id=identifier(step_id, step.place("step_id")),
        )

    @property
    def step_id(self) -> str:
        return self.given_step_id or self.procedure_id or self.accession

    def study_uid(self) -> str:
        """Always the same for a requested procedure, which may have several steps."""
        if not (self.accession or self.procedure_id):
            return ""
        return f"2.25.{uuid5(_STUDIES, f'{self.accession}^{self.procedure_id}').int}"
