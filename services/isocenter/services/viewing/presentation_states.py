"""Presentation states: annotations as objects that lie over images (PS3.3 A.33.1, A.33.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.viewing import geometry
from isocenter.services.viewing.annotations import Annotation, AnnotationType, Style
from isocenter.services.viewing.cielab import cielab
from isocenter.services.viewing.display_values import voi_values
from isocenter.services.viewing.document_parts import (
    Authorship,
    Item,
    MarkedImage,
    attributes,
    date_text,
    decimal,
    document,
    image_reference,
    is_person,
    person,
    time_text,
)
from isocenter.services.viewing.geometry import Point

GRAYSCALE: Final = "1.2.840.10008.5.1.4.1.1.11.1"
COLOUR: Final = "1.2.840.10008.5.1.4.1.1.11.2"
_SERIES_NUMBER: Final = 9900
_MONOCHROME: Final = ("MONOCHROME1", "MONOCHROME2")
#: Of an arrow: how long its head is, of its shaft, and half its angle.
_HEAD: Final = 0.15
_LONGEST_HEAD: Final = 20.0
_HALF_ANGLE: Final = math.radians(25)
_CLOSED: Final = (
    AnnotationType.RECTANGLE, AnnotationType.ELLIPSE, AnnotationType.POLYGON, AnnotationType.ROI,
)  # fmt: skip
#: Columns, rows, spacing of rows and columns, aspect ratio.
_Size = tuple[int, int, tuple[float, ...], tuple[int, ...]]
_NO_SHADOW: Final = {
    "ShadowStyle": "OFF", "ShadowOffsetX": 0.0, "ShadowOffsetY": 0.0,
    "ShadowColorCIELabValue": (0, 32896, 32896), "ShadowOpacity": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAnnotation:
    """An annotation of a frame, from 1 on."""

    image: MarkedImage
    frame: int
    annotation: Annotation


def is_grayscale(image: MarkedImage) -> bool:
    """Whether an image has a state in gray, and not one in colour."""
    return image.view.text("PhotometricInterpretation").upper() in _MONOCHROME


def together(placed: Sequence[PlacedAnnotation]) -> list[list[PlacedAnnotation]]:
    """Annotations that can stand in one state: of one series, and of images whose stored values
    mean the same, since a state says that once for all of them (PS3.4 N.2.1)."""
    groups: dict[object, list[PlacedAnnotation]] = {}
    for one in placed:
        view, kind = one.image.view, one.image.view.text("PhotometricInterpretation")
        key: tuple[object, ...] = (one.image.stored.series_instance_uid, kind)
        if is_grayscale(one.image):
            voi = voi_values(view, one.frame)
            tables = repr(view.model.get("00283000"))
            key = (*key, voi.rescale_slope, voi.rescale_intercept, voi.rescale_type, tables)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def presentation_state(
    placed: Sequence[PlacedAnnotation],
    authorship: Authorship,
    *,
    label: str,
    description: str,
    icc_profile: bytes,
) -> ModelFile:
    """The state of annotations that stand `together`.

    Args:
        label: of the state, a CS.
        description: of it, for people.
        icc_profile: what the colours of images without one mean; of no use for gray ones.
    """
    frames: dict[MarkedImage, list[int]] = {}
    for one in placed:
        frames.setdefault(one.image, []).append(one.frame)
    first = placed[0].image
    layers = {
        colour: f"LAYER{number}"
        for number, colour in enumerate(
            dict.fromkeys(one.annotation.style.color.lower() for one in placed), 1
        )
    }
    content = attributes(
        Laterality=None,  # of the images, and it may be none (type 2C)
        PresentationCreationDate=date_text(authorship.now),
        PresentationCreationTime=time_text(authorship.now),
        ContentLabel=label,
        ContentDescription=description,
        ContentCreatorName=person(authorship.author) if is_person(authorship.author) else None,
        ReferencedSeriesSequence=[
            attributes(
                SeriesInstanceUID=first.stored.series_instance_uid,
                ReferencedImageSequence=[
                    image_reference(image, several) for image, several in frames.items()
                ],
            )
        ],
        DisplayedAreaSelectionSequence=_displayed_areas(frames),
        GraphicAnnotationSequence=[
            _graphics(one, layers[one.annotation.style.color.lower()]) for one in placed
        ],
        GraphicLayerSequence=[
            attributes(
                GraphicLayer=name,
                GraphicLayerOrder=number,
                GraphicLayerRecommendedDisplayCIELabValue=cielab(colour),
            )
            for number, (colour, name) in enumerate(layers.items(), 1)
        ],
    )
    if is_grayscale(first):
        content |= _gray_levels(placed)
    else:
        said = first.view.model.get("00282000", {})
        content |= (
            {"00282000": said} if "InlineBinary" in said else attributes(ICCProfile=icc_profile)
        )
    return document(
        first,
        authorship,
        sop_class_uid=GRAYSCALE if is_grayscale(first) else COLOUR,
        modality="PR",
        series_number=_SERIES_NUMBER,
        series_description="Annotations",
        content=content,
    )


def _displayed_areas(frames: Mapping[MarkedImage, Sequence[int]]) -> list[Item]:
    """All of each image is seen; one item for images of one size."""
    by_size: dict[_Size, list[MarkedImage]] = {}
    for image in frames:
        view = image.view
        spacing = view.group("PixelMeasuresSequence", 1).numbers("PixelSpacing")
        spacing = spacing or view.numbers("ImagerPixelSpacing")
        ratio = [int(one) for one in view.numbers("PixelAspectRatio")]
        key = (
            view.count("Columns"),
            view.count("Rows"),
            tuple(spacing) if len(spacing) == 2 and min(spacing) > 0 else (),
            tuple(ratio) if len(ratio) == 2 and min(ratio) > 0 else (1, 1),
        )
        by_size.setdefault(key, []).append(image)
    areas = []
    for (columns, rows, size, shape), images in by_size.items():
        area = attributes(
            ReferencedImageSequence=[image_reference(one, frames[one]) for one in images],
            DisplayedAreaTopLeftHandCorner=(1, 1),
            DisplayedAreaBottomRightHandCorner=(columns, rows),
            PresentationSizeMode="SCALE TO FIT",
        )
        if size:
            area |= attributes(PresentationPixelSpacing=[decimal(one) for one in size])
        else:
            area |= attributes(PresentationPixelAspectRatio=shape)
        areas.append(area)
    return areas


def _gray_levels(placed: Sequence[PlacedAnnotation]) -> Item:
    """Stored values become gray as the images say: a state takes the place of all of that."""
    first = placed[0]
    view, voi = first.image.view, voi_values(first.image.view, first.frame)
    found: Item = {}
    tables = view.model.get("00283000")
    if tables is not None and view.items("ModalityLUTSequence"):
        found["00283000"] = tables
    elif (voi.rescale_slope, voi.rescale_intercept) != (1.0, 0.0) or voi.rescale_type:
        found |= attributes(
            RescaleSlope=decimal(voi.rescale_slope),
            RescaleIntercept=decimal(voi.rescale_intercept),
            RescaleType=voi.rescale_type or _usual_type(view.text("Modality")),
        )
    windows = _windows(placed)
    if windows:
        found |= attributes(SoftcopyVOILUTSequence=windows)
    is_inverse = view.text("PhotometricInterpretation").upper() == "MONOCHROME1"
    return found | attributes(PresentationLUTShape="INVERSE" if is_inverse else "IDENTITY")


def _usual_type(modality: str) -> str:
    return "HU" if modality.upper() == "CT" else "US"


def _windows(placed: Sequence[PlacedAnnotation]) -> list[Item]:
    by_window: dict[str, tuple[Item, dict[MarkedImage, list[int]]]] = {}
    for one in placed:
        view = one.image.view
        said = view.group("FrameVOILUTSequence", one.frame)
        voi = voi_values(view, one.frame)
        window: Item = {}
        if voi.centers:
            window = attributes(
                WindowCenter=[decimal(center) for center in voi.centers],
                WindowWidth=[decimal(width) for width in voi.widths],
            )
            if any(voi.explanations):
                window |= attributes(WindowCenterWidthExplanation=list(voi.explanations))
            if voi.function != "LINEAR":
                window |= attributes(VOILUTFunction=voi.function)
        elif said.items("VOILUTSequence"):
            window = {"00283010": said.model["00283010"]}
        if window:
            _, frames = by_window.setdefault(repr(window), (window, {}))
            frames.setdefault(one.image, []).append(one.frame)
    return [
        window
        | attributes(
            ReferencedImageSequence=[
                image_reference(image, several) for image, several in frames.items()
            ]
        )
        for window, frames in by_window.values()
    ]


def _graphics(one: PlacedAnnotation, layer: str) -> Item:
    annotation = one.annotation
    made = attributes(
        ReferencedImageSequence=[image_reference(one.image, [one.frame])], GraphicLayer=layer
    )
    shapes = [_shape(annotation, kind, points) for kind, points in _lines(annotation)]
    if shapes:
        made |= attributes(GraphicObjectSequence=shapes)
    if annotation.text.strip():
        made |= attributes(TextObjectSequence=[_text(annotation)])
    return made


def _lines(annotation: Annotation) -> list[tuple[str, Sequence[Point]]]:
    """Graphic types, and their points."""
    points = annotation.points
    match annotation.type:
        case AnnotationType.TEXT:
            return []
        case AnnotationType.ELLIPSE:
            return [("ELLIPSE", geometry.ends_of_axes(points))]
        case AnnotationType.RECTANGLE:
            return [("POLYLINE", geometry.closed(geometry.corners_of(points)))]
        case AnnotationType.POLYGON | AnnotationType.ROI:
            return [("POLYLINE", geometry.closed(points))]
        case AnnotationType.ARROW:
            return [("POLYLINE", points), ("POLYLINE", _arrow_head(*points))]
        case _:
            return [("POLYLINE", points)]


def _arrow_head(tail: Point, head: Point) -> Sequence[Point]:
    along = math.atan2(tail[1] - head[1], tail[0] - head[0])
    size = min(math.dist(tail, head) * _HEAD + 2, _LONGEST_HEAD)
    wings = [
        (head[0] + size * math.cos(along + turn), head[1] + size * math.sin(along + turn))
        for turn in (-_HALF_ANGLE, _HALF_ANGLE)
    ]
    return (wings[0], head, wings[1])


def _shape(annotation: Annotation, kind: str, points: Sequence[Point]) -> Item:
    style = annotation.style
    is_filled = annotation.type in _CLOSED and bool(style.fill_color) and style.fill_opacity > 0
    made = attributes(
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(points),
        GraphicData=[value for point in points for value in point],
        GraphicType=kind,
        LineStyleSequence=[
            attributes(
                PatternOnColorCIELabValue=cielab(style.color),
                PatternOnOpacity=1.0,
                LineThickness=style.line_width,
                LineDashingStyle="SOLID",
                **_NO_SHADOW,
            )
        ],
    )
    if annotation.type in _CLOSED:
        made |= attributes(GraphicFilled="Y" if is_filled else "N")
    if is_filled:
        made |= attributes(
            FillStyleSequence=[
                attributes(
                    PatternOnColorCIELabValue=cielab(style.fill_color),
                    PatternOnOpacity=style.fill_opacity,
                    PatternOffOpacity=0.0,
                    FillMode="SOLID",
                )
            ]
        )
    return made


def _text(annotation: Annotation) -> Item:
    made = attributes(
        AnchorPointAnnotationUnits="PIXEL",
        UnformattedTextValue=annotation.text,
        AnchorPoint=list(annotation.points[0]),
        AnchorPointVisibility="N",
    )
    style = annotation.style
    if style.font_family:
        made |= attributes(TextStyleSequence=[_text_style(style)])
    return made


def _text_style(style: Style) -> Item:
    values: dict[str, Any] = {
        "CSSFontName": style.font_family,
        "TextColorCIELabValue": cielab(style.color),
        "Underlined": "N",
        "Bold": "N",
        "Italic": "N",
        **_NO_SHADOW,
    }
    return attributes(**values)
