"""Attributes of answers to searches, de-identified as those of the objects are.

The index knows less of an object than the object does, so it cannot clean a description of words
that the object alone says: what a profile cleans word by word, or puts a dummy in the place of, is
left out of answers.  What stays is what the object says as well, once it is de-identified.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.engine.dataset import encoding_of, write_data_set
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, Level
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.deidentification.rules import Action, attribute_rules, says_kind
from isocenter.services.dicom.element_values import NUMBER_VRS, decode_text

_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_PATIENT: Final = frozenset((0x00100010, 0x00100020))
_ENCODING: Final = encoding_of(EXPLICIT_VR_LITTLE_ENDIAN)
_TEXTS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_DATES: Final = frozenset(("DA", "DT", "TM"))
#: Numbers and terms that no row of the table names and no word of a patient is.
_PLAIN: Final = frozenset(
    attribute.tag
    for attribute in ATTRIBUTES
    if attribute.computed or attribute.vr in NUMBER_VRS
) | {0x00080060, 0x00080016, 0x00200011, 0x00200013, 0x00280008}  # fmt: skip


class AnswerRules:
    """What of the index callers of a project are told, and what they may ask for.

    Args:
        profile: of the project.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._actions = attribute_rules(frozenset(profile.options), "").root

    def tags_of(self, level: Level) -> tuple[int, ...]:
        """All that has to be known of a match: its identity is in attributes that nobody asks
        for."""
        return tuple(
            attribute.tag
            for attribute in ATTRIBUTES
            if attribute.level.depth <= level.depth and not attribute.computed
        )

    def stays(self, tag: int) -> bool:
        """Whether an attribute is told as it stands in the index, so that the index may match
        it."""
        custom = self._profile.custom.get(tag)
        if custom is not None:
            return custom.action is Action.KEEP
        if tag in _PLAIN:
            return tag not in self._actions or self._actions[tag] is Action.KEEP
        if BY_TAG[tag].vr == "AS" and self._profile.caps_ages:
            return False
        return self._actions.get(tag) is Action.KEEP

    def is_told(self, tag: int) -> bool:
        """Whether what de-identification makes of an attribute is told."""
        vr = BY_TAG[tag].vr
        custom = self._profile.custom.get(tag)
        if vr == "SQ":
            return False
        if custom is not None:
            return custom.action is not Action.CLEAN or vr not in _TEXTS
        if tag in _PATIENT or vr == "UI" or self.stays(tag):
            return True
        match self._actions.get(tag):
            case Action.DUMMY:
                return False
            case Action.CLEAN:
                return vr in _DATES
            case None:
                return vr not in _TEXTS
            case _:
                return True

    def applied(self, match: Mapping[int, str], deidentifier: Deidentifier) -> dict[int, str]:
        """*match*, with all of `tags_of`, as it is told.

        Raises:
            DeidentificationError: it cannot be.
        """
        told = {
            tag: text
            for tag, text in match.items()
            if self.stays(tag) and (BY_TAG[tag].vr != "IS" or not any(map(str.isalpha, text)))
        }
        elements: list[WritableElement] = [(_SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192")]
        for tag, text in match.items():
            vr = BY_TAG[tag].vr
            if tag in _PLAIN or vr == "SQ" or not text:
                continue
            elements.append((tag, vr, text.encode("utf-8", "replace")))
        data = write_data_set(sorted(elements, key=lambda each: each[0]), _ENCODING)
        tree = DataSetTree(memoryview(data), _ENCODING)
        deidentifier.apply(tree, EXPLICIT_VR_LITTLE_ENDIAN)
        for node in tree.root.elements:
            tag = node.tag
            if tag in match and not node.is_erased and self.is_told(tag):
                charset = tree.character_set(tree.root)
                told[tag] = decode_text(tree.value(node), BY_TAG[tag].vr, charset)
        return told


def is_instance_uid(tag: int) -> bool:
    """Whether an attribute names one thing by a UID, rather than its kind."""
    return BY_TAG[tag].vr == "UI" and not says_kind(tag)
