"""Vocabularies, compared with the values that the tables of PS3.3 have for each attribute."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from isocenter.services.dicom.iod.table import Row, iod_table
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES
from isocenter.services.dicom.vocabularies import derived, images, radiotherapy
from isocenter.services.dicom.vocabularies.terms import Term

_ROOT = "1.2.840.10008.5.1.4.1.1."
DX, CR, MG, US, XA, NM, PT, SEG, SR = "1.1", "1", "1.2", "6.1", "12.1", "20", "128", "66.4", "88.33"
RT_IMAGE, RT_DOSE, RT_STRUCT, RT_PLAN = "481.1", "481.2", "481.3", "481.5"
ATTRIBUTES: list[tuple[type[Term], str, int, int]] = [
    (images.UltrasoundPhotometry, US, 0x00280004, 0),
    (images.PositionerMotion, XA, 0x00181500, 0),
    (images.PresentationIntent, DX, 0x00080068, 0),
    (images.DetectorType, DX, 0x00187004, 0),
    (images.ViewPosition, CR, 0x00185101, 0),
    (images.BreastSide, MG, 0x00200062, 0),
    (images.NuclearImageType, NM, 0x00080008, 3),
    (images.CollimatorType, NM, 0x00181181, 0),
    (images.RotationDirection, NM, 0x00181140, 0),
    (images.WholeBodyTechnique, NM, 0x00181301, 0),
    (images.PetUnits, PT, 0x00541001, 0),
    (images.SuvType, PT, 0x00541006, 0),
    (radiotherapy.PlanIntent, RT_PLAN, 0x300A000A, 0),
    (radiotherapy.PlanGeometry, RT_PLAN, 0x300A000C, 0),
    (radiotherapy.DoseUnits, RT_DOSE, 0x30040002, 0),
    (radiotherapy.DoseType, RT_DOSE, 0x30040004, 0),
    (radiotherapy.DoseSummation, RT_DOSE, 0x3004000A, 0),
    (radiotherapy.RoiType, RT_STRUCT, 0x300600A4, 0),
    (radiotherapy.RoiGeneration, RT_STRUCT, 0x30060036, 0),
    (radiotherapy.BeamType, RT_PLAN, 0x300A00C4, 0),
    (radiotherapy.RadiationType, RT_PLAN, 0x300A00C6, 0),
    (radiotherapy.TreatmentDelivery, RT_PLAN, 0x300A00CE, 0),
    (radiotherapy.ImagePlane, RT_IMAGE, 0x3002000C, 0),
    (derived.SegmentationType, SEG, 0x00620001, 0),
    (derived.SegmentAlgorithm, SEG, 0x00620008, 0),
    (derived.ValueType, SR, 0x0040A040, 0),
    (derived.Completion, SR, 0x0040A491, 0),
    (derived.Verification, SR, 0x0040A493, 0),
]
#: Younger than the edition of the table, or of compressed pixels and other objects.
YOUNGER = {"PLAN_OVERVIEW", "TABLE"}
OF_OTHERS = {
    images.UltrasoundPhotometry: {
        "ARGB", "CMYK", "HSV", "YBR_ICT", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_RCT",
    },
    images.BreastSide: {"U"},
}  # fmt: skip


def values_of(rows: Iterable[Row], tag: int, number: int) -> set[str]:
    found: set[str] = set()
    for row in rows:
        if row.tag == tag:
            for each in row.values:
                if not number or each.number in (0, number):
                    found |= each.values
        found |= values_of(row.rows, tag, number)
    return found


@pytest.mark.parametrize(
    ("vocabulary", "sop_class", "tag", "number"),
    ATTRIBUTES,
    ids=[vocabulary.__name__ for vocabulary, *_ in ATTRIBUTES],
)
def test_terms_are_those_of_the_standard(
    vocabulary: type[Term], sop_class: str, tag: int, number: int
) -> None:
    iod = iod_table().iod_of(_ROOT + sop_class)
    assert iod is not None
    rows = [row for module in iod.modules for row in module.rows]
    expected = values_of(rows, tag, number)
    assert expected
    assert set(vocabulary) - YOUNGER == expected - OF_OTHERS.get(vocabulary, set()) - YOUNGER


def test_terms_are_read_as_they_are_written() -> None:
    parse = images.NuclearImageType.parse
    assert parse("WHOLE BODY ") is parse(" whole  body\0") is images.NuclearImageType.WHOLE_BODY
    assert images.NuclearImageType.WHOLE_BODY == "WHOLE BODY"
    assert images.SuvType.known("SOMETHING") is None
    with pytest.raises(ValueError, match="none of BSA, BW"):
        images.SuvType.parse("SOMETHING")


@pytest.mark.parametrize(
    ("degrees", "primary", "secondary"),
    [(30, "LAO 30", "CRA 30"), (-15.5, "RAO 15.5", "CAU 15.5"), (0, "0", "0")],
)
def test_angles(degrees: float, primary: str, secondary: str) -> None:
    assert images.primary_angle_text(degrees) == primary
    assert images.secondary_angle_text(degrees) == secondary


def test_what_is_no_angle() -> None:
    with pytest.raises(ValueError, match="primary"):
        images.primary_angle_text(181)
    with pytest.raises(ValueError, match="secondary"):
        images.secondary_angle_text(-91)


def test_magnification() -> None:
    assert images.magnification_of(1000, 800) == 1.25
    assert images.spacing_at_isocenter((0.25, 0.5), 1000, 800) == (0.2, 0.4)
    for distances in ((1000, 0), (800, 1000), (0, 0)):
        with pytest.raises(ValueError, match="between"):
            images.magnification_of(*distances)


def test_a_screening_examination() -> None:
    side, view = images.BreastSide, images.MammographyView
    views = {(side.RIGHT, view.CRANIO_CAUDAL), (side.LEFT, view.CRANIO_CAUDAL)}
    assert images.missing_of_screening(views) == {
        (side.RIGHT, view.MEDIO_LATERAL_OBLIQUE),
        (side.LEFT, view.MEDIO_LATERAL_OBLIQUE),
    }
    assert images.missing_of_screening(images.SCREENING_SET) == frozenset()
    assert images.is_valid_view(side.BOTH, view.CLEAVAGE)
    assert not images.is_valid_view(side.BOTH, view.CRANIO_CAUDAL)


# Values that others publish for D65: white, and the primaries of sRGB.
@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
    ],
)
def test_colours(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    encoded = derived.cielab_of_rgb(rgb)
    lightness, a, b = encoded
    assert lightness / 65535 * 100 == pytest.approx(lab[0], abs=0.05)
    assert a / 65535 * 255 - 128 == pytest.approx(lab[1], abs=0.1)
    assert b / 65535 * 255 - 128 == pytest.approx(lab[2], abs=0.1)
    assert derived.rgb_of_cielab(encoded) == rgb


def test_neighbouring_segments_differ() -> None:
    colours = [derived.recommended_colour(label) for label in range(1, 14)]
    assert all(one != other for one, other in pairwise(colours))
    with pytest.raises(ValueError, match="begin with 1"):
        derived.recommended_colour(0)


def test_waveforms_are_those_that_there_are() -> None:
    root = _ROOT + "9."
    there = {uid for uid in STORAGE_SOP_CLASSES if uid.startswith(root)}
    # Waveform Storage - Trial is retired, 9.100 are presentation states.
    others = {uid for uid in there if uid == f"{root}1" or uid.startswith(f"{root}100")}
    assert set(derived.WAVEFORM_KINDS) == there - others
