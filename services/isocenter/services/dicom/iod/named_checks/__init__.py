"""Named checks: what goes beyond the tables of PS3.3, for eighteen kinds of objects."""

from __future__ import annotations

from functools import cache

from isocenter.services.dicom.iod.items import Item
from isocenter.services.dicom.iod.named_checks import (
    projections,
    radiotherapy,
    segmentations,
    structured_reports,
    tomography,
    visible_light,
)
from isocenter.services.dicom.iod.named_checks.family import MODALITY, SOP_CLASS_UID, Family

FAMILIES = (
    *tomography.FAMILIES,
    *projections.FAMILIES,
    *radiotherapy.FAMILIES,
    *segmentations.FAMILIES,
    *structured_reports.FAMILIES,
    *visible_light.FAMILIES,
)


@cache
def families_by_prefix() -> dict[str, Family]:
    """Prefix of codes → family."""
    return {family.prefix: family for family in FAMILIES}


@cache
def _by_sop_class() -> dict[str, Family]:
    return {uid: family for family in FAMILIES for uid in family.sop_classes}


def family_of(root: Item, *, is_known: bool) -> Family | None:
    """The family of an object, by its SOP class; by its modality where nobody knows that.

    Args:
        is_known: whether the SOP class has an IOD.
    """
    family = _by_sop_class().get(root.text(SOP_CLASS_UID))
    if family is not None or is_known:
        return family
    modality = root.text(MODALITY)
    if modality == "RT":
        return radiotherapy.UNKNOWN
    for family in FAMILIES:
        if modality and modality in family.modalities:
            return family
    return None
