"""Named checks: each with an object that breaks it, and one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset, Sequence

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.services.dicom.iod.items import read_items
from isocenter.services.dicom.iod.named_checks import FAMILIES, families_by_prefix
from isocenter.services.dicom.iod.validation import (
    Options,
    quick_check,
    validate_data_set,
    validate_pydicom,
)

Values = dict[str, Any]
ROOT = "1.2.840.10008.5.1.4.1.1."
#: Kind → SOP class, modality.
KINDS = {
    "CT": ("2", "CT"), "CTP": ("2.3", "CT"), "MR": ("4", "MR"), "US": ("6.1", "US"),
    "XA": ("12.1", "XA"), "DX": ("1.1", "DX"), "MG": ("1.2", "MG"), "NM": ("20", "NM"),
    "PT": ("128", "PT"), "RTPLAN": ("481.5", "RTPLAN"), "RTDOSE": ("481.2", "RTDOSE"),
    "RTSTRUCT": ("481.3", "RTSTRUCT"), "SEG": ("66.4", "SEG"), "HMSEG": ("66.8", "SEG"),
    "LMSEG": ("66.7", "SEG"), "SR": ("88.33", "SR"), "WSI": ("77.1.6", "SM"),
    "OPHTH": ("77.1.5.1", "OP"), "PMAP": ("30", "OT"), "WF": ("9.100.1", "ECG"),
}  # fmt: skip
CODE: Values = {"CodeValue": "1", "CodingSchemeDesignator": "DCM", "CodeMeaning": "m"}
GROUPS: Values = {"SharedFunctionalGroupsSequence": [{}], "PerFrameFunctionalGroupsSequence": [{}]}
SEGMENT: Values = {
    "SegmentNumber": 1, "SegmentLabel": "l", "SegmentAlgorithmType": "MANUAL",
    "SegmentedPropertyCategoryCodeSequence": [CODE],
    "SegmentedPropertyTypeCodeSequence": [CODE],
}  # fmt: skip
REFERENCE: Values = {"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": "1.3"}


def without(values: Values, *keywords: str) -> Values:
    return {name: value for name, value in values.items() if name not in keywords}


def segments(*numbers: int, **other: Any) -> Values:
    return {"SegmentSequence": [{**SEGMENT, "SegmentNumber": each, **other} for each in numbers]}


def content(**values: Any) -> Values:
    item = {
        "RelationshipType": "CONTAINS", "ValueType": "TEXT", "TextValue": "t",
        "ConceptNameCodeSequence": [CODE], **values,
    }  # fmt: skip
    kept = {name: value for name, value in item.items() if value is not None}
    return {"ValueType": "CONTAINER", "ContentSequence": [kept]}


def number(**measured: Any) -> Values:
    whole = {"NumericValue": "1", "MeasurementUnitsCodeSequence": [CODE], **measured}
    kept = {name: value for name, value in whole.items() if value is not None}
    return content(ValueType="NUM", TextValue=None, MeasuredValueSequence=[kept])


def graphic(kind: str, **values: Any) -> Values:
    data = [1.0, 2.0] if kind == "SCOORD" else [1.0, 2.0, 3.0]
    whole = {"GraphicType": "POINT", "GraphicData": data, **values}
    if kind == "SCOORD3D":
        whole.setdefault("ReferencedFrameOfReferenceUID", "1.2")
    return content(ValueType=kind, TextValue=None, **whole)


def image(**values: Any) -> Values:
    kept = {name: value for name, value in {**REFERENCE, **values}.items() if value is not None}
    return content(ValueType="IMAGE", TextValue=None, ReferencedSOPSequence=[kept])


def template(identifier: str, title: str, *needed: Values) -> Values:
    return {
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [{**CODE, "CodeValue": title}],
        "ContentTemplateSequence": [{"MappingResource": "DCMR", "TemplateIdentifier": identifier}],
        "ContentSequence": list(needed),
    }


LANGUAGE: Values = {
    "RelationshipType": "HAS CONCEPT MOD", "ValueType": "CODE",
    "ConceptNameCodeSequence": [{**CODE, "CodeValue": "121049"}], "ConceptCodeSequence": [CODE],
}  # fmt: skip
CT_FRAME: Values = {"FrameOfReferenceUID": "1.2"}
PLANE: Values = {
    "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
}  # fmt: skip
BITS: Values = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
SIGNED: Values = {"PixelRepresentation": 1}
UNSIGNED: Values = {"PixelRepresentation": 0}
PRESENTATION: Values = {"PresentationIntentType": "FOR PRESENTATION"}
RADIO = "RadiopharmaceuticalInformationSequence"
WINDOW = "EnergyWindowInformationSequence"
ROTATION = "RotationInformationSequence"

#: Kind, code, an object that breaks it, one that does not.
CASES: list[tuple[str, str, Values, Values]] = [
    ("CT", "WARN-001", {**CT_FRAME}, {**CT_FRAME, **PLANE}),
    ("CT", "WARN-002", {**CT_FRAME}, {**CT_FRAME, **PLANE}),
    ("CT", "INFO-001", {}, {"SliceThickness": 1}),
    ("CT", "INFO-002", {}, {"ConvolutionKernel": "B"}),
    ("CT", "INFO-003", UNSIGNED, SIGNED),
    ("CT", "INFO-003", UNSIGNED, {**UNSIGNED, "RescaleIntercept": -1024}),
    ("CT", "ERR-006", {"ImageType": ["ORIGINAL", "PRIMARY"]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}),
    ("MR", "ERR-006", {"ImageType": ["ORIGINAL", "PRIMARY"]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}),
    ("SR", "EVIDENCE-ERR-001", image(),
     {**image(), "CurrentRequestedProcedureEvidenceSequence": [
         {"ReferencedSeriesSequence": [{"ReferencedSOPSequence": [REFERENCE]}]}]}),
    ("CTP", "INFO-003", {}, {"DecompositionAlgorithmIdentificationSequence": [CODE]}),
    ("CTP", "INFO-004", SIGNED, UNSIGNED),
    ("MR", "WARN-001", {"ImageType": ["ORIGINAL", "PRIMARY"]},
     {"ImageType": ["ORIGINAL", "PRIMARY"], "RepetitionTime": 1}),
    ("MR", "WARN-002", {"ScanningSequence": ["GR", "IR"]},
     {"ScanningSequence": ["GR", "IR"], "InversionTime": 1}),
    ("MR", "WARN-003", CT_FRAME, {**CT_FRAME, **PLANE}),
    ("MR", "WARN-004", CT_FRAME, {**CT_FRAME, **PLANE}),
    ("US", "ERR-004", {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 1},
     {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}),
    ("US", "ERR-005", {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 3},
     {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1}),
    ("US", "WARN-001", {"NumberOfFrames": 2}, {"NumberOfFrames": 2, "FrameTime": 1}),
    ("US", "WARN-003", {"PhotometricInterpretation": "HSV"}, {"PhotometricInterpretation": "RGB"}),
    ("US", "INFO-001", {}, {"SequenceOfUltrasoundRegions": [{}]}),
    ("XA", "ERR-001", {"DistanceSourceToDetector": 500, "DistanceSourceToPatient": 600},
     {"DistanceSourceToDetector": 700, "DistanceSourceToPatient": 600}),
    ("XA", "WARN-001", {"NumberOfFrames": 2}, {"NumberOfFrames": 2, "FrameTimeVector": [0, 1]}),
    ("XA", "WARN-002", {}, {"ImagerPixelSpacing": [1, 1]}),
    ("XA", "WARN-003", {"DistanceSourceToDetector": 500},
     {"DistanceSourceToDetector": 700, "DistanceSourceToPatient": 600}),
    ("XA", "WARN-004", {"BitsStored": 9}, {"BitsStored": 10}),
    ("XA", "WARN-006", SIGNED, UNSIGNED),
    ("XA", "WARN-008", {"PositionerPrimaryAngle": 181}, {"PositionerPrimaryAngle": -180}),
    ("XA", "WARN-009", {"PositionerSecondaryAngle": 91}, {"PositionerSecondaryAngle": 90}),
    ("XA", "INFO-001", {}, {"FieldOfViewShape": "ROUND"}),
    ("XA", "INFO-002", {}, {"PositionerMotion": "STATIC"}),
    ("XA", "INFO-003", {"NumberOfFrames": 2}, {"NumberOfFrames": 2, "CineRate": 15}),
    ("XA", "INFO-004", {}, {"PositionerPrimaryAngle": 1}),
    ("DX", "ERR-003", {"PixelIntensityRelationship": "SQRT"},
     {"PixelIntensityRelationship": "LOG"}),
    ("DX", "ERR-004", {"PixelIntensityRelationshipSign": 2},
     {"PixelIntensityRelationshipSign": -1}),
    ("DX", "ERR-010", {"PresentationIntentType": "FOR PROCESSING"}, PRESENTATION),
    ("DX", "ERR-011", {"SOPClassUID": f"{ROOT}1.1.1", **PRESENTATION},
     {"SOPClassUID": f"{ROOT}1.1.1", "PresentationIntentType": "FOR PROCESSING"}),
    ("DX", "WARN-001", {}, {"AnatomicRegionSequence": [CODE]}),
    ("DX", "WARN-002", {"ImageType": ["ODD", "PRIMARY"]}, {"ImageType": ["DERIVED", "PRIMARY"]}),
    ("DX", "WARN-003", {"ImageType": ["DERIVED", "ODD"]}, {"ImageType": ["DERIVED", "PRIMARY"]}),
    ("DX", "WARN-004", {"DetectorType": "EYE"}, {"DetectorType": "DIRECT"}),
    ("DX", "WARN-005", {}, {"ViewPosition": "PA"}),
    ("DX", "WARN-006", PRESENTATION, {**PRESENTATION, "WindowCenter": 1}),
    ("DX", "INFO-001", {}, {"KVP": 70}),
    ("DX", "INFO-002", {}, {"Exposure": 1}),
    ("DX", "INFO-003", {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1},
     {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1}),
    ("MG", "ERR-003", {}, {"ImageLaterality": "L"}),
    ("MG", "ERR-004", {"ImageLaterality": "X"}, {"ImageLaterality": "B"}),
    ("MG", "ERR-005", {"Laterality": "B"}, {"Laterality": "R"}),
    ("MG", "ERR-010", {}, PRESENTATION),
    ("MG", "ERR-011", {"SOPClassUID": f"{ROOT}1.2.1", **PRESENTATION},
     {"SOPClassUID": f"{ROOT}1.2.1", "PresentationIntentType": "FOR PROCESSING"}),
    ("MG", "WARN-001", {"ImageLaterality": "L", "Laterality": "R"},
     {"ImageLaterality": "L", "Laterality": "L"}),
    ("MG", "WARN-002", {"ImageType": ["ODD", "PRIMARY"]}, {"ImageType": ["DERIVED", "PRIMARY"]}),
    ("MG", "WARN-003", {"BodyPartExamined": "CHEST"}, {"BodyPartExamined": "BREAST"}),
    ("MG", "WARN-004", {}, {"BodyPartExamined": "BREAST"}),
    ("MG", "WARN-005", {}, {"ViewPosition": "CC"}),
    ("MG", "WARN-006", {"ViewPosition": ""}, {"ViewPosition": "MLO"}),
    ("MG", "WARN-007", {"BodyPartThickness": 200}, {"BodyPartThickness": 60}),
    ("MG", "WARN-008", PRESENTATION, {**PRESENTATION, "VOILUTSequence": [{}]}),
    ("MG", "WARN-009", {"BreastImplantPresent": "MAYBE"}, {"BreastImplantPresent": "NO"}),
    ("MG", "WARN-010", {"ViewPosition": "PA"}, {"ViewPosition": "MLO"}),
    ("MG", "WARN-011", {"ViewPosition": "CC", "ImageLaterality": "B"},
     {"ViewPosition": "CC", "ImageLaterality": "R"}),
    ("MG", "WARN-013", {"CompressionForce": 10}, {"CompressionForce": 100}),
    ("MG", "INFO-001", {}, {"RequestAttributesSequence": [{}]}),
    ("MG", "INFO-002", {"PixelIntensityRelationship": "LIN"},
     {"PixelIntensityRelationship": "LOG"}),
    ("MG", "INFO-003", {"ViewPosition": "CC"}, {"ViewPosition": "CC", "ViewCodeSequence": [CODE]}),
    ("MG", "INFO-004", {}, {"DetectorType": "DIRECT"}),
    ("MG", "INFO-005", {}, {"BodyPartThickness": 60}),
    ("MG", "INFO-006", {}, {"KVP": 28}),
    ("MG", "INFO-007", {"BreastImplantPresent": "YES"},
     {"BreastImplantPresent": "YES", "ViewCodeSequence": [CODE]}),
    ("MG", "INFO-008", {}, {"CompressionForce": 100}),
    ("MG", "INFO-009", {"CompressionForce": 30}, {"CompressionForce": 100}),
    ("MG", "INFO-010", {"BitsStored": 10}, {"BitsStored": 12}),
    ("NM", "WARN-001", {"ImageType": ["ORIGINAL", "PRIMARY", "ODD", "EMISSION"]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"]}),
    ("NM", "WARN-002", {"DetectorInformationSequence": [{}]},
     {"DetectorInformationSequence": [{"CollimatorGridName": "LEHR"}]}),
    ("NM", "WARN-003", {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{}]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{"StartAngle": 0}]}),
    ("NM", "WARN-004", {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{}]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{"ScanArc": 360}]}),
    ("NM", "WARN-005",
     {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{"RotationDirection": "UP"}]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{"RotationDirection": "CW"}]}),
    ("NM", "WARN-006",
     {"ImageType": ["ORIGINAL", "PRIMARY", "GATED"],
      "GatedInformationSequence": [{"DataInformationSequence": [{}]}]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "GATED"],
      "GatedInformationSequence": [{"DataInformationSequence": [
          {"TimeSlotInformationSequence": [{}]}]}]}),
    ("NM", "WARN-007", {}, {"FrameIncrementPointer": 0x00540010}),
    ("NM", "WARN-008",
     {WINDOW: [{"EnergyWindowRangeSequence": [
         {"EnergyWindowLowerLimit": 2, "EnergyWindowUpperLimit": 1}]}]},
     {WINDOW: [{"EnergyWindowRangeSequence": [
         {"EnergyWindowLowerLimit": 1, "EnergyWindowUpperLimit": 2}]}]}),
    ("NM", "INFO-001", {"DetectorInformationSequence": [{}]},
     {"DetectorInformationSequence": [{"CollimatorType": "PARA"}]}),
    ("NM", "INFO-002", {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"]},
     {"ImageType": ["ORIGINAL", "PRIMARY", "TOMO"], ROTATION: [{}]}),
    ("NM", "INFO-003", {WINDOW: [{}]}, {WINDOW: [{"EnergyWindowName": "Tc"}]}),
    ("NM", "INFO-004", {RADIO: [{}]}, {RADIO: [{"RadionuclideTotalDose": 1}]}),
    ("NM", "INFO-005", {RADIO: [{}]}, {RADIO: [{"RadiopharmaceuticalStartTime": "10"}]}),
    ("NM", "INFO-006", {}, {"WindowCenter": 1}),
    ("PT", "ERR-001", {"Units": "BQML"}, {"Units": "BQML", "DecayCorrection": "START"}),
    ("PT", "WARN-001", {"Units": "ODD"}, {"Units": "CNTS"}),
    ("PT", "WARN-002", {"DecayCorrection": "END"}, {"DecayCorrection": "ADMIN"}),
    ("PT", "WARN-003", {RADIO: [{}]}, {RADIO: [{"RadionuclideTotalDose": 1}]}),
    ("PT", "WARN-004", {RADIO: [{}]}, {RADIO: [{"RadionuclideHalfLife": 1}]}),
    ("PT", "INFO-001", {RADIO: [{}]}, {RADIO: [{"RadiopharmaceuticalStartTime": "10"}]}),
    ("PT", "INFO-002", {}, {"PatientWeight": 70}),
    ("PT", "INFO-003", {}, {"ActualFrameDuration": 1}),
    ("PT", "INFO-004", {}, {"AttenuationCorrectionMethod": "x"}),
    ("PT", "INFO-005", {}, {"ScatterCorrectionMethod": "x"}),
    ("PT", "INFO-006", {"CountsSource": "ODD"}, {"CountsSource": "EMISSION"}),
    ("RTPLAN", "ERR-002", {"FractionGroupSequence": [{"NumberOfBeams": 1}]},
     {"FractionGroupSequence": [{"NumberOfBeams": 1}], "BeamSequence": [{}]}),
    ("RTPLAN", "WARN-001", {"RTPlanGeometry": "ODD"}, {"RTPlanGeometry": "PATIENT"}),
    ("RTPLAN", "WARN-002", {"RTPlanGeometry": "PATIENT"},
     {"RTPlanGeometry": "PATIENT", "ReferencedStructureSetSequence": [REFERENCE]}),
    ("RTPLAN", "WARN-003", {"FractionGroupSequence": [{}]},
     {"FractionGroupSequence": [{"NumberOfFractionsPlanned": 1}]}),
    ("RTPLAN", "WARN-004", {"BeamSequence": [{"BeamType": "ODD"}]},
     {"BeamSequence": [{"BeamType": "STATIC"}]}),
    ("RTPLAN", "WARN-005", {"BeamSequence": [{"RadiationType": "ODD"}]},
     {"BeamSequence": [{"RadiationType": "PHOTON"}]}),
    ("RTPLAN", "INFO-001", {}, {"PlanIntent": "CURATIVE"}),
    ("RTPLAN", "INFO-002", {}, {"ApprovalStatus": "APPROVED"}),
    ("RTDOSE", "WARN-001", {"DoseUnits": "CGY"}, {"DoseUnits": "GY"}),
    ("RTDOSE", "WARN-002", {"DoseType": "ODD"}, {"DoseType": "PHYSICAL"}),
    ("RTDOSE", "WARN-003", {"DoseSummationType": "ODD"}, {"DoseSummationType": "PLAN"}),
    ("RTDOSE", "WARN-004", {"PixelData": b"12"}, {"PixelData": b"12", "DoseGridScaling": 1}),
    ("RTDOSE", "WARN-006", {"PixelData": b"12", "NumberOfFrames": 2},
     {"PixelData": b"12", "NumberOfFrames": 2, "GridFrameOffsetVector": [0, 1]}),
    ("RTDOSE", "INFO-001", {"DoseSummationType": "PLAN"},
     {"DoseSummationType": "PLAN", "ReferencedRTPlanSequence": [REFERENCE]}),
    ("RTDOSE", "INFO-002", {"DoseUnits": "RELATIVE"}, {"DoseUnits": "GY"}),
    ("RTSTRUCT", "ERR-003", {"StructureSetROISequence": [{"ROINumber": 1}, {"ROINumber": 1}]},
     {"StructureSetROISequence": [{"ROINumber": 1}, {"ROINumber": 2}]}),
    ("RTSTRUCT", "WARN-001", {"ROIContourSequence": [{"ReferencedROINumber": 2}]},
     {"StructureSetROISequence": [{"ROINumber": 2}],
      "ROIContourSequence": [{"ReferencedROINumber": 2}]}),
    ("RTSTRUCT", "WARN-002", {"RTROIObservationsSequence": [{"ReferencedROINumber": 2}]},
     {"StructureSetROISequence": [{"ROINumber": 2}],
      "RTROIObservationsSequence": [{"ReferencedROINumber": 2}]}),
    ("RTSTRUCT", "INFO-001", {}, {"ReferencedFrameOfReferenceSequence": [CT_FRAME]}),
    ("RTSTRUCT", "INFO-002", {"StructureSetROISequence": [{"ROINumber": 2}]},
     {"StructureSetROISequence": [{"ROINumber": 2}],
      "ROIContourSequence": [{"ReferencedROINumber": 2}]}),
    ("SEG", "ERR-002", {"SegmentationType": "FRACTIONAL"},
     {"SegmentationType": "FRACTIONAL", "MaximumFractionalValue": 255}),
    ("SEG", "ERR-003", {"SegmentationType": "FRACTIONAL"},
     {"SegmentationType": "FRACTIONAL", "SegmentationFractionalType": "PROBABILITY"}),
    ("SEG", "ERR-004", {}, segments(1)),
    ("SEG", "ERR-006", {"SegmentationType": "LABELMAP"}, {"SegmentationType": "BINARY"}),
    ("SEG", "SEQ-ERR-001", {"SegmentSequence": [without(SEGMENT, "SegmentNumber")]}, segments(1)),
    ("SEG", "SEQ-ERR-002", {"SegmentSequence": [without(SEGMENT, "SegmentLabel")]}, segments(1)),
    ("SEG", "SEQ-ERR-003", {"SegmentSequence": [without(SEGMENT, "SegmentAlgorithmType")]},
     segments(1)),
    ("SEG", "SEQ-ERR-004",
     {"SegmentSequence": [without(SEGMENT, "SegmentedPropertyCategoryCodeSequence")]}, segments(1)),
    ("SEG", "SEQ-ERR-005",
     {"SegmentSequence": [without(SEGMENT, "SegmentedPropertyTypeCodeSequence")]}, segments(1)),
    ("SEG", "SEQ-WARN-001", segments(1, SegmentAlgorithmType="GUESS"), segments(1)),
    ("SEG", "SEQ-WARN-002", segments(1, SegmentLabel=""), segments(1)),
    ("SEG", "SEQ-WARN-003", segments(1, SegmentAlgorithmType="AUTOMATIC"),
     segments(1, SegmentAlgorithmType="AUTOMATIC", SegmentAlgorithmName="x")),
    ("SEG", "SEQ-WARN-004", {"SegmentationType": "BINARY", **segments(2)},
     {"SegmentationType": "BINARY", **segments(1, 2)}),
    ("SEG", "PXL-ERR-001", {"SamplesPerPixel": 3}, {"SamplesPerPixel": 1}),
    ("SEG", "PXL-ERR-002", {"PhotometricInterpretation": "RGB"},
     {"PhotometricInterpretation": "MONOCHROME2"}),
    ("SEG", "PXL-WARN-001", {"SegmentationType": "BINARY", "BitsAllocated": 8},
     {"SegmentationType": "BINARY", "BitsAllocated": 1}),
    ("SEG", "PXL-WARN-002", {"SegmentationType": "FRACTIONAL", "BitsAllocated": 16},
     {"SegmentationType": "FRACTIONAL", "BitsAllocated": 8}),
    ("SEG", "REF-WARN-001", {}, {"ReferencedSeriesSequence": [{}]}),
    ("HMSEG", "ERR-006", {"SegmentationType": "BINARY"}, {"SegmentationType": "HEIGHTMAP"}),
    ("HMSEG", "PXL-WARN-001", {"BitsAllocated": 8}, {"BitsAllocated": 32}),
    ("LMSEG", "ERR-006", {"SegmentationType": "BINARY"}, {"SegmentationType": "LABELMAP"}),
    ("LMSEG", "PXL-WARN-001", {"BitsAllocated": 1}, {"BitsAllocated": 16}),
    ("LMSEG", "PXL-ERR-003", SIGNED, UNSIGNED),
    ("LMSEG", "SEQ-INFO-001", segments(1, 3), segments(0, 1)),
    ("SR", "ERR-002", {"Modality": "CT"}, {"Modality": "SR"}),
    ("SR", "ERR-002", {"SOPClassUID": f"{ROOT}88.59", "Modality": "SR"},
     {"SOPClassUID": f"{ROOT}88.59", "Modality": "KO"}),
    ("SR", "DOC-ERR-001", {"VerificationFlag": "VERIFIED"},
     {"VerificationFlag": "VERIFIED", "VerifyingObserverSequence": [{}]}),
    ("SR", "FLAG-ERR-001", {"CompletionFlag": "HALF"}, {"CompletionFlag": "PARTIAL"}),
    ("SR", "FLAG-ERR-002", {"VerificationFlag": "HALF"}, {"VerificationFlag": "UNVERIFIED"}),
    ("SR", "KOS-ERR-001", {"SOPClassUID": f"{ROOT}88.59"},
     {"SOPClassUID": f"{ROOT}88.59", "CurrentRequestedProcedureEvidenceSequence": [{}]}),
    ("SR", "EVIDENCE-INFO-001", {}, {"PertinentOtherEvidenceSequence": [{}]}),
    ("SR", "CONTENT-ERR-001", {"ValueType": "TEXT"}, {"ValueType": "CONTAINER"}),
    ("SR", "CONTENT-INFO-001", {}, content()),
    ("SR", "CONTENT-INFO-002", {"ContentSequence": []}, content()),
    ("SR", "ITEM-ERR-001", content(RelationshipType=None), content()),
    ("SR", "ITEM-ERR-001", content(RelationshipType="IS LIKE"), content()),
    ("SR", "ITEM-ERR-002", content(ValueType=None), content()),
    ("SR", "ITEM-ERR-003", content(ValueType="ODD"), content()),
    ("SR", "ITEM-ERR-003", {"SOPClassUID": f"{ROOT}88.11", **number()}, number()),
    ("SR", "ITEM-ERR-004", {**content(), "ValueType": "TEXT"}, content()),
    ("SR", "ITEM-ERR-005", content(ConceptNameCodeSequence=None), content()),
    ("SR", "CODE-ERR-001", content(ConceptNameCodeSequence=[without(CODE, "CodeValue")]),
     content()),
    ("SR", "CODE-ERR-002",
     content(ConceptNameCodeSequence=[without(CODE, "CodingSchemeDesignator")]), content()),
    ("SR", "CODE-ERR-003", content(ConceptNameCodeSequence=[without(CODE, "CodeMeaning")]),
     content()),
    ("SR", "TEXT-ERR-001", content(TextValue=""), content()),
    ("SR", "CODE-ITEM-ERR-001", content(ValueType="CODE"),
     content(ValueType="CODE", ConceptCodeSequence=[CODE])),
    ("SR", "NUM-ERR-001", content(ValueType="NUM"), number()),
    ("SR", "NUM-ERR-002", number(NumericValue=None), number()),
    ("SR", "NUM-ERR-003", number(MeasurementUnitsCodeSequence=None), number()),
    ("SR", "IMAGE-ERR-001", content(ValueType="IMAGE"), image()),
    ("SR", "IMAGE-ERR-002", image(ReferencedSOPClassUID=None), image()),
    ("SR", "IMAGE-ERR-003", image(ReferencedSOPInstanceUID=None), image()),
    ("SR", "SCOORD-ERR-001", graphic("SCOORD", GraphicType="POLYGON"), graphic("SCOORD")),
    ("SR", "SCOORD-ERR-002", graphic("SCOORD", GraphicData=[1.0, 2.0, 3.0]), graphic("SCOORD")),
    ("SR", "SCOORD3D-ERR-001", graphic("SCOORD3D", GraphicType="ODD"), graphic("SCOORD3D")),
    ("SR", "SCOORD3D-ERR-002", graphic("SCOORD3D", GraphicData=[1.0, 2.0]), graphic("SCOORD3D")),
    ("SR", "SCOORD3D-ERR-003", graphic("SCOORD3D", ReferencedFrameOfReferenceUID=""),
     graphic("SCOORD3D")),
    ("SR", "TEMPLATE-ERR-001", template("MANY", "1"), template("2000", "1")),
    ("SR", "TEMPLATE-ERR-002", template("1500", "1"), template("1500", "126000")),
    ("SR", "TEMPLATE-INFO-001", template("99999", "1"), template("2000", "1")),
    ("SR", "TEMPLATE-WARN-001", template("2000", "1"), template("2000", "1", LANGUAGE)),
    ("WSI", "ERR-001", {"DimensionOrganizationType": "3D"},
     {"DimensionOrganizationType": "TILED_FULL"}),
    ("WSI", "WARN-001", {}, {"ImageOrientationSlide": [1, 0, 0, 0, 1, 0]}),
    ("WSI", "WARN-003", SIGNED, UNSIGNED),
    ("WSI", "INFO-001", {}, {"ImagedVolumeWidth": 1.0, "ImagedVolumeHeight": 1.0}),
    ("WSI", "INFO-002", {}, {"OpticalPathSequence": [{}]}),
    ("WSI", "INFO-003", {}, {"SpecimenDescriptionSequence": [{}]}),
    ("WSI", "INFO-004", {}, {"ContainerIdentifier": "1"}),
    ("WSI", "INFO-005", {}, {"ContainerTypeCodeSequence": [CODE]}),
    ("OPHTH", "ERR-001", {"SOPClassUID": f"{ROOT}77.1.5.4"},
     {"SOPClassUID": f"{ROOT}77.1.5.4", "NumberOfFrames": 2}),
    ("OPHTH", "ERR-004", {"ImageLaterality": "U"}, {"ImageLaterality": "L"}),
    ("OPHTH", "WARN-001", {}, {"AnatomicRegionSequence": [CODE]}),
    ("OPHTH", "WARN-003", SIGNED, UNSIGNED),
    ("OPHTH", "INFO-001", {}, {"PixelSpacing": [1, 1]}),
    ("OPHTH", "INFO-002", {}, {"AcquisitionDeviceTypeCodeSequence": [CODE]}),
    ("OPHTH", "INFO-003", {}, {"PupilDilated": "NO"}),
    ("OPHTH", "INFO-004", {}, {"RefractiveStateSequence": [{}]}),
    ("PMAP", "ERR-001", {}, {"NumberOfFrames": 1}),
    ("PMAP", "ERR-004", GROUPS,
     {"SharedFunctionalGroupsSequence": [{"RealWorldValueMappingSequence": [{}]}]}),
    ("PMAP", "ERR-008", {"BitsAllocated": 8}, {"BitsAllocated": 16}),
    ("PMAP", "WARN-001", {}, GROUPS),
    ("PMAP", "WARN-003", {}, {"ReferencedSeriesSequence": [{}]}),
    ("PMAP", "WARN-004", {}, GROUPS),
    ("WF", "REF-WARN-001", {}, {"ReferencedSeriesSequence": [{}]}),
    ("WF", "PS-WARN-001", {}, {"ChannelDefinitionSequence": [{}]}),
    ("WF", "ANN-WARN-001", {}, {"WaveformAnnotationSequence": [{}]}),
]  # fmt: skip


def data_set(kind: str, values: Values) -> Dataset:
    sop_class, modality = KINDS[kind]
    return built({"SOPClassUID": ROOT + sop_class, "Modality": modality, **values})


def built(values: Values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        if isinstance(value, list) and (not value or isinstance(value[0], dict)):
            value = Sequence([built(item) for item in value])
        if keyword == "PixelData":
            made.add_new(0x7FE00010, "OW", value)
        else:
            setattr(made, keyword, value)
    return made


def codes(kind: str, values: Values, *, as_kind: str = "") -> set[str]:
    result = validate_pydicom(data_set(kind, values), Options(kind=as_kind))
    return result.codes()


@pytest.mark.parametrize(
    ("kind", "code", "bad", "good"), CASES, ids=[f"{kind}-{code}" for kind, code, *_ in CASES]
)
def test_a_named_check(kind: str, code: str, bad: Values, good: Values) -> None:
    assert f"{kind}-{code}" in codes(kind, bad)
    assert f"{kind}-{code}" not in codes(kind, good)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if families_by_prefix()[kind].bits])
def test_bits_and_high_bit(kind: str) -> None:
    family = families_by_prefix()[kind]
    assert f"{kind}-{family.bits}" in codes(kind, {"BitsAllocated": 8, "BitsStored": 12})
    assert f"{kind}-{family.high_bit}" in codes(kind, {**BITS, "HighBit": 15})
    assert not {f"{kind}-{family.bits}", f"{kind}-{family.high_bit}"} & codes(kind, BITS)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if families_by_prefix()[kind].photometric[0]]
)
def test_photometric_interpretation_and_samples(kind: str) -> None:
    family = families_by_prefix()[kind]
    odd = codes(kind, {"PhotometricInterpretation": "CMYK", "SamplesPerPixel": 4})
    assert {f"{kind}-{family.photometric[0]}", f"{kind}-{family.samples[0]}"} <= odd
    grey = codes(kind, {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1})
    assert not {f"{kind}-{family.photometric[0]}", f"{kind}-{family.samples[0]}"} & grey


@pytest.mark.parametrize("kind", KINDS)
def test_sop_class_and_modality_of_a_kind(kind: str) -> None:
    family = families_by_prefix()[kind]
    odd = {"SOPClassUID": "1.2.3", "Modality": "XX"}
    there = codes(kind, odd, as_kind=kind)
    assert f"{kind}-{family.sop_class}" in there
    if family.modalities:
        assert f"{kind}-{family.modality}" in there
    assert f"{kind}-{family.sop_class}" not in codes(kind, {})


def test_what_has_no_sop_class_is_checked_by_its_modality() -> None:
    assert "CT-ERR-001" in codes("CT", {"SOPClassUID": ""})
    assert "RT-ERR-001" in codes("RTPLAN", {"SOPClassUID": "1.2.3", "Modality": "RT"})
    assert "SR-ERR-000" in codes("SR", {"SOPClassUID": ""}, as_kind="SR")


def test_every_storage_class_of_a_family_is_one_of_the_dictionary() -> None:
    from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES

    assert {uid for family in FAMILIES for uid in family.sop_classes} <= set(STORAGE_SOP_CLASSES)


def test_a_quick_check_asks_for_the_core_attributes() -> None:
    def outcome(values: Values, prefix: str = "") -> bool:
        from io import BytesIO

        from pydicom.filebase import DicomIO
        from pydicom.filewriter import write_dataset

        target = BytesIO()
        stream = DicomIO(target)
        stream.is_implicit_VR, stream.is_little_endian = False, True
        write_dataset(stream, data_set("CT", values))
        root = read_items(memoryview(target.getvalue()), EXPLICIT_LITTLE).root
        return quick_check(root, prefix)

    whole: Values = {"Rows": 1, "Columns": 1, "BitsAllocated": 16}
    assert outcome(whole)
    assert not outcome(without(whole, "Rows"))
    assert not outcome({**whole, "Modality": "MR"})
    assert not outcome(whole, "MR")


def test_pixels_and_named_checks_can_be_left_out() -> None:
    odd = {**BITS, "HighBit": 3, "PhotometricInterpretation": "RGB"}
    some = validate_pydicom(data_set("CT", odd), Options(pixel_data=False, specific=False))
    assert not {code for code in some.codes() if "-ERR-" in code or "-WARN-" in code}


def test_a_force_that_is_no_number() -> None:
    elements = [
        (0x00080016, "UI", f"{ROOT}1.2\0".encode()), (0x001811A2, "DS", b"hard"),
    ]  # fmt: skip
    data = write_data_set(elements, EXPLICIT_LITTLE)
    assert "MG-WARN-012" in validate_data_set(memoryview(data), EXPLICIT_LITTLE).codes()
