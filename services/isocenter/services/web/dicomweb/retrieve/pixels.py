"""WADO-RS frames and bulk data (PS3.18 10.4.1.1.3, 10.4.1.1.5)."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.bulk_data import (
    PIXEL_TAGS,
    BulkValue,
    Placement,
    little_endian_pieces,
)
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.net.http.conditions import (
    entity_tag,
    is_not_modified,
)
from isocenter.services.net.http.messages import HttpError, Piece, Request, Response
from isocenter.services.net.http.multipart import MultipartWriter
from isocenter.services.net.http.ranged_response import ranged_response
from isocenter.services.web.dicomweb.multipart_responses import boundary_for, multipart_type
from isocenter.services.web.dicomweb.representations import (
    OCTET_STREAM,
    STORED,
    Offer,
    matching,
    not_acceptable,
    wanted_of,
)
from isocenter.services.web.dicomweb.retrieve.frame_bodies import (
    FrameBodies,
    FramePieces,
    StoredImage,
)
from isocenter.services.web.dicomweb.retrieve.metadata import header_of
from isocenter.services.web.dicomweb.urls import PublicUrls

#: Media types of compressed frames, by transfer syntax (PS3.18 Table 8.7.3-5).
_IMAGE_TYPES: Final = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
_PIXEL_PATHS: Final = frozenset(f"{tag:08X}" for tag in PIXEL_TAGS)
#: Frames of one request.
_MOST_FRAMES: Final = 10_000
_CACHE: Final = "private, max-age=86400"


class Frames:
    """Answers with frames: as they are stored, or decoded.

    Args:
        pool: decodes; None: only what is stored can be had.
        book: knows where frames lie; None: each object is looked at.
    """

    def __init__(
        self,
        archive: ReadableArchive,
        urls: PublicUrls,
        pool: CodecPool | None,
        book: MetadataBook | None = None,
    ) -> None:
        self._archive = archive
        self._urls = urls
        self._pool = pool
        self.bodies = FrameBodies(archive, book)

    async def __call__(self, request: Request) -> Response:
        numbers = _frame_numbers(request.arguments["frames"])
        image = await self.bodies.find(request)
        stored = image.stored
        offer, syntax = self._choose(request, stored, len(numbers))
        tag = entity_tag(
            boundary_for("frames", stored.digest, syntax, str(offer), request.arguments["frames"])
        )
        headers = [("etag", tag), ("cache-control", _CACHE), ("vary", "Accept")]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        is_decoded = syntax != stored.transfer_syntax_uid
        found = await self.bodies.frames(image, numbers, self._pool if is_decoded else None)
        content = f"{offer.media_type}; transfer-syntax={syntax}"
        body: list[Piece]
        if offer.is_multipart:
            boundary = boundary_for(tag)
            writer = MultipartWriter(boundary)
            base = self._urls.base(request)
            body = []
            for number, pieces in zip(numbers, found.parts, strict=True):
                where = f"{base}{_path_of(request)}/frames/{number}"
                part = [("Content-Type", content), ("Content-Location", where)]
                body += [writer.begin_part(part), *pieces]
            body.append(writer.end())
            headers.append(("content-type", multipart_type(offer.media_type, boundary)))
        else:
            body = list(found.parts[0])
            headers.append(("content-type", content))
        return ranged_response(request, body, headers, tag, found.close)

    def _choose(self, request: Request, stored: StoredInstance, count: int) -> tuple[Offer, str]:
        """The form that is wanted most of those that can be made, and the transfer syntax."""
        have = stored.transfer_syntax_uid
        is_native = have in UNCOMPRESSED
        framings = (True, False) if count == 1 else (True,)
        octets = [Offer(media_type=OCTET_STREAM, is_multipart=one) for one in framings]
        image = _IMAGE_TYPES.get(have)
        images = [Offer(media_type=image, is_multipart=one) for one in framings] if image else []
        can_decode = is_native or self._pool is not None
        for wanted in wanted_of(request):
            said = wanted.transfer_syntax
            as_stored = matching(wanted, [*images, *octets])
            if as_stored is not None and (
                said == have
                or (said == STORED and not is_native)
                or (said is None and as_stored in images)
            ):
                return as_stored, have
            decoded = matching(wanted, octets)
            if decoded is not None and can_decode and said in (
                None, STORED, EXPLICIT_VR_LITTLE_ENDIAN,
            ):  # fmt: skip
                return decoded, EXPLICIT_VR_LITTLE_ENDIAN
        raise not_acceptable([*images, *octets], f"; as stored it is in {have}")


def _frame_numbers(text: str) -> list[int]:
    """A list as ``1,3,5``, in its order.

    Raises:
        HttpError: it is none (400).
    """
    parts = text.split(",")
    if len(parts) > _MOST_FRAMES or not all(
        part.isdecimal() and part.isascii() and len(part) < 10 and int(part) for part in parts
    ):
        raise HttpError(
            400, "BAD_FRAMES", f"frames are numbers from 1 on, at most {_MOST_FRAMES:,} of them"
        )
    return [int(part) for part in parts]


def _path_of(request: Request) -> str:
    """The path of the instance that a request is about."""
    study, series, instance = (request.arguments[n] for n in ("study", "series", "instance"))
    return f"/studies/{study}/series/{series}/instances/{instance}"


class BulkData:
    """Answers with the values that metadata names by URI."""

    def __init__(self, archive: ReadableArchive, frames: Frames) -> None:
        self._archive = archive
        self._frames = frames

    async def __call__(self, request: Request) -> Response:
        image = await self._frames.bodies.find(request)
        stored = image.stored
        path = request.arguments["path"].upper()
        framed = Offer(media_type=OCTET_STREAM, is_multipart=True)
        alone = Offer(media_type=OCTET_STREAM, is_multipart=False)
        if path == "7FE00010" and stored.transfer_syntax_uid not in UNCOMPRESSED:
            return await self._all_frames(request, image)
        for wanted in wanted_of(request):
            offer = matching(wanted, [alone, framed])
            if offer is not None:
                break
        else:
            raise not_acceptable([alone, framed])
        tag = entity_tag(boundary_for("bulk", stored.digest, path, str(offer)))
        headers = [("etag", tag), ("cache-control", _CACHE), ("vary", "Accept")]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        value = await self._value(image, path)
        body = [*value.parts[0]]
        content = OCTET_STREAM
        if offer.is_multipart:
            boundary = boundary_for(tag)
            writer = MultipartWriter(boundary)
            body = [writer.begin_part([("Content-Type", OCTET_STREAM)]), *body, writer.end()]
            content = multipart_type(OCTET_STREAM, boundary)
        headers.append(("content-type", content))
        return ranged_response(request, body, headers, tag, value.close)

    async def _all_frames(self, request: Request, image: StoredImage) -> Response:
        count = await self._frames.bodies.count(image)
        request.arguments = {
            **request.arguments,
            "frames": ",".join(str(number + 1) for number in range(count)),
        }
        return await self._frames(request)

    async def _value(self, image: StoredImage, path: str) -> FramePieces:
        stored = image.stored
        encoding = encoding_of(stored.transfer_syntax_uid)
        if path in _PIXEL_PATHS and not encoding.deflated:
            return await self._frames.bodies.value(image, int(path, 16))
        try:
            async with await self._archive.open(stored) as reader:
                header = await header_of(reader, stored)
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        found: list[bytes] = []

        def take(value: BulkValue) -> Placement:
            if value.path_text == path:
                found.append(b"".join(little_endian_pieces(header.data, value)))
            return Placement.LEFT_OUT

        json_of(header.data, header.encoding, bulk=take, tolerance=Tolerance.SALVAGE)
        if not found:
            raise HttpError(404, "NOT_FOUND", "the object has no bulk data there")
        return FramePieces(parts=[found[:1]])
