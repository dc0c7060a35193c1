"""Annotations in the API: arrows, outlines and texts on images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from isocenter.services.archive.archive import Archive
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.notices import Notices
from isocenter.services.viewing import annotations as domain
from isocenter.services.viewing.annotations import AnnotationError, AnnotationType
from isocenter.services.viewing.document_parts import MarkedImage
from isocenter.services.viewing.geometry import GeometryError
from isocenter.services.viewing.ports import Mark, MarkKind, Marks
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
    moment_text,
    read_mark,
    where_of,
)
from isocenter.services.web.rest.paging import PAGE_PARAMETERS, Page
from isocenter.services.web.rest.stored_instances import OF_INSTANCE, attributes_of

_PATH: Final = "/annotations"
_CONFLICT: Final = Answer(409, "It was changed or removed just now.")


class AnnotationGeometry(Body):
    """Points as (column, row) in pixels; (0, 0) is the corner at the top left of the image."""

    points: list[tuple[float, float]]


class Style(Body):
    """How an annotation looks: colours as `#ffff00`, widths and sizes in points of the screen."""

    color: str = "#ffff00"
    line_width: float = 1.0
    fill_color: str = ""
    fill_opacity: float = 0.0
    font_family: str = ""
    font_size: float = 14.0


class NewAnnotation(Body):
    """An annotation that is to be made."""

    sop_instance_uid: str
    annotation_type: AnnotationType
    geometry: AnnotationGeometry
    study_uid: str | None = None
    series_uid: str | None = None
    frame_number: int = 1
    user_id: str | None = None
    text: str = ""
    style: Style = Style()


class ChangedAnnotation(Body):
    """What an annotation is to be; what is not said stays."""

    frame_number: int | None = None
    annotation_type: AnnotationType | None = None
    geometry: AnnotationGeometry | None = None
    text: str | None = None
    style: Style | None = None


class Annotation(Body):
    """An annotation; `user_id` is who made it."""

    id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    frame_number: int
    user_id: str
    annotation_type: AnnotationType
    geometry: AnnotationGeometry
    text: str
    style: Style
    version: int
    created_at: str
    updated_at: str


class AnnotationApi:
    """Takes and shows annotations."""

    def __init__(self, archive: Archive, marks: Marks, notices: Notices) -> None:
        self._archive = archive
        self._desk = MarkDesk(
            archive, marks, notices, kind=MarkKind.ANNOTATION, noun="annotation", shown=_shown
        )

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        desk = self._desk
        yield endpoint(
            "POST", _PATH, self.add, "Annotate an image.", name="AddAnnotation", service=SERVICE,
            needs="write", takes=NewAnnotation, gives=Annotation,
            answers=(ok("It is kept.", status=201), *MADE),
        )  # fmt: skip
        yield endpoint(
            "GET", _PATH, desk.listed, "Annotations, the oldest first.", name="ListAnnotations",
            service=SERVICE, needs="search", gives=Page[Annotation],
            parameters=(*FILTERS, *PAGE_PARAMETERS), answers=(BROKEN,),
        )  # fmt: skip
        yield endpoint(
            "GET", "/instances/{instance}/annotations", desk.on_instance,
            "The annotations of an image.", name="ListInstanceAnnotations", service=SERVICE,
            needs="search", gives=Page[Annotation], parameters=(FILTERS[3], *PAGE_PARAMETERS),
            answers=(BROKEN, OF_INSTANCE[0]),
        )  # fmt: skip
        one = f"{_PATH}/{{mark}}"
        yield endpoint(
            "GET", one, desk.one, "An annotation.", name="GetAnnotation", service=SERVICE,
            needs="search", gives=Annotation, answers=(NOT_THERE,), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", one, self.change, "Change an annotation of one's own.",
            name="ChangeAnnotation", service=SERVICE, needs="write", takes=ChangedAnnotation,
            gives=Annotation,
            answers=(BROKEN, NOT_YOURS, NOT_THERE, *OF_INSTANCE[1:], _CONFLICT), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", one, desk.remove, "Remove an annotation.", name="RemoveAnnotation",
            service=SERVICE, needs="write", answers=(NOT_YOURS, NOT_THERE, _CONFLICT),
            has_tag=True,
        )  # fmt: skip

    async def add(self, request: Request) -> Response:
        """The handler."""
        said = await read_mark(request, NewAnnotation)
        image = await self._desk.image(said, request)
        made = _checked(image, said.annotation_type, said.geometry, said.text, said.style)
        return await self._desk.add(
            request, image, made.type.value, said.frame_number, made.content()
        )

    async def change(self, request: Request) -> Response:
        """The handler."""
        said = await read_mark(request, ChangedAnnotation)
        mark = await self._desk.mark(request)
        stored = await self._desk.stored(mark)
        image = MarkedImage(stored=stored, view=await attributes_of(self._archive, stored))
        before = _shown(mark)
        frame = mark.frame_number if said.frame_number is None else said.frame_number
        if not 1 <= frame <= image.view.frames:
            raise HttpError(400, "NO_FRAME", f"the image has {image.view.frames} frames")
        made = _checked(
            image,
            said.annotation_type or before.annotation_type,
            said.geometry or before.geometry,
            before.text if said.text is None else said.text,
            said.style or before.style,
        )
        return await self._desk.change(request, mark, made.type.value, frame, made.content())


def _checked(
    image: MarkedImage, kind: AnnotationType, geometry: AnnotationGeometry, text: str, style: Style
) -> domain.Annotation:
    made = domain.Annotation(
        type=kind,
        points=geometry.points,
        text=text,
        style=domain.Style(
            color=style.color,
            line_width=style.line_width,
            fill_color=style.fill_color,
            fill_opacity=style.fill_opacity,
            font_family=style.font_family,
            font_size=style.font_size,
        ),
    )
    try:
        return made.checked(image.view.count("Columns"), image.view.count("Rows"))
    except GeometryError as error:
        raise HttpError(400, "INVALID_GEOMETRY", f"geometry: {error}") from error
    except AnnotationError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error


def _shown(mark: Mark) -> Annotation:
    said = orjson.loads(mark.content)
    return Annotation(
        **where_of(mark),
        annotation_type=AnnotationType(mark.form),
        geometry=AnnotationGeometry(points=[(x, y) for x, y in said["points"]]),
        text=said["text"],
        style=Style(**said["style"]),
        version=mark.version,
        updated_at=moment_text(mark.changed_at),
    )
