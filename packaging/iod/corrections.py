"""What the sources of the table lack or have wrong, typed from the standard (PS3.3, PS3.4)."""

from __future__ import annotations

import re
from typing import Any

#: Keywords that the dictionary of the sources does not have.
TAGS = {
    "EthnicGroupCodeSequence": "00102161",
    "ImagingEquipmentToTreatmentDeliveryDeviceRelationshipSequence": "300a07a1",
    "PatientToEquipmentRelationshipSequence": "300a07a0",
    "PatientTreatmentPreparationSequence": "300a079f",
    "TableTopPositionAlignmentUID": "300a0054",
}

#: SOP classes that the sources lack → IOD.
SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2.3": "ct-for-processing-image",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation",
    # Retired ones whose IOD lives on.
    "1.2.840.10008.5.1.4.1.1.3": "ultrasound-multi-frame-image",
    "1.2.840.10008.5.1.4.1.1.5": "nuclear-medicine-image",
    "1.2.840.10008.5.1.4.1.1.6": "ultrasound-image",
}
IOD_NAMES = {"ct-for-processing-image": "CT For Processing Image"}
MODULE_NAMES: dict[str, str] = {}
#: IOD → the one whose conditions of modules it has.
CONDITIONS_OF = {"ct-for-processing-image": "ct-image"}
#: Modules whose rows the sources lack; *path* as in them.
MODULES: dict[str, list[dict[str, Any]]] = {
    # The content items of a report are judged by their value types, not by rows (PS3.3 C.17.3).
    "sr-document-content": [
        {"keyword": "ValueType", "type": "1", "path": []},
        {"keyword": "ConceptNameCodeSequence", "type": "1", "path": []},
        {"keyword": "ContinuityOfContent", "type": "1", "path": []},
        {"keyword": "ContentTemplateSequence", "type": "1C", "path": []},
        {"keyword": "MappingResource", "type": "1", "path": ["ContentTemplateSequence"]},
        {"keyword": "TemplateIdentifier", "type": "1", "path": ["ContentTemplateSequence"]},
        {"keyword": "ContentSequence", "type": "1C", "path": []},
    ],
}
#: Functional group macro → keyword of its sequence, where the edition of 2020 lacks it.
MACRO_SEQUENCES = {
    "confocal-microscopy-image-frame-type": "ConfocalMicroscopyImageFrameTypeSequence",
    "photoacoustic-excitation-characteristics": "PhotoacousticExcitationCharacteristicsSequence",
    "photoacoustic-image-data-type": "ImageDataTypeSequence",
    "photoacoustic-image-frame-type": "PhotoacousticImageFrameTypeSequence",
    "photoacoustic-reconstruction-algorithm": "ReconstructionAlgorithmSequence",
    "rt-beam-limiting-device-opening-sequence": "RTBeamLimitingDeviceOpeningSequence",
    "rt-image-frame-context": "RTImageFrameContextSequence",
    "rt-image-frame-general-content": "RTImageFrameGeneralContentSequence",
    "rt-image-frame-imaging-device-position": "RTImageFrameImagingDevicePositionSequence",
    "rt-image-frame-radiation-acquisition-parameters": "RTImageFrameRadiationAcquisitionSequence",
}


