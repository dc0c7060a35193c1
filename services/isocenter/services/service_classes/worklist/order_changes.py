"""Changes of worklist entries by flat fields."""

from __future__ import annotations

from collections.abc import Mapping

from isocenter.engine.dataset import Element
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import parse_attribute_path
from isocenter.services.dicom.element_values import UTF_8
from isocenter.services.notices import Caller, OrderAction, OrderChanged
from isocenter.services.service_classes.query_retrieve.identifier_builder import (
    SPECIFIC_CHARACTER_SET,
)
from isocenter.services.service_classes.worklist.entry import (
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_INSTANCE_UID,
    Entry,
    parse_entry,
)
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    CODES,
    DATE_TIME,
    FIELDS,
    entry_fields,
    entry_of_fields,
)
from isocenter.services.service_classes.worklist.query_keys import (
    SCHEDULED_STEPS,
    START_DATE,
    START_TIME,
)


def change_of(entry: Entry, action: OrderAction, caller: Caller) -> OrderChanged:
    """What is told of an entry that somebody added, changed or removed."""
    return OrderChanged(
        caller=caller,
        action=action,
        study_instance_uid=entry.text(STUDY_INSTANCE_UID),
        accession_number=entry.key.accession_number,
        patient_id=entry.text(PATIENT_ID),
        patient_name=entry.text(PATIENT_NAME),
    )


def changed_entry(order: Mapping[str, object], entry: Entry) -> Entry:
    """The entry with some fields changed; attributes that have no field stay as they are.

    Raises:
        InvalidEntryError: a field that there is not, or whose value cannot be.
    """
    # Codes that are not named need not fit into a field.
    fields = {name: text for name, text in entry_fields(entry).items() if name not in CODES}
    changed, _ = entry_of_fields({**fields, **order}, "the entry")
    # In one character set what is changed can be laid over what was there.
    old, new = (Entry(each.attributes.in_character_set(UTF_8)) for each in (entry, changed))
    of_step, others = _tags_of(order)
    step = old.step | {tag: each for tag, each in new.step.items() if tag in of_step}
    elements = dict(old.attributes.elements)
    elements |= {tag: each for tag, each in new.attributes.elements.items() if tag in others}
    elements[SCHEDULED_STEPS] = Element(SCHEDULED_STEPS, "SQ", (dict(sorted(step.items())),))
    return parse_entry(AttributeList(dict(sorted(elements.items()))), "the entry")


def _tags_of(order: Mapping[str, object]) -> tuple[set[int], set[int]]:
    """Of the attributes that *order* names: in the scheduled procedure step, and outside of it."""
    more = order.get(ATTRIBUTES, {})
    assert isinstance(more, dict)
    names = {**FIELDS, **CODES}
    of_step, others = set(), {SPECIFIC_CHARACTER_SET}
    for path in [*(names[name] for name in order if name in names), *more]:
        sequences, last = parse_attribute_path(path)
        first, *rest = [*(tag for tag, _ in sequences), last]
        if first == SCHEDULED_STEPS and rest:
            of_step.add(rest[0])
        else:
            others.add(first)
    return of_step | ({START_DATE, START_TIME} if DATE_TIME in order else set()), others
