"""De-identification of data sets: what the table decides, at every depth, and what it does not."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from isocenter.services.dicom.deidentification.deidentifier import (
    DeidentificationError,
    Deidentifier,
)
from isocenter.services.dicom.deidentification.files import deidentify_file
from isocenter.services.dicom.deidentification.identity import TERMS
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import (
    PROFILES,
    CustomRule,
    DatePolicy,
    DocumentPolicy,
    PrivatePolicy,
    Profile,
    ProfileError,
    parse_option_names,
    profile_named,
)
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms, UidMap
from isocenter.services.dicom.deidentification.rules import Action, attribute_rows, settled
from support.deidentification import (
    CT_IMAGE,
    KEY,
    all_text,
    deidentified,
    file_bytes,
    opened,
    patient,
)

#: A value of each VR that names the patient, as far as the VR lets it.
NAMING: dict[str, Any] = {
    "AE": "ZENOBIA", "AS": "081Y", "CS": "ZENOBIA", "DA": "20110315", "DS": "471100",
    "DT": "20110315101112", "IS": "471100", "LO": "of Quixotebaum", "LT": "of Quixotebaum",
    "OB": b"Quixotebaum\0", "OW": b"Quixotebaum\0", "OF": b"Quix" * 2, "OD": b"Quix" * 4,
    "OL": b"Quix" * 2, "OV": b"Quix" * 4, "PN": "Quixotebaum^Zenobia", "SH": "Zenobia",
    "ST": "of Quixotebaum", "TM": "101112", "UC": "of Quixotebaum", "UI": "1.2.99.4711",
    "UN": b"Quixotebaum\0", "UR": "https://example.org/Quixotebaum", "UT": "of Quixotebaum",
    "US": 7, "SS": 7, "UL": 7, "SL": 7, "FL": 7.0, "FD": 7.0, "AT": 0x00100010, "UV": 7, "SV": 7,
}  # fmt: skip
#: Group 0002 has no place in a data set, group 0000 and 0004 are not of one, 0008,0018 is there.
LISTED = [
    int(tag, 16)
    for tag in attribute_rows()
    if tag.isalnum() and "X" not in tag and tag != "PRIVATE" and int(tag[:4], 16) >= 8
]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian]  # fmt: skip


def filled(tags: list[int]) -> Dataset:
    """A data set with a value that names somebody in each of *tags*."""
    made = Dataset()
    for tag in tags:
        vr = dictionary_VR(tag).split(" or ")[0]
        if vr == "SQ":
            inner = Dataset()
            inner.PersonName = "Quixotebaum^Zenobia"
            inner.TextValue = "of Quixotebaum"
            inner.ReferencedSOPInstanceUID = "1.2.99.4711"
            made.add_new(tag, "SQ", Sequence([inner]))
        else:
            made.add_new(tag, vr, NAMING[vr])
    return made


def known_to_pydicom(tags: list[int]) -> list[int]:
    return [tag for tag in tags if pydicom.datadict.dictionary_has_tag(tag)]


def is_as_wanted(action: Action, before: Any, after: Any, vr: str) -> bool:
    """Whether an element became what *action* says; *after* is None where it is not there."""
    if action is Action.REMOVE:
        return after is None
    if after is None:
        return False
    if action is Action.EMPTY:
        return after.is_empty or after.tag in (0x00100010, 0x00100020)
    if action is Action.UID and vr == "UI":
        return not after.is_empty and after.value != before.value
    if vr == "SQ":
        return "Quixotebaum" not in all_text(_only(after))
    if vr in ("US", "SS", "UL", "SL", "FL", "FD", "AT", "UV", "SV"):
        return not after.is_empty
    return not after.is_empty and after.value != before.value


def _only(element: Any) -> Dataset:
    made = Dataset()
    made.add(element)
    return made


@pytest.mark.parametrize("is_nested", [False, True], ids=["root", "nested"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: pydicom.uid.UID(uid).name)
def test_every_row_of_the_table_is_obeyed(syntax: str, is_nested: bool) -> None:
    tags = known_to_pydicom(LISTED)
    assert len(tags) > 600
    one = filled([tag for tag in tags if tag not in (0x00420011, 0x00080018)])
    original = patient()
    if is_nested:
        # A sequence that no row names, in another one.
        middle = Dataset()
        middle.DerivationCodeSequence = [one]
        original.ReferencedInstanceSequence = [middle]
    else:
        original.update(one)
        original.SOPClassUID = CT_IMAGE
        original.SOPInstanceUID = "1.2.3.4.5"
        original.PatientID = "ZQ-471100"
        original.PatientName = "Quixotebaum^Zenobia"
    made, _ = deidentified(original, syntax=syntax)
    after = made
    if is_nested:
        after = made.ReferencedInstanceSequence[0].DerivationCodeSequence[0]
        before = one
    else:
        before = original
    wrong = []
    for element in before:
        row = attribute_rows().get(f"{int(element.tag):08X}")
        if row is None or element.tag == 0x0040A730:
            continue
        action = settled(row.action, f"{int(element.tag):08X}", CT_IMAGE, is_nested=is_nested)
        if not is_as_wanted(action, element, after.get(element.tag), element.VR):
            wrong.append((str(element.tag), element.keyword, action, after.get(element.tag)))
    assert wrong == []
    text = all_text(made).lower()
    for word in ("quixotebaum", "zenobia", "471100", "1.2.99.4711", "20110315"):
        assert word not in text.replace(" ", ""), word


@pytest.mark.parametrize("vr", sorted(NAMING))
def test_what_no_row_names_says_nothing_either(vr: str) -> None:
    """One attribute of each VR that the table does not name."""
    listed = {int(tag, 16) for tag in attribute_rows() if tag.isalnum() and "X" not in tag
              and tag != "PRIVATE"}  # fmt: skip
    candidates = [
        tag for tag, entry in pydicom.datadict.DicomDictionary.items()
        if entry[0] == vr and tag not in listed and 0x00080000 < tag < 0x7FE00000
        and tag >> 16 not in range(0x5000, 0x6100)
        and not re.search("SOPClass|TransferSyntax|Coding|Context|Mapping|CreatorV", entry[4])
        and tag not in TERMS
    ]  # fmt: skip
    if not candidates or vr in ("DS", "IS"):
        pytest.skip("none, or numbers, which stay")
    original = patient(OtherPatientNames="Quixotebaum^Zenobia")
    for tag in candidates[:20]:
        original.add_new(tag, vr, NAMING[vr])
    text = all_text(deidentified(original)[0]).lower()
    for word in ("quixotebaum", "zenobia", "1.2.99.4711", "20110315"):
        assert word not in text


def test_what_is_put_in_says_how_it_was_made() -> None:
    made, _ = deidentified(patient())
    assert made.PatientIdentityRemoved == "YES"
    assert made.DeidentificationMethod == "Isocenter, PS3.15 2026c: basic"
    code = made.DeidentificationMethodCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert made.LongitudinalTemporalInformationModified == "REMOVED"
    options = frozenset([Option.FULL_DATES, Option.PATIENT, Option.PIXELS])
    made, _ = deidentified(patient(), Profile(options=options))
    codes = [each.CodeValue for each in made.DeidentificationMethodCodeSequence]
    # Nobody cleaned the pixels here: that code would be a lie.
    assert codes == ["113100", "113106", "113108"]
    assert made.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_who_did_so_before_is_still_named() -> None:
    once, _ = deidentified(patient())
    again, _ = deidentified(once, profile_named("retain-longitudinal"))
    codes = [each.CodeValue for each in again.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert list(again.DeidentificationMethod) == [
        "Isocenter, PS3.15 2026c: basic", "Isocenter, PS3.15 2026c: retain_longitudinal",
    ]  # fmt: skip


def test_nothing_of_the_old_header_is_left() -> None:
    made, _ = deidentified(patient())
    assert "SourceApplicationEntityTitle" not in made.file_meta
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID != "1.2.3.4.5"
    assert made.preamble == bytes(128)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: pydicom.uid.UID(uid).name)
def test_uids_are_the_same_wherever_they_stand_and_in_every_file(syntax: str) -> None:
    one = patient()
    reference = Dataset()
    reference.ReferencedSOPClassUID = CT_IMAGE
    reference.ReferencedSOPInstanceUID = "1.2.3.4.6"
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.4.1"
    series.ReferencedInstanceSequence = [reference]
    one.ReferencedSeriesSequence = [series]
    one.ReferencedImageSequence = [reference]
    other = patient(SOPInstanceUID="1.2.3.4.6")
    pseudonyms = Pseudonyms(KEY)
    made, _ = deidentified(one, pseudonyms=pseudonyms, syntax=syntax)
    seen, _ = deidentified(other, pseudonyms=Pseudonyms(KEY))
    inner = made.ReferencedSeriesSequence[0]
    # Of a CT image neither is of Type 1, and both keep what they point to.
    assert inner.SeriesInstanceUID == made.SeriesInstanceUID == seen.SeriesInstanceUID
    assert inner.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == seen.SOPInstanceUID
    assert made.ReferencedImageSequence[0].ReferencedSOPInstanceUID == seen.SOPInstanceUID
    assert made.ReferencedImageSequence[0].ReferencedSOPClassUID == CT_IMAGE
    assert pseudonyms.uids.original_of(made.SOPInstanceUID) == "1.2.3.4.5"


def test_uids_are_retained_by_option() -> None:
    made, _ = deidentified(patient(), Profile(options=frozenset([Option.UIDS])))
    assert made.SOPInstanceUID == "1.2.3.4.5"
    assert made.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"


def test_dates_of_a_patient_are_moved_together_and_birth_dates_go() -> None:
    profile = profile_named("retain_longitudinal")
    one = patient(StudyDate="20200110", StudyTime="235959", AcquisitionDateTime="20200111000001")
    two = patient(StudyDate="20200210", StudyTime="080000")
    made, _ = deidentified(one, profile)
    later, _ = deidentified(two, profile)
    days = Pseudonyms(KEY).days("ZQ-471100")
    first = pydicom.valuerep.DA(made.StudyDate)
    assert (first - pydicom.valuerep.DA("20200110")).days == days
    assert (pydicom.valuerep.DA(later.StudyDate) - first).days == 31
    assert made.AcquisitionDateTime[8:] == "000001"
    assert made.StudyTime == "235959"
    assert made.PatientBirthDate == ""
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_become_years_under_safe_harbor_and_ages_do_not_exceed_ninety() -> None:
    one = patient(StudyDate="20200110", StudyTime="235959", PatientAge="093Y", PatientSex="F")
    made, _ = deidentified(one, profile_named("hipaa_safe_harbor"))
    assert (made.StudyDate, made.StudyTime) == ("20200101", "")
    assert (made.PatientAge, made.PatientSex) == ("090Y", "F")


def test_names_and_ids_are_keyed_hashes_under_the_regulation() -> None:
    made, done = deidentified(patient(), profile_named("gdpr_compliant"))
    other, _ = deidentified(patient(), profile_named("gdpr_compliant"),
                            pseudonyms=Pseudonyms(b"another key of it"))  # fmt: skip
    assert made.PatientID == Pseudonyms(KEY).digest("ZQ-471100") == done.patient_id
    assert other.PatientID != made.PatientID
    assert len(str(made.PatientName)) == 64


def test_the_same_key_gives_the_same_bytes() -> None:
    contents = []
    for _ in range(2):
        made, _ = deidentified(patient(StudyDate="20200110"), profile_named("gdpr_compliant"))
        contents.append(file_bytes(made))
    assert contents[0] == contents[1]


def test_patients_without_an_id_are_told_apart() -> None:
    ids = set()
    for name, birth in (("A^Erika", "19500101"), ("B^Erika", "19500101"), ("", "")):
        one = patient(PatientID="", PatientName=name, PatientBirthDate=birth)
        ids.add(deidentified(one)[0].PatientID)
    assert len(ids) == 3


# -- Private elements --------------------------------------------------------------------


def with_private() -> Dataset:
    made = patient()
    block = made.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.5")
    block.add_new(0x01, "LO", "of Quixotebaum")
    header = made.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    header.add_new(0x10, "OB", b"Quixotebaum\0")
    inner = Dataset()
    inner.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "800")
    inner.private_block(0x0021, "SIEMENS MR SDS 01", create=True).add_new(0xFE, "LO", "Zenobia")
    made.DerivationCodeSequence = [inner]
    return made


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda uid: pydicom.uid.UID(uid).name)
def test_private_elements_go_or_stay_where_they_are_safe(syntax: str) -> None:
    gone, _ = deidentified(with_private(), syntax=syntax)
    assert not [element for element in gone.iterall() if element.tag.is_private]
    safe = Profile(options=frozenset([Option.PRIVATE]), private=PrivatePolicy.SAFE)
    kept, _ = deidentified(with_private(), safe, syntax=syntax)
    tags = [str(element.tag) for element in kept.iterall() if element.tag.is_private]
    assert tags == ["(0019,0010)", "(0019,100C)", "(7053,0010)", "(7053,1000)"]
    creators, _ = deidentified(with_private(), Profile(private=PrivatePolicy.REMOVE_DATA))
    left = [element.tag for element in creators.iterall() if element.tag.is_private]
    assert left
    assert all(tag.is_private_creator for tag in left)
    everything, _ = deidentified(with_private(), Profile(private=PrivatePolicy.KEEP))
    assert len([each for each in everything.iterall() if each.tag.is_private]) == 9
    assert "Quixotebaum" not in all_text(everything)
    assert "DeidentificationMethodCodeSequence" not in everything


def test_an_object_says_itself_which_private_elements_are_safe() -> None:
    one = patient()
    block = one.private_block(0x0011, "ACME", create=True)
    block.add_new(1, "DS", "1")
    block.add_new(2, "DS", "2")
    one.private_block(0x0013, "ACME 2", create=True).add_new(1, "DS", "3")
    listed, whole = Dataset(), Dataset()
    listed.PrivateGroupReference, listed.PrivateCreatorReference = 0x0011, "ACME"
    listed.BlockIdentifyingInformationStatus = "MIXED"
    listed.NonidentifyingPrivateElements = [2]
    whole.PrivateGroupReference, whole.PrivateCreatorReference = 0x0013, "ACME 2"
    whole.BlockIdentifyingInformationStatus = "SAFE"
    one.PrivateDataElementCharacteristicsSequence = [listed, whole]
    made, _ = deidentified(one, Profile(private=PrivatePolicy.SAFE))
    values = [element.value for element in made if element.tag.is_private]
    assert values == ["ACME", "2", "ACME 2", "3"]


# -- Structured content, graphics --------------------------------------------------------


def content(kind: str, code: str, meaning: str, **values: Any) -> Dataset:
    made = Dataset()
    made.RelationshipType = "CONTAINS"
    made.ValueType = kind
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code, "DCM", meaning
    made.ConceptNameCodeSequence = [name]
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def report() -> Dataset:
    made = patient(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT_IMAGE, "1.2.3.4.5"
    section = content("CONTAINER", "121070", "Findings", ContentSequence=[
        content("TEXT", "121071", "Finding", TextValue="Zenobia has a nodule, see Dr. Umbrella"),
        content("PNAME", "121008", "Person Observer Name", PersonName="Roe^Wanda"),
        content("IMAGE", "121080", "Best illustration of finding", ReferencedSOPSequence=[image]),
        content("DATE", "126201", "Acquisition Date", Date="20200110"),
        content("UIDREF", "121012", "Device Observer UID", UID="1.2.3.4.99"),
        content("TEXT", "121022", "Accession Number", TextValue="ACC998877"),
        content("NUM", "121401", "Derivation"),
    ])  # fmt: skip
    made.ValueType = "CONTAINER"
    made.ContentSequence = [section]
    observer = Dataset()
    observer.VerifyingObserverName = "Roe^Wanda"
    observer.VerifyingOrganization = "Umbrella Clinic"
    observer.VerificationDateTime = "20200110101010"
    made.VerifyingObserverSequence = [observer]
    return made


def test_the_content_of_a_report_is_replaced_without_the_option() -> None:
    made, _ = deidentified(report())
    (item,) = made.ContentSequence
    assert (item.ValueType, item.TextValue) == ("TEXT", "ANONYMIZED")
    assert item.ConceptNameCodeSequence[0].CodeValue == "121106"
    (observer,) = made.VerifyingObserverSequence
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == (
        "ANONYMOUS", "ANONYMIZED",
    )  # fmt: skip


def test_the_content_of_a_report_is_cleaned_by_concept_with_it() -> None:
    options = frozenset([Option.STRUCTURED, Option.MODIFIED_DATES, Option.DESCRIPTORS])
    made, _ = deidentified(report(), Profile(options=options))
    inner = {each.ConceptNameCodeSequence[0].CodeValue: each
             for each in made.ContentSequence[0].ContentSequence}  # fmt: skip
    assert inner["121071"].TextValue == "has a nodule, see"
    assert inner["121071"].ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert "121022" not in inner
    assert "121401" in inner
    assert inner["121008"].PersonName == "ANONYMOUS"
    text = all_text(made)
    for word in ("Zenobia", "Roe", "ACC998877", "20200110", "1.2.3.4.99", "Umbrella"):
        assert word not in text


def test_overlays_curves_and_texts_on_images_go_or_are_cleaned() -> None:
    one = patient()
    for group, kind in ((0x6000, "G"), (0x6002, "R")):
        one.add_new((group, 0x0010), "US", 1)
        one.add_new((group, 0x0011), "US", 8)
        one.add_new((group, 0x0022), "LO", "Overlay of Zenobia")
        one.add_new((group, 0x0040), "CS", kind)
        one.add_new((group, 0x3000), "OW", b"\xff\0")
    one.add_new((0x5000, 0x3000), "OW", b"\xff\0")
    text, annotation = Dataset(), Dataset()
    text.UnformattedTextValue = "Zenobia: nodule"
    text.AnchorPoint = [1.0, 2.0]
    annotation.TextObjectSequence = [text]
    one.GraphicAnnotationSequence = [annotation]
    basic, _ = deidentified(one)
    assert not [e for e in basic if 0x5000 <= e.tag.group < 0x6100]
    assert basic.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue == (
        "ANONYMIZED"
    )
    cleaned, _ = deidentified(one, Profile(options=frozenset([Option.GRAPHICS])))
    assert {e.tag.group for e in cleaned if 0x5000 <= e.tag.group < 0x6100} == {0x6002}
    assert cleaned[0x60020022].value == "Overlay of"
    inner = cleaned.GraphicAnnotationSequence[0].TextObjectSequence[0]
    assert inner.UnformattedTextValue == "nodule"
    assert list(inner.AnchorPoint) == [1.0, 2.0]


# -- Documents, video, rules of a site ---------------------------------------------------


def test_documents_and_video_are_refused_unless_the_policy_says_otherwise() -> None:
    pdf = patient(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC",
                  EncapsulatedDocument=b"%PDF Quixotebaum",
                  MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
    with pytest.raises(DeidentificationError, match="application/pdf"):
        deidentified(pdf)
    replaced, _ = deidentified(pdf, Profile(documents=DocumentPolicy.REPLACE))
    assert replaced.EncapsulatedDocument == b"\0\0"
    kept, done = deidentified(pdf, Profile(documents=DocumentPolicy.KEEP))
    assert kept.EncapsulatedDocument.startswith(b"%PDF")
    assert done.report.warnings
    voice = patient(SOPClassUID="1.2.840.10008.5.1.4.1.1.9.4.1", Modality="AU")
    with pytest.raises(DeidentificationError, match="voice"):
        deidentified(voice)


def test_a_site_decides_otherwise_of_an_attribute() -> None:
    rules = {
        0x00081030: CustomRule(Action.KEEP), 0x00080080: CustomRule(Action.REPLACE, "Trial 7"),
        0x00080060: CustomRule(Action.REMOVE), 0x00100020: CustomRule(Action.HASH),
        0x00104000: CustomRule(Action.ENCRYPT), 0x00080020: CustomRule(Action.SHIFT_DATE),
        0x0008103E: CustomRule(Action.CLEAN), 0x00180015: CustomRule(Action.EMPTY),
        0x00200010: CustomRule(Action.DUMMY),
    }  # fmt: skip
    one = patient(StudyDescription="of Zenobia", InstitutionName="Umbrella", StudyDate="20200110",
                  SeriesDescription="axial of Zenobia", BodyPartExamined="KNEE", StudyID="77",
                  PatientComments="nice")  # fmt: skip
    made, _ = deidentified(one, Profile(custom=rules))
    assert made.StudyDescription == "of Zenobia"
    assert made.InstitutionName == "Trial 7"
    assert "Modality" not in made
    assert made.PatientID == Pseudonyms(KEY).digest("ZQ-471100")
    assert Pseudonyms(KEY).decrypted(made.PatientComments) == b"nice"
    assert made.StudyDate != "20200110"
    assert made.SeriesDescription == "axial of"
    assert made.BodyPartExamined == ""
    assert made.StudyID == "ANONYMIZED"


def test_an_encrypted_value_needs_room() -> None:
    one = patient()
    with pytest.raises(ValueError, match="no room"):
        deidentified(one, Profile(custom={0x00100020: CustomRule(Action.ENCRYPT)}))


def test_known_names_are_cleaned_as_those_of_the_patient() -> None:
    one = patient(ImageComments="x", DerivationDescription="by Overby for Zenobia")
    rules = {0x00082111: CustomRule(Action.CLEAN)}
    made, _ = deidentified(one, Profile(custom=rules), known=("Overby^Aeneas",))
    assert made.DerivationDescription == "by for"


def test_a_report_shows_values_only_where_they_were_asked_for() -> None:
    _, done = deidentified(patient())
    text = str(done.report.to_json())
    assert "Zenobia" not in text
    assert "(0010,0010)" in text
    _, done = deidentified(patient(), wants_values=True)
    assert "Zenobia" in str(done.report.to_json())


def test_texts_in_other_character_sets_are_cleaned_in_them() -> None:
    one = patient(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192")
    rules = {0x00081030: CustomRule(Action.CLEAN)}
    one.StudyDescription = "Schädel von MÜLLER"
    made, _ = deidentified(one, Profile(custom=rules))
    assert made.StudyDescription == "Schädel von"


def test_profiles_are_found_by_name_and_contradictions_are_told() -> None:
    assert set(PROFILES) == {
        "basic", "clean_pixel", "clean_descriptions", "retain_longitudinal",
        "retain_patient_characteristics", "hipaa_safe_harbor", "gdpr_compliant",
    }  # fmt: skip
    assert profile_named("HIPAA-safe-harbor").dates is DatePolicy.YEAR
    with pytest.raises(ProfileError, match="basic"):
        profile_named("none")
    assert parse_option_names(["Full-Dates", "patient"]) == {Option.FULL_DATES, Option.PATIENT}
    with pytest.raises(ProfileError):
        parse_option_names(["everything"])
    both = frozenset([Option.FULL_DATES, Option.MODIFIED_DATES])
    with pytest.raises(ProfileError):
        deidentified(patient(), dataclasses.replace(Profile(), options=both))


def test_what_no_dictionary_knows_goes_whatever_its_vr() -> None:
    one = patient()
    one.add_new(0x001021FE, "LO", "Amaryllis, the mother")
    inner = Dataset()
    inner.CodeMeaning = "Amaryllis"
    one.add_new(0x001021FC, "SQ", Sequence([inner]))
    made, done = deidentified(one)
    assert "Amaryllis" not in all_text(made)
    assert 0x001021FE not in made
    assert 0x001021FC not in made
    assert done.report.counts["unknown"] == 2


def test_signatures_go_with_their_parameters_and_what_others_encrypted() -> None:
    parameters = Dataset()
    parameters.MACIDNumber = 1
    parameters.MACAlgorithm = "SHA256"
    signature = Dataset()
    signature.MACIDNumber = 1
    sealed = Dataset()
    sealed.EncryptedContent = b"1234"
    signed = Dataset()
    for one in (signed, made := patient()):
        one.add_new(0x4FFE0001, "SQ", Sequence([parameters]))
        one.add_new(0xFFFAFFFA, "SQ", Sequence([signature]))
    made.EncryptedAttributesSequence = [sealed]
    made.ReferencedInstanceSequence = [signed]
    after, _ = deidentified(made)
    for item in (after, after.ReferencedInstanceSequence[0]):
        assert 0x4FFE0001 not in item
        assert 0xFFFAFFFA not in item
    assert 0x04000500 not in after


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def test_nothing_hides_in_group_lengths_padding_and_vrs_that_are_none() -> None:
    content = file_bytes(patient())
    at = content.index(struct.pack("<HH", 0x0010, 0x0010))
    hidden = element(0x0010, 0, b"LO", b"Zenobia ")
    future = struct.pack("<HH2sHI", 0x0018, 0x1030, b"ZZ", 0, 8) + b"Zenobia "
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 12) + b"born in Ulm "
    # An element that becomes empty, in a VR that is none.
    content = content.replace(struct.pack("<HH2sH", 0x0010, 0x0030, b"DA", 8),
                              struct.pack("<HH2sHI", 0x0010, 0x0030, b"ZZ", 0, 8))  # fmt: skip
    protocol = content.index(struct.pack("<HH", 0x0020, 0x000D))
    broken = b"".join((content[:at], hidden, content[at:protocol], future,
                       content[protocol:], padding))  # fmt: skip
    target = io.BytesIO()
    with opened(broken) as source:
        deidentify_file(source, Deidentifier(Profile(), Pseudonyms(KEY))).write(target)
    for word in (b"Zenobia", b"Ulm", b"19430912"):
        assert word in broken
        assert word not in target.getvalue()


def test_samples_that_spell_a_short_name_by_chance_stay() -> None:
    samples = bytes(range(256)) * 8 + b"\x00\x01Li\x02\x03"
    one = patient(PatientName="Li^Wu")
    group = Dataset()
    group.WaveformBitsAllocated = 8
    group.WaveformSampleInterpretation = "UB"
    group.add_new(0x54001010, "OW", samples)
    one.WaveformSequence = [group]
    made, _ = deidentified(one)
    assert made.WaveformSequence[0].WaveformData == samples


def test_a_name_of_signs_only_is_found_nowhere() -> None:
    one = patient(PatientName="Quixotebaum^??^--")
    one.BodyPartExamined = "HEAD__NECK"
    made, _ = deidentified(one)
    assert made.BodyPartExamined == "HEAD__NECK"


def test_a_uid_that_is_none_is_replaced_and_does_not_spoil_the_mapping() -> None:
    content = file_bytes(patient(FrameOfReferenceUID="1.2.3.9"))
    content = content.replace(b"1.2.3.9\0", b"ZENOBIA\0")
    pseudonyms = Pseudonyms(KEY)
    made, _ = deidentified(content, pseudonyms=pseudonyms)
    assert made.FrameOfReferenceUID.startswith("2.25.")
    assert "ZENOBIA" not in pseudonyms.uids
    assert len(UidMap.from_json(pseudonyms.uids.to_json())) == len(pseudonyms.uids)


def test_more_names_than_anybody_looks_for_are_refused() -> None:
    one = patient()
    items = [Dataset() for _ in range(2000)]
    for number, item in enumerate(items):
        item.PersonName = f"Observer{number}^The one of these who has a long name"
    one.ReferencedInstanceSequence = items
    with pytest.raises(DeidentificationError, match="names and numbers"):
        deidentified(one)


def test_a_document_of_a_kind_nobody_knows_is_refused_without_a_word_of_it() -> None:
    pdf = patient(EncapsulatedDocument=b"%PDF", MIMETypeOfEncapsulatedDocument="of Quixotebaum")
    with pytest.raises(DeidentificationError, match="unknown kind") as caught:
        deidentified(pdf)
    assert "Quixotebaum" not in str(caught.value)


def test_a_creator_that_stays_has_no_word_of_the_patient() -> None:
    one = patient()
    one.private_block(0x0011, "SCANS OF ZENOBIA", create=True).add_new(1, "LO", "x")
    for policy in (PrivatePolicy.REMOVE_DATA, PrivatePolicy.KEEP):
        made, _ = deidentified(one, Profile(private=policy))
        assert "zenobia" not in all_text(made).lower()


def test_overlays_and_curves_go_in_whatever_group() -> None:
    one = patient()
    for group in (0x5020, 0x6020, 0x60FE):
        one.add_new((group, 0x3000), "OW", b"born in Ulm")
    made, _ = deidentified(one)
    assert not [tag for tag in made.keys() if tag >> 24 in (0x50, 0x60)]  # noqa: SIM118 - no mapping
