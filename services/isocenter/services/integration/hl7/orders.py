"""Order messages as changes of the worklist.

The messages are those of IHE RAD TF-2 4.4, Procedure Scheduled, and 4.13, Procedure Update.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.errors import (
    DATA_TYPE_ERROR,
    REQUIRED_FIELD_MISSING,
    TABLE_VALUE_NOT_FOUND,
    UNSUPPORTED_EVENT_CODE,
    UNSUPPORTED_MESSAGE_TYPE,
    UNSUPPORTED_PROCESSING_ID,
    UNSUPPORTED_VERSION_ID,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Message
from isocenter.services.integration.hl7.patient import measures, patient_fields, visit_fields
from isocenter.services.integration.hl7.procedure_steps import Step, StepIdentifiers, steps_of
from isocenter.services.integration.hl7.step_fields import OrderRules, step_fields
from isocenter.services.service_classes.worklist.entry import Entry, EntryState, InvalidEntryError
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    FIELD_OF_TAG,
    entry_of_order,
)

#: Type → trigger event.
MESSAGE_TYPES: Final = {"ORM": "O01", "OMI": "O23", "OMG": "O19"}
#: Type of messages about patients.
ADT: Final = "ADT"
_VERSION: Final = re.compile(r"2\.[1-9](?:\.[0-9]{1,2})?", re.ASCII)


class Control(Enum):
    """What is to be done (ORC-1)."""

    PUT = "put"
    CANCEL = "cancel"
    DISCONTINUE = "discontinue"
    STATUS = "status"


#: HL7 Table 0119, as far as a worklist is concerned.
_CONTROLS: Final = {
    "NW": Control.PUT,
    "XO": Control.PUT,
    "XX": Control.PUT,
    "CA": Control.CANCEL,
    "OC": Control.CANCEL,
    "DC": Control.DISCONTINUE,
    "OD": Control.DISCONTINUE,
    "SC": Control.STATUS,
}
#: HL7 Table 0038: what becomes of the entry; None: it stays as it is.
_STATES: Final = {
    "IP": EntryState.STARTED,
    "CM": EntryState.COMPLETED,
    "DC": EntryState.DISCONTINUED,
    **dict.fromkeys(("SC", "HD", "A", "ER", "RP"), None),
}
_CANCELLED: Final = "CA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One step of an order message.

    Attributes:
        place: where it stands, for messages.
        step_id, accession_number: of the entries that are meant; without a step ID, all
            of the accession number.
        entry: of `Control.PUT`.
        state: to be given to the entry; None: as it is.
    """

    control: Control
    place: Location
    step_id: str
    accession_number: str
    entry: Entry | None = None
    state: EntryState | None = None


def check_header(message: Message, rules: OrderRules, *, takes_adt: bool = False) -> None:
    """Raises `Hl7Error` (AR) for a message that is nothing for us.

    Args:
        takes_adt: also ADT messages are; their events are looked at where they are read.
    """
    msh = message.header
    kind, event = msh.text(9), msh.text(9, 2)
    if kind not in MESSAGE_TYPES and not (takes_adt and kind == ADT):
        taken = [*map("^".join, MESSAGE_TYPES.items()), *([ADT] if takes_adt else ())]
        raise Hl7Error(
            f"only {', '.join(taken)} are taken",
            Location("MSH", 9),
            UNSUPPORTED_MESSAGE_TYPE,
            is_reject=True,
        )
    if event and event != MESSAGE_TYPES.get(kind, event):
        raise Hl7Error(
            f"of {kind} only the event {MESSAGE_TYPES[kind]} is taken",
            Location("MSH", 9),
            UNSUPPORTED_EVENT_CODE,
            is_reject=True,
        )
    if not msh.text(10):
        raise Hl7Error(
            "the message control ID is missing", Location("MSH", 10), REQUIRED_FIELD_MISSING
        )
    if msh.text(11) not in rules.processing_ids:
        raise Hl7Error(
            f"only {' and '.join(sorted(rules.processing_ids))} is processed here "
            "(hl7.processing_ids)",
            Location("MSH", 11),
            UNSUPPORTED_PROCESSING_ID,
            is_reject=True,
        )
    if not _VERSION.fullmatch(msh.text(12)):
        raise Hl7Error(
            "only versions 2.1 to 2.9 are read",
            Location("MSH", 12),
            UNSUPPORTED_VERSION_ID,
            is_reject=True,
        )