def iods(known: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """IODs that the sources lack: key → modules with usage."""
    return {"ct-for-processing-image": known["ct-image"]}


def attribute(module: str, keyword: str) -> dict[str, Any] | None:
    """What is otherwise of an attribute: ``type``, ``condition``, ``values``."""
    return ATTRIBUTES.get((module, keyword)) or ATTRIBUTES.get(("", keyword))


#: IOD and functional group macro → condition, where that of the source is older.
GROUP_CONDITIONS = {
    ("segmentation", "segmentation"): (
        "Required if Segmentation Type (0062,0001) is not LABELMAP and Dimension Organization Type "
        "(0020,9311) is not TILED_FULL. May be present otherwise."
    ),
}


def with_modules(text: str) -> str:
    """*text* with an attribute in the place of each module or macro that it says is present."""
    for pattern, replacement in _PRESENT:
        text = re.sub(pattern, replacement, text)
    return text


_PRESENT = [
    (
        (
            r"Pixel Measures or Plane Position \(Patient\) or Plane Orientation \(Patient\)"
            r" Functional Group Macros Present"
        ),
        (
            "Pixel Measures Sequence (0028,9110) or Plane Position Sequence (0020,9113) or Plane"
            " Orientation Sequence (0020,9116) is present"
        ),
    ),
    (
        r"Plane Position \(Patient\) or Plane Orientation \(Patient\) Macros Present",
        "Plane Position Sequence (0020,9113) or Plane Orientation Sequence (0020,9116) is present",
    ),
    (
        r"Pixel Measures or Plane Orientation \(Patient\) Macros Present",
        "Pixel Measures Sequence (0028,9110) or Plane Orientation Sequence (0020,9116) is present",
    ),
    (
        r"Pixel Measures or Plane Position \(Patient\) Macros Present",
        "Pixel Measures Sequence (0028,9110) or Plane Position Sequence (0020,9113) is present",
    ),
    (
        r"the Enhanced Contrast/Bolus Module is present|Contrast/Bolus Agent Sequence \(0018,0012\) is used",
        "Contrast/Bolus Agent Sequence (0018,0012) is present",
    ),
    (
        r"Derivation Image Functional Group \(C\.7\.6\.16\.2\.6\)",
        "Derivation Image Sequence (0008,9124)",
    ),
    (r"Graphic Annotation Module", "Graphic Annotation Sequence (0070,0001)"),
    (
        r"the Palette Color Lookup Table Module",
        "Red Palette Color Lookup Table Descriptor (0028,1101)",
    ),
    (r"\bModality =", "Modality (0008,0060) ="),
    (r"Required if integer pixels", "Required if Pixel Data (7FE0,0010) is present"),
    (
        r"Required if 32 bit floating point pixels",
        "Required if Float Pixel Data (7FE0,0008) is present",
    ),
    (
        r"Required if 64 bit floating point pixels",
        "Required if Double Float Pixel Data (7FE0,0009) is present",
    ),
]
#: A condition that is never met by what a data set says.
_NOT: Any = ["false"]
_PALETTE = [
    "or",
    ["is", "00280004", 0, ["PALETTE COLOR"]],
    ["is", "00089205", 0, ["COLOR", "MIXED"]],
]


def _palette_data(segmented: str) -> dict[str, Any]:
    return {"condition": [["and", _PALETTE, ["not", ["present", segmented]]], "no", None]}


#: Module (empty: every one that says nothing of its own) and keyword → what is otherwise.
ATTRIBUTES: dict[tuple[str, str], dict[str, Any]] = {
    ("general-image", "ImageType"): {
        "values": [
            ("E", 1, ("ORIGINAL", "DERIVED"), None),
            ("E", 2, ("PRIMARY", "SECONDARY"), None),
        ]
    },
    # Label maps are of 2024.
    ("segmentation-image", "SegmentationType"): {
        "values": [("E", 0, ("BINARY", "FRACTIONAL", "LABELMAP"), None)]
    },
    ("segmentation-image", "PhotometricInterpretation"): {
        "values": [("E", 0, ("MONOCHROME2", "PALETTE COLOR"), None)]
    },
    # Conditions that the grammar does not understand, as far as a data set can tell.
    # "If for any frame there are per-frame functional groups": judged with the groups.
    ("", "PerFrameFunctionalGroupsSequence"): {"condition": [_NOT, "may", None]},
    ("image-pixel", "PixelData"): {"condition": [["not", ["present", "00287fe0"]], "no", None]},
    ("image-pixel", "RedPaletteColorLookupTableData"): _palette_data("00281221"),
    ("image-pixel", "GreenPaletteColorLookupTableData"): _palette_data("00281222"),
    ("image-pixel", "BluePaletteColorLookupTableData"): _palette_data("00281223"),
    # VRs of 2020 and later, of which the descriptions are missing (PS3.3 10.36).
    **{
        ("", f"Selector{vr}Value"): {"condition": [["is", "00720050", 0, [vr]], "no", None]}
        for vr in ("OV", "SV", "UV")
    },
    # Whether one is needed, its texts tell: judged with them.
    ("sop-common", "SpecificCharacterSet"): {"condition": [_NOT, "may", None]},
    # Required only of objects that came by a JPIP transfer syntax, or out of a query of a view.
    ("image-pixel", "PixelDataProviderURL"): {"condition": [_NOT, "may", None]},
    ("sop-common", "QueryRetrieveView"): {"condition": [_NOT, "may", None]},
    # "Required if pixel padding is to be defined as a range": whoever writes it decides.
    ("image-pixel", "PixelPaddingRangeLimit"): {"condition": [_NOT, "may", None]},
    ("image-pixel", "PixelAspectRatio"): {"condition": [_NOT, "may", None]},
    ("general-series", "PatientPosition"): {
        "condition": [
            [
                "and",
                ["not", ["present", "00540410"]],
                [
                    "is",
                    "00080016",
                    0,
                    [
                        f"1.2.840.10008.5.1.4.1.1.{number}"
                        for number in ("2", "4", "2.1", "4.1", "4.3", "4.2")
                    ],
                ],
            ],
            "may",
            None,
        ]
    },
    # Of images without Image Orientation and Position (Patient), or Image Orientation (Slide).
    ("general-image", "PatientOrientation"): {
        "condition": [
            [
                "not",
                [
                    "or",
                    ["present", "00200037"],
                    ["present", "00480102"],
                    ["present", "52009229"],
                    [
                        "is",
                        "00080016",
                        0,
                        [
                            f"1.2.840.10008.5.1.4.1.1.{number}"
                            for number in ("2", "2.3", "4", "128")
                        ],
                    ],
                ],
            ],
            "may",
            None,
        ]
    },
    # The source's condition is about itself: without a Rescale Type it is HU.
    ("ct-image", "RescaleType"): {"condition": [["is", "00189361", 0, ["YES"]], "may", None]},
    ("mr-image", "TriggerTime"): {"condition": [["is", "00180022", 0, ["CG", "PPG"]], "may", None]},
    # The tag in the source's condition is none.
    ("optical-path", "IlluminationWaveLength"): {
        "condition": [["not", ["present", "00480108"]], "may", None]
    },
}
