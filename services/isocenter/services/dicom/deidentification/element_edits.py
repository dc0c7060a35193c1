"""Edits of elements by a de-identifier, counted and noted in its report."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.services.dicom.data_set_edits import encode_value
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification import structured_content as sr
from isocenter.services.dicom.deidentification.dates import capped_age, shifted, year_only
from isocenter.services.dicom.deidentification.dummy_values import (
    ANONYMIZED,
    dummy_of,
)
from isocenter.services.dicom.deidentification.identity import (
    TERMS,
    with_other_uids,
    without_suspects,
)
from isocenter.services.dicom.deidentification.new_items import add_item, code_item
from isocenter.services.dicom.deidentification.patient import Patient
from isocenter.services.dicom.deidentification.profile import DatePolicy, Profile, ProfileError
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms
from isocenter.services.dicom.deidentification.report import Change, Report
from isocenter.services.dicom.element_values import decode_padded, decode_text, encode_text

#: A longer text is not read; nobody types one.
_LONGEST_TEXT: Final = 4 << 20
_LONGEST_BYTES: Final = 1 << 20
#: Characters of texts (PS3.5 6.2), where a hash has to fit.
_LENGTHS: Final = {"AE": 16, "CS": 16, "LO": 64, "PN": 64, "SH": 16}
_FREE: Final = frozenset(("LT", "ST", "UC", "UT"))
_SHOWN: Final = 256
_VRS: Final = SHORT_VRS | LONG_VRS


class ElementEdits:
    """Changes elements of one data set, and reports them."""

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
        self._pseudonyms = pseudonyms
        self._identity = patient.identity
        self._days = pseudonyms.days(patient.key)
        self._report = report
        #: Of items, what number each has in its sequence; the items themselves, so that they stay.
        self._numbers: dict[ItemNode, int] = {}

    # -- Values --------------------------------------------------------------------------

    def erase(self, item: ItemNode, node: Node, what: str = "removed") -> None:
        """Take an element away."""
        if node.is_erased:
            return
        self._note(item, node, what, "")
        item.erase(node)

    def erase_item(self, item: ItemNode) -> None:
        """Take an item away, and its sequence with the last one."""
        around, parent = item.around, item.parent
        assert around is not None
        assert parent is not None
        self._report.counts["removed"] += 1
        item.is_erased = True
        parent.touch()
        around.is_changed = True
        if all(each.is_erased for each in around.items or ()):
            parent.erase(around)

    def empty(self, item: ItemNode, node: Node) -> None:
        """Let an element have no value, or a sequence no item."""
        if node.items is not None:
            if node.items:
                self._note(item, node, "emptied", "")
                node.items = []
                node.is_changed = True
                item.touch()
        elif self._tree.length(node):
            self._give(item, node, node.vr, b"", "emptied")

    def dummy(self, item: ItemNode, node: Node, vr: str) -> None:
        """Put a value in that says nothing; an empty one stays empty."""
        if not self._tree.length(node):
            return
        if vr == "UI":
            self.uid(item, node)
            return
        value = dummy_of(vr)
        if node.value != value:
            self._give(item, node, vr, value, "replaced")

    def give_text(self, item: ItemNode, node: Node, vr: str, text: str, what: str) -> None:
        """Put a text in."""
        self._give(item, node, vr, text.encode("ascii", "replace"), what)

    def replace(self, item: ItemNode, node: Node, vr: str, text: str) -> None:
        """Put in what somebody wants there.

        Raises:
            EditError, ValueError: it has no place there.
        """
        if node.items is not None:
            self.empty(item, node)
            return
        value = encode_value(
            text, vr, self._tree.character_set(item), big_endian=node.codec.big_endian
        )
        self._give(item, node, vr, value, "replaced")

    def uid(self, item: ItemNode, node: Node) -> None:
        """Put pseudonyms in the place of UIDs."""
        raw = self._tree.value(node)
        before = raw.decode("ascii", "replace").strip(" \0")
        if not before:
            return
        uids = [each.strip(" \0") for each in before.split("\\")]
        text = "\\".join(self._pseudonyms.uid(each) if each else "" for each in uids)
        if text != before:
            self._give(item, node, "UI", text.encode("ascii", "replace"), "uids")

    def date(self, item: ItemNode, node: Node, vr: str) -> None:
        """Move dates, or leave their year."""
        before = self._text(item, node, vr)
        if not before:
            return
        if self._profile.dates is DatePolicy.YEAR:
            text = year_only(before, vr)
        else:
            text = shifted(before, vr, self._days)
        self._give(item, node, vr, text.encode("ascii", "replace"), "dates")

    def age(self, item: ItemNode, node: Node, vr: str) -> None:
        """Let an age not say more than that it is high."""
        before = self._text(item, node, vr)
        text = "\\".join(map(capped_age, before.split("\\")))
        if text != before:
            self._give(item, node, vr, text.encode("ascii"), "cleaned")

    def hash(self, item: ItemNode, node: Node, vr: str) -> None:
        """Put a keyed hash in, as long as the VR lets it be."""
        before = self._text(item, node, vr)
        if not before:
            return
        if vr == "UI":
            self.uid(item, node)
            return
        if vr not in _LENGTHS and vr not in _FREE:
            self._give(item, node, vr, dummy_of(vr), "replaced")
            return
        digest = self._pseudonyms.digest(before)[: _LENGTHS.get(vr, 64)]
        self.give_text(item, node, vr, digest.upper() if vr == "CS" else digest, "hashed")

    def encrypt(self, item: ItemNode, node: Node, vr: str) -> None:
        """Put the ciphertext in.

        Raises:
            ProfileError: the VR has no room for it.
        """
        raw = self._text(item, node, vr).encode("utf-8")
        if not raw:
            return
        text = self._pseudonyms.encrypted(raw)
        if vr not in _FREE and len(text) > _LENGTHS.get(vr, 0):
            raise ProfileError(
                f"{tag_text(node.tag)}: {vr} has no room for an encrypted value; hash it instead"
            )
        self.give_text(item, node, vr, text, "encrypted")

    # -- Texts ---------------------------------------------------------------------------

    def text(self, item: ItemNode, node: Node, vr: str, *, is_description: bool = False) -> None:
        """Let a text say nothing of the patient.

        Args:
            is_description: also nothing that looks like somebody's name, number, age or date.
        """
        if self._tree.length(node) > _LONGEST_TEXT:
            self._report.warn("a text of more than 4 MiB was not looked through, and emptied")
            self.empty(item, node)
            return
        before = self._text(item, node, vr)
        if not before:
            return
        text = with_other_uids(self._identity.cleaned(before), self._pseudonyms.uid)
        if is_description:
            text = without_suspects(text)
        if text != before:
            # Of Type 1 or not: a text that says nothing is right where an empty one may not be.
            value = self._encoded(item, text.strip(), vr) or dummy_of(vr)
            self._give(item, node, vr, value, "cleaned")

    def code_string(self, item: ItemNode, node: Node, vr: str) -> None:
        """Let a code string not be a word of the patient."""
        before = "" if node.tag in TERMS else self._text(item, node, vr)
        if before and self._identity.is_in(before.replace("_", " ")):
            words = [
                ANONYMIZED if self._identity.is_in(each.replace("_", " ")) else each
                for each in before.split("\\")
            ]
            self.give_text(item, node, "CS", "\\".join(words), "cleaned")

    def number(self, item: ItemNode, node: Node, vr: str) -> None:
        """Let what should be a number, and is none, not be a word of the patient."""
        before = self._text(item, node, vr)
        if any(map(str.isalpha, before)) and self._identity.is_in(before):
            self.empty(item, node)

    def octets(self, item: ItemNode, node: Node, vr: str) -> None:
        """Let bytes not be a word of the patient."""
        if node.is_encapsulated:
            self._report.warn("fragments that are no pixels were not looked through, and removed")
            self.erase(item, node)
            return
        length = self._tree.length(node)
        if not length or length > _LONGEST_BYTES:
            return
        if self._identity.is_in_bytes(self._tree.value(node), ("latin-1", "utf-8")):
            self._give(item, node, vr, bytes(length), "cleaned")

    # -- Structured content --------------------------------------------------------------

    def replace_content(self, item: ItemNode, node: Node) -> None:
        """Put one content item in the place of a tree, which says that there was one."""
        if not node.items:
            return
        self._note(item, node, "replaced", "")
        node.items = []
        add_item(item, node, [
            (0x0040A010, "CS", b"CONTAINS"),
            (sr.VALUE_TYPE, "CS", b"TEXT"),
            (sr.CONCEPT_NAME, "SQ", [code_item("121106", "Comment")]),
            (0x0040A160, "UT", ANONYMIZED.encode()),
        ])  # fmt: skip

    def replace_observers(self, item: ItemNode, node: Node) -> None:
        """Put one observer without a name in the place of those who verified."""
        if not node.items:
            return
        self._note(item, node, "replaced", "")
        node.items = []
        add_item(item, node, [
            (0x0040A027, "LO", dummy_of("LO")),
            (0x0040A030, "DT", dummy_of("DT")),
            (0x0040A075, "PN", dummy_of("PN")),
            (0x0040A088, "SQ", []),
        ])  # fmt: skip

    # -- Parts ---------------------------------------------------------------------------

    def _text(self, item: ItemNode, node: Node, vr: str) -> str:
        return decode_text(self._tree.value(node), vr, self._tree.character_set(item))

    def _encoded(self, item: ItemNode, text: str, vr: str) -> bytes:
        try:
            return encode_text(text, vr, self._tree.character_set(item))
        except ValueError:
            return text.encode("ascii", "replace")

    def _give(self, item: ItemNode, node: Node, vr: str, value: bytes, what: str) -> None:
        self._note(item, node, what, decode_padded(value[:_SHOWN], "LT"))
        # Of a data set whose VR is none, nothing else could be written.
        self._tree.set_value(item, node, vr if vr in _VRS else "UN", value)

    def _note(self, item: ItemNode, node: Node, what: str, new: str) -> None:
        self._report.counts[what] += 1
        if not self._report.wants_changes:
            return
        old = ""
        if self._report.wants_values and node.items is None and node.vr not in LONG_VRS - _FREE:
            old = self._text(item, node, node.vr)[:_SHOWN]
        self._report.changes.append(Change(path_of(item, node, self._numbers), what, old, new))


def path_of(item: ItemNode, node: Node, numbers: dict[ItemNode, int]) -> str:
    """Where an element stands, as people write it.

    Args:
        numbers: of items of this data set, as far as they are known; more are added.  Counting
            them anew each time would take the square of the time.
    """
    steps = [tag_text(node.tag)]
    at = item
    while at.around is not None and at.parent is not None:
        if at not in numbers:
            numbers.update((each, number) for number, each in enumerate(at.around.items or ()))
        steps.append(f"{tag_text(at.around.tag)}[{numbers[at]}]")
        at = at.parent
    return ".".join(reversed(steps))
