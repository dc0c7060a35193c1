"""Contents of AI results: segments of segmentations, findings and measurements of reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.cielab import srgb

#: Of one object, of each kind; more are left out, and that is said.
MOST: Final = 1_000
_MOST_ITEMS: Final = 100_000
_MEASUREMENT_GROUP: Final = "125007"
_TRACKING, _TRACKING_UID = "112039", "112040"
_FINDINGS: Final = frozenset({"121071", "276214006"})
_SITES: Final = frozenset({"363698007", "G-C0E3", "T-D0060"})
#: Findings of CAD: Single Image Finding, Composite Feature, Composite type … (PS3.16 TID 4003 …).
_CAD_FINDINGS: Final = frozenset({"111059", "111015", "111021"})
#: Certainty of Finding, Probability of cancer, certainty of feature.
_CERTAINTIES: Final = frozenset({"111012", "111011", "111047"})
#: Of a US.
_TOP: Final = 65_535
_DERIVATION: Final = "121401"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment of a segmentation; *colour*: as ``#rrggbb``, empty: none is recommended."""

    number: int
    label: str
    description: str
    category: str
    type: str
    algorithm_type: str
    algorithm: str
    tracking_uid: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measurement of a finding; *derivation*: mean, maximum … or nothing."""

    name: str
    value: float | None
    unit: str
    derivation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a report says of images.

    Attributes:
        type: what it is.
        site: where in the body.
        certainty: as the report has it, with its unit; None: it does not say.
        graphic: of the region in the image, with its points; empty: there is none.
        instances: SOP Instance UIDs of the images, and of segmentations, that it refers to.
        segments: numbers in that segmentation.
    """

    type: str
    site: str = ""
    tracking: str = ""
    tracking_uid: str = ""
    certainty: Measured | None = None
    measurements: tuple[Measured, ...] = ()
    graphic: str = ""
    points: tuple[float, ...] = ()
    instances: tuple[str, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContents:
    """What an object says; *is_cut*: it says more than that."""

    title: str = ""
    segments: tuple[Segment, ...] = ()
    findings: tuple[Finding, ...] = ()
    references: tuple[str, ...] = field(default=())
    is_cut: bool = False


def contents_of(view: AttributeView) -> ResultContents:
    """What an object says of images, as far as it can be understood."""
    segments = [_segment(one) for one in view.items("SegmentSequence")[:MOST]]
    findings = list(_findings(view))
    references = list(_references(view))
    return ResultContents(
        title=_meaning(view, "ConceptNameCodeSequence") or view.text("ContentDescription"),
        segments=tuple(segments),
        findings=tuple(findings[:MOST]),
        references=tuple(references[:MOST]),
        is_cut=max(len(view.items("SegmentSequence")), len(findings), len(references)) > MOST,
    )


def _segment(one: AttributeView) -> Segment:
    return Segment(
        number=one.count("SegmentNumber"),
        label=one.text("SegmentLabel"),
        description=one.text("SegmentDescription"),
        category=_meaning(one, "SegmentedPropertyCategoryCodeSequence"),
        type=_meaning(one, "SegmentedPropertyTypeCodeSequence"),
        algorithm_type=one.text("SegmentAlgorithmType"),
        algorithm=one.text("SegmentAlgorithmName")
        or one.item("SegmentationAlgorithmIdentificationSequence").text("AlgorithmName"),
        tracking_uid=one.text("TrackingUID"),
        colour=_colour(one.numbers("RecommendedDisplayCIELabValue")),
    )


def _colour(values: list[float]) -> str:
    if len(values) != 3 or not all(0 <= value <= _TOP for value in values):
        return ""
    return srgb(values[0], values[1], values[2])


def _findings(view: AttributeView) -> Iterator[Finding]:
    """Measurement groups (TID 1410, 1411, 1501), and what CAD found."""
    for item in _walk(view):
        name = _code(item, "ConceptNameCodeSequence")
        kind = item.text("ValueType")
        if name == _MEASUREMENT_GROUP and kind == "CONTAINER":
            yield _finding(item, "")
        elif name in _CAD_FINDINGS and kind == "CODE":
            yield _finding(item, _meaning(item, "ConceptCodeSequence"))


def _finding(group: AttributeView, said: str) -> Finding:
    found: dict[str, str] = {}
    measured: list[Measured] = []
    certainty: Measured | None = None
    instances: dict[str, None] = {}
    segments: list[int] = []
    graphic = ""
    points: tuple[float, ...] = ()
    for item in _walk(group):
        name = _code(item, "ConceptNameCodeSequence")
        match item.text("ValueType"):
            case "TEXT" if name == _TRACKING:
                found.setdefault("tracking", item.text("TextValue"))
            case "UIDREF" if name == _TRACKING_UID:
                found.setdefault("tracking_uid", item.text("UID"))
            case "CODE" if name in _FINDINGS:
                found.setdefault("type", _meaning(item, "ConceptCodeSequence"))
            case "CODE" if name in _SITES:
                found.setdefault("site", _meaning(item, "ConceptCodeSequence"))
            case "NUM" if name in _CERTAINTIES:
                certainty = certainty or _measured(item)
            case "NUM":
                measured.append(_measured(item))
            case "SCOORD" | "SCOORD3D" if not graphic:
                graphic = item.text("GraphicType")
                points = tuple(item.numbers("GraphicData")[:MOST])
            case "IMAGE" | "COMPOSITE":
                named = item.item("ReferencedSOPSequence")
                if named.text("ReferencedSOPInstanceUID"):
                    instances[named.text("ReferencedSOPInstanceUID")] = None
                numbers = named.numbers("ReferencedSegmentNumber")
                segments += [int(one) for one in numbers if 0 < one <= _TOP]
    return Finding(
        type=said or found.get("type", "") or found.get("tracking", ""),
        site=found.get("site", ""),
        tracking=found.get("tracking", ""),
        tracking_uid=found.get("tracking_uid", ""),
        certainty=certainty,
        measurements=tuple(measured[:MOST]),
        graphic=graphic.lower(),
        points=points,
        instances=tuple(instances)[:MOST],
        segments=tuple(dict.fromkeys(segments))[:MOST],
    )


def _measured(item: AttributeView) -> Measured:
    value = item.item("MeasuredValueSequence")
    derivation = next(
        (
            _meaning(one, "ConceptCodeSequence")
            for one in item.items("ContentSequence")
            if _code(one, "ConceptNameCodeSequence") == _DERIVATION
        ),
        "",
    )
    return Measured(
        name=_meaning(item, "ConceptNameCodeSequence"),
        value=value.number("NumericValue"),
        unit=value.item("MeasurementUnitsCodeSequence").text("CodeValue"),
        derivation=derivation,
    )


def _walk(view: AttributeView) -> Iterator[AttributeView]:
    """The content items below one, outer ones first."""
    todo = list(reversed(view.items("ContentSequence")))
    count = 0
    while todo and count < _MOST_ITEMS:
        count += 1
        item = todo.pop()
        yield item
        todo += reversed(item.items("ContentSequence"))


def _references(view: AttributeView) -> Iterator[str]:
    """The SOP Instance UIDs that it names as what it is about."""
    seen: set[str] = set()
    todo: list[object] = [view.model]
    count = 0
    while todo and count < _MOST_ITEMS:
        count += 1
        one = todo.pop()
        if not isinstance(one, dict):
            continue
        uid = AttributeView(one).text("ReferencedSOPInstanceUID")
        if uid and uid not in seen:
            seen.add(uid)
            yield uid
        for element in one.values():
            if isinstance(element, dict) and element.get("vr") == "SQ":
                todo += element.get("Value") or ()


def _code(view: AttributeView, keyword: str) -> str:
    return view.item(keyword).text("CodeValue")


def _meaning(view: AttributeView, keyword: str) -> str:
    item = view.item(keyword)
    return item.text("CodeMeaning") or item.text("CodeValue")
