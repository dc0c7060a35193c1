"""Objects made of marks, in the API: presentation states, reports, key object selections."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

import msgspec
import orjson

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Page, Query
from isocenter.services.archive.selection import matches_of
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.notices import InstancesMarked, Notices
from isocenter.services.viewing.annotations import Annotation
from isocenter.services.viewing.document_parts import Authorship, MarkedImage, series_uid
from isocenter.services.viewing.key_object_documents import (
    TITLES,
    KeyImage,
    key_object_document,
    title_for,
)
from isocenter.services.viewing.measurement_reports import ReportedMeasurement, measurement_report
from isocenter.services.viewing.measurements import Measurement
from isocenter.services.viewing.ports import Mark, MarkChoice, MarkKind, Marks
from isocenter.services.viewing.presentation_states import (
    PlacedAnnotation,
    is_grayscale,
    presentation_state,
    together,
)
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.web.dicomweb.store.outcomes import Outcome
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.index_rows import RETURNED, number_of, within
from isocenter.services.web.rest.marks import SERVICE
from isocenter.services.web.rest.stored_instances import attributes_of

Options = TypeVar("Options", bound=Body)

#: Marks in one request, and images that they are on.
_MOST_MARKS: Final = 2_000
_MOST_IMAGES: Final = 500
_MOST_DESCRIPTION: Final = 64
#: A CS (PS3.5 6.2).
_LABEL: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_ANSWERS: Final = (
    ok("The objects are stored.", status=201),
    Answer(400, "It makes no sense."),
    Answer(404, "There is nothing to make an object of."),
    Answer(406, "An image cannot be read, or codecs are needed that are not installed."),
    Answer(409, "The archive has refused an object."),
    Answer(410, "An image is not there any more."),
    Answer(413, "Too many marks, or on too many images, at once."),
    Answer(503, "There is no room now."),
)


class ReportOptions(Body):
    """Which marks of the study objects are made of: these, or of this person, or all."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""


class StateOptions(Body):
    """Which annotations presentation states are made of, and how those are called."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""
    label: str = "ANNOTATIONS"
    description: str = ""


class SelectionOptions(Body):
    """Which key images key object selections are made of: of one title only, if one is said."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""
    document_title: str = ""


class MadeObject(Body):
    """An object that was made and stored."""

    document_title: str
    user_id: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    referenced_instances: list[str]
    marks: int


class MadeObjects(Body):
    """What was made: one object for each author, and for what cannot stand in one."""

    document_type: str
    study_uid: str
    documents: list[MadeObject]


class _Made:
    """An object, and what the answer says of it."""

    def __init__(self, file: ModelFile, title: str, marks: Sequence[Mark]) -> None:
        self.file = file
        self.title = title
        self.marks = marks


#: Makes objects of marks of one author: marks, images by UID, and whose and when.
_Make = Callable[
    [Sequence[Mark], Mapping[str, MarkedImage], Authorship], Awaitable[Sequence[_Made]]
]


