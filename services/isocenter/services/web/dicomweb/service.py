"""DICOMweb service: the routes of search, retrieve and store (PS3.18 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.ports import LinkedPatients
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.deidentified_answers import ByProject
from isocenter.services.web.dicomweb.deletion import Deletion, Trashed
from isocenter.services.web.dicomweb.representations import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    OCTET_STREAM,
)
from isocenter.services.web.dicomweb.retrieve.metadata import Metadata
from isocenter.services.web.dicomweb.retrieve.pixels import BulkData, Frames
from isocenter.services.web.dicomweb.retrieve.rendered import Rendered
from isocenter.services.web.dicomweb.retrieve.wado_rs import Retrieve
from isocenter.services.web.dicomweb.retrieve.wado_uri import WadoUri
from isocenter.services.web.dicomweb.search.parameters import SEARCH_PARAMETERS
from isocenter.services.web.dicomweb.search.qido_rs import Search, SearchLimits
from isocenter.services.web.dicomweb.store.stow_rs import Store
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.downloads import ZIP, Downloads
from isocenter.services.web.principal import caller_name

_STUDY: Final = "/studies/{study}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_ACCEPT: Final = Parameter(name="accept", text="Media types, in place of the header.")
_PICTURE: Final = (
    _ACCEPT,
    Parameter(name="window", text="CENTER,WIDTH,FUNCTION of the window."),
    Parameter(name="viewport", text="WIDTH,HEIGHT and the part of the image that is shown."),
    Parameter(name="quality", text="Of a JPEG, 1 to 100.", pattern="[1-9][0-9]?|100"),
    Parameter(name="annotation", text="Texts drawn into the picture: patient, technique."),
    Parameter(name="iccprofile", text="What becomes of colours."),
)
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif")
#: What objects hold that are no pictures.
_HELD: Final = ("application/pdf", "text/xml", "model/*", "video/*")

_URI: Final = (
    Parameter(name="requestType", text="WADO.", values=("WADO",), is_required=True),
    Parameter(name="objectUID", text="SOP Instance UID of the object.", is_required=True),
    Parameter(name="studyUID", text="Its study."),
    Parameter(name="seriesUID", text="Its series."),
    Parameter(name="contentType", text="Media types, the most wanted first."),
    Parameter(name="charset", text="Character sets of text."),
    Parameter(
        name="anonymize", text="yes: the object is de-identified (PS3.15 Annex E).", values=("yes",)
    ),
    Parameter(name="transferSyntax", text="UID of the transfer syntax of the object."),
    Parameter(name="annotation", text="Texts drawn into the picture: patient, technique."),
    Parameter(name="rows", text="Height of the picture at most."),
    Parameter(name="columns", text="Width of the picture at most."),
    Parameter(name="region", text="LEFT,TOP,RIGHT,BOTTOM of what is shown, from 0 to 1."),
    Parameter(name="windowCenter", text="Center of the window."),
    Parameter(name="windowWidth", text="Width of the window."),
    Parameter(name="frameNumber", text="The frame, from 1 on."),
    Parameter(name="imageQuality", text="Of a JPEG, 1 to 100."),
    Parameter(name="presentationUID", text="SOP Instance UID of a presentation state."),
    Parameter(name="presentationSeriesUID", text="Its series."),
)
_SEEN: Final = (*_PICTURES, DICOM, DICOM_JSON, *_HELD, "text/html", "text/plain")

# Services and transactions are called as in PS3.18 Table H-1.
_SEARCHES: Final = "Search: QIDO-RS (PS3.18 10.6)"
_RETRIEVES: Final = "Retrieve: WADO-RS (PS3.18 10.4)"
_URI_SERVICE: Final = "Retrieve by parameters: WADO-URI (PS3.18 9)"
_STORES: Final = "Store: STOW-RS (PS3.18 10.5)"
_UNCHANGED: Final = ok("It has not changed (`If-None-Match`).", Payload.NOTHING, 304)
_NOT_THERE: Final = Answer(404, "The archive has it not, or not within what the path says.")
_NOT_MADE: Final = Answer(
    406, "It cannot be had as anything that is accepted; the answer lists what can."
)
_SEARCHED: Final = (
    ok("The matches, an array; none is `[]`. A `Warning` tells what was cut, or not matched."),
    ok("There is no match, where `web.empty_search` is `204`.", Payload.NOTHING, 204),
    Answer(400, "The value of a known attribute or parameter is broken."),
    Answer(404, "The path names what is no UID."),
    Answer(406, "Neither JSON nor XML is accepted."),
    Answer(413, "Too many objects would have to be read for what the index does not have."),
)
_FOUND: Final = (ok("As it was asked for."), _UNCHANGED, _NOT_THERE, _NOT_MADE)
_RETRIEVED: Final = (
    *_FOUND,
    ok("Some of it is gone, as a `Warning` says; this is the rest.", status=206),
)
_RANGED: Final = (
    *_FOUND,
    ok("The part that `Range` names.", status=206),
    Answer(416, "It has no such range."),
)
_DRAWN: Final = (*_FOUND, Answer(400, "A parameter of the picture is broken."))
_FRAMES: Final = (*_RANGED, Answer(400, "The list of frames is none, or too long."))
_GONE: Final = Answer(410, "It was deleted, and is in the trash.")
_REASON: Final = Parameter(name="reason", text="Why, for the audit trail.")
_DELETES: Final = "Delete (no part of PS3.18)"
_DELETED: Final = (
    ok(
        "It is deleted, and in the trash for as long as `storage.trash_days` says.",
        Payload.NOTHING,
        204,
    ),
    _NOT_THERE,
    _GONE,
    Answer(409, "It is held, promised, or yet to be sent; or it has just changed."),
    Answer(503, "Nothing can be deleted now."),
)
_STORED: Final = (
    ok("All objects are stored: durable, and can be found."),
    ok("Some are; or something was changed, or put right.", status=202),
    Answer(400, "The body or its metadata cannot be read, or it holds no object."),
    Answer(406, "Neither JSON nor XML is accepted."),
    Answer(409, "None is stored; the answer says why.", Payload.EITHER),
    Answer(413, "Metadata are too long."),
    Answer(415, "The body is of a media type that is not taken, or packed."),
    Answer(503, "There is no room for it now (`Retry-After`).", Payload.EITHER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readers:
    """The handlers of searches and retrievals from an archive, as somebody sees it."""

    search: Search
    retrieve: Retrieve
    metadata: Metadata
    frames: Frames
    bulk: BulkData
    rendered: Rendered
    by_uri: WadoUri


def _at(level: Level) -> Callable[[_Readers], Handler]:
    return lambda readers: readers.search.at(level)


def dicomweb_routes(
    archive: Archive,
    notices: Notices,
    *,
    urls: PublicUrls | None = None,
    transcoder: Transcoder | None = None,
    pool: CodecPool | None = None,
    search_limits: SearchLimits | None = None,
    book: MetadataBook | None = None,
    trash: Trash | None = None,
    deletes: bool = False,
    downloads: Downloads | None = None,
    anonymize: str = "",
    links: LinkedPatients | None = None,
    caller_of: Callable[[Request], Caller],
) -> Sequence[Route[Handler]]:
    """The routes of DICOMweb, below `ROOT`.

    Args:
        transcoder, pool: make what is asked for and not stored; None: that is not offered.
        book: what was made of objects beforehand; None: each is looked at.
        trash: tells what was deleted, and deletes; None: there is none.
        deletes: DELETE is offered.
        downloads: give ZIP files; None: there are none.
        anonymize: project under which objects are de-identified by WADO-URI; empty: none.
        links: of patients, which searches by ID follow; None: they follow none.
        caller_of: who a request is from, for notices.
    """
    urls = urls or PublicUrls()
    trashed = None if trash is None else Trashed(trash.book)

    def readers_of(seen: ReadableArchive) -> _Readers:
        # What was made beforehand, and files of several objects, are of originals.
        is_plain = not seen.project
        known = book if is_plain else None
        frames = Frames(seen, urls, pool, known)
        retrieve = Retrieve(seen, urls, transcoder, downloads if is_plain else None)
        rendered = Rendered(seen, pool)
        metadata = Metadata(seen, urls, known)
        return _Readers(
            search=Search(
                seen, urls, search_limits, notices, known, links if is_plain else None
            ),
            retrieve=retrieve,
            metadata=metadata,
            frames=frames,
            bulk=BulkData(seen, frames),
            rendered=rendered,
            by_uri=WadoUri(
                seen, retrieve, rendered, metadata, trashed if is_plain else None,
                anonymize=anonymize, deidentification=lambda: archive.deidentification,
            ),
        )  # fmt: skip

    readers: dict[str, _Readers] = {}

    def seen_by(project: str) -> _Readers:
        found = readers.get(project)
        if found is None:
            found = readers[project] = readers_of(archive.seen_by(project))
        return found

    def seen(handler_of: Callable[[_Readers], Handler], *, is_corrected: bool = False) -> ByProject:
        def of_project(project: str) -> Handler:
            handler = handler_of(seen_by(project))
            return corrected(handler) if is_corrected else handler

        return ByProject(of_project)

    def corrected(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            await archive.until_corrected()
            return await handler(request)

        return answer

    retrieve = seen(lambda one: one.retrieve, is_corrected=True)
    metadata = seen(lambda one: one.metadata, is_corrected=True)
    frames, bulk = seen(lambda one: one.frames), seen(lambda one: one.bulk)
    whole, small = seen(lambda one: one.rendered.whole), seen(lambda one: one.rendered.small)
    store = Store(archive, urls, notices, caller_of=caller_of)

    def get(
        path: str,
        handler: ByProject,
        text: str,
        needs: str,
        produces: tuple[str, ...],
        parameters: tuple[Parameter, ...] = (_ACCEPT,),
        *,
        name: str,
        service: str = _RETRIEVES,
        answers: tuple[Answer, ...] = _FOUND,
    ) -> Route[Handler]:
        if trashed is not None and "{study}" in path and needs == "read":
            handler = handler.with_plain(trashed.telling)
            answers = (*answers, _GONE)
        return Route(
            method="GET", path=ROOT + path, handler=handler, text=text, needs=needs, name=name,
            parameters=parameters, produces=produces, service=service, answers=answers,
        )  # fmt: skip

    found: list[Route[Handler]] = []
    for path, level, name in (
        ("/studies", Level.STUDY, "Studies"),
        ("/series", Level.SERIES, "Series"),
        ("/instances", Level.IMAGE, "Instances"),
        (f"{_STUDY}/series", Level.SERIES, "StudySeries"),
        (f"{_STUDY}/instances", Level.IMAGE, "StudyInstances"),
        (f"{_SERIES}/instances", Level.IMAGE, "StudySeriesInstances"),
    ):
        text = f"Search for {_NAMES[level]}."
        found.append(
            get(
                path, seen(_at(level)), text, "search", (DICOM_JSON, DICOM_XML), SEARCH_PARAMETERS,
                name=f"SearchFor{name}", service=_SEARCHES, answers=_SEARCHED,
            )
        )  # fmt: skip
    objects = (MULTIPART, DICOM) if downloads is None else (MULTIPART, DICOM, ZIP)
    for path, name, what in (
        (_STUDY, "Study", "a study"),
        (_SERIES, "Series", "a series"),
        (_INSTANCE, "Instance", "an instance"),
    ):
        found += [
            get(
                path, retrieve, f"Retrieve {what}.", "read", objects,
                name=f"Retrieve{name}", answers=_RETRIEVED,
            ),
            get(
                f"{path}/metadata", metadata, f"Metadata of {what}.", "read",
                (DICOM_JSON, DICOM_XML), name=f"Retrieve{name}Metadata", answers=_RETRIEVED,
            ),
            get(
                f"{path}/rendered", whole, f"A picture of {what}.", "read",
                (*_PICTURES, *_HELD), _PICTURE, name=f"RetrieveRendered{name}", answers=_DRAWN,
            ),
            get(
                f"{path}/thumbnail", small, f"A small picture of {what}.", "read",
                _PICTURES, _PICTURE[:3], name=f"Retrieve{name}Thumbnail", answers=_DRAWN,
            ),
        ]  # fmt: skip
    pixels = (MULTIPART, OCTET_STREAM, "image/*")
    found += [
        get(
            f"{_INSTANCE}/frames/{{frames}}", frames, "Frames.", "read", pixels,
            name="RetrieveFrames", answers=_FRAMES,
        ),
        get(
            f"{_INSTANCE}/frames/{{frames}}/rendered", whole, "A picture of a frame.",
            "read", _PICTURES, _PICTURE, name="RetrieveRenderedFrames", answers=_DRAWN,
        ),
        get(
            f"{_INSTANCE}/frames/{{frames}}/thumbnail", small,
            "A small picture of a frame.", "read", _PICTURES, _PICTURE[:3],
            name="RetrieveFramesThumbnail", answers=_DRAWN,
        ),
        get(
            f"{_INSTANCE}/bulkdata/{{path...}}", bulk, "A value that metadata names by URI.",
            "read", (OCTET_STREAM, MULTIPART), name="RetrieveInstanceBulkdata", answers=_RANGED,
        ),
    ]  # fmt: skip
    found.append(
        get(
            "/wado", seen(lambda one: one.by_uri, is_corrected=True),
            "One object, or what of it can be seen.", "read", _SEEN, _URI, name="RetrieveByUri",
            service=_URI_SERVICE,
            answers=(*_RANGED, Answer(400, "A parameter is missing or broken.")),
        )
    )  # fmt: skip
    for path, text, name in (
        ("/studies", "Store objects.", "StoreInstances"),
        (_STUDY, "Store objects of one study.", "StoreStudyInstances"),
    ):
        found.append(
            Route(
                method="POST", path=ROOT + path, handler=store, text=text, needs="write",
                produces=(DICOM_JSON, DICOM_XML), consumes=(MULTIPART, DICOM, DICOM_JSON),
                name=name, service=_STORES, answers=_STORED,
            )
        )  # fmt: skip
    if trash is not None and trashed is not None and deletes:
        deletion = Deletion(trash, name_of=lambda request: caller_name(caller_of(request)))
        for path, name, what in (
            (_STUDY, "Study", "a study"),
            (_SERIES, "Series", "a series"),
            (_INSTANCE, "Instance", "an instance"),
        ):
            found.append(
                Route(
                    method="DELETE", path=ROOT + path, handler=trashed.telling(deletion),
                    text=f"Delete {what}.", needs="delete", parameters=(_REASON,),
                    name=f"Delete{name}", service=_DELETES, answers=_DELETED,
                )
            )  # fmt: skip
    return found


_NAMES: Final = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
