"""Measurements: values that follow from the image, and what contradicts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest

from isocenter.services.dicom.pixels.pool import DecodedFrame
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.document_parts import attributes
from isocenter.services.viewing.geometry import GeometryError
from isocenter.services.viewing.measurements import (
    Measurement,
    MeasurementError,
    MeasurementType,
    OtherValueError,
    Shape,
    checked,
    computed,
    shape_for,
    with_statistics,
)
from isocenter.services.viewing.pixel_size import PixelSize, pixel_size
from isocenter.services.viewing.region_statistics import (
    hounsfield,
    standardized_uptake,
    statistics_of,
)
from support.images import describe

SIZE = PixelSize(0.5, 0.25)
LENGTH, AREA, ANGLE = MeasurementType.LENGTH, MeasurementType.AREA, MeasurementType.ANGLE
SQUARE = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)]


def made(
    kind: MeasurementType, points: list[tuple[float, float]], value: float | None = None,
    unit: str = "", shape: str = "",
) -> Measurement:  # fmt: skip
    found = shape_for(kind, shape, len(points))
    return checked(Measurement(type=kind, shape=found, points=points), 100, 100, value, unit)


def view(**values: Any) -> AttributeView:
    return AttributeView(attributes(**values))


# -- Of shapes ----------------------------------------------------------------------------


def test_a_value_that_nobody_says_is_computed() -> None:
    found = computed(made(LENGTH, [(0, 0), (6, 16)]), SIZE)
    assert (found.value, found.unit, found.is_computed) == (5, "mm", True)
    found = computed(made(MeasurementType.POLYGON_AREA, SQUARE), SIZE)
    assert (found.value, found.unit) == (12.5, "mm2")
    found = computed(made(AREA, [(0, 0), (10, 10)]), SIZE)
    assert (found.shape, found.value) == (Shape.RECTANGLE, 12.5)
    found = computed(made(MeasurementType.ELLIPSE_AREA, [(0, 0), (10, 10)]), SIZE)
    assert found.value == pytest.approx(9.8175, abs=1e-4)
    found = computed(made(ANGLE, [(10, 0), (0, 0), (0, 10)]), None)
    assert (found.value, found.unit) == (90, "deg")
    assert Measurement.of("angle", found.content()) == replace(found, points=list(found.points))


def test_a_value_in_another_unit_is_converted() -> None:
    assert computed(made(LENGTH, [(0, 0), (6, 16)], 0.5, "cm"), SIZE).unit == "mm"
    assert computed(made(AREA, SQUARE, 0.125, "cm²"), SIZE).value == 12.5
    assert computed(made(ANGLE, [(10, 0), (0, 0), (0, 10)], 1.5708, "rad"), None).value == 90


def test_a_value_that_contradicts_the_image_is_refused_with_the_right_one() -> None:
    with pytest.raises(OtherValueError, match=r"follows from the image: 50 mm"):
        computed(made(LENGTH, [(0, 0), (60, 160 / 2)], 60), PixelSize(0.5, 0.5))
    # A pixel more or less is no contradiction.
    assert computed(made(LENGTH, [(0, 0), (6, 16)], 5.3), SIZE).value == 5


def test_without_spacing_a_length_is_said_or_in_pixels() -> None:
    with pytest.raises(MeasurementError, match="how large its pixels are"):
        computed(made(LENGTH, [(0, 0), (3, 4)]), None)
    said = computed(made(LENGTH, [(0, 0), (3, 4)], 7), None)
    assert (said.value, said.is_computed) == (7, False)
    found = computed(made(LENGTH, [(0, 0), (3, 4)], unit="px"), SIZE)
    assert (found.value, found.unit, found.is_computed) == (5, "px", True)
    assert computed(made(AREA, SQUARE, unit="px²"), None).unit == "px2"


@pytest.mark.parametrize(
    ("kind", "shape", "points", "unit", "said"),
    [
        (LENGTH, "ellipse", 2, "", "one of path"),
        (LENGTH, "", 2, "HU", "the unit of a length is one of mm"),
        (ANGLE, "", 2, "", "the vertex"),
        (MeasurementType.SUV, "circle", 2, "", "one of point, rectangle, ellipse, polygon"),
    ],
)
def test_what_cannot_be_measured_is_told(
    kind: MeasurementType, shape: str, points: int, unit: str, said: str
) -> None:
    with pytest.raises((MeasurementError, GeometryError), match=said):
        made(kind, [(float(n), 0.0) for n in range(points)], None, unit, shape)


# -- Size of pixels -----------------------------------------------------------------------


def test_spacing_is_that_in_the_patient_only() -> None:
    assert pixel_size(view(PixelSpacing=["0.25", "0.5"]), 1, []) == SIZE
    assert pixel_size(view(ImagerPixelSpacing=["0.2", "0.2"]), 1, []) is None
    magnified = view(
        ImagerPixelSpacing=["0.2", "0.2"], EstimatedRadiographicMagnificationFactor="2"
    )
    assert pixel_size(magnified, 1, []) == PixelSize(0.1, 0.1)
    assert pixel_size(view(PixelSpacing=["0", "1"]), 1, []) is None


def test_frames_may_have_their_own_spacing() -> None:
    def measures(text: str) -> dict[str, Any]:
        return attributes(PixelMeasuresSequence=[attributes(PixelSpacing=[text, text])])

    image = view(
        SharedFunctionalGroupsSequence=[measures("1")],
        PerFrameFunctionalGroupsSequence=[measures("2"), attributes(PatientID="x")],
    )
    assert pixel_size(image, 1, []) == PixelSize(2, 2)
    assert pixel_size(image, 2, []) == PixelSize(1, 1)


def test_ultrasound_has_spacing_within_its_regions() -> None:
    region = attributes(
        RegionLocationMinX0=10, RegionLocationMinY0=10, RegionLocationMaxX1=50,
        RegionLocationMaxY1=50, PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3,
        PhysicalDeltaX=0.05, PhysicalDeltaY=-0.02,
    )  # fmt: skip
    image = view(SequenceOfUltrasoundRegions=[region])
    assert pixel_size(image, 1, [(10, 10), (51, 51)]) == PixelSize(0.5, 0.2)
    assert pixel_size(image, 1, [(10, 10), (60, 51)]) is None


# -- Of pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_statistics_are_those_of_the_pixels_in_the_region(bits: int, signed: bool) -> None:
    image = describe(20, 30, bits=bits, signed=signed)
    low = -(1 << bits - 1) if signed else 0
    kind = {8: "<i1", 12: "<i2", 16: "<i2"}[bits] if signed else {8: "u1"}.get(bits, "<u2")
    values = np.random.default_rng(1).integers(low, low + (1 << bits), (20, 30)).astype(kind)
    frame = DecodedFrame(values.tobytes(), image)
    found = statistics_of(frame, [(3, 2), (9, 2), (9, 7), (3, 7)], lambda one: 2 * one - 1000)
    region = values[2:7, 3:9].astype(float) * 2 - 1000
    assert found.pixels == 30
    assert found.mean == pytest.approx(region.mean())
    assert (found.minimum, found.maximum) == (region.min(), region.max())
    assert found.deviation == pytest.approx(region.std())
    one = statistics_of(frame, [(29.9, 19.9)], float)
    assert (one.pixels, one.mean) == (1, float(values[19, 29]))


def test_bits_that_are_not_stored_do_not_count() -> None:
    """Overlays in high bits, as older scanners have them."""
    image = describe(1, 2, bits=12).exchange(bits_stored=12, high_bit=11)
    frame = DecodedFrame(np.array([0xF123, 0x0456], "<u2").tobytes(), image)
    assert statistics_of(frame, [(0, 0), (2, 0), (2, 1), (0, 1)], float).maximum == 0x456


def test_a_mean_that_contradicts_the_pixels_is_refused() -> None:
    frame = DecodedFrame(bytes([40] * 100), describe(10, 10))
    found = statistics_of(frame, [(0, 0), (9, 0), (9, 9)], float)
    region = made(MeasurementType.HOUNSFIELD, [(0, 0), (9, 9)], 40.5, shape="rectangle")
    assert with_statistics(region, found).value == 40
    with pytest.raises(OtherValueError):
        with_statistics(replace(region, value=50.0), found)
    with pytest.raises(GeometryError, match="no pixel"):
        statistics_of(frame, [(0, 0), (0.1, 0), (0.1, 0.1)], float)


def test_hounsfield_units_are_what_an_image_says_they_are() -> None:
    convert = hounsfield(view(Modality="CT", RescaleSlope="2", RescaleIntercept="-1000"), 1)
    assert convert is not None
    assert convert(500) == 0
    assert hounsfield(view(Modality="CT", RescaleType="US"), 1) is None
    assert hounsfield(view(Modality="MR"), 1) is None
    assert hounsfield(view(Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), 1) is (
        None
    )


def pet(**changes: Any) -> AttributeView:
    values: dict[str, Any] = {
        "Modality": "PT", "Units": "BQML", "DecayCorrection": "START", "PatientWeight": "70",
        "RescaleSlope": "2", "RescaleIntercept": "0", "SeriesDate": "20260101",
        "SeriesTime": "110000", "AcquisitionDate": "20260101", "AcquisitionTime": "110500",
        "RadiopharmaceuticalInformationSequence": [
            attributes(
                RadionuclideTotalDose="370000000", RadionuclideHalfLife="6588",
                RadiopharmaceuticalStartTime="100000.00",
            )
        ],
    }  # fmt: skip
    return view(**values | changes)


def test_standardized_uptake_needs_weight_dose_and_times() -> None:
    convert = standardized_uptake(pet(), 1)
    assert convert is not None
    left = 370e6 * 0.5 ** (3600 / 6588)
    assert convert(1000.0) == pytest.approx(2000 * 70_000 / left)
    convert = standardized_uptake(pet(DecayCorrection="ADMIN"), 1)
    assert convert is not None
    assert convert(1000.0) == pytest.approx(2000 * 70_000 / 370e6)
    convert = standardized_uptake(pet(Units="GML"), 1)
    assert convert is not None
    assert convert(3.0) == 6
    for changes in (
        {"PatientWeight": None}, {"Units": "CNTS"}, {"DecayCorrection": "NONE"},
        {"SeriesTime": "120000"}, {"Modality": "CT"},
        {"RadiopharmaceuticalInformationSequence": []},
    ):  # fmt: skip
        assert standardized_uptake(pet(**changes), 1) is None, changes


def test_pixels_in_colour_have_no_mean() -> None:
    frame = DecodedFrame(bytes(300), describe(10, 10, samples=3))
    with pytest.raises(GeometryError, match="no one value"):
        statistics_of(frame, [(0, 0), (9, 0), (9, 9)], float)


def test_the_view_reads_what_pydicom_writes() -> None:
    dataset = pydicom.Dataset()
    dataset.PatientName = "Doe^Wanda=W"
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.NumberOfFrames = 3
    image = AttributeView(dataset.to_json_dict())
    assert image.text("PatientName") == "Doe^Wanda=W"
    assert image.numbers("PixelSpacing") == [0.5, 0.25]
    assert (image.frames, image.count("Rows"), image.number("Rows")) == (3, 0, None)
