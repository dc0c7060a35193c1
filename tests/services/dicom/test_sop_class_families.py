"""Storage SOP classes by UID, keyword and modality."""

from __future__ import annotations

import pytest

from isocenter.services.dicom.sop_class_families import FAMILIES, storage_sop_classes
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"


def test_every_class_of_a_family_is_one_that_is_known() -> None:
    known = {uid for family in FAMILIES.values() for uid in family}
    assert known <= set(STORAGE_SOP_CLASSES)


def test_names_of_three_kinds() -> None:
    assert storage_sop_classes(("CTImageStorage",)) == {CT}
    assert {CT, ENHANCED_CT} < storage_sop_classes(("ct",))
    assert storage_sop_classes((CT, "1.3.6.1.4.1.5962.9")) == {CT, "1.3.6.1.4.1.5962.9"}
    assert storage_sop_classes(()) == frozenset()


@pytest.mark.parametrize("name", ["", "FOO", "Verification", "1.2.840.10008.1.1", "CT Image"])
def test_what_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="is no storage SOP class"):
        storage_sop_classes((name,))
