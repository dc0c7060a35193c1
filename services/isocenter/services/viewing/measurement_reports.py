"""Measurement reports: what somebody measured, as structured reports (TID 1500)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.viewing import geometry
from isocenter.services.viewing.document_parts import (
    CONTAINS,
    HAS_CONTEXT,
    HAS_MODIFIER,
    INFERRED_FROM,
    SELECTED_FROM,
    Authorship,
    Code,
    Item,
    MarkedImage,
    attributes,
    coded,
    container,
    content_item,
    decimal,
    document,
    image_item,
    language,
    observer,
    report_attributes,
)
from isocenter.services.viewing.geometry import Point
from isocenter.services.viewing.measurements import Measurement, MeasurementType, Shape

COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
_SERIES_NUMBER: Final = 9902
_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
_PROCEDURE: Final = Code("121058", "DCM", "Procedure reported")
_IMAGING: Final = Code("363679005", "SCT", "Imaging")
_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
_GROUP: Final = Code("125007", "DCM", "Measurement Group")
_TRACKING: Final = Code("112039", "DCM", "Tracking Identifier")
_TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
_REGION: Final = Code("111030", "DCM", "Image Region")
_SOURCE: Final = Code("260753009", "SCT", "Source")
_DERIVATION: Final = Code("121401", "DCM", "Derivation")
_MEAN: Final = Code("373098007", "SCT", "Mean")
_AREA: Final = Code("42798000", "SCT", "Area")
_NAMES: Final[Mapping[MeasurementType, Code]] = {
    MeasurementType.LENGTH: Code("410668003", "SCT", "Length"),
    MeasurementType.AREA: _AREA,
    MeasurementType.ELLIPSE_AREA: _AREA,
    MeasurementType.POLYGON_AREA: _AREA,
    MeasurementType.ANGLE: Code("1483009", "SCT", "Angle"),
    MeasurementType.HOUNSFIELD: Code("112031", "DCM", "Attenuation Coefficient"),
    MeasurementType.SUV: Code("126401", "DCM", "SUVbw"),
}
#: Units of ours in UCUM.
_UNITS: Final = {
    "mm": Code("mm", "UCUM", "millimeter"),
    "mm2": Code("mm2", "UCUM", "square millimeter"),
    "px": Code("{pixels}", "UCUM", "pixels"),
    "px2": Code("{pixels}", "UCUM", "pixels"),
    "deg": Code("deg", "UCUM", "degree"),
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "g/ml": Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMeasurement:
    """A measurement of a report.

    Attributes:
        frame: from 1 on.
        mark_id: by which it is told apart, also in later reports.
    """

    image: MarkedImage
    frame: int
    mark_id: str
    measurement: Measurement


def measurement_report(
    reported: Sequence[ReportedMeasurement], authorship: Authorship
) -> ModelFile:
    """The report of some measurements in one study."""
    first = reported[0].image
    groups = [_group(one, number) for number, one in enumerate(reported, 1)]
    children = [
        language(),
        *observer(authorship.author),
        coded(HAS_MODIFIER, _PROCEDURE, _procedure(first)),
        container(CONTAINS, _MEASUREMENTS, groups),
    ]
    content = container("", _REPORT, children, "1500")
    content |= attributes(
        **report_attributes([one.image.stored for one in reported], authorship.now),
        CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED",
        PerformedProcedureCodeSequence=None,
    )
    return document(
        first,
        authorship,
        sop_class_uid=COMPREHENSIVE_SR,
        modality="SR",
        series_number=_SERIES_NUMBER,
        series_description="Measurements",
        content=content,
    )


def _procedure(image: MarkedImage) -> Code:
    """What was done, where the image says it in a way that can be repeated."""
    said = image.view.item("ProcedureCodeSequence")
    texts = [said.text(one) for one in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
    return Code(*texts) if all(texts) else _IMAGING


def _group(one: ReportedMeasurement, number: int) -> Item:
    """A measurement group: of a region TID 1410, else TID 1501."""
    measurement = one.measurement
    label = measurement.label.strip() or f"{measurement.type.value} {number}"
    context = [
        content_item(HAS_CONTEXT, "TEXT", _TRACKING, TextValue=label),
        content_item(HAS_CONTEXT, "UIDREF", _TRACKING_UID, UID=tracking_uid(one.mark_id)),
    ]
    place = image_item(SELECTED_FROM, one.image, [one.frame], _SOURCE)
    graphic, points = _graphic(measurement)
    is_region = measurement.shape not in (Shape.PATH, Shape.ANGLE, Shape.POINT)
    data = [value for point in points for value in point]
    if not is_region:
        scoord = content_item(
            INFERRED_FROM, "SCOORD", _SOURCE, children=[place],
            GraphicType=graphic, GraphicData=data,
        )  # fmt: skip
        return container(CONTAINS, _GROUP, [*context, *_numbers(measurement, [scoord])], "1501")
    region = content_item(
        CONTAINS, "SCOORD", _REGION, children=[place], GraphicType=graphic, GraphicData=data
    )
    return container(CONTAINS, _GROUP, [*context, region, *_numbers(measurement, [])], "1410")


def tracking_uid(mark_id: str) -> str:
    """What a measurement is told apart by."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'measurement/{mark_id}').int}"


def _graphic(measurement: Measurement) -> tuple[str, Sequence[Point]]:
    points = measurement.points
    match measurement.shape:
        case Shape.POINT:
            return "POINT", points
        case Shape.ELLIPSE:
            return "ELLIPSE", geometry.ends_of_axes(points)
        case Shape.RECTANGLE:
            return "POLYLINE", geometry.closed(geometry.corners_of(points))
        case Shape.POLYGON:
            return "POLYLINE", geometry.closed(points)
        case _:
            return "POLYLINE", points


def _numbers(measurement: Measurement, inferred: list[Item]) -> list[Item]:
    name, unit = _NAMES[measurement.type], _UNITS[measurement.unit]
    assert measurement.value is not None
    found = measurement.statistics
    if found is None:
        if measurement.type in (MeasurementType.HOUNSFIELD, MeasurementType.SUV):
            return [_number(name, measurement.value, unit, inferred, _MEAN)]
        return [_number(name, measurement.value, unit, inferred)]
    if found.pixels == 1:
        return [_number(name, found.mean, unit, inferred)]
    return [
        _number(name, found.mean, unit, inferred, _MEAN),
        *(
            _number(name, value, unit, inferred, derivation)
            for value, derivation in (
                (found.minimum, Code("255605001", "SCT", "Minimum")),
                (found.maximum, Code("56851009", "SCT", "Maximum")),
                (found.deviation, Code("386136009", "SCT", "Standard Deviation")),
            )
        ),
    ]


def _number(
    name: Code, value: float, unit: Code, inferred: list[Item], derivation: Code | None = None
) -> Item:
    children = list(inferred)
    if derivation is not None:
        children.insert(0, coded(HAS_MODIFIER, _DERIVATION, derivation))
    measured = attributes(NumericValue=decimal(value), MeasurementUnitsCodeSequence=[unit.item()])
    return content_item(CONTAINS, "NUM", name, children=children, MeasuredValueSequence=[measured])
