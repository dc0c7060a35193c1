"""Values of images in the API: attributes, windows, frames, order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route
from isocenter.services.viewing.display_values import frame_timing, voi_values, window_presets
from isocenter.services.viewing.metadata_presets import (
    MOST_TAGS,
    PRESETS,
    plain_tags,
    preset_tags,
    tag_of,
)
from isocenter.services.viewing.series_order import SeriesOrders
from isocenter.services.viewing.slice_order import Placed, SortKey, in_order
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.browse import series_named
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.stored_instances import (
    FRAME,
    OF_INSTANCE,
    attributes_of,
    frame_of,
    instance_named,
)

_SERVICE: Final = "Viewer support"
_NO_YES: Final = ("false", "true")
_SORTING: Final = (
    Parameter(
        name="sort_by",
        text="By the place along the normal of their planes, by number, or by time.",
        values=tuple(one.value for one in SortKey),
    ),
    Parameter(name="direction", text="Ascending or descending.", values=("asc", "desc")),
)
_OF_STUDY: Final = Parameter(
    name="study_uid", text="The study, where studies share a Series Instance UID."
)
_BROKEN: Final = Answer(400, "A parameter makes no sense.")


class Metadata(Body):
    """Attributes by keyword (by tag where they have none): a value, an array of several, null."""

    tags: dict[str, Any]


class SortedInstance(Body):
    """An instance in its order; `position` in millimetres along the normal of the planes."""

    sop_instance_uid: str
    instance_number: int | None
    slice_location: float | None
    position: float | None


class SortedInstances(Body):
    """The instances of a series in order."""

    instances: list[SortedInstance]
    total: int


class Navigation(Body):
    """Where in its series an instance stands: `index` from 0 on."""

    previous: str | None
    next: str | None
    index: int
    total: int
    first: str
    last: str


class WindowPreset(Body):
    """A usual window."""

    name: str
    center: float
    width: float


class WindowPresets(Body):
    """Usual windows of a modality."""

    modality: str
    presets: list[WindowPreset]


class VoiLut(Body):
    """How stored values of a frame become gray (PS3.3 C.11.1, C.11.2)."""

    window_center: list[float]
    window_width: list[float]
    window_explanations: list[str]
    voi_lut_function: str
    rescale_slope: float
    rescale_intercept: float
    rescale_type: str
    has_lookup_tables: bool


class FrameInfo(Body):
    """How many frames, how fast (`frame_time` in milliseconds, `frame_rate` in a second), how
    large."""

    total_frames: int
    frame_time: float | None
    frame_rate: float | None
    rows: int
    columns: int


class ImageValuesApi:
    """Answers about images.

    Args:
        book: what was made of objects beforehand; None: each is read.
    """

    def __init__(self, archive: Archive, book: MetadataBook | None) -> None:
        self._archive = archive
        self._orders = SeriesOrders(archive, book)

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are asked."""
        instance = "/instances/{instance}"
        yield endpoint(
            "GET", f"{instance}/metadata", self.metadata, "Attributes of an instance.",
            name="GetInstanceMetadata", service=_SERVICE, needs="read", gives=Metadata,
            parameters=(
                Parameter(
                    name="tags",
                    text=f"Keywords or tags, with commas; at most {MOST_TAGS}. Without these and "
                    "without a preset: all.",
                ),
                Parameter(
                    name="preset", text="Attributes that are asked for together, with commas: "
                    f"{', '.join(PRESETS)}.",
                    pattern="[a-z_]+(,[a-z_]+)*",
                ),
                Parameter(
                    name="include_private", text="Private attributes, too.", values=_NO_YES
                ),
            ),
            answers=(*OF_INSTANCE, _BROKEN),
        )  # fmt: skip
        yield endpoint(
            "GET", f"{instance}/voi-lut", self.voi_lut, "Windows and rescaling of a frame.",
            name="GetVoiLut", service=_SERVICE, needs="read", gives=VoiLut, parameters=(FRAME,),
            answers=(*OF_INSTANCE, _BROKEN),
        )  # fmt: skip
        yield endpoint(
            "GET", f"{instance}/frame-info", self.frame_info, "Frames of an instance.",
            name="GetFrameInfo", service=_SERVICE, needs="read", gives=FrameInfo,
            answers=OF_INSTANCE,
        )  # fmt: skip
        yield endpoint(
            "GET", f"{instance}/navigation", self.navigation,
            "The instances before and behind an instance in its series.", name="GetNavigation",
            service=_SERVICE, needs="search", gives=Navigation, parameters=_SORTING,
            answers=(OF_INSTANCE[0], _BROKEN),
        )  # fmt: skip
        yield endpoint(
            "GET", "/series/{series}/instances/sorted", self.sorted,
            "The instances of a series in order.", name="GetSortedInstances", service=_SERVICE,
            needs="search", gives=SortedInstances, parameters=(*_SORTING, _OF_STUDY),
            answers=(
                OF_INSTANCE[0], _BROKEN, Answer(409, "Several studies have this series; say which.")
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", "/presets/window-level", self.presets, "Usual windows of a modality.",
            name="GetWindowPresets", service=_SERVICE, needs=None, gives=WindowPresets,
            parameters=(Parameter(name="modality", text="CT, MR, CR, DX, or another one."),),
        )  # fmt: skip

    async def metadata(self, request: Request) -> Response:
        """The handler."""
        try:
            tags = _tags(request)
        except ValueError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from None
        private = _choice(request, "include_private", _NO_YES) == "true"
        stored = await instance_named(self._archive.index, request)
        view = await attributes_of(self._archive, stored)
        request.told["instances"] = [stored]
        return answer(Metadata(tags=plain_tags(view.model, tags, include_private=private)))

    async def voi_lut(self, request: Request) -> Response:
        """The handler."""
        stored = await instance_named(self._archive.index, request)
        view = await attributes_of(self._archive, stored)
        found = voi_values(view, frame_of(request, view.frames))
        request.told["instances"] = [stored]
        return answer(
            VoiLut(
                window_center=list(found.centers),
                window_width=list(found.widths),
                window_explanations=list(found.explanations),
                voi_lut_function=found.function,
                rescale_slope=found.rescale_slope,
                rescale_intercept=found.rescale_intercept,
                rescale_type=found.rescale_type,
                has_lookup_tables=found.has_tables,
            )
        )

    async def frame_info(self, request: Request) -> Response:
        """The handler."""
        stored = await instance_named(self._archive.index, request)
        found = frame_timing(await attributes_of(self._archive, stored))
        request.told["instances"] = [stored]
        return answer(
            FrameInfo(
                total_frames=found.total_frames,
                frame_time=found.frame_time,
                frame_rate=found.frame_rate,
                rows=found.rows,
                columns=found.columns,
            )
        )

    async def presets(self, request: Request) -> Response:
        """The handler."""
        modality = (request.parameter("modality") or "").strip().upper()
        presets = [
            WindowPreset(name=one.name, center=one.center, width=one.width)
            for one in window_presets(modality)
        ]
        return answer(WindowPresets(modality=modality, presets=presets))

    async def sorted(self, request: Request) -> Response:
        """The handler."""
        study, series = await series_named(self._archive.index, request)
        found = await self._sorted(request, study, series)
        request.told["matches"] = len(found)
        instances = [
            SortedInstance(
                sop_instance_uid=one.slice.sop_instance_uid,
                instance_number=one.slice.instance_number,
                slice_location=one.slice.slice_location,
                position=one.place,
            )
            for one in found
        ]
        return answer(SortedInstances(instances=instances, total=len(instances)))

    async def navigation(self, request: Request) -> Response:
        """The handler."""
        stored = await instance_named(self._archive.index, request)
        found = await self._sorted(request, stored.study_instance_uid, stored.series_instance_uid)
        uids = [one.slice.sop_instance_uid for one in found]
        if stored.sop_instance_uid not in uids:
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance any more")
        at = uids.index(stored.sop_instance_uid)
        request.told["matches"] = 1
        return answer(
            Navigation(
                previous=uids[at - 1] if at else None,
                next=uids[at + 1] if at + 1 < len(uids) else None,
                index=at,
                total=len(uids),
                first=uids[0],
                last=uids[-1],
            )
        )

    async def _sorted(self, request: Request, study: str, series: str) -> Sequence[Placed]:
        key = SortKey(_choice(request, "sort_by", [one.value for one in SortKey]))
        direction = _choice(request, "direction", ("asc", "desc"))
        slices = await self._orders.slices(study, series)
        return in_order(slices, key, is_descending=direction == "desc")


def _choice(request: Request, name: str, allowed: Sequence[str]) -> str:
    """What a parameter says; the first of what it may say if it says nothing."""
    said = request.parameter(name)
    if said is None:
        return allowed[0]
    if said not in allowed:
        raise HttpError(400, "INVALID_REQUEST", f"{name} is one of {', '.join(allowed)}")
    return said


def _tags(request: Request) -> list[int] | None:
    """The tags that a request asks for; None: all.

    Raises:
        ValueError: one is none; in words.
    """
    names = [one.strip() for one in (request.parameter("tags") or "").split(",") if one.strip()]
    presets = [one for one in (request.parameter("preset") or "").split(",") if one]
    if not names and not presets:
        return None
    if len(names) > MOST_TAGS:
        raise ValueError(f"at most {MOST_TAGS} tags at once")
    return [*map(tag_of, names), *(tag for one in presets for tag in preset_tags(one))]
