"""Modality worklist as SCU (PS3.4 Annex K): what is scheduled, item by item.

async with open_association(peer, CONTEXTS) as ris:
    async with find_items(ris, {"station_ae": "CT_01", "date": "20261124"}) as items:
        async for item in items:
            print(item.fields["patient_name"], item.dataset)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from isocenter.engine.dataset import Element
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import KeySyntaxError, quoted
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND, Entry
from isocenter.services.service_classes.worklist.order_fields import (
    CODE_TAGS,
    CODES,
    FIELDS,
    entry_fields,
)
from isocenter.services.service_classes.worklist.query_keys import SCHEDULED_STEPS

if TYPE_CHECKING:
    import pydicom

#: What is proposed.
CONTEXTS: Final[Sequence[Context]] = ((MODALITY_WORKLIST_FIND, BASIC_SYNTAXES),)

#: What is asked for beside the fields of `FIELDS`: matching keys by a name of their own.
_MORE_FIELDS: Final = {
    "date": "(0040,0100)[0].(0040,0002)",
    "time": "(0040,0100)[0].(0040,0003)",
}
#: Attributes of PS3.4 Table K.6-1 that have no field; of a sequence, all that is in it
#: (K.2.2.1.2, note 4).
_WITHOUT_FIELD: Final = (
    "(0040,0100)[0].(0018,990C)",  # Referenced Defined Protocol Sequence
    "(0040,0100)[0].(0018,990D)",  # Referenced Performed Protocol Sequence
    "(0040,0100)[0].(0040,0008)[0].(0040,0440)",  # Protocol Context Sequence
    "(0040,0100)[0].(0040,0020)",  # Scheduled Procedure Step Status
    "(0008,0020)",  # Study Date
    "(0008,0030)",  # Study Time
    "(0008,0051)",  # Issuer of Accession Number Sequence
    "(0008,1110)",  # Referenced Study Sequence
    "(0008,1120)",  # Referenced Patient Sequence
    "(0010,0024)",  # Issuer of Patient ID Qualifiers Sequence
    "(0010,0101)",  # Patient's Primary Language Code Sequence
    "(0010,1002)",  # Other Patient IDs Sequence
    "(0010,1020)",  # Patient's Size
    "(0038,0014)",  # Issuer of Admission ID Sequence
    "(0038,0050)",  # Special Needs
    "(0038,0100)",  # Pertinent Documents Sequence
    "(0040,0500)",  # Scheduled Specimen Sequence
    "(0040,1004)",  # Patient Transport Arrangements
    "(0040,3001)",  # Confidentiality Constraint on Patient Data Description
    "(2200,0005)",  # Barcode Value
)

#: Key path → nothing: all that is asked for.
RETURN_KEYS: Final[Sequence[tuple[str, str]]] = tuple(
    (path, "")
    for path in (
        *FIELDS.values(),
        *_MORE_FIELDS.values(),
        *(f"{path}[0].{tag_text(tag)}" for path in CODES.values() for tag in CODE_TAGS),
        *_WITHOUT_FIELD,
    )
)


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One scheduled procedure step.

    Attributes:
        fields: name of a field, as in `isocenter.services.service_classes.worklist.order_fields` →
            text; those that have a value.
        dataset: all that the peer sent.
    """

    fields: Mapping[str, str]
    dataset: pydicom.Dataset


def worklist_keys(
    fields: Mapping[str, str] | None = None, more: Iterable[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """The keys of a query: all return keys, those of *fields* matched.

    Args:
        fields: name of a field, or ``date`` and ``time`` (of the start; ranges too), → value.
        more: keys by tag, keyword or path, and value.

    Raises:
        KeySyntaxError: there is no such field.
    """
    known = {**FIELDS, **_MORE_FIELDS}
    keys = list(RETURN_KEYS)
    for name, value in (fields or {}).items():
        if name not in known:
            raise KeySyntaxError(
                f"{quoted(name)} is no field; there are {', '.join(sorted(known))}"
            )
        keys.append((known[name], value))
    return [*keys, *more]


class Items:
    """The items of a worklist query as they come; `find_items` makes it."""

    def __init__(self, matches: FindResults) -> None:
        self._matches = matches

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> WorklistItem:
        """The next item.

        Raises:
            DataSetError: it cannot be read; the next one may.
            OperationError: the peer ended the query with a failure status.
            AssociationError: the association ended first.
        """
        encoded = await self._matches.next_encoded()
        if encoded is None:
            raise StopAsyncIteration
        return item_of(encoded, self._matches.transfer_syntax)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Sends C-CANCEL-RQ if the peer is not done."""
        await self._matches.__aexit__(*exc)


def find_items(
    association: ClientAssociation,
    fields: Mapping[str, str] | None = None,
    more: Iterable[tuple[str, str]] = (),
    *,
    character_set: Sequence[str] = (),
) -> Items:
    """Query the worklist of the peer; arguments as `worklist_keys`.

    Raises:
        KeySyntaxError: a key that is none, or a value that it cannot have.
        NoPresentationContextError: the peer has no worklist.
    """
    keys = worklist_keys(fields, more)
    matches = association.find(
        lambda syntax: build_identifier(keys, None, syntax, character_set=character_set),
        sop_class_uid=MODALITY_WORKLIST_FIND,
    )
    return Items(matches)


def item_of(encoded: bytes, transfer_syntax_uid: str) -> WorklistItem:
    """An item as a peer sent it.

    Raises:
        DataSetError: it cannot be read.
    """
    attributes = AttributeList.read(encoded, transfer_syntax_uid)
    whole = attributes
    if not attributes.items(SCHEDULED_STEPS):  # of a peer that left it out
        nothing = Element(SCHEDULED_STEPS, "SQ", ({},))
        whole = AttributeList({**attributes.elements, SCHEDULED_STEPS: nothing})
    entry = Entry(whole)
    fields = {name: text for name, text in entry_fields(entry).items() if text}
    return WorklistItem(fields, attributes.to_dataset())
