"""Patient of a data set, as the data set says itself."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification import identity
from isocenter.services.dicom.deidentification.identity import Identity
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.element_values import decode_text

_PATIENT_NAME: Final = 0x00100010
_PATIENT_ID: Final = 0x00100020
_BIRTH_DATE: Final = 0x00100030
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SOP_INSTANCE_UID: Final = 0x00080018
_LONGEST: Final = 10_240
#: Characters of all names and numbers together, each once: every text is searched for each of them.
_MOST_CHARACTERS: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose data set it is; identifies.

    Attributes:
        key: tells patients apart: the Patient ID; without one the name and the date of birth;
            without these the study.
        identity: what texts must not say.
    """

    key: str
    identity: Identity


def patient_of(
    tree: DataSetTree, options: frozenset[Option], known: tuple[str, ...] = ()
) -> Patient:
    """Whose data set *tree* is.

    Args:
        options: what is retained is no secret.
        known: more names and numbers that count.

    Raises:
        ValueError: it names more than anybody can look for.
    """
    names, identifiers, dates = set(known), set(known), set[str]()
    values: dict[int, str] = {}
    characters = 0
    for item in tree.items():
        for node in item.elements:
            tag = node.tag
            is_wanted = tag in identity.WORDS_FROM or (item.parent is None and tag in _OF_KEY)
            if not is_wanted or node.items is not None or tree.length(node) > _LONGEST:
                continue
            vr = "PN" if tag in identity.NAMES else "LO"
            text = decode_text(tree.value(node), vr, tree.character_set(item))
            if item.parent is None:
                values[tag] = text
            if tag in identity.PLACES and Option.INSTITUTION in options:
                continue
            kind = names if tag in identity.NAMES else identifiers
            if tag == identity.BIRTH_DATE:
                kind = dates
            if text not in kind:
                kind.add(text)
                characters += len(text)
            if characters > _MOST_CHARACTERS:
                raise ValueError(
                    f"has more than {_MOST_CHARACTERS >> 10} KiB of names and numbers of people, "
                    "more than texts are searched for"
                )
    return Patient(_key_of(values), Identity(names, identifiers, dates))


_OF_KEY: Final = frozenset(
    (_PATIENT_NAME, _PATIENT_ID, _BIRTH_DATE, _STUDY_INSTANCE_UID, _SOP_INSTANCE_UID)
)


def _key_of(values: dict[int, str]) -> str:
    if values.get(_PATIENT_ID):
        return values[_PATIENT_ID]
    name = identity.fold(values.get(_PATIENT_NAME, "")).strip("^= ")
    if name:
        return f"{name}\n{values.get(_BIRTH_DATE, '')}"
    return values.get(_STUDY_INSTANCE_UID) or values.get(_SOP_INSTANCE_UID, "")
