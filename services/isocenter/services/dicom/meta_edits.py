"""File Meta Information that follows its data set (PS3.10 7.1)."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, FileHead, write_data_set
from isocenter.engine.dataset.file_meta import PREAMBLE_LENGTH, PREFIX
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.scope import Scope

_GROUP_LENGTH: Final = 0x00020000
_VERSION: Final = 0x00020001
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
#: Of the data set → of the File Meta Information.
_FOLLOWING: Final = {
    0x00080016: _MEDIA_STORAGE_SOP_CLASS_UID,
    0x00080018: _MEDIA_STORAGE_SOP_INSTANCE_UID,
}


def following_head(head: bytes, found: FileHead, tree: DataSetTree) -> bytes:
    """What stands before the data set, after *tree* was changed.

    Args:
        head: the file up to its data set, which is given back where nothing has to follow.
    """
    if found.meta is None:
        return head
    elements = dict(found.meta.elements)
    for tag, meta_tag in _FOLLOWING.items():
        nodes = tree.root.all(tag)
        if nodes and nodes[-1].is_changed:
            elements[meta_tag] = tree.value(nodes[-1]).rstrip(b"\0 ")
    if elements == found.meta.elements:
        return head
    # What an odd header says in its own way is said as the standard has it.
    elements[_TRANSFER_SYNTAX_UID] = found.transfer_syntax_uid.encode("ascii")
    elements[_VERSION] = b"\0\1"
    return written_head(head, elements)


def written_head(head: bytes, elements: dict[int, bytes]) -> bytes:
    """Preamble, prefix and group 0002 of *elements*, with its right length."""
    scope = Scope()
    preamble = head[:PREAMBLE_LENGTH]
    if head[PREAMBLE_LENGTH : PREAMBLE_LENGTH + len(PREFIX)] != PREFIX:
        preamble = bytes(PREAMBLE_LENGTH)
    group = write_data_set(
        [
            (tag, scope.vr_of(tag), elements[tag])
            for tag in sorted(elements)
            if tag != _GROUP_LENGTH
        ],
        EXPLICIT_LITTLE,
    )
    length = len(group).to_bytes(4, "little")
    return (
        preamble + PREFIX + write_data_set([(_GROUP_LENGTH, "UL", length)], EXPLICIT_LITTLE) + group
    )