def read_orders(message: Message, rules: OrderRules) -> list[Order]:
    """The steps of a message whose header was checked, in order.

    Raises:
        Hl7Error: a step that cannot be one; then none of them is to be done.
    """
    shared: dict[str, str] | None = None
    measured: dict[str, str] = {}
    orders = []
    for step in steps_of(message):
        control, state = _control(step)
        ids = StepIdentifiers.of(step)
        entry = None
        if control is Control.PUT:
            if shared is None:
                shared = patient_fields(message) | visit_fields(message)
                measured = measures(message)
            entry = _entry(step, ids, {**shared, **step_fields(step, ids, rules)}, measured)
            step_id = entry.key.step_id
        else:
            # Without an accession number the procedure's ID became that of the step.
            step_id = ids.given_step_id if ids.accession else ids.step_id
            if not (step_id or ids.accession):
                raise Hl7Error(
                    "neither accession number nor step ID tells which order is meant",
                    step.place("accession_no"),
                    REQUIRED_FIELD_MISSING,
                )
        orders.append(
            Order(
                control=control,
                place=step.orc.place(),
                step_id=step_id,
                accession_number=ids.accession,
                entry=entry,
                state=state,
            )
        )
    return orders


def _control(step: Step) -> tuple[Control, EntryState | None]:
    orc = step.orc
    text = orc.text(1)
    control = _CONTROLS.get(text)
    if control is None:
        missing = not text
        raise Hl7Error(
            f"the order control has to be one of {', '.join(_CONTROLS)}",
            orc.place(1),
            REQUIRED_FIELD_MISSING if missing else TABLE_VALUE_NOT_FOUND,
        )
    status = orc.text(5)
    if text == "NW" or control in (Control.CANCEL, Control.DISCONTINUE):
        return control, None
    if status == _CANCELLED:
        return Control.CANCEL, None
    if status not in _STATES and (status or control is Control.STATUS):
        raise Hl7Error(
            f"the order status has to be one of {', '.join([*_STATES, _CANCELLED])}",
            orc.place(5),
            TABLE_VALUE_NOT_FOUND if status else REQUIRED_FIELD_MISSING,
        )
    return control, _STATES.get(status)


def _entry(step: Step, ids: StepIdentifiers, fields: dict[str, str], more: dict[str, str]) -> Entry:
    if ids.procedure_id:
        fields["requested_proc_id"] = ids.procedure_id
    order: dict[str, object] = {name: text for name, text in fields.items() if text}
    if more:
        order[ATTRIBUTES] = more
    try:
        entry, _ = entry_of_order(order, _PLACE)
    except InvalidEntryError as fault:
        name = FIELD_OF_TAG.get(_tag_of(fault), "")
        raise Hl7Error(
            str(fault).removeprefix(f"{_PLACE}: "),
            step.place(name),
            DATA_TYPE_ERROR if fields.get(name) or not name else REQUIRED_FIELD_MISSING,
        ) from fault
    return entry


def _tag_of(fault: InvalidEntryError) -> int:
    """Also of a value that its VR cannot have, which is found before there is an entry."""
    tag = _TAG.match(str(fault))
    return fault.tag or (int(tag[1] + tag[2], 16) if tag else 0)


#: What `entry_of_order` puts in front of its faults; a fault of ours has its own place.
_PLACE: Final = "order"
_TAG: Final = re.compile(_PLACE + r": \(([0-9A-F]{4}),([0-9A-F]{4})\)")
