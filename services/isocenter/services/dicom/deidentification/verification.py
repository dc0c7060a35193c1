"""Verification of a de-identified data set: a list of what could still identify.

It trusts nothing that the de-identifier says of itself: each element is held against the table
again, and each value, bytes among them, is searched for the words and UIDs of the patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import dictionary_vr, keyword_for_tag
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.dummy_values import dummy_of
from isocenter.services.dicom.deidentification.element_edits import path_of
from isocenter.services.dicom.deidentification.graphics import (
    has_overlay_in_pixels,
    is_curve,
    is_overlay,
)
from isocenter.services.dicom.deidentification.identity import TERMS, uids_in
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.patient import Patient
from isocenter.services.dicom.deidentification.private_elements import (
    PrivateElements,
    creators_of,
)
from isocenter.services.dicom.deidentification.profile import PrivatePolicy, Profile
from isocenter.services.dicom.deidentification.pseudonyms import UidMap
from isocenter.services.dicom.deidentification.rules import (
    NEVER_STAY,
    Action,
    attribute_rules,
    says_kind,
)
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.scope import is_private

_SOP_CLASS_UID: Final = 0x00080016
_BURNED_IN_ANNOTATION: Final = 0x00280301
_IDENTITY_REMOVED: Final = 0x00120062
_TEXTS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
     "UT")
)  # fmt: skip
_DATES: Final = frozenset(("DA", "DT"))
_BYTES: Final = frozenset(("OB", "OW", "UN"))
#: Originals that were encrypted may be those that this run has put in.
_SIGNED: Final = NEVER_STAY - {0x04000500}
_LONGEST_SEARCHED: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that could still identify; it shows no value.

    Attributes:
        path: where it stands.
        rule: what is wrong with it, in words.
    """

    path: str
    rule: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.path} {self.rule}"


def findings_in(
    tree: DataSetTree, profile: Profile, patient: Patient, uids: UidMap | None = None
) -> list[Finding]:
    """What could still identify in *tree*.

    Args:
        patient: whose data set it was made of.
        uids: what was replaced.
    """
    return list(_Search(tree, profile, patient, uids or UidMap()).run())


class _Search:
    def __init__(self, tree: DataSetTree, profile: Profile, patient: Patient, uids: UidMap) -> None:
        self._tree = tree
        self._profile = profile
        self._identity = patient.identity
        self._originals = (
            frozenset()
            if Option.UIDS in profile.options
            else frozenset(original for original, made in uids.items() if original != made)
        )
        nodes = [node for node in tree.root.all(_SOP_CLASS_UID) if node.items is None]
        sop_class = decode_text(tree.value(nodes[-1]), "UI") if nodes else ""
        self._rules = attribute_rules(profile.options, sop_class)
        self._private = PrivateElements(tree, profile.private)

    def run(self) -> Iterator[Finding]:
        root = self._tree.root
        if not any(
            self._tree.value(node).startswith(b"YES") for node in root.all(_IDENTITY_REMOVED)
        ):
            yield Finding("(0012,0062)", "does not say that the identity was removed")
        for node in root.all(_BURNED_IN_ANNOTATION):
            if self._tree.value(node).startswith(b"YES"):
                yield Finding("(0028,0301)", "says that the pixels have burned in annotation")
        numbers: dict[ItemNode, int] = {}
        for item in self._tree.items():
            if has_overlay_in_pixels(self._tree, item):
                yield Finding("(7FE0,0010)", "holds an overlay in unused bits")
            creators = creators_of(self._tree, item)
            for node in item.elements:
                if not node.is_erased and node.tag & 0xFFFF:
                    for rule in self._faults(item, node, creators):
                        yield Finding(path_of(item, node, numbers), rule)

    def _faults(self, item: ItemNode, node: Node, creators: dict[int, str]) -> Iterator[str]:
        tag = node.tag
        if tag not in self._profile.custom:
            listed = self._against_table(item, node, creators)
            if listed:
                yield listed
        if node.items is not None:
            return
        vr = dictionary_vr(tag) if node.vr == "UN" else node.vr
        length = self._tree.length(node)
        if not length or length > _LONGEST_SEARCHED or node.is_encapsulated:
            return
        if vr in _TEXTS:
            yield from self._in_text(item, node, vr)
        elif vr in _BYTES and tag >> 16 != 0x7FE0:
            raw = self._tree.value(node)
            if self._identity.is_in_bytes(raw, _CODES):
                yield "has a word of the patient"

    def _against_table(self, item: ItemNode, node: Node, creators: dict[int, str]) -> str:
        tag, options = node.tag, self._profile.options
        if is_private(tag):
            if self._profile.private is PrivatePolicy.KEEP:
                return "is private, and nobody knows whether it is safe"
            return "" if self._private.stays(tag, creators) else "is private"
        if is_curve(tag) or (is_overlay(tag) and Option.GRAPHICS not in options):
            return "is an overlay or a curve"
        actions = self._rules.root if item.parent is None else self._rules.nested
        if actions.get(tag) is Action.REMOVE and (node.items or self._tree.length(node)):
            return "has to be removed"
        if actions.get(tag) is Action.EMPTY and node.items:
            return "has to be empty"
        if tag in _SIGNED:
            return "is of a digital signature, which does not fit any more"
        if not keyword_for_tag(tag):
            return "is in no dictionary"
        vr = dictionary_vr(tag) if node.vr == "UN" else node.vr
        keeps_dates = options & {Option.FULL_DATES, Option.MODIFIED_DATES}
        is_kept = actions.get(tag) in (Action.KEEP, Action.CLEAN)
        if vr in _DATES and not keeps_dates and not is_kept and node.items is None:
            value = self._tree.value(node).strip(b" \0")
            if value and value != dummy_of(vr):
                return "has a date"
        return ""

    def _in_text(self, item: ItemNode, node: Node, vr: str) -> Iterator[str]:
        text = decode_text(self._tree.value(node), vr, self._tree.character_set(item))
        if vr == "UI":
            uids = () if says_kind(node.tag) else text.split("\\")
            if any(uid in self._originals for uid in uids):
                yield "has a UID of the original"
            return
        if node.tag in TERMS:
            return
        if self._identity.is_in(text) or self._identity.is_in(text.replace("_", " ")):
            yield "has a word of the patient"
        if any(uid in self._originals for uid in uids_in(text)):
            yield "has a UID of the original"


_CODES: Final = ("latin-1", "utf-8", "utf-16-le")


def keyword_of(path: str) -> str:
    """The keyword of the attribute at the end of a path; empty: the dictionary has none."""
    tag = path[-11:]
    try:
        return keyword_for_tag(int(tag[1:5] + tag[6:10], 16))
    except ValueError:
        return ""


def described(finding: Finding) -> str:
    """A finding with the keyword of its attribute, for people."""
    return f"{finding.path} {keyword_of(finding.path)} {finding.rule}".replace("  ", " ")
