"""Verification: what could still identify is found, and what cannot is not."""

from __future__ import annotations

import io
import tempfile

import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.files import deidentify_file
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.patient import patient_of
from isocenter.services.dicom.deidentification.profile import (
    CustomRule,
    PrivatePolicy,
    Profile,
)
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms, UidMap
from isocenter.services.dicom.deidentification.rules import Action
from isocenter.services.dicom.deidentification.verification import (
    Finding,
    described,
    findings_in,
)
from support.deidentification import KEY, deidentified, file_bytes, opened, patient

BASIC = Profile()


def found(before: Dataset, after: Dataset, profile: Profile = BASIC) -> set[str]:
    """What is found in *after*, which was made of *before*."""
    uids = UidMap()
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uids.add(before[keyword].value, f"2.25.{len(uids)}")
    with opened(file_bytes(before)) as source:
        whose = patient_of(DataSetTree(source.data, source.encoding), frozenset())
    with opened(file_bytes(after)) as source:
        tree = DataSetTree(source.data, source.encoding)
        return {each.text for each in findings_in(tree, profile, whose, uids)}


def clean() -> Dataset:
    return deidentified(patient(StudyDate="20200110"))[0]


def test_nothing_is_found_in_what_was_de_identified() -> None:
    assert found(patient(), clean()) == set()


@pytest.mark.parametrize(
    ("keyword", "value", "path", "rule"),
    [
        ("StudyDescription", "x", "(0008,1030)", "has to be removed"),
        ("ImageType", ["ORIGINAL", "ZENOBIA"], None, None),
        ("Manufacturer", "Zenobia", "(0008,0070)", "has a word of the patient"),
        ("SeriesNumber", "471100", None, None),
        ("StudyDate", "20200110", "(0008,0020)", "has a date"),
        ("PatientIdentityRemoved", "NO", "(0012,0062)", "does not say that the identity was"),
        ("BurnedInAnnotation", "YES", "(0028,0301)", "says that the pixels have burned in"),
        ("SOPInstanceUID", "1.2.3.4.5", "(0008,0018)", "has a UID of the original"),
        ("FrameOfReferenceUID", "1.2.3.4", "(0020,0052)", "has a UID of the original"),
        ("CodeMeaning", "see 1.2.3.4.5", "(0008,0104)", "has a UID of the original"),
        ("RedPaletteColorLookupTableData", b"QUIXOTEBAUM\0", "(0028,1201)", "has a word of"),
    ],
)
def test_what_could_identify_is_found(
    keyword: str, value: object, path: str | None, rule: str | None
) -> None:
    after = clean()
    setattr(after, keyword, value)
    texts = found(patient(), after)
    if path is None or rule is None:
        assert texts == set()
    else:
        assert any(text.startswith(f"{path} {rule}") for text in texts), texts


def test_what_is_nested_private_or_drawn_is_found() -> None:
    after = clean()
    inner = Dataset()
    inner.PersonName = "Quixotebaum^Zenobia"
    after.ReferencedInstanceSequence = [inner]
    after.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "x")
    after.add_new((0x6000, 0x3000), "OW", b"\0\0")
    after.add_new(0x4FFE0001, "SQ", [])
    after.add_new(0x001021FE, "LO", "x")
    texts = found(patient(), after)
    assert "(0008,114A)[0].(0040,A123) has a word of the patient" in texts
    assert "(0011,1001) is private" in texts
    assert "(6000,3000) is an overlay or a curve" in texts
    assert "(4FFE,0001) is of a digital signature, which does not fit any more" in texts
    assert "(0010,21FE) is in no dictionary" in texts
    kept = found(patient(), after, Profile(private=PrivatePolicy.KEEP))
    assert "(0011,1001) is private, and nobody knows whether it is safe" in kept


def test_what_an_option_retains_is_no_finding() -> None:
    profile = Profile(options=frozenset([Option.FULL_DATES, Option.UIDS]))
    before = patient(StudyDate="20200110")
    assert found(before, deidentified(before, profile)[0], profile) == set()


def test_what_somebody_keeps_is_searched_all_the_same() -> None:
    rules = {0x00081030: CustomRule(Action.KEEP)}
    before = patient(StudyDescription="of Zenobia")
    profile = Profile(custom=rules)
    texts = found(before, deidentified(before, profile)[0], profile)
    assert texts == {"(0008,1030) has a word of the patient"}


def test_a_file_is_verified_as_it_was_written() -> None:
    rules = {0x00081030: CustomRule(Action.KEEP)}
    deidentifier = Deidentifier(Profile(custom=rules), Pseudonyms(KEY))
    with opened(file_bytes(patient(StudyDescription="of Zenobia"))) as source:
        made = deidentify_file(source, deidentifier)
        with tempfile.TemporaryFile() as target:
            made.write(target)
            (finding,) = made.findings(target)
            size = target.seek(0, io.SEEK_END)
            target.seek(0)
            assert pydicom.dcmread(target).PatientIdentityRemoved == "YES"
            assert size
    assert described(finding) == "(0008,1030) StudyDescription has a word of the patient"
    assert described(Finding("(0011,1001)", "is private")) == "(0011,1001) is private"
