"""DICOMweb service: the routes of search, retrieve and store (PS3.18 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.metadata import Metadata
from isocenter.services.web.dicomweb.pixels import BulkData, Frames
from isocenter.services.web.dicomweb.rendered import Rendered
from isocenter.services.web.dicomweb.representations import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    OCTET_STREAM,
)
from isocenter.services.web.dicomweb.retrieve import Retrieve
from isocenter.services.web.dicomweb.search import Search, SearchLimits
from isocenter.services.web.dicomweb.store import Store
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls

_STUDY: Final = "/studies/{study}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_SEARCH: Final = (
    Parameter(name="includefield", text="Attributes that answers show beside the usual ones."),
    Parameter(name="limit", text="As many answers at most."),
    Parameter(name="offset", text="So many answers are passed over."),
    Parameter(name="fuzzymatching", text="Names that sound alike; not done.", values=("false",)),
)
_ACCEPT: Final = Parameter(name="accept", text="Media types, in place of the header.")
_PICTURE: Final = (
    _ACCEPT,
    Parameter(name="window", text="CENTER,WIDTH,FUNCTION of the window."),
    Parameter(name="viewport", text="WIDTH,HEIGHT and the part of the image that is shown."),
    Parameter(name="quality", text="Of a JPEG, 1 to 100."),
    Parameter(name="annotation", text="Texts drawn into the picture: patient, technique."),
    Parameter(name="iccprofile", text="What becomes of colours."),
)
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif")


def dicomweb_routes(
    archive: Archive,
    notices: Notices,
    *,
    urls: PublicUrls | None = None,
    transcoder: Transcoder | None = None,
    pool: CodecPool | None = None,
    search_limits: SearchLimits | None = None,
    caller_of: Callable[[Request], Caller],
) -> Sequence[Route[Handler]]:
    """The routes of DICOMweb, below `ROOT`.

    Args:
        transcoder, pool: make what is asked for and not stored; None: that is not offered.
        caller_of: who a request is from, for notices.
    """
    urls = urls or PublicUrls()
    search = Search(archive.index, urls, search_limits)
    retrieve = Retrieve(archive, urls, transcoder)
    metadata = Metadata(archive, urls)
    frames = Frames(archive, urls, pool)
    bulk = BulkData(archive, frames)
    rendered = Rendered(archive, pool)
    store = Store(archive, urls, notices, caller_of=caller_of)

    def get(
        path: str,
        handler: Handler,
        text: str,
        needs: str,
        produces: tuple[str, ...],
        parameters: tuple[Parameter, ...] = (_ACCEPT,),
    ) -> Route[Handler]:
        return Route(
            method="GET", path=ROOT + path, handler=handler, text=text, needs=needs,
            parameters=parameters, produces=produces,
        )  # fmt: skip

    found: list[Route[Handler]] = []
    for path, level in (
        ("/studies", Level.STUDY),
        ("/series", Level.SERIES),
        ("/instances", Level.IMAGE),
        (f"{_STUDY}/series", Level.SERIES),
        (f"{_STUDY}/instances", Level.IMAGE),
        (f"{_SERIES}/instances", Level.IMAGE),
    ):
        text = f"Search for {_NAMES[level]}."
        found.append(get(path, search.at(level), text, "search", (DICOM_JSON, DICOM_XML), _SEARCH))
    for path, what in ((_STUDY, "study"), (_SERIES, "series"), (_INSTANCE, "instance")):
        found += [
            get(path, retrieve, f"Retrieve a {what}.", "read", (MULTIPART, DICOM)),
            get(
                f"{path}/metadata", metadata, f"Metadata of a {what}.", "read",
                (DICOM_JSON, DICOM_XML),
            ),
            get(
                f"{path}/rendered", rendered.whole, f"A picture of a {what}.", "read",
                _PICTURES, _PICTURE,
            ),
            get(
                f"{path}/thumbnail", rendered.small, f"A small picture of a {what}.", "read",
                _PICTURES, _PICTURE[:3],
            ),
        ]  # fmt: skip
    pixels = (MULTIPART, OCTET_STREAM, "image/*")
    found += [
        get(f"{_INSTANCE}/frames/{{frames}}", frames, "Frames.", "read", pixels),
        get(
            f"{_INSTANCE}/frames/{{frames}}/rendered", rendered.whole, "A picture of a frame.",
            "read", _PICTURES, _PICTURE,
        ),
        get(
            f"{_INSTANCE}/frames/{{frames}}/thumbnail", rendered.small,
            "A small picture of a frame.", "read", _PICTURES, _PICTURE[:3],
        ),
        get(
            f"{_INSTANCE}/bulkdata/{{path...}}", bulk, "A value that metadata names by URI.",
            "read", (OCTET_STREAM, MULTIPART),
        ),
    ]  # fmt: skip
    for path, text in (("/studies", "Store objects."), (_STUDY, "Store objects of one study.")):
        found.append(
            Route(
                method="POST", path=ROOT + path, handler=store, text=text, needs="write",
                produces=(DICOM_JSON, DICOM_XML), consumes=(MULTIPART, DICOM),
            )
        )  # fmt: skip
    return found


_NAMES: Final = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
