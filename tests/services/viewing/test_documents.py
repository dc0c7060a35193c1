"""Marks as objects: presentation states, measurement reports, key object selections.

Judged by programs that we did not write: dciodvfy, DCMTK, highdicom.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.viewing.annotations import Annotation, AnnotationType, Style
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.document_parts import Authorship, MarkedImage, series_uid
from isocenter.services.viewing.key_object_documents import (
    KeyImage,
    key_object_document,
    title_for,
)
from isocenter.services.viewing.measurement_reports import (
    ReportedMeasurement,
    measurement_report,
    tracking_uid,
)
from isocenter.services.viewing.measurements import Measurement, MeasurementType, Shape
from isocenter.services.viewing.presentation_states import (
    PlacedAnnotation,
    presentation_state,
    together,
)
from isocenter.services.viewing.region_statistics import Statistics

NOW = Authorship(
    author="Weber^Ada", now=datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC), instance_number=7
)
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
TRIANGLE = [(1.0, 1.0), (30.0, 5.0), (10.0, 30.0)]
POINTS: dict[AnnotationType, list[tuple[float, float]]] = {
    AnnotationType.ARROW: [(1, 1), (40, 40)],
    AnnotationType.LINE: [(0, 0), (10, 10)],
    AnnotationType.RECTANGLE: [(5, 5), (20, 30)],
    AnnotationType.ELLIPSE: [(5, 5), (20, 30)],
    AnnotationType.POLYGON: TRIANGLE,
    AnnotationType.FREEHAND: TRIANGLE,
    AnnotationType.TEXT: [(3, 3)],
    AnnotationType.ANGLE: TRIANGLE,
    AnnotationType.ROI: TRIANGLE,
}


def image(number: int = 1, **values: Any) -> MarkedImage:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"1.2.3.4.{number}"
    dataset.PatientName, dataset.PatientID = "Müller^Zoë", "P1"
    dataset.StudyDate, dataset.StudyDescription = "20260101", "Thorax"
    dataset.Modality, dataset.Rows, dataset.Columns = "CT", 64, 64
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.WindowCenter, dataset.WindowWidth = ["40", "-600"], ["400", "1500"]
    if "NumberOfFrames" in values:
        dataset.SOPClassUID = ENHANCED_CT
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    stored = StoredInstance(
        sop_instance_uid=dataset.SOPInstanceUID, sop_class_uid=dataset.SOPClassUID,
        study_instance_uid="1.2.3", series_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1", object_key="k", size=1, data_set_offset=0,
        digest="d",
    )  # fmt: skip
    return MarkedImage(stored=stored, view=AttributeView(orjson.loads(dataset.to_json())))


def bytes_of(made: ModelFile) -> bytes:
    return made.meta() + b"".join(bytes(piece) for piece in made.data_set())


def read(made: ModelFile) -> Dataset:
    return pydicom.dcmread(BytesIO(bytes_of(made)))


def judged(made: ModelFile, folder: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    path = folder / "made.dcm"
    path.write_bytes(bytes_of(made))
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def placed(kind: AnnotationType, of: MarkedImage, frame: int = 1, **more: Any) -> PlacedAnnotation:
    more.setdefault("text", "seen here" if kind is AnnotationType.TEXT else "")
    annotation = Annotation(type=kind, points=POINTS[kind], **more).checked(64, 64)
    return PlacedAnnotation(image=of, frame=frame, annotation=annotation)


def state(*annotations: PlacedAnnotation) -> ModelFile:
    (group,) = together(annotations)
    return presentation_state(
        group, NOW, label="ANNOTATIONS", description="noted", icc_profile=b"\0" * 128
    )


# -- Presentation states ------------------------------------------------------------------


def test_a_state_says_what_is_drawn_where() -> None:
    ct = image()
    found = read(state(*(placed(kind, ct) for kind in AnnotationType)))
    assert found.SOPClassUID.name == "Grayscale Softcopy Presentation State Storage"
    assert (found.Modality, found.StudyInstanceUID) == ("PR", "1.2.3")
    assert (str(found.PatientName), found.InstanceNumber) == ("Müller^Zoë", 7)
    assert str(found.ContentCreatorName) == "Weber^Ada"
    (series,) = found.ReferencedSeriesSequence
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert "ReferencedFrameNumber" not in series.ReferencedImageSequence[0]
    (area,) = found.DisplayedAreaSelectionSequence
    assert area.DisplayedAreaBottomRightHandCorner == [64, 64]
    assert area.PresentationPixelSpacing == [0.5, 0.25]
    assert (found.RescaleIntercept, found.RescaleType) == (-1024, "HU")
    assert found.SoftcopyVOILUTSequence[0].WindowCenter == [40, -600]
    assert found.PresentationLUTShape == "IDENTITY"
    drawn = dict(zip(AnnotationType, found.GraphicAnnotationSequence, strict=True))
    assert len(drawn[AnnotationType.ARROW].GraphicObjectSequence) == 2  # shaft and head
    (ellipse,) = drawn[AnnotationType.ELLIPSE].GraphicObjectSequence
    assert ellipse.GraphicType == "ELLIPSE"
    assert ellipse.GraphicData == [12.5, 5, 12.5, 30, 5, 17.5, 20, 17.5]  # the longer axis first
    (outline,) = drawn[AnnotationType.ROI].GraphicObjectSequence
    assert outline.GraphicData[:2] == outline.GraphicData[-2:]
    (text,) = drawn[AnnotationType.TEXT].TextObjectSequence
    assert (text.UnformattedTextValue, text.AnchorPoint) == ("seen here", [3, 3])
    assert "GraphicObjectSequence" not in drawn[AnnotationType.TEXT]


def test_each_colour_has_a_layer() -> None:
    ct = image()
    found = read(
        state(
            placed(AnnotationType.LINE, ct, style=Style(color="#ff0000")),
            placed(AnnotationType.LINE, ct, style=Style(color="#00FF00", line_width=3)),
            placed(AnnotationType.ROI, ct, style=Style(
                color="#FF0000", fill_color="#0000ff", fill_opacity=0.25)),
        )
    )  # fmt: skip
    assert [one.GraphicLayer for one in found.GraphicLayerSequence] == ["LAYER1", "LAYER2"]
    layers = [one.GraphicLayer for one in found.GraphicAnnotationSequence]
    assert layers == ["LAYER1", "LAYER2", "LAYER1"]
    filled = found.GraphicAnnotationSequence[2].GraphicObjectSequence[0]
    assert (filled.GraphicFilled, filled.FillStyleSequence[0].PatternOnOpacity) == ("Y", 0.25)


def test_images_whose_values_mean_other_things_have_states_of_their_own() -> None:
    first, second = image(1), image(2, RescaleSlope="2")
    colour = image(3, PhotometricInterpretation="RGB")
    negative = image(4, PhotometricInterpretation="MONOCHROME1")
    line = AnnotationType.LINE
    groups = together([placed(line, one) for one in (first, second, colour, negative, first)])
    assert [len(one) for one in groups] == [2, 1, 1, 1]
    made = [
        read(presentation_state(one, NOW, label="A", description="", icc_profile=b"\1" * 128))
        for one in groups
    ]
    assert made[1].RescaleSlope == 2
    assert made[2].SOPClassUID.name == "Color Softcopy Presentation State Storage"
    assert made[2].ICCProfile == b"\1" * 128
    assert "PresentationLUTShape" not in made[2]
    assert made[3].PresentationLUTShape == "INVERSE"


def test_frames_are_named_where_there_are_several() -> None:
    ct = image(NumberOfFrames=5)
    found = read(state(placed(AnnotationType.LINE, ct, 4), placed(AnnotationType.ROI, ct, 2)))
    (named,) = found.ReferencedSeriesSequence[0].ReferencedImageSequence
    assert named.ReferencedFrameNumber == [2, 4]
    frames = [
        one.ReferencedImageSequence[0].ReferencedFrameNumber
        for one in found.GraphicAnnotationSequence
    ]
    assert frames == [4, 2]


# -- Measurement reports ------------------------------------------------------------------


def reported(
    kind: MeasurementType, shape: Shape, points: list[tuple[float, float]], value: float,
    unit: str, number: int, **more: Any,
) -> ReportedMeasurement:  # fmt: skip
    return ReportedMeasurement(
        image=image(), frame=1, mark_id=str(number),
        measurement=Measurement(
            type=kind, shape=shape, points=points, value=value, unit=unit, **more
        ),
    )  # fmt: skip


STATISTICS = Statistics(pixels=9, mean=40, minimum=-3, maximum=99, deviation=3.1)
MEASURED = [
    reported(MeasurementType.LENGTH, Shape.PATH, [(1, 1), (5, 5)], 12.345, "mm", 1, label="Größe"),
    reported(MeasurementType.ANGLE, Shape.ANGLE, TRIANGLE, 90, "deg", 2),
    reported(MeasurementType.AREA, Shape.RECTANGLE, [(1, 1), (5, 9)], 4, "mm2", 3),
    reported(MeasurementType.ELLIPSE_AREA, Shape.ELLIPSE, [(1, 1), (5, 9)], 5, "mm2", 4),
    reported(MeasurementType.POLYGON_AREA, Shape.POLYGON, TRIANGLE, 6, "px2", 5),
    reported(MeasurementType.HOUNSFIELD, Shape.POLYGON, TRIANGLE, 40, "HU", 6,
             statistics=STATISTICS),
    reported(MeasurementType.HOUNSFIELD, Shape.POINT, [(1, 1)], 41, "HU", 7),
    reported(MeasurementType.SUV, Shape.POLYGON, TRIANGLE, 4.5, "g/ml", 8),
]  # fmt: skip


def test_another_reader_finds_every_measurement(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(bytes_of(measurement_report(MEASURED, NOW)))
    report = highdicom.sr.srread(path)
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurement Report"
    found = {}
    for group in (
        *report.content.get_image_measurement_groups(),
        *report.content.get_planar_roi_measurement_groups(),
    ):
        for one in group.get_measurements():
            derived = one.derivation.meaning if one.derivation else ""
            found[group.tracking_identifier, derived] = (
                one.name.meaning, one.value, one.unit.value,
            )  # fmt: skip
        assert group.tracking_uid in {tracking_uid(str(number)) for number in range(9)}
    assert found == {
        ("Größe", ""): ("Length", 12.345, "mm"),
        ("angle 2", ""): ("Angle", 90, "deg"),
        ("area 3", ""): ("Area", 4, "mm2"),
        ("ellipse_area 4", ""): ("Area", 5, "mm2"),
        ("polygon_area 5", ""): ("Area", 6, "{pixels}"),
        ("hounsfield 6", "Mean"): ("Attenuation Coefficient", 40, "[hnsf'U]"),
        ("hounsfield 6", "Minimum"): ("Attenuation Coefficient", -3, "[hnsf'U]"),
        ("hounsfield 6", "Maximum"): ("Attenuation Coefficient", 99, "[hnsf'U]"),
        ("hounsfield 6", "Standard Deviation"): ("Attenuation Coefficient", 3.1, "[hnsf'U]"),
        ("hounsfield 7", "Mean"): ("Attenuation Coefficient", 41, "[hnsf'U]"),
        ("suv 8", "Mean"): ("SUVbw", 4.5, "g/ml{SUVbw}"),
    }
    regions = report.content.get_planar_roi_measurement_groups()
    assert regions[0].roi.value.tolist() == [[1, 1], [5, 1], [5, 9], [1, 9], [1, 1]]


def test_what_is_measured_stays_what_it_is_in_later_reports() -> None:
    first, second = (read(measurement_report(MEASURED[:1], NOW)) for _ in range(2))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SeriesInstanceUID == series_uid("1.2.3", "SR", "Weber^Ada")


# -- Key object selections ----------------------------------------------------------------


def test_key_images_are_named_with_their_title_and_reasons() -> None:
    second = image(2, NumberOfFrames=3)
    made = key_object_document(
        [
            KeyImage(image=image(1), frame=1, reason="Läsion"),
            KeyImage(image=second, frame=3),
            KeyImage(image=second, frame=2, reason="Läsion"),
        ],
        title_for("for teaching"),
        NOW,
    )
    found = highdicom.ko.KeyObjectSelectionDocument.from_dataset(read(made))
    assert found.ConceptNameCodeSequence[0].CodeValue == "113004"
    texts = [item.TextValue for item in found.ContentSequence if item.ValueType == "TEXT"]
    assert texts == ["Läsion"]
    names = [item.ReferencedSOPSequence[0] for item in found.ContentSequence
             if item.ValueType == "IMAGE"]  # fmt: skip
    assert [one.ReferencedSOPInstanceUID for one in names] == ["1.2.3.4.1", "1.2.3.4.2"]
    assert names[1].ReferencedFrameNumber == [2, 3]
    (study,) = found.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 2


def test_a_title_is_named_by_code_or_meaning_and_rejects_nothing() -> None:
    assert title_for("").meaning == "Of Interest"
    assert title_for(" 113013 ").meaning == "Best In Set"
    for rejection in ("113001", "113037", "113038", "113039", "Rejected for Quality Reasons", "x"):
        with pytest.raises(ValueError, match="is one of: Of Interest"):
            title_for(rejection)


def test_a_program_is_no_person() -> None:
    program = replace(NOW, author="::1")
    report = read(measurement_report(MEASURED[:1], program))
    observer = [
        item for item in report.ContentSequence if item.RelationshipType == "HAS OBS CONTEXT"
    ]
    assert observer[0].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert observer[1].UID.startswith("2.25.")
    assert observer[2].TextValue == "::1"
    (group,) = together([placed(AnnotationType.LINE, image())])
    made = read(presentation_state(group, program, label="A", description="", icc_profile=b""))
    assert made.ContentCreatorName is None or not made.ContentCreatorName


# -- By other programs --------------------------------------------------------------------


@pytest.mark.interop("dciodvfy")
@pytest.mark.parametrize("interpretation", ["MONOCHROME2", "MONOCHROME1", "RGB"])
@pytest.mark.parametrize("frames", [1, 3])
def test_states_are_valid(tmp_path: Path, interpretation: str, frames: int) -> None:
    style = Style(fill_color="#00ff00", fill_opacity=0.5, font_family="Arial", line_width=2)
    ct = image(
        PhotometricInterpretation=interpretation,
        **({"NumberOfFrames": frames} if frames > 1 else {}),
    )
    made = state(*(placed(kind, ct, text="Note", style=style) for kind in AnnotationType))
    assert judged(made, tmp_path) == []


@pytest.mark.interop("dciodvfy", "dsrdump")
def test_reports_and_selections_are_valid(tmp_path: Path) -> None:
    assert judged(measurement_report(MEASURED, NOW), tmp_path) == []
    done = subprocess.run(
        ["dsrdump", tmp_path / "made.dcm"], capture_output=True, text=True, check=True
    )
    assert '<contains NUM:(,,"Length")="12.345" (mm,UCUM,"millimeter")>' in done.stdout
    by_program = replace(NOW, author="127.0.0.1")
    assert judged(measurement_report(MEASURED, by_program), tmp_path) == []
    keys = [KeyImage(image=image(), frame=1, reason="because")]
    assert judged(key_object_document(keys, title_for(""), by_program), tmp_path) == []
    assert judged(key_object_document(keys, title_for(""), NOW), tmp_path) == []
    subprocess.run(["dsrdump", tmp_path / "made.dcm"], capture_output=True, check=True)


@pytest.mark.interop("dcmpschk")
def test_dcmtk_takes_a_state(tmp_path: Path) -> None:
    path = tmp_path / "state.dcm"
    ct = image(PatientName="Muller^Zoe")
    path.write_bytes(bytes_of(state(*(placed(kind, ct) for kind in AnnotationType))))
    done = subprocess.run(["dcmpschk", path], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if line.startswith("E:")]
