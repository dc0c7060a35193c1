"""Measurements in the API: lengths, angles, areas, and means of pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import orjson
import trio

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.notices import Notices
from isocenter.services.viewing import measurements as domain
from isocenter.services.viewing.annotations import AnnotationError, check_text
from isocenter.services.viewing.document_parts import MarkedImage
from isocenter.services.viewing.geometry import GeometryError
from isocenter.services.viewing.measurements import (
    OF_PIXELS,
    MeasurementError,
    MeasurementType,
    OtherValueError,
    Shape,
    checked,
    computed,
    shape_for,
    with_statistics,
)
from isocenter.services.viewing.pixel_size import pixel_size
from isocenter.services.viewing.ports import Mark, MarkKind, Marks
from isocenter.services.viewing.region_statistics import (
    hounsfield,
    standardized_uptake,
    statistics_of,
)
from isocenter.services.web.rest.bodies import Body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.marks import (
    BROKEN,
    FILTERS,
    MADE,
    NOT_THERE,
    NOT_YOURS,
    SERVICE,
    MarkDesk,
    read_mark,
    where_of,
)
from isocenter.services.web.rest.paging import PAGE_PARAMETERS, Page
from isocenter.services.web.rest.stored_instances import OF_INSTANCE

_PATH: Final = "/measurements"
_TYPE: Final = Parameter(
    name="measurement_type", text="Of this type.",
    values=tuple(one.value for one in MeasurementType),
)  # fmt: skip
_CONFLICT: Final = Answer(409, "It was removed just now.")
#: Pixels of one image that are looked at for a mean.
_MOST_PIXELS: Final = 64_000_000


class MeasurementGeometry(Body):
    """Points as (column, row) in pixels, (0, 0) being the corner at the top left of the image; the
    shape follows from type and number of points where it is not said."""

    points: list[tuple[float, float]]
    shape: Shape | None = None


class NewMeasurement(Body):
    """A measurement that is to be kept.  `value` is computed where it follows from the image; what
    contradicts the image is refused."""

    sop_instance_uid: str
    measurement_type: MeasurementType
    geometry: MeasurementGeometry
    study_uid: str | None = None
    series_uid: str | None = None
    frame_number: int = 1
    user_id: str | None = None
    value: float | None = None
    unit: str = ""
    label: str = ""


class Statistics(Body):
    """Of the pixels in the region."""

    pixels: int
    mean: float
    minimum: float
    maximum: float
    deviation: float


class Measurement(Body):
    """A measurement; `is_computed`: its value follows from the image, and was not only said."""

    id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    frame_number: int
    user_id: str
    measurement_type: MeasurementType
    geometry: MeasurementGeometry
    value: float
    unit: str
    label: str
    is_computed: bool
    statistics: Statistics | None
    created_at: str


class MeasurementApi:
    """Takes and shows measurements.

    Args:
        pool: decodes pixels; None: means of pixels have to be said.
    """

    def __init__(
        self, archive: Archive, marks: Marks, notices: Notices, pool: CodecPool | None
    ) -> None:
        self._archive = archive
        self._pool = pool
        self._desk = MarkDesk(
            archive, marks, notices, kind=MarkKind.MEASUREMENT, noun="measurement", shown=_shown
        )

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        desk = self._desk
        yield endpoint(
            "POST", _PATH, self.add, "Measure on an image.", name="AddMeasurement",
            service=SERVICE, needs="write", takes=NewMeasurement, gives=Measurement,
            answers=(ok("It is kept.", status=201), *MADE),
        )  # fmt: skip
        yield endpoint(
            "GET", _PATH, self.list, "Measurements, the oldest first.", name="ListMeasurements",
            service=SERVICE, needs="search", gives=Page[Measurement],
            parameters=(*FILTERS, _TYPE, *PAGE_PARAMETERS), answers=(BROKEN,),
        )  # fmt: skip
        yield endpoint(
            "GET", "/instances/{instance}/measurements", desk.on_instance,
            "The measurements on an image.", name="ListInstanceMeasurements", service=SERVICE,
            needs="search", gives=Page[Measurement], parameters=(FILTERS[3], *PAGE_PARAMETERS),
            answers=(BROKEN, OF_INSTANCE[0]),
        )  # fmt: skip
        one = f"{_PATH}/{{mark}}"
        yield endpoint(
            "GET", one, desk.one, "A measurement.", name="GetMeasurement", service=SERVICE,
            needs="search", gives=Measurement, answers=(NOT_THERE,), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", one, desk.remove, "Remove a measurement.", name="RemoveMeasurement",
            service=SERVICE, needs="write", answers=(NOT_YOURS, NOT_THERE, _CONFLICT),
            has_tag=True,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        kind = request.parameter("measurement_type") or ""
        if kind and kind not in _TYPE.values:
            raise HttpError(
                400, "INVALID_TYPE", f"measurement_type is one of {', '.join(_TYPE.values)}"
            )
        return await self._desk.listed(request, form=kind)

    async def add(self, request: Request) -> Response:
        """The handler."""
        said = await read_mark(request, NewMeasurement)
        image = await self._desk.image(said, request)
        try:
            check_text(said.label, "label")
            made = await self._made(image, said)
        except GeometryError as error:
            raise HttpError(400, "INVALID_GEOMETRY", f"geometry: {error}") from error
        except OtherValueError as error:
            raise HttpError(409, "OTHER_VALUE", str(error)) from error
        except (MeasurementError, AnnotationError) as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return await self._desk.add(
            request, image, made.type.value, said.frame_number, made.content()
        )

    async def _made(self, image: MarkedImage, said: NewMeasurement) -> domain.Measurement:
        kind, geometry, view = said.measurement_type, said.geometry, image.view
        shape = shape_for(
            kind, geometry.shape.value if geometry.shape else "", len(geometry.points)
        )
        made = checked(
            domain.Measurement(type=kind, shape=shape, points=geometry.points, label=said.label),
            view.count("Columns"),
            view.count("Rows"),
            said.value,
            said.unit,
        )
        if kind not in OF_PIXELS:
            return computed(made, pixel_size(view, said.frame_number, made.points))
        convert = _conversion(image, kind, said.frame_number)
        frame = None if convert is None else await self._decoded(image, said.frame_number)
        if convert is None or frame is None:
            if made.value is None:
                raise MeasurementError(
                    "the value does not follow from the image here: say it (value)"
                )
            return made
        outline = made.points if shape is Shape.POINT else made.outline()
        found = await trio.to_thread.run_sync(partial(statistics_of, frame, outline, convert))
        return with_statistics(made, found)

    async def _decoded(self, image: MarkedImage, frame: int) -> DecodedFrame | None:
        """The pixels of a frame; None: they cannot be had here."""
        view = image.view
        if self._pool is None or view.count("Rows") * view.count("Columns") > _MOST_PIXELS:
            return None
        try:
            async with open_image(stored_object(image.stored, self._archive.open)) as opened:
                return await opened.decode(self._pool, frame - 1)
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (DataSetError, PixelError):
            return None


def _conversion(
    image: MarkedImage, kind: MeasurementType, frame: int
) -> Callable[[float], float] | None:
    """What stored values mean; None: it does not follow from the image.

    Raises:
        MeasurementError: an image of that kind has no such values.
    """
    modality = image.view.text("Modality").upper()
    if kind is MeasurementType.HOUNSFIELD:
        found = hounsfield(image.view, frame)
        if found is None and modality != "CT":
            raise MeasurementError("the image is not in Hounsfield units")
        return found
    if modality != "PT":
        raise MeasurementError("standardized uptake values are of PET images (modality PT)")
    return standardized_uptake(image.view, frame)


def _shown(mark: Mark) -> Measurement:
    said = orjson.loads(mark.content)
    statistics = said["statistics"]
    return Measurement(
        **where_of(mark),
        measurement_type=MeasurementType(mark.form),
        geometry=MeasurementGeometry(
            points=[(x, y) for x, y in said["points"]], shape=Shape(said["shape"])
        ),
        value=said["value"],
        unit=said["unit"],
        label=said["label"],
        is_computed=said["is_computed"],
        statistics=None if statistics is None else Statistics(**statistics),
    )
