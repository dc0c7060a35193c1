"""Validation against IODs: what is found, and what is left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, Sequence

from isocenter.engine.dataset import EXPLICIT_LITTLE
from isocenter.services.dicom.iod import items as items_module
from isocenter.services.dicom.iod.conditions import find, is_true
from isocenter.services.dicom.iod.findings import Finding, Result
from isocenter.services.dicom.iod.items import Element, Item
from isocenter.services.dicom.iod.table import Condition, Row, iod_table
from isocenter.services.dicom.iod.validation import (
    Options,
    validate_data_set,
    validate_file,
    validate_pydicom,
)
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"


@pytest.fixture
def ct() -> Dataset:
    return pydicom.dcmread(CT)


def found(data_set: Dataset) -> dict[tuple[str, str], Finding]:
    """Findings by rule and path."""
    result = validate_pydicom(data_set)
    return {(each.code.split("-", 1)[1], each.path): each for each in result.findings}


def errors(result: Result) -> list[tuple[str, str]]:
    return [(each.code, each.path) for each in result.findings if each.severity == "error"]


# -- Types -------------------------------------------------------------------------------


def test_an_object_that_is_as_the_standard_has_it_passes() -> None:
    result = validate_file(CT)
    assert result.summary == "Validation PASSED - 0 error(s), 0 warning(s)"
    assert result.iod == "CT Image"
    assert result.is_valid


def test_type_1_has_to_be_there_and_to_have_a_value(ct: Dataset) -> None:
    del ct.SOPInstanceUID
    ct.Rows = None
    there = found(ct)
    assert there["TYPE1-MISSING", "SOPInstanceUID"].severity == "error"
    assert there["TYPE1-EMPTY", "Rows"].source == "module Image Pixel"


def test_type_2_may_be_empty_but_not_missing(ct: Dataset) -> None:
    ct.PatientName = ""
    del ct.StudyID
    there = found(ct)
    assert there["TYPE2-MISSING", "StudyID"].severity == "warning"
    assert ("TYPE2-MISSING", "PatientName") not in there


def test_the_module_that_asks_for_most_decides(ct: Dataset) -> None:
    ct.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    del ct.Manufacturer  # type 2 in General Equipment, type 1 in Enhanced General Equipment
    rules = [rule for rule, path in found(ct) if path == "Manufacturer"]
    assert rules == ["TYPE1-MISSING"]


def test_a_condition_that_is_met_asks_for_the_attribute(ct: Dataset) -> None:
    assert ("TYPE1C-MISSING", "PlanarConfiguration") not in found(ct)
    ct.SamplesPerPixel = 3
    finding = found(ct)["TYPE1C-MISSING", "PlanarConfiguration"]
    assert "SamplesPerPixel is greater than 1" in finding.message


def test_what_a_condition_does_not_allow_is_a_warning(ct: Dataset) -> None:
    ct.PlanarConfiguration = 0
    assert found(ct)["TYPE1C-NOT-ALLOWED", "PlanarConfiguration"].severity == "warning"


def test_what_cannot_be_judged_is_said_and_is_no_finding() -> None:
    result = validate_file(CT)
    assert result.not_judged["PatientSpeciesDescription"] == "module Patient, type 1C"
    assert "module Synchronization" in result.not_judged


def test_attributes_in_items_are_judged_where_they_are(ct: Dataset) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ct.ReferencedImageSequence = Sequence([reference, reference])
    finding = found(ct)["TYPE1-MISSING", "ReferencedImageSequence[0].ReferencedSOPInstanceUID"]
    assert finding.count == 2


def test_what_a_macro_asks_for_is_judged_in_each_sequence_that_includes_it(ct: Dataset) -> None:
    for keyword in ("ReferencedStudySequence", "ReferencedPatientSequence"):
        setattr(ct, keyword, Sequence([Dataset()]))
        assert ("TYPE1-MISSING", f"{keyword}[0].ReferencedSOPClassUID") in found(ct)


def test_an_optional_module_counts_where_something_of_it_is_there(ct: Dataset) -> None:
    ct.ClinicalTrialProtocolID = "1"
    assert ("TYPE1-MISSING", "ClinicalTrialSponsorName") in found(ct)
    del ct.ClinicalTrialProtocolID
    assert ("TYPE1-MISSING", "ClinicalTrialSponsorName") not in found(ct)


def test_the_first_control_point_has_what_the_later_ones_need_not() -> None:
    plan = pydicom.dcmread(DATA / "rtplan.dcm")
    points = plan.BeamSequence[0].ControlPointSequence
    assert len(points) > 1
    place = "BeamSequence[0].ControlPointSequence[{}].GantryAngle".format
    assert ("TYPE1C-MISSING", place(0)) not in found(plan)
    for point in points:
        point.pop("GantryAngle", None)
    missing = found(plan)
    assert missing["TYPE1C-MISSING", place(0)].severity == "error"
    assert not any(path == place(1) for _, path in missing)


def test_frames_or_segments_are_referred_to_where_both_are_named_in_one_item(ct: Dataset) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    reference.ReferencedSOPInstanceUID = "1.2.3"
    reference.ReferencedFrameNumber = 1
    ct.ReferencedSegmentNumber = 1  # around it: of something else
    ct.SourceImageSequence = Sequence([reference])
    key = ("TYPE1C-NOT-ALLOWED", "SourceImageSequence[0].ReferencedFrameNumber")
    assert key not in found(ct)
    reference.ReferencedSegmentNumber = 1
    assert found(ct)[key].severity == "warning"


def test_a_conditional_module_that_had_to_be_there(ct: Dataset) -> None:
    ct.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ct.ConversionType = "WSD"
    del ct.FrameOfReferenceUID, ct.PositionReferenceIndicator
    (finding,) = (each for each in validate_pydicom(ct).findings if "MODULE" in each.code)
    assert finding.message.startswith("the module Frame of Reference is missing: ")


def test_an_overlay_is_judged_in_whichever_group_it_is(ct: Dataset) -> None:
    ct.add_new(0x60020010, "US", 8)
    assert ("TYPE1-MISSING", "OverlayColumns") in found(ct)


# -- Values ------------------------------------------------------------------------------


def test_enumerated_values_are_the_only_ones_and_are_not_shown(ct: Dataset) -> None:
    ct.ImageType = ["ORIGINAL", "TERTIARY", "AXIAL"]
    finding = found(ct)["ENUMERATED-VALUE", "ImageType"]
    assert finding.message == "value 2 is none of the enumerated values PRIMARY, SECONDARY"


def test_defined_terms_may_be_extended(ct: Dataset) -> None:
    ct.PatientPosition = "ODD"
    assert found(ct)["DEFINED-TERM", "PatientPosition"].severity == "info"


@pytest.mark.parametrize(
    ("keyword", "value", "rule"),
    [
        ("StudyDate", "2020.01.01", "LENGTH"),
        ("StudyDate", "20201301", "VALUE"),
        ("StudyTime", "25", "VALUE"),
        ("PatientAge", "12", "VALUE"),
        ("SliceThickness", "thick", "VALUE"),
        ("InstanceNumber", "1.5", "VALUE"),
        ("Modality", "ct-2", "VALUE"),
        ("StudyInstanceUID", "1.02.3", "VALUE"),
        ("PixelSpacing", "0.75", "VM"),
        ("StudyID", "a" * 17, "LENGTH"),
    ],
)
def test_an_element_is_judged_by_itself(
    ct: Dataset, keyword: str, value: str, rule: str, recwarn: pytest.WarningsRecorder
) -> None:
    element = pydicom.DataElement(pydicom.datadict.tag_for_keyword(keyword), "LO", "")
    vr = pydicom.datadict.dictionary_VR(element.tag)
    raw = value.encode() + b" " * (len(value) & 1)
    ct[element.tag] = pydicom.dataelem.RawDataElement(
        element.tag, vr, len(raw), raw, 0, False, True
    )
    finding = found(ct)[rule, keyword]
    assert finding.severity == "error"
    assert value not in finding.message


def test_a_vr_that_the_dictionary_does_not_have(ct: Dataset) -> None:
    ct[0x00100020] = pydicom.DataElement(0x00100020, "SH", "1")
    assert "dictionary LO" in found(ct)["VR", "PatientID"].message


def test_private_elements_need_a_creator(ct: Dataset) -> None:
    ct.add_new(0x00991001, "LO", "x")
    assert ("PRIVATE-CREATOR", "(0099,1001)") in found(ct)


def test_a_coded_entry_needs_value_scheme_and_meaning(ct: Dataset) -> None:
    code = Dataset()
    code.CodingSchemeDesignator = "SCT"
    code.LongCodeValue = "1234"
    ct.ProcedureCodeSequence = Sequence([code])
    there = found(ct)
    assert ("CODE-MEANING-MISSING", "ProcedureCodeSequence[0].CodeMeaning") in there
    assert ("CODE-VALUE-SHORT", "ProcedureCodeSequence[0].LongCodeValue") in there
    assert ("CODE-SCHEME-MISSING", "ProcedureCodeSequence[0].CodingSchemeDesignator") not in there


def test_a_code_is_of_the_context_group_that_it_names(ct: Dataset) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121049", "DCM", "x"
    code.MappingResource, code.ContextIdentifier = "DCMR", "7010"
    ct.ProcedureCodeSequence = Sequence([code])
    finding = found(ct)["CODE-NOT-IN-GROUP", "ProcedureCodeSequence[0].CodeValue"]
    assert "CID 7010" in finding.message
    code.CodeValue = "113000"  # Of Interest
    assert not [rule for rule, _ in found(ct) if rule == "CODE-NOT-IN-GROUP"]
    code.CodeValue, code.ContextGroupExtensionFlag = "121049", "Y"
    assert not [rule for rule, _ in found(ct) if rule == "CODE-NOT-IN-GROUP"]


def test_an_old_code_of_SNOMED_is_noted(ct: Dataset) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-A0100", "SRT", "Brain"
    ct.ProcedureCodeSequence = Sequence([code])
    path = "ProcedureCodeSequence[0].CodingSchemeDesignator"
    assert found(ct)["CODE-SCHEME-OLD", path].severity == "info"


# -- The object as a whole ---------------------------------------------------------------


def test_no_two_entities_have_one_uid(ct: Dataset) -> None:
    ct.FrameOfReferenceUID = ct.StudyInstanceUID
    assert ("UID-TWICE", "FrameOfReferenceUID") in found(ct)


def test_uncompressed_pixels_have_the_length_that_the_image_says(ct: Dataset) -> None:
    ct.Rows = 64
    finding = found(ct)["PIXEL-LENGTH", "PixelData"]
    assert finding.message.startswith("has 32,768 bytes")
    ct.Rows = 128
    assert ("PIXEL-LENGTH", "PixelData") not in found(ct)
    compressed = validate_file(DATA / "JPEG2000.dcm")
    assert not [each for each in compressed.codes() if each.endswith("PIXEL-LENGTH")]


@pytest.mark.parametrize("directions", [[1, 0, 0, 0, 2, 0], [1, 0, 0, 1, 0, 0]])
def test_directions_are_unit_vectors_at_right_angles(ct: Dataset, directions: list[int]) -> None:
    assert ("ORIENTATION", "ImageOrientationPatient") not in found(ct)
    ct.ImageOrientationPatient = directions
    assert ("ORIENTATION", "ImageOrientationPatient") in found(ct)


def test_attributes_of_no_module_and_retired_ones_are_notes(ct: Dataset) -> None:
    ct.EchoTime = 1
    ct.add_new(0x00080042, "CS", "X")
    there = found(ct)
    assert there["NOT-IN-IOD", "EchoTime"].severity == "info"
    assert there["RETIRED", "NuclearMedicineSeriesType"].severity == "info"


# -- Functional groups -------------------------------------------------------------------


#: The mandatory functional groups of an enhanced CT (PS3.3 Table A.38-2).
SHARED_GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "CTImageFrameTypeSequence")
FRAME_GROUPS = ("FrameContentSequence", "PlanePositionSequence")


@pytest.fixture
def enhanced() -> Dataset:
    """An enhanced CT with the functional groups that these tests need, and little else."""
    data_set = pydicom.dcmread(CT)
    data_set.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data_set.NumberOfFrames = 2
    shared = Dataset()
    for keyword in SHARED_GROUPS:
        setattr(shared, keyword, Sequence([Dataset()]))
    frames = []
    for _ in range(2):
        frame = Dataset()
        for keyword in FRAME_GROUPS:
            setattr(frame, keyword, Sequence([Dataset()]))
        frames.append(frame)
    data_set.SharedFunctionalGroupsSequence = Sequence([shared])
    data_set.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return data_set


def test_a_mandatory_functional_group_is_needed_in_each_frame(enhanced: Dataset) -> None:
    group = "PlanePositionSequence"
    assert not [each for each in found(enhanced) if "FG-MISSING" in each and group in each[1]]
    frames = enhanced.PerFrameFunctionalGroupsSequence
    del frames[-1][group]
    last = len(frames) - 1
    assert ("FG-MISSING", f"PerFrameFunctionalGroupsSequence[{last}].{group}") in found(enhanced)


def test_a_functional_group_is_shared_or_per_frame(enhanced: Dataset) -> None:
    frames = enhanced.PerFrameFunctionalGroupsSequence
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    shared.PlanePositionSequence = frames[0].PlanePositionSequence
    assert ("FG-TWICE", "PerFrameFunctionalGroupsSequence[0].PlanePositionSequence") in found(
        enhanced
    )


def test_there_is_one_item_for_each_frame(enhanced: Dataset) -> None:
    enhanced.NumberOfFrames = 1 + len(enhanced.PerFrameFunctionalGroupsSequence)
    assert ("FG-FRAMES", "PerFrameFunctionalGroupsSequence") in found(enhanced)


# -- What cannot be an object ------------------------------------------------------------


def test_no_sop_class_and_one_that_nobody_knows(ct: Dataset) -> None:
    ct.SOPClassUID = "1.2.3"
    assert ("SOP-CLASS-UNKNOWN", "SOPClassUID") in found(ct)
    del ct.SOPClassUID
    assert ("SOP-CLASS-MISSING", "SOPClassUID") in found(ct)


def test_a_data_set_that_is_cut_is_judged_as_far_as_it_goes() -> None:
    data = CT.read_bytes()[:2000]
    start = data.index(b"\x08\x00\x05\x00CS")
    result = validate_data_set(memoryview(data)[start:], EXPLICIT_LITTLE)
    assert "CT-ENCODING" in result.codes()
    assert ("CT-TYPE1-MISSING", "Rows") in errors(result)


def test_too_many_elements_end_in_a_finding(ct: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "MAX_ELEMENTS", 20)
    assert ("NOT-WHOLE", "") in found(ct)


def test_options_leave_out_what_nobody_asks_for(ct: Dataset) -> None:
    del ct.StudyID, ct.SOPInstanceUID
    ct.SamplesPerPixel = 3
    ct.ImageType = ["ORIGINAL"]
    nothing = Options(
        type_1=False, type_2=False, conditional=False, values=False, pixel_data=False,
        specific=False,
    )  # fmt: skip
    result = validate_pydicom(ct, nothing)
    assert result.codes() == set()
    assert not validate_pydicom(ct, Options(is_strict=True)).is_valid


# -- The table ---------------------------------------------------------------------------


def rows_below(rows: tuple[Row, ...]) -> Iterator[Row]:
    todo = [*rows]
    while todo:
        row = todo.pop()
        yield row
        todo += row.rows


def test_the_table_has_every_storage_sop_class_that_is_not_retired() -> None:
    known = iod_table().sop_classes
    missing = {
        name
        for uid, name in STORAGE_SOP_CLASSES.items()
        if uid not in known and uid in UIDS and not UIDS[uid][3]
    }
    # Of other standards: DICOS (security screening) and DICONDE (testing of materials).
    assert {name for name in missing if not name.startswith(("DICOS ", "Eddy Current "))} == set()


def test_retired_sop_classes_whose_iod_lives_on_are_judged_by_it() -> None:
    known = iod_table().sop_classes
    assert known["1.2.840.10008.5.1.4.1.1.6"] == known["1.2.840.10008.5.1.4.1.1.6.1"]


def test_every_row_says_its_edition_and_no_condition_is_half_read() -> None:
    table = iod_table()
    for uid in table.sop_classes:
        iod = table.iod_of(uid)
        assert iod is not None
        assert iod.modules
        for module in iod.modules:
            for row in module.rows:
                assert row.edition in table.editions
                assert row.type in {"1", "1C", "2", "2C", "3", "None"}
                assert row.condition is None or isinstance(row.condition, Condition)


def test_a_module_whose_attributes_nobody_has_is_not_judged() -> None:
    data_set = Dataset()
    data_set.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.100.1"  # Waveform Presentation State
    result = validate_pydicom(data_set)
    left = [place for place, why in result.not_judged.items() if "sources" in why]
    assert len(left) == 6
    assert iod_table().counts["modules without attributes"] >= len(left)


def test_the_counts_say_what_is_not_judged() -> None:
    counts = iod_table().counts
    assert 0 < counts["conditional, not judged"] < counts["conditional"] / 2


def test_dimension_indices_are_read_once_whatever_number_of_frames_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    root, items = Item(), Item.items
    index = Element(0x00209222, "SQ", False, 0, None, False, (), items=[])
    for tag in (b"\x18\x00\x74\x90", b"\x20\x00\x57\x90"):
        pointer = Element(0x00209165, "AT", False, 4, tag, False, ())
        assert index.items is not None
        index.items.append(Item(root, 0x00209222, len(index.items), {0x00209165: pointer}))
    root.elements[0x00209222] = index

    def counted(item: Item, tag: int) -> list[Item]:
        asked.append(tag)
        return items(item, tag)

    monkeypatch.setattr(Item, "items", counted)
    frames = [Item(root, 0x52009230, number) for number in range(9)]
    assert all(is_true(["dimension", "00189074"], frame) for frame in frames)
    assert not any(is_true(["dimension", "00189075"], frame) for frame in frames)
    assert asked == [0x00209222]


def test_functional_groups_are_looked_through_once() -> None:
    groups = Item(Item(), 0x52009229)
    for place, tag in ((0x00189114, 0x00189073), (0x00289110, 0x00189073)):
        value = Element(tag, "US", False, 2, bytes((place & 0xFF, 0)), False, ())
        sequence = Element(place, "SQ", False, 0, None, False, (), items=[])
        assert sequence.items is not None
        sequence.items.append(Item(groups, place, 0, {tag: value}))
        groups.elements[place] = sequence
    assert groups.grouped is groups.grouped
    found = find(0x00189073, groups)
    assert found is not None
    assert found.values == (str(0x14),), "the first group that has it"
    assert find(0x00189074, groups) is None
