"""De-identification in the API: projects, and objects under them as they would leave."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Final

from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    NotDeidentifiedError,
    UnknownProjectError,
)
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.deidentification.verification import keyword_of
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import NoPixelDataError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.rendering.options import JPEG
from isocenter.services.dicom.pixels.rendering.renderer import thumbnail
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.dicomweb.representations import DICOM
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.stored_instances import FRAME, OF_INSTANCE, instance_named

_SERVICE: Final = "De-identification"
_PIECE: Final = 1 << 20
_SIZE: Final = 512
_ANSWERS: Final = (
    *OF_INSTANCE,
    Answer(409, "The object cannot be de-identified, or has to be looked at first."),
)


class ProjectShown(Body):
    """A project, and who is given nothing but what it de-identifies."""

    name: str
    profile: str
    options: list[str]
    destinations: list[str]
    roles: list[str]
    addresses: list[str]


class ProjectsShown(Body):
    """All projects."""

    projects: list[ProjectShown]


class CountShown(Body):
    """What was done, and to how many attributes."""

    what: str
    attributes: int


class ChangeShown(Body):
    """What became of an attribute; its values are not shown."""

    path: str
    keyword: str
    action: str


class DeidentifiedShown(Body):
    """An object as it would leave under a project."""

    project: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    counts: list[CountShown]
    warnings: list[str]
    changes: list[ChangeShown]


class DeidentificationApi:
    """Answers with projects, and with what becomes of objects.

    Args:
        pool: makes pictures; None: there are none.
    """

    def __init__(self, archive: Archive, pool: CodecPool | None) -> None:
        self._archive = archive
        self._pool = pool

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/deidentification", self.projects, "Projects of de-identification.",
            name="ListDeidentificationProjects", service=_SERVICE, needs="read",
            gives=ProjectsShown,
        )  # fmt: skip
        path = "/deidentification/{project}/instances/{instance}"
        yield endpoint(
            "GET", path, self.look, "What becomes of an object under a project.",
            name="PreviewDeidentification", service=_SERVICE, needs="read",
            gives=DeidentifiedShown, answers=_ANSWERS,
        )  # fmt: skip
        yield endpoint(
            "GET", f"{path}/file", self.file, "An object, de-identified under a project.",
            name="GetDeidentifiedInstance", service=_SERVICE, needs="export", produces=DICOM,
            answers=(ok("The file."), *_ANSWERS),
        )  # fmt: skip
        yield endpoint(
            "GET", f"{path}/picture", self.picture, "A picture of it then.",
            name="GetDeidentifiedPicture", service=_SERVICE, needs="read", produces=JPEG,
            parameters=(FRAME,), answers=(ok("The picture."), *_ANSWERS),
        )  # fmt: skip

    async def projects(self, request: Request) -> Response:
        """The handler."""
        found = self._archive.deidentification
        projects = [] if found is None else list(found.projects.values())
        return answer(ProjectsShown(projects=list(map(_shown, projects))))

    async def look(self, request: Request) -> Response:
        """The handler."""
        service, project, item = await self._asked(request)
        try:
            made, report = await service.report_of(item, project)
        except KeyError:
            raise _gone() from None
        except NotDeidentifiedError as error:
            raise _refused(error) from error
        return answer(
            DeidentifiedShown(
                project=project.name,
                sop_instance_uid=made.sop_instance_uid,
                transfer_syntax_uid=made.transfer_syntax_uid,
                counts=[
                    CountShown(what=what, attributes=count)
                    for what, count in sorted(report.counts.items())
                ],
                warnings=report.warnings,
                changes=[
                    ChangeShown(path=one.path, keyword=keyword_of(one.path), action=one.action)
                    for one in report.changes
                ],
            )
        )

    async def file(self, request: Request) -> Response:
        """The handler."""
        service, project, item = await self._asked(request)
        made = await service.deidentified(item, project)
        try:
            reader = await made.open()
        except KeyError:
            raise _gone() from None
        except NotDeidentifiedError as error:
            raise _refused(error) from error
        meta = write_file_meta(made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid)

        async def body() -> AsyncGenerator[bytes, None]:
            async with reader:
                yield meta
                for start in range(0, reader.size, _PIECE):
                    yield await reader.read(start, _PIECE)

        name = f'attachment; filename="{made.sop_instance_uid}.dcm"'
        headers = [("content-type", DICOM), ("content-disposition", name),
                   ("cache-control", "no-store")]  # fmt: skip
        return Response(headers=headers, body=body(), length=len(meta) + reader.size)

    async def picture(self, request: Request) -> Response:
        """The handler."""
        service, project, item = await self._asked(request)
        if self._pool is None:
            raise HttpError(406, "NO_CODECS", "pictures are made when transcoding is enabled")
        frame = request.parameter("frame")
        if frame is not None and not (frame.isascii() and frame.isdecimal() and len(frame) < 10):
            raise HttpError(400, "INVALID_REQUEST", "frame is a number from 1 on")
        try:
            made = await thumbnail(
                await service.deidentified(item, project), self._pool, size=_SIZE,
                frame=int(frame) if frame else None,
            )  # fmt: skip
        except KeyError:
            raise _gone() from None
        except NotDeidentifiedError as error:
            raise _refused(error) from error
        except NoPixelDataError as error:
            raise HttpError(404, "NO_PICTURE", "the object has no pixels to be shown") from error
        except (DataSetError, PixelError) as error:
            raise HttpError(406, "NOT_SHOWN", f"the pixels cannot be shown: {error}") from error
        headers = [("content-type", made.media_type), ("cache-control", "no-store")]
        return Response(headers=headers, body=made.content)

    async def _asked(self, request: Request) -> tuple[Deidentification, Project, DicomObject]:
        """The project and the object that a request names."""
        service = self._archive.deidentification
        try:
            if service is None:
                raise UnknownProjectError("nothing is de-identified here")
            project = service.project(request.arguments["project"])
        except UnknownProjectError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        stored = await instance_named(self._archive.index, request)
        request.told["instances"] = [stored]
        return service, project, stored_object(stored, self._archive.open)


def _shown(project: Project) -> ProjectShown:
    return ProjectShown(
        name=project.name,
        profile=project.base,
        options=sorted(option.value for option in project.profile.options),
        destinations=list(project.destinations),
        roles=list(project.roles),
        addresses=list(project.addresses),
    )


def _gone() -> HttpError:
    return HttpError(410, "GONE", "the object is not there any more")


def _refused(error: IsocenterError) -> HttpError:
    return HttpError(409, "NOT_DEIDENTIFIED", str(error))
