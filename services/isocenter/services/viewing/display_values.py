"""Values by which an image is shown: windows, rescaling, frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing.attribute_view import AttributeView

_MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPreset:
    """A usual window."""

    name: str
    center: float
    width: float


def _presets(*rows: tuple[str, float, float]) -> tuple[WindowPreset, ...]:
    return tuple(WindowPreset(name=name, center=c, width=w) for name, c, w in rows)


_RADIOGRAPHS: Final = _presets(
    ("Default", 2048, 4096), ("Bone", 1500, 3000), ("Soft Tissue", 1800, 3600)
)
_OTHERS: Final = _presets(("Default", 128, 256))
_BY_MODALITY: Final[Mapping[str, tuple[WindowPreset, ...]]] = {
    "CT": _presets(
        ("Lung", -600, 1500), ("Bone", 300, 1500), ("Soft Tissue", 40, 400), ("Brain", 40, 80),
        ("Liver", 60, 150), ("Mediastinum", 50, 350),
    ),
    "MR": _presets(("T1 Brain", 600, 1200), ("T2 Brain", 700, 1400), ("Spine", 500, 1000)),
    "CR": _RADIOGRAPHS,
    "DX": _RADIOGRAPHS,
}  # fmt: skip


def window_presets(modality: str) -> Sequence[WindowPreset]:
    """Usual windows of a modality."""
    return _BY_MODALITY.get(modality.strip().upper(), _OTHERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiValues:
    """How stored values become gray (PS3.3 C.11.1, C.11.2).

    Attributes:
        centers, widths, explanations: one for each window.
        rescale_type: what rescaled values are; empty: the image does not say.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
        has_tables: there are lookup tables as well, of modality or of interest.
    """

    centers: Sequence[float]
    widths: Sequence[float]
    explanations: Sequence[str]
    rescale_slope: float
    rescale_intercept: float
    rescale_type: str
    function: str
    has_tables: bool


def voi_values(image: AttributeView, frame: int) -> VoiValues:
    """Those of a frame, from 1 on."""
    windows = image.group("FrameVOILUTSequence", frame)
    rescaling = image.group("PixelValueTransformationSequence", frame)
    centers, widths = windows.numbers("WindowCenter"), windows.numbers("WindowWidth")
    count = min(len(centers), len(widths))
    explanations = windows.texts("WindowCenterWidthExplanation")[:count]
    return VoiValues(
        centers=centers[:count],
        widths=widths[:count],
        explanations=[*explanations, *[""] * (count - len(explanations))],
        # A slope of 0 would make all pixels the same: what some write who have none.
        rescale_slope=rescaling.number("RescaleSlope") or 1.0,
        rescale_intercept=rescaling.number("RescaleIntercept") or 0.0,
        rescale_type=rescaling.text("RescaleType"),
        function=windows.text("VOILUTFunction") or "LINEAR",
        has_tables=bool(image.items("ModalityLUTSequence") or windows.items("VOILUTSequence")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTiming:
    """How many frames there are, and how fast they follow each other.

    Attributes:
        frame_time: milliseconds; None: the image does not say.
        frame_rate: in a second; None: likewise.
    """

    total_frames: int
    frame_time: float | None
    frame_rate: float | None
    rows: int
    columns: int


def frame_timing(image: AttributeView) -> FrameTiming:
    """That of an image."""
    times = [one for one in image.numbers("FrameTime") if one > 0]
    steps = [one for one in image.numbers("FrameTimeVector") if one > 0]
    if not times and steps:
        times = [sum(steps) / len(steps)]
    rates = [
        rate
        for keyword in ("RecommendedDisplayFrameRate", "CineRate")
        if (rate := image.number(keyword)) is not None and rate > 0
    ]
    time = times[0] if times else _MILLISECONDS / rates[0] if rates else None
    rate = rates[0] if rates else _MILLISECONDS / time if time else None
    return FrameTiming(
        total_frames=image.frames,
        frame_time=time,
        frame_rate=rate,
        rows=image.count("Rows"),
        columns=image.count("Columns"),
    )
