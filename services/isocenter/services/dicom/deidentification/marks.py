"""Marks that a data set was de-identified, and how (PS3.15 E.1.1 6)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.data_set_nodes import Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.new_items import add_item, code_item
from isocenter.services.dicom.deidentification.options import BASIC_PROFILE, Option
from isocenter.services.dicom.deidentification.profile import PrivatePolicy, Profile
from isocenter.services.dicom.deidentification.rules import EDITION
from isocenter.services.dicom.element_values import decode_text

_IDENTITY_REMOVED: Final = 0x00120062
_METHOD: Final = 0x00120063
_METHOD_CODES: Final = 0x00120064
_TEMPORAL_INFORMATION: Final = 0x00280303
_IMAGE_TYPE: Final = 0x00080008
_DERIVATION_DESCRIPTION: Final = 0x00082111
_BURNED_IN_ANNOTATION: Final = 0x00280301
_CODE_VALUE: Final = 0x00080100
_LONGEST_LO: Final = 64


def mark(tree: DataSetTree, profile: Profile, *, pixels_are_clean: bool) -> None:
    """Say in *tree* that it was de-identified under *profile*."""
    options = profile.options
    _give(tree, _IDENTITY_REMOVED, "CS", "YES")
    method = f"Isocenter, {EDITION}: {profile.name}"
    said = [_text(tree, _METHOD), method[:_LONGEST_LO]]
    _give(tree, _METHOD, "LO", "\\".join(filter(None, dict.fromkeys("\\".join(said).split("\\")))))
    _give(tree, _TEMPORAL_INFORMATION, "CS", _temporal(options))
    if pixels_are_clean:
        _give(tree, _BURNED_IN_ANNOTATION, "CS", "NO")
    if profile.private is not PrivatePolicy.KEEP:  # that is no profile of the standard
        _add_codes(tree, method_codes(options, pixels_are_clean=pixels_are_clean))


def mark_derived(tree: DataSetTree) -> None:
    """Say in *tree* that its pixels are not those that were acquired (PS3.3 C.7.6.1.1.2)."""
    kinds = _text(tree, _IMAGE_TYPE).split("\\")
    _give(tree, _IMAGE_TYPE, "CS", "\\".join(["DERIVED", *(kinds[1:] or ["SECONDARY"])]))
    _give(tree, _DERIVATION_DESCRIPTION, "ST", "Pixels that could identify were blackened")


def method_codes(options: frozenset[Option], *, pixels_are_clean: bool) -> list[tuple[str, str]]:
    """Codes of CID 7050 with their meanings, of the profile and its options."""
    return [
        BASIC_PROFILE,
        *(
            (option.code, option.meaning)
            for option in Option
            if option in options and (option is not Option.PIXELS or pixels_are_clean)
        ),
    ]


def _temporal(options: frozenset[Option]) -> str:
    if Option.FULL_DATES in options:
        return "UNMODIFIED"
    return "MODIFIED" if Option.MODIFIED_DATES in options else "REMOVED"


def _text(tree: DataSetTree, tag: int) -> str:
    nodes = [node for node in tree.root.all(tag) if node.items is None]
    return decode_text(tree.value(nodes[-1]), "LO") if nodes else ""


def _give(tree: DataSetTree, tag: int, vr: str, text: str) -> None:
    root = tree.root
    value = text.encode("ascii", "replace")
    for node in root.all(tag):
        tree.set_value(root, node, vr, value)
        return
    root.insert(Node(tag, vr, root.codec, value=value))


def _add_codes(tree: DataSetTree, codes: list[tuple[str, str]]) -> None:
    """One item for each code that is not there yet, beside those of whoever did so before."""
    root = tree.root
    nodes = [node for node in root.all(_METHOD_CODES) if node.items is not None]
    if nodes:
        sequence = nodes[-1]
    else:
        for node in root.all(_METHOD_CODES):
            root.erase(node)
        sequence = Node(_METHOD_CODES, "SQ", root.codec, items=[])
        root.insert(sequence)
    assert sequence.items is not None
    there = {
        decode_text(tree.value(node), "SH")
        for item in sequence.items
        if not item.is_erased
        for node in item.all(_CODE_VALUE)
        if node.items is None
    }
    for code, meaning in codes:
        if code in there:
            continue
        add_item(root, sequence, code_item(code, meaning[:_LONGEST_LO]))
