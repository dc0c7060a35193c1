"""Representations that a request accepts (PS3.18 8.7.5): media type, transfer syntax, framing.

Clients ask for the same in many spellings; what they mean is decided here:

* ``multipart/related; type="application/dicom"`` and ``application/dicom`` are one media type,
  framed or alone.
* ``*/*``, and a transfer syntax ``*``, mean as stored.
* Without a transfer syntax the default of the media type is meant.
* Names that were replaced, as ``image/x-jls``, are the new ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.net.http.media_types import (
    AcceptedRange,
    MediaType,
    MediaTypeError,
    parse_accept,
    parse_media_type,
)
from isocenter.services.net.http.messages import HttpError, Request

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
OCTET_STREAM: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
#: As it lies in the archive.
STORED: Final = "*"

#: Names that were replaced → those that replaced them.
NEW_NAMES: Final = {
    "image/x-jls": "image/jls",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-dicom+rle": "image/dicom-rle",
    "image/jhc": "image/jphc",
    "image/jpg": "image/jpeg",
    "application/json": DICOM_JSON,
    "application/xml": DICOM_XML,
    "text/xml": DICOM_XML,
}


#: Covers nothing that there is.
_NOTHING: Final = MediaType("none/none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One thing that a request accepts.

    Attributes:
        media_type: of one part; may be a range.
        transfer_syntax: a UID, `STORED`, or None: the default of the media type.
        is_multipart: None: framed or alone.
    """

    media_type: MediaType
    transfer_syntax: str | None
    is_multipart: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One form in which a resource can be had, transfer syntaxes aside."""

    media_type: str
    is_multipart: bool

    def __str__(self) -> str:
        return f'{MULTIPART}; type="{self.media_type}"' if self.is_multipart else self.media_type


def wanted_of(request: Request) -> Sequence[Wanted]:
    """What a request accepts, the most wanted first; as it says in the query, else in its header.

    Raises:
        HttpError: nothing of it can be understood (400).
    """
    said = [value for name, value in request.query if name == "accept" and value]
    text = ", ".join(said) or request.header("accept") or ""
    try:
        return _wanted_by(text)
    except MediaTypeError as error:
        raise HttpError(400, "BAD_ACCEPT", f"{error}; ask for a media type") from error


@lru_cache(maxsize=256)
def _wanted_by(text: str) -> Sequence[Wanted]:
    """Clients say the same with each request."""
    ordered = sorted(parse_accept(text), key=lambda one: -one.quality)
    return tuple(_wanted(one) for one in ordered if one.quality > 0)


def _wanted(accepted: AcceptedRange) -> Wanted:
    outer = accepted.range
    inner = outer
    is_multipart: bool | None = False
    if outer.name == MULTIPART:
        is_multipart = True
        try:
            inner = parse_media_type((outer.parameter("type") or "*/*").strip("'"))
        except MediaTypeError:
            inner = _NOTHING
    elif outer.name == "*/*":
        is_multipart = None
    syntax = outer.parameter("transfer-syntax") or inner.parameter("transfer-syntax")
    if syntax is not None and syntax != STORED and not is_uid(syntax):
        syntax = "none"  # nothing is in that
    if syntax is None and inner.name == "*/*":
        syntax = STORED
    name = NEW_NAMES.get(inner.name, inner.name)
    return Wanted(
        media_type=MediaType(name, inner.parameters),
        transfer_syntax=syntax,
        is_multipart=is_multipart,
    )


def matching(wanted: Wanted, offers: Sequence[Offer]) -> Offer | None:
    """The first of *offers* that *wanted* covers."""
    for offer in offers:
        if wanted.is_multipart in (None, offer.is_multipart) and wanted.media_type.covers(
            offer.media_type
        ):
            return offer
    return None


def choose(request: Request, offers: Sequence[Offer]) -> tuple[Offer, str | None]:
    """The form that is wanted most, of a resource whose transfer syntax does not matter here, and
    the transfer syntax that was said with it.

    Raises:
        HttpError: none of them is wanted (406).
    """
    for wanted in wanted_of(request):
        offer = matching(wanted, offers)
        if offer is not None:
            return offer, wanted.transfer_syntax
    raise not_acceptable(offers)


def not_acceptable(offers: Sequence[Offer], more: str = "") -> HttpError:
    """406, with what there is."""
    there_is = ", ".join(map(str, offers))
    return HttpError(406, "NOT_ACCEPTABLE", f"this can be had as {there_is}{more}")


def accepts_gzip(request: Request) -> bool:
    """Whether an answer may be compressed (RFC 9110 12.5.3)."""
    return _GZIP.search(request.header("accept-encoding") or "") is not None
