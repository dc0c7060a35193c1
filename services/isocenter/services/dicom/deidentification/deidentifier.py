"""De-identification of one data set, element by element (PS3.15 E.1.1).

The table of the standard decides first.  What it does not name is decided by the VR: UIDs that are
not the standard's get pseudonyms, dates follow the dates of the table, names of persons become
dummies, texts lose the words of the patient, and what no dictionary knows goes.  Values that are
not looked at, pixels among them, stay where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset.vr import LONG_VRS, PIXEL_DATA, SHORT_VRS
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import dictionary_vr, keyword_for_tag
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree, encoding_of_codec
from isocenter.services.dicom.deidentification import structured_content as sr
from isocenter.services.dicom.deidentification.content_policy import check_content
from isocenter.services.dicom.deidentification.element_edits import ElementEdits
from isocenter.services.dicom.deidentification.encrypted_attributes import (
    add_encrypted,
    original_attributes,
)
from isocenter.services.dicom.deidentification.graphics import (
    OVERLAY_COMMENTS,
    OVERLAY_IN_PIXELS,
    has_overlay_in_pixels,
    is_curve,
    is_overlay,
    overlays_that_stay,
)
from isocenter.services.dicom.deidentification.marks import mark, mark_derived
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.patient import Patient, patient_of
from isocenter.services.dicom.deidentification.private_elements import PrivateElements, creators_of
from isocenter.services.dicom.deidentification.profile import (
    CustomRule,
    DocumentPolicy,
    Profile,
)
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms
from isocenter.services.dicom.deidentification.report import Report
from isocenter.services.dicom.deidentification.rules import (
    NEVER_STAY,
    Action,
    attribute_rules,
    says_kind,
)
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.scope import is_private, is_private_creator

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SOP_CLASS_UID: Final = 0x00080016
_PATIENT_NAME: Final = 0x00100010
_PATIENT_ID: Final = 0x00100020
_SUBJECT_ID: Final = 0x00120040
_ENCAPSULATED_DOCUMENT: Final = 0x00420011
_SIGNATURES: Final = 0xFFFAFFFA
_VRS: Final = SHORT_VRS | LONG_VRS
_VERIFYING_OBSERVERS: Final = 0x0040A073
_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009, PIXEL_DATA))
_DATES: Final = frozenset(("DA", "DT", "TM"))
_TEXTS: Final = frozenset(("LO", "LT", "SH", "ST", "UC", "UR", "UT"))
_BYTES: Final = frozenset(("OB", "OW", "UN"))
#: Numbers and codes within a sequence that is replaced stay: they keep it readable.
_REPLACED_VRS: Final = _DATES | _TEXTS | {"AE", "PN", "OB", "OW", "UN", "AS"}
_GRAPHIC_DATA: Final = 0x00700022


class DeidentificationError(IsocenterError):
    """An object that is not de-identified; the message shows no value of it."""

    error_code = ErrorCode.DEIDENTIFICATION


class _Mode(Enum):
    """How the elements of an item are treated."""

    USUAL = 1
    #: It is in a sequence that is replaced: everything in it that could name somebody is a dummy.
    DUMMY = 2


@dataclass(frozen=True, slots=True)
class Deidentified:
    """What was done.

    Attributes:
        patient: whose data set it was; identifies.
        patient_id: what stands in the place of the Patient ID.
    """

    report: Report
    patient: Patient
    patient_id: str


class Deidentifier:
    """De-identifies data sets of one project under one profile.

    Args:
        pseudonyms: of the project.
        wants_changes, wants_values: what reports show; see `Report`.
        known: names, and numbers, that texts must not say either, of every patient.
        recipients: for whom the originals are put in, encrypted.

    Raises:
        ProfileError: the profile contradicts itself.
    """

    def __init__(
        self,
        profile: Profile,
        pseudonyms: Pseudonyms,
        *,
        wants_changes: bool = False,
        wants_values: bool = False,
        known: tuple[str, ...] = (),
        recipients: Sequence[Certificate] = (),
    ) -> None:
        profile.check()
        self.profile = profile
        self.pseudonyms = pseudonyms
        self._wants_changes = wants_changes
        self._wants_values = wants_values
        self._known = known
        self._recipients = recipients

    def apply(
        self,
        tree: DataSetTree,
        transfer_syntax_uid: str,
        *,
        pixels_are_clean: bool = False,
        pixels_are_changed: bool = False,
    ) -> Deidentified:
        """De-identify *tree*.

        Args:
            pixels_are_clean: whether somebody looked after its pixels, as the option wants it.
            pixels_are_changed: whether some were blackened.

        Raises:
            DeidentificationError: it cannot be, under this profile; *tree* is half done then.
        """
        report = Report(wants_changes=self._wants_changes, wants_values=self._wants_values)
        report.processed = 1
        refused = check_content(tree, transfer_syntax_uid, self.profile, report)
        if refused:
            raise DeidentificationError(refused)
        try:
            patient = patient_of(tree, self.profile.options, self._known)
        except ValueError as error:
            raise DeidentificationError(str(error)) from None
        work = _Work(tree, self.profile, self.pseudonyms, patient, report)
        work.run()
        if self._recipients:
            encoding = encoding_of_codec(tree.root.codec)
            add_encrypted(tree, original_attributes(tree, encoding), self._recipients)
        mark(tree, self.profile, pixels_are_clean=pixels_are_clean)
        if pixels_are_changed:
            mark_derived(tree)
        return Deidentified(report, patient, work.patient_id)


class _Work:
    """One data set while it is de-identified."""

    def __init__(
        self,
        tree: DataSetTree,
        profile: Profile,
        pseudonyms: Pseudonyms,
        patient: Patient,
        report: Report,
    ) -> None:
        self._tree = tree
        self._profile = profile
        self._options = profile.options
        self._pseudonyms = pseudonyms
        self._patient = patient
        self._report = report
        self.patient_id = profile.patient_id or f"ANON{pseudonyms.code(patient.key)}"
        self._edits = ElementEdits(tree, profile, pseudonyms, patient, report)
        self._rules = attribute_rules(
            frozenset(self._options), _text_of(tree, tree.root, _SOP_CLASS_UID)
        )
        self._private_elements = PrivateElements(tree, profile.private)
        self._unlisted: dict[str, Callable[[ItemNode, Node, str], None]] = {
            "AE": self._edits.dummy,
            "AS": self._edits.age,
            "CS": self._edits.code_string,
            **dict.fromkeys(("DS", "IS"), self._edits.number),
            "PN": self._edits.dummy,
            "UI": self._uid,
            **dict.fromkeys(_DATES, self._date),
            **dict.fromkeys(_TEXTS, self._edits.text),
            **dict.fromkeys(_BYTES, self._edits.octets),
        }

    def run(self) -> None:
        if self._tree.root.all(_SIGNATURES):
            self._report.warn("its digital signatures were removed: they do not fit any more")
        todo = [(self._tree.root, _Mode.USUAL)]
        while todo:
            item, mode = todo.pop()
            self._item(item, mode)
            for node in item.elements:
                if node.items and not node.is_erased:
                    inner = self._mode_within(item, node, mode)
                    todo += [(each, inner) for each in node.items if not each.is_erased]

    def _mode_within(self, item: ItemNode, node: Node, mode: _Mode) -> _Mode:
        if mode is _Mode.DUMMY:
            return mode
        action = self._action_of(item, node.tag)
        return _Mode.DUMMY if action is Action.DUMMY else _Mode.USUAL

    def _action_of(self, item: ItemNode, tag: int) -> Action | None:
        rule = self._profile.custom.get(tag)
        if rule is not None:
            return rule.action
        actions = self._rules.root if item.parent is None else self._rules.nested
        return actions.get(tag)

    # -- Items ---------------------------------------------------------------------------

    def _item(self, item: ItemNode, mode: _Mode) -> None:
        if mode is _Mode.DUMMY:
            for node in item.elements:
                self._element_of_dummy(item, node)
            return
        content = sr.content_item_of(self._tree, item, self._options)
        if content is not None and content.action is Action.REMOVE:
            self._edits.erase_item(item)
            return
        custom = self._profile.custom
        actions = self._rules.root if item.parent is None else self._rules.nested
        creators: dict[int, str] | None = None
        overlays: set[int] | None = None
        for node in item.elements:
            tag = node.tag
            if node.is_erased or not tag & 0xFFFF:
                continue
            if tag in NEVER_STAY:
                self._edits.erase(item, node)
            elif tag in custom:
                self._custom(item, node, custom[tag])
            elif content is not None and tag == content.value:
                self._content_value(item, node, content.action)
            elif is_private(tag):
                if creators is None:
                    creators = creators_of(self._tree, item)
                self._private(item, node, creators)
            elif is_overlay(tag):
                if overlays is None:
                    overlays = overlays_that_stay(self._tree, item, self._options)
                    if has_overlay_in_pixels(self._tree, item):
                        self._report.warn(OVERLAY_IN_PIXELS)
                self._overlay(item, node, overlays)
            elif is_curve(tag):
                self._edits.erase(item, node)
            elif tag in actions:
                self._listed(item, node, actions[tag])
            else:
                self._not_listed(item, node)
        for node in self._private_elements.unused_creators(item) if creators else ():
            self._edits.erase(item, node, "private")

    def _element_of_dummy(self, item: ItemNode, node: Node) -> None:
        vr = self._vr_of(node)
        if is_private(node.tag) or node.tag in NEVER_STAY or not keyword_for_tag(node.tag):
            self._edits.erase(item, node)
        elif node.items is not None:
            pass  # its items are in the same mode
        elif vr == "UI":
            self._uid(item, node, vr)
        elif (vr in _REPLACED_VRS or node.tag == _GRAPHIC_DATA) and not _is_concept(item, node):
            self._edits.dummy(item, node, vr)

    # -- What the table names ------------------------------------------------------------

    def _listed(self, item: ItemNode, node: Node, action: Action) -> None:
        tag = node.tag
        vr = self._vr_of(node)
        if tag == _PATIENT_NAME and action is not Action.KEEP:
            name = (
                self._profile.patient_name
                or f"ANONYMOUS^{self._pseudonyms.code(self._patient.key)}"
            )
            self._edits.give_text(item, node, "PN", name, "replaced")
        elif tag in (_PATIENT_ID, _SUBJECT_ID) and action is not Action.KEEP:
            self._edits.give_text(item, node, "LO", self.patient_id, "replaced")
        elif tag == _ENCAPSULATED_DOCUMENT and item.parent is None:
            if self._profile.documents is DocumentPolicy.REPLACE:
                self._edits.dummy(item, node, vr)
        elif action is Action.CLEAN:
            self._clean(item, node, vr)
        elif tag == sr.CONTENT_SEQUENCE and action is Action.DUMMY:
            self._edits.replace_content(item, node)
        elif tag == _VERIFYING_OBSERVERS and action is Action.DUMMY:
            self._edits.replace_observers(item, node)
        else:
            self._do(item, node, vr, action)

    def _do(self, item: ItemNode, node: Node, vr: str, action: Action) -> None:
        edits = self._edits
        match action:
            case Action.REMOVE:
                edits.erase(item, node)
            case Action.EMPTY:
                edits.empty(item, node)
            case Action.KEEP:
                if node.items is None and vr == "AS" and self._profile.caps_ages:
                    edits.age(item, node, vr)
                else:
                    self._report.counts["kept"] += 1
            case Action.UID:
                if node.items is None:
                    edits.uid(item, node)
            case Action.DUMMY:
                if node.items is not None:
                    self._report.counts["replaced"] += 1  # what is in it is replaced
                elif vr == "UI":
                    edits.uid(item, node)
                else:
                    edits.dummy(item, node, vr)
            case _:
                self._clean(item, node, vr)

    def _clean(self, item: ItemNode, node: Node, vr: str) -> None:
        """What an option lets stay in part."""
        option = self._rules.cleaned_by.get(node.tag)
        if option is Option.MODIFIED_DATES:
            if vr in _DATES:
                self._edits.date(item, node, vr)
            else:
                self._edits.erase(item, node)
        elif node.items is not None:
            self._report.counts["kept"] += 1  # its elements follow the same rules
        elif vr in _TEXTS:
            self._edits.text(item, node, vr, is_description=True)
        elif vr == "AE" or vr not in _DATES:
            self._edits.dummy(item, node, vr)
        else:
            self._date(item, node, vr)

    def _custom(self, item: ItemNode, node: Node, rule: CustomRule) -> None:
        vr = self._vr_of(node)
        edits = self._edits
        match rule.action:
            case Action.REPLACE:
                edits.replace(item, node, vr, rule.value)
            case Action.HASH:
                edits.hash(item, node, vr)
                if node.tag == _PATIENT_ID and item.parent is None:
                    self.patient_id = _text_of(self._tree, item, _PATIENT_ID)
            case Action.ENCRYPT:
                edits.encrypt(item, node, vr)
            case Action.SHIFT_DATE:
                edits.date(item, node, vr)
            case Action.CLEAN:
                if node.items is None:
                    edits.text(item, node, vr, is_description=True)
            case Action.KEEP:
                self._report.counts["kept"] += 1
            case other:
                self._do(item, node, vr, other)

    def _content_value(self, item: ItemNode, node: Node, action: Action) -> None:
        vr = self._vr_of(node)
        match action:
            case Action.CLEAN if vr in _DATES:
                self._edits.date(item, node, vr)
            case Action.CLEAN:
                self._edits.text(item, node, vr, is_description=True)
            case other:
                self._do(item, node, vr, other)

    # -- What it does not name -----------------------------------------------------------

    def _not_listed(self, item: ItemNode, node: Node) -> None:
        if node.tag in _PIXELS:
            if item.parent is not None and Option.PIXELS in self._options:
                self._edits.erase(item, node)  # only those of the data set itself are looked at
            return
        if not keyword_for_tag(node.tag):
            self._edits.erase(item, node)
            self._report.counts["unknown"] += 1
            return
        vr = self._vr_of(node)
        what = self._unlisted.get(vr) if node.items is None else None
        if what is not None:
            what(item, node, vr)

    def _uid(self, item: ItemNode, node: Node, vr: str) -> None:
        if Option.UIDS in self._options or says_kind(node.tag):
            return
        self._edits.uid(item, node)

    def _date(self, item: ItemNode, node: Node, vr: str) -> None:
        if Option.FULL_DATES in self._options:
            self._report.counts["kept"] += 1
        elif Option.MODIFIED_DATES in self._options:
            self._edits.date(item, node, vr)
        else:
            self._edits.empty(item, node)

    # -- Private elements, overlays ------------------------------------------------------

    def _private(self, item: ItemNode, node: Node, creators: dict[int, str]) -> None:
        if not self._private_elements.stays(node.tag, creators):
            self._edits.erase(item, node, "private")
        elif not is_private_creator(node.tag):
            self._report.counts["kept"] += 1
            vr = node.vr if node.vr in _VRS else "UN"
            what = self._unlisted.get(vr) if node.items is None else None
            if what is not None:
                what(item, node, vr)
        elif node.items is None and not self._private_elements.is_known(node, creators):
            self._edits.text(item, node, "LO")  # a name of nobody's block may be one of a patient

    def _overlay(self, item: ItemNode, node: Node, kept: set[int]) -> None:
        if node.tag >> 16 not in kept:
            self._edits.erase(item, node)
        elif node.tag & 0xFFFF == OVERLAY_COMMENTS:
            self._edits.text(item, node, "LT", is_description=True)
        elif node.items is None and node.vr in _TEXTS:
            self._edits.text(item, node, node.vr)

    def _vr_of(self, node: Node) -> str:
        """Its VR; where the data set says UN, or nothing that is one, that of the dictionary."""
        return node.vr if node.vr in _VRS and node.vr != "UN" else dictionary_vr(node.tag)


def _is_concept(item: ItemNode, node: Node) -> bool:
    """Whether it says, within a code, what something is called: not whose it is."""
    around = item.around
    return around is not None and around.tag == sr.CONCEPT_NAME and node.vr != "PN"


def _text_of(tree: DataSetTree, item: ItemNode, tag: int) -> str:
    nodes = [node for node in item.all(tag) if node.items is None]
    return decode_text(tree.value(nodes[-1]), "UI") if nodes else ""