class MarkDocumentsApi:
    """Makes objects of marks, and stores them as any that come.

    Args:
        now: local time.
    """

    def __init__(
        self,
        archive: Archive,
        marks: Marks,
        notices: Notices,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._archive = archive
        self._marks = marks
        self._notices = notices
        self._now = now

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are asked for."""
        for what, end, handler, takes, name, text in (
            ("annotations", "export-ps", self.states, StateOptions, "ExportAnnotations",
             "Make presentation states of the annotations of a study."),
            ("measurements", "export-sr", self.reports, ReportOptions, "ExportMeasurements",
             "Make measurement reports (TID 1500) of the measurements of a study."),
            ("key-images", "export-sr", self.selections, SelectionOptions, "ExportKeyImages",
             "Make key object selections of the key images of a study."),
        ):  # fmt: skip
            yield endpoint(
                "POST", f"/studies/{{study}}/{what}/{end}", handler, text, name=name,
                service=SERVICE, needs="write", takes=takes, gives=MadeObjects, answers=_ANSWERS,
            )  # fmt: skip

    async def states(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, StateOptions)
        label = said.label.strip().upper()
        if _LABEL.fullmatch(label) is None:
            raise HttpError(
                400, "INVALID_REQUEST", "label: at most 16 letters, digits, spaces and underscores"
            )
        if len(said.description) > _MOST_DESCRIPTION or not said.description.isprintable():
            raise HttpError(
                400, "INVALID_REQUEST", f"description: at most {_MOST_DESCRIPTION} characters"
            )

        async def make(
            marks: Sequence[Mark], images: Mapping[str, MarkedImage], authorship: Authorship
        ) -> Sequence[_Made]:
            placed = _placed(marks, images)
            return [
                _Made(
                    presentation_state(
                        group,
                        replace(authorship, instance_number=authorship.instance_number + nth),
                        label=label,
                        description=said.description.strip(),
                        icc_profile=b"" if is_grayscale(group[0].image) else _colour_profile(),
                    ),
                    label,
                    _of(group, placed, marks),
                )
                for nth, group in enumerate(together(placed))
            ]

        return await self._exported(
            request, MarkKind.ANNOTATION, said.ids, said.user_id, "PR", make
        )

    async def reports(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, ReportOptions)

        async def make(
            marks: Sequence[Mark], images: Mapping[str, MarkedImage], authorship: Authorship
        ) -> Sequence[_Made]:
            reported = [
                ReportedMeasurement(
                    image=images[mark.sop_instance_uid],
                    frame=mark.frame_number,
                    mark_id=mark.mark_id,
                    measurement=Measurement.of(mark.form, mark.content),
                )
                for mark in marks
            ]
            file = measurement_report(reported, authorship)
            return [_Made(file, "Imaging Measurement Report", marks)]

        return await self._exported(
            request, MarkKind.MEASUREMENT, said.ids, said.user_id, "SR", make
        )

    async def selections(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, SelectionOptions)
        form = ""
        if said.document_title:
            try:
                form = title_for(said.document_title).value
            except ValueError as error:
                raise HttpError(400, "INVALID_REQUEST", str(error)) from error

        async def make(
            marks: Sequence[Mark], images: Mapping[str, MarkedImage], authorship: Authorship
        ) -> Sequence[_Made]:
            by_title: dict[str, list[Mark]] = {}
            for mark in marks:
                by_title.setdefault(mark.form, []).append(mark)
            return [
                _Made(
                    key_object_document(
                        [
                            KeyImage(
                                image=images[mark.sop_instance_uid],
                                frame=mark.frame_number,
                                reason=orjson.loads(mark.content)["reason"],
                            )
                            for mark in some
                        ],
                        TITLES[title],
                        replace(authorship, instance_number=authorship.instance_number + nth),
                    ),
                    TITLES[title].meaning,
                    some,
                )
                for nth, (title, some) in enumerate(by_title.items())
            ]

        return await self._exported(
            request, MarkKind.KEY_IMAGE, said.ids, said.user_id, "KO", make, form
        )

    # -- All ----------------------------------------------------------------------------

    async def _exported(
        self,
        request: Request,
        kind: MarkKind,
        ids: Sequence[str],
        author: str,
        modality: str,
        make: _Make,
        form: str = "",
    ) -> Response:
        study = request.arguments["study"]
        if len(ids) > _MOST_MARKS:
            raise HttpError(413, "TOO_MANY", f"at most {_MOST_MARKS:,} at once: name fewer ids")
        choice = MarkChoice(
            kind=kind, form=form, study_instance_uid=study, author=author, mark_ids=tuple(ids)
        )
        marks, total = await self._marks.chosen(choice, limit=_MOST_MARKS)
        noun = kind.value.replace("_", " ")
        if not marks:
            code = f"NO_{kind.name}S"
            raise HttpError(404, code, f"the study has no such {noun}s")
        if total > len(marks):
            raise HttpError(413, "TOO_MANY", f"at most {_MOST_MARKS:,} at once: name some by ids")
        images = await self._images(marks)
        made: list[tuple[str, _Made]] = []
        for one in dict.fromkeys(mark.author for mark in marks):
            own = [mark for mark in marks if mark.author == one]
            number = await self._instances_of(study, series_uid(study, modality, one))
            authorship = Authorship(author=one, now=self._now(), instance_number=number + 1)
            made += [(one, each) for each in await make(own, images, authorship)]
        await self._store(request, study, [each.file for _, each in made])
        self._tell(request, study, [each for _, each in made], noun)
        documents = [
            MadeObject(
                document_title=each.title,
                user_id=one,
                sop_class_uid=each.file.sop_class_uid,
                sop_instance_uid=each.file.sop_instance_uid,
                series_instance_uid=series_uid(study, modality, one),
                referenced_instances=list(
                    dict.fromkeys(mark.sop_instance_uid for mark in each.marks)
                ),
                marks=len(each.marks),
            )
            for one, each in made
        ]
        return answer(
            MadeObjects(document_type=modality, study_uid=study, documents=documents), 201
        )

    async def _images(self, marks: Sequence[Mark]) -> dict[str, MarkedImage]:
        uids = list(dict.fromkeys(mark.sop_instance_uid for mark in marks))
        if len(uids) > _MOST_IMAGES:
            raise HttpError(
                413, "TOO_MANY", f"on at most {_MOST_IMAGES} images at once: name some by ids"
            )
        known = await self._archive.index.get(uids)
        found = {}
        for uid in uids:
            if uid not in known:
                raise HttpError(410, "GONE", "an image is not there any more")
            view = await attributes_of(self._archive, known[uid])
            found[uid] = MarkedImage(stored=known[uid], view=view)
        return found

    async def _instances_of(self, study: str, series: str) -> int:
        asked = within(Level.SERIES, study=study, series=series)
        query = Query(
            level=Level.SERIES, criteria=asked.criteria, return_tags=RETURNED[Level.SERIES]
        )
        found = await matches_of(self._archive.index, query, Page(limit=1))
        return number_of(found[0], "NumberOfSeriesRelatedInstances") or 0 if found else 0

    async def _store(self, request: Request, study: str, files: Sequence[ModelFile]) -> None:
        async with Incoming(self._archive, self._notices, caller_of(request), study) as incoming:
            for file in files:
                await incoming.add(file)
        failed = [one for one in incoming.outcomes if not one.is_stored]
        if failed:
            raise _refused(failed[0])

    def _tell(self, request: Request, study: str, made: Sequence[_Made], noun: str) -> None:
        classes: dict[str, int] = {}
        for each in made:
            classes[each.file.sop_class_uid] = classes.get(each.file.sop_class_uid, 0) + 1
        self._notices.publish(
            InstancesMarked(
                caller=caller_of(request),
                study_instance_uid=study,
                sop_classes=classes,
                action="C",
                what=f"{len(made)} objects made of {noun}s",
            )
        )


def _refused(outcome: Outcome) -> HttpError:
    if outcome.is_out_of_resources:
        return HttpError(503, "UNAVAILABLE", "there is no room for it now", [("retry-after", "60")])
    return HttpError(409, "REFUSED", f"the archive refused it: {outcome.comment}")


def _placed(marks: Sequence[Mark], images: Mapping[str, MarkedImage]) -> list[PlacedAnnotation]:
    return [
        PlacedAnnotation(
            image=images[mark.sop_instance_uid],
            frame=mark.frame_number,
            annotation=Annotation.of(mark.form, mark.content),
        )
        for mark in marks
    ]


def _of(
    group: Sequence[PlacedAnnotation], placed: Sequence[PlacedAnnotation], marks: Sequence[Mark]
) -> list[Mark]:
    """The marks of those that stand together."""
    return [
        mark for mark, one in zip(marks, placed, strict=True) if any(one is each for each in group)
    ]


def _colour_profile() -> bytes:
    """What colours mean where images do not say it: sRGB.

    Raises:
        HttpError: the codecs are not installed (406).
    """
    try:
        from isocenter.services.dicom.pixels.rendering.icc import profile_for
        from isocenter.services.dicom.pixels.rendering.options import ColourSpace

        return profile_for(ColourSpace.SRGB)
    except ImportError as error:
        raise HttpError(
            406, "NO_CODECS", "states of images in colour need isocenter[codecs]"
        ) from error


async def _read(request: Request, kind: type[Options]) -> Options:
    """The options in a body; without one, those that stand when nothing is said."""
    if request.content_length == 0 or (
        request.content_length is None and not request.header("transfer-encoding")
        and not request.header("content-type")
    ):  # fmt: skip
        return kind()
    return await read_body(request, kind)
