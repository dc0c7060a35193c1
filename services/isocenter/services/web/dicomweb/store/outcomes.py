"""Outcomes of objects to be stored, and the response (PS3.18 10.5.3, Annex I)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.web.dicomweb.urls import instance_url

#: What the object is of is not the study of the path.
OTHER_STUDY: Final = 0xA901
#: Attributes of type 1 are missing, or the payload is not what the SOP class has.
NOT_OF_CLASS: Final = 0xA900
#: Media types and transfer syntaxes that are not taken.
SYNTAX_NOT_SUPPORTED: Final = 0xC122
#: Reasons (0008,1196), (0008,1197) of stored and failed objects, beside the statuses of a C-STORE.
REASONS: Final = {
    Status.COERCION_OF_DATA_ELEMENTS: "stored; attributes were changed, or put right by the "
    "bulk data",
    NOT_OF_CLASS: "attributes of type 1 are missing, or bulk data are not what their media type "
    "or the SOP class says",
    OTHER_STUDY: "it is of another study than that of the path",
    SYNTAX_NOT_SUPPORTED: "bulk data of a media type or transfer syntax that is not taken",
}
#: An LO.
_MOST_COMMENT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one object; *status* as a C-STORE would be answered.

    Attributes:
        comment: why, without any value of the object.
    """

    status: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    comment: str = ""

    @property
    def is_stored(self) -> bool:
        return not self.status or self.status >> 12 == 0xB

    @property
    def is_out_of_resources(self) -> bool:
        return self.status >> 8 == Status.OUT_OF_RESOURCES >> 8


def http_status(outcomes: Sequence[Outcome]) -> int:
    """Of a request; 503 when there was no room for anything."""
    if all(not one.status for one in outcomes):
        return 200
    if any(one.is_stored for one in outcomes):
        return 202
    return 503 if all(one.is_out_of_resources for one in outcomes) else 409


def store_response(
    outcomes: Sequence[Outcome], base: str, *, has_comments: bool = True
) -> dict[str, Any]:
    """The response data set, in the DICOM JSON Model; no sequence of it is empty.

    Args:
        has_comments: with Error Comment (0000,0902) of what failed, as a C-STORE-RSP has it.
    """
    stored = [one for one in outcomes if one.is_stored]
    failed = [one for one in outcomes if not one.is_stored and one.sop_instance_uid]
    others = [one for one in outcomes if not one.is_stored and not one.sop_instance_uid]
    studies = {one.study_instance_uid for one in stored}
    found: dict[str, Any] = {}
    if len(studies) == 1:
        found["00081190"] = _one("UR", instance_url(base, *studies))
    for tag, group in (("00081198", failed), ("00081199", stored), ("0008119A", others)):
        if group:
            items = [_item(one, base, has_comments=has_comments) for one in group]
            found[tag] = {"vr": "SQ", "Value": items}
    return found


def _item(one: Outcome, base: str, *, has_comments: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if has_comments and one.status and one.comment:
        found["00000902"] = _one("LO", _short(one.comment))
    if one.sop_instance_uid:
        found["00081150"] = _one("UI", one.sop_class_uid)
        found["00081155"] = _one("UI", one.sop_instance_uid)
    if not one.is_stored:
        found["00081197"] = _one("US", one.status)
        return found
    url = instance_url(base, one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
    found["00081190"] = _one("UR", url)
    if one.status:
        found["00081196"] = _one("US", one.status)
    return found


def _short(comment: str) -> str:
    text = comment.replace("\\", "/").encode("ascii", "replace").decode()
    return text if len(text) <= _MOST_COMMENT else text[: _MOST_COMMENT - 3] + "..."


def _one(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}
