"""Content that cannot be looked into: documents, voices, video (PS3.3 A.45, PS3.5 8.2.5)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.profile import DocumentPolicy, Profile
from isocenter.services.dicom.deidentification.report import Report
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

_ENCAPSULATED_DOCUMENT: Final = 0x00420011
_MIME_TYPE: Final = 0x00420012
_SOP_CLASS_UID: Final = 0x00080016
_KINDS: Final = frozenset(
    ("application/dicom", "application/pdf", "application/sla", "application/zip", "model/mtl",
     "model/obj", "model/stl", "text/plain", "text/xml")
)  # fmt: skip
_VOICE: Final = "1.2.840.10008.5.1.4.1.1.9.4.1"


def check_content(
    tree: DataSetTree, transfer_syntax_uid: str, profile: Profile, report: Report
) -> str:
    """Why an object is refused, and what lets it pass; empty: it is not."""
    for node in tree.root.all(_ENCAPSULATED_DOCUMENT):
        if not tree.length(node):
            continue
        if profile.documents is DocumentPolicy.REFUSE:
            kind = _text(tree, _MIME_TYPE)
            if kind not in _KINDS:
                kind = "of unknown kind"  # no value of a data set goes into the log
            return (
                f"has a document ({kind}) that cannot be looked into; the policy for "
                "documents can be set to replace it, or to keep it"
            )
        if profile.documents is DocumentPolicy.KEEP:
            report.warn("its encapsulated document stays as it is")
    if _text(tree, _SOP_CLASS_UID) == _VOICE and profile.documents is not DocumentPolicy.KEEP:
        return "is a recording of a voice; the policy for documents can be set to keep it"
    syntax = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    if syntax is not None and syntax.is_video:
        if profile.video is DocumentPolicy.REFUSE:
            return (
                "is a video, whose pictures cannot be looked into; the policy for video can be set "
                "to keep it"
            )
        report.warn("the pictures of its video stay as they are")
    return ""


def _text(tree: DataSetTree, tag: int) -> str:
    nodes = [node for node in tree.root.all(tag) if node.items is None]
    return tree.value(nodes[-1]).decode("ascii", "replace").strip(" \0") if nodes else ""
