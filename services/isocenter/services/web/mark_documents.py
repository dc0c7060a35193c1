"""Objects made of marks: presentation states, reports, key object selections, stored."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import orjson

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import BY_KEYWORD, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue
from isocenter.services.archive.selection import matches_of
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.net.http.messages import HttpError
from isocenter.services.notices import Caller, InstancesMarked, Notices
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
from isocenter.services.viewing.stored_images import read_attributes
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.web.dicomweb.store.outcomes import Outcome

_COUNT: Final = BY_KEYWORD["NumberOfSeriesRelatedInstances"].tag
#: Marks in one request, and images that they are on.
_MOST_MARKS: Final = 2_000
_MOST_IMAGES: Final = 500
_MOST_DESCRIPTION: Final = 64
#: A CS (PS3.5 6.2).
_LABEL: Final = re.compile(r"[A-Z0-9_ ]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which marks of a study: these, or those of one author, or all."""

    ids: Sequence[str] = ()
    author: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeObject:
    """An object that was made and stored.

    Attributes:
        referenced: SOP Instance UIDs of the images that it speaks of.
        marks: how many it was made of.
    """

    title: str
    author: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    referenced: Sequence[str]
    marks: int


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


class MarkDocuments:
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

    async def states(
        self, caller: Caller, study: str, choice: Choice, *, label: str, description: str
    ) -> Sequence[MadeObject]:
        """Presentation states of annotations.

        Args:
            label: a CS, in capitals or not.

        Raises:
            HttpError: there are none, or none can be made or stored.
        """
        label = label.strip().upper()
        if _LABEL.fullmatch(label) is None:
            raise HttpError(
                400, "INVALID_REQUEST", "label: at most 16 letters, digits, spaces and underscores"
            )
        if len(description) > _MOST_DESCRIPTION or not description.isprintable():
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
                        description=description.strip(),
                        icc_profile=b"" if is_grayscale(group[0].image) else _colour_profile(),
                    ),
                    label,
                    _of(group, placed, marks),
                )
                for nth, group in enumerate(together(placed))
            ]

        return await self._made(caller, study, MarkKind.ANNOTATION, choice, "PR", make)

    async def reports(self, caller: Caller, study: str, choice: Choice) -> Sequence[MadeObject]:
        """Measurement reports.  Raises as `states`."""

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

        return await self._made(caller, study, MarkKind.MEASUREMENT, choice, "SR", make)

    async def selections(
        self, caller: Caller, study: str, choice: Choice, *, document_title: str = ""
    ) -> Sequence[MadeObject]:
        """Key object selections, of one title only if one is said.  Raises as `states`."""
        form = ""
        if document_title:
            try:
                form = title_for(document_title).value
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

        return await self._made(caller, study, MarkKind.KEY_IMAGE, choice, "KO", make, form)

    # -- All ----------------------------------------------------------------------------

    async def _made(
        self,
        caller: Caller,
        study: str,
        kind: MarkKind,
        asked: Choice,
        modality: str,
        make: _Make,
        form: str = "",
    ) -> Sequence[MadeObject]:
        if len(asked.ids) > _MOST_MARKS:
            raise HttpError(413, "TOO_MANY", f"at most {_MOST_MARKS:,} at once: name fewer ids")
        choice = MarkChoice(
            kind=kind,
            form=form,
            study_instance_uid=study,
            author=asked.author,
            mark_ids=tuple(asked.ids),
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
        await self._store(caller, study, [each.file for _, each in made])
        self._tell(caller, study, [each for _, each in made], noun)
        return [
            MadeObject(
                title=each.title,
                author=one,
                sop_class_uid=each.file.sop_class_uid,
                sop_instance_uid=each.file.sop_instance_uid,
                series_instance_uid=series_uid(study, modality, one),
                referenced=tuple(dict.fromkeys(mark.sop_instance_uid for mark in each.marks)),
                marks=len(each.marks),
            )
            for one, each in made
        ]

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
            try:
                view = await read_attributes(self._archive, known[uid])
            except KeyError:
                raise HttpError(410, "GONE", "an image is not there any more") from None
            except DataSetError as error:
                raise HttpError(406, "UNREADABLE", f"an image cannot be read: {error}") from error
            found[uid] = MarkedImage(stored=known[uid], view=view)
        return found

    async def _instances_of(self, study: str, series: str) -> int:
        criteria = tuple(
            Criterion(UNIQUE_KEY[level], SingleValue(uid))
            for level, uid in ((Level.STUDY, study), (Level.SERIES, series))
        )
        query = Query(level=Level.SERIES, criteria=criteria, return_tags=(_COUNT,))
        found = await matches_of(self._archive.index, query, Page(limit=1))
        return int(found[0].get(_COUNT) or 0) if found else 0

    async def _store(self, caller: Caller, study: str, files: Sequence[ModelFile]) -> None:
        async with Incoming(self._archive, self._notices, caller, study) as incoming:
            for file in files:
                await incoming.add(file)
        failed = [one for one in incoming.outcomes if not one.is_stored]
        if failed:
            raise _refused(failed[0])

    def _tell(self, caller: Caller, study: str, made: Sequence[_Made], noun: str) -> None:
        classes: dict[str, int] = {}
        for each in made:
            classes[each.file.sop_class_uid] = classes.get(each.file.sop_class_uid, 0) + 1
        self._notices.publish(
            InstancesMarked(
                caller=caller,
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
